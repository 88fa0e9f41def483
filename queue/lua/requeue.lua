-- Puts a task that did not run back into its queue: retry count untouched, age restored.
--
-- KEYS: task, active, lease, pending
-- ARGV: task id, owner stamp, how to push: RPUSH to the head, LPUSH to the end
--
-- Returns 1, or 0 when the task is no longer the owner's.
if redis.call("HGET", KEYS[1], "owner") ~= ARGV[2] then
  return 0
end
if redis.call("LREM", KEYS[2], 0, ARGV[1]) == 0 then
  return 0
end
redis.call("ZREM", KEYS[3], ARGV[1])
local since = redis.call("HGET", KEYS[1], "since")
if not since or since == "" then
  local now = redis.call("TIME")
  since = now[1] .. string.format("%06d", tonumber(now[2])) .. "000"
end
redis.call("HSET", KEYS[1], "state", "pending", "pending_since", since)
redis.call("HDEL", KEYS[1], "owner", "since")
redis.call(ARGV[3], KEYS[4], ARGV[1])
return 1
