-- Puts a new task on its queue. The effect is that of asynq's own script, but that the task's age is told by Redis' clock,
-- which all share.
--
-- KEYS: task, pending
-- ARGV: encoded message, task id
--
-- Returns 1, or 0 when the queue has a task with that id.
if redis.call("EXISTS", KEYS[1]) == 1 then
  return 0
end
local now = redis.call("TIME")
local since = now[1] .. string.format("%06d", tonumber(now[2])) .. "000"
redis.call("HSET", KEYS[1], "msg", ARGV[1], "state", "pending", "pending_since", since)
redis.call("LPUSH", KEYS[2], ARGV[2])
return 1
