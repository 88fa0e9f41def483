-- Takes a task from a worker that is dead or has lost it, and puts it at the head of its queue, or into the archive
-- when it has been lost so too often. Retries are not counted: the task did not fail, its worker did. Of the four
-- recovery paths (recovery.go) three end here.
--
-- KEYS: task, active, lease, pending, archived
-- ARGV: task id, owner stamp, latest lease (unix s; "" with any), now (unix ns), now (unix s), crashes to archive at
--       (0: never), and the fields to append to the stored message then: the error, encoded
--
-- Returns {"kept"} when the task is not that owner's any more or its lease is too long, {"requeued", crashes} or
-- {"archived", crashes}.
local stamp = redis.call("HGET", KEYS[1], "owner") or ""
if stamp ~= ARGV[2] then
  return {"kept"}
end
if ARGV[3] ~= "" then
  local lease = redis.call("ZSCORE", KEYS[3], ARGV[1])
  if lease and tonumber(lease) > tonumber(ARGV[3]) then
    return {"kept"}
  end
end
if redis.call("LREM", KEYS[2], 0, ARGV[1]) == 0 then
  return {"kept"}
end
redis.call("ZREM", KEYS[3], ARGV[1])
local task = redis.call("HMGET", KEYS[1], "msg", "since")
if not task[1] then
  return {"ghost"}
end
redis.call("HDEL", KEYS[1], "owner", "since")
local crashes = redis.call("HINCRBY", KEYS[1], "crashes", 1)
if tonumber(ARGV[6]) > 0 and crashes >= tonumber(ARGV[6]) then
  redis.call("HSET", KEYS[1], "state", "archived", "msg", task[1] .. ARGV[7])
  redis.call("ZADD", KEYS[5], ARGV[5], ARGV[1])
  return {"archived", tostring(crashes)}
end
local since = task[2]
if not since or since == "" then
  since = ARGV[4]
end
redis.call("HSET", KEYS[1], "state", "pending", "pending_since", since)
redis.call("RPUSH", KEYS[4], ARGV[1])
return {"requeued", tostring(crashes)}
