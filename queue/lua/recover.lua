-- Takes a task from a worker that is dead or has lost it, and puts it at the head of its queue, or into the archive
-- when it has been lost so too often. Nothing else is counted: the task neither failed nor crashed, its worker
-- vanished. Of the four recovery paths (recovery.go) three end here.
--
-- KEYS: task, active, lease, pending, archived
-- ARGV: task id, owner stamp, latest lease (unix s; "" with any), recoveries to archive at (0: never), and the error to
--       append to the stored message then, encoded
--
-- Returns {"kept"} when the task is not that owner's any more or its lease is too long, {"ghost"} when it is gone,
-- {"requeued", recoveries} or {"archived", recoveries}.
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
local now = redis.call("TIME")
redis.call("HDEL", KEYS[1], "owner", "since")
local recoveries = redis.call("HINCRBY", KEYS[1], "recoveries", 1)
if tonumber(ARGV[4]) > 0 and recoveries >= tonumber(ARGV[4]) then
  -- last_failed_at, field 11 of asynq's message: its tag, then the seconds as a varint.
  local rest, failed = tonumber(now[1]), string.char(88)
  while rest >= 128 do
    failed = failed .. string.char(rest % 128 + 128)
    rest = math.floor(rest / 128)
  end
  failed = failed .. string.char(rest)
  redis.call("HSET", KEYS[1], "state", "archived", "msg", task[1] .. ARGV[5] .. failed)
  redis.call("ZADD", KEYS[5], now[1], ARGV[1])
  return {"archived", tostring(recoveries)}
end
local since = task[2]
if not since or since == "" then
  since = now[1] .. string.format("%06d", tonumber(now[2])) .. "000"
end
redis.call("HSET", KEYS[1], "state", "pending", "pending_since", since)
redis.call("RPUSH", KEYS[4], ARGV[1])
return {"requeued", tostring(recoveries)}
