-- Has a task run again, as asynq's own script does it, and forgets what is counted against it: the operator who asks
-- for it has looked at the task.
--
-- KEYS: task, pending, groups
-- ARGV: task id, prefix of the queue's keys, prefix of the groups' keys
--
-- Returns 1, 0 when there is no such task, -1 when it is active, -2 when it is pending already, -3 when it is not where
-- its state says.
local task = redis.call("HMGET", KEYS[1], "state", "group")
local state, group = task[1], task[2]
if not state then
  return 0
elseif state == "active" then
  return -1
elseif state == "pending" then
  return -2
elseif state == "aggregating" then
  if redis.call("ZREM", ARGV[3] .. group, ARGV[1]) == 0 then
    return -3
  end
  if redis.call("EXISTS", ARGV[3] .. group) == 0 then
    redis.call("SREM", KEYS[3], group)
  end
elseif redis.call("ZREM", ARGV[2] .. state, ARGV[1]) == 0 then
  return -3
end
local now = redis.call("TIME")
local since = now[1] .. string.format("%06d", tonumber(now[2])) .. "000"
redis.call("HDEL", KEYS[1], "crashes", "suspicions", "recoveries", "postponed")
redis.call("HSET", KEYS[1], "state", "pending", "pending_since", since)
redis.call("LPUSH", KEYS[2], ARGV[1])
return 1
