-- Moves a task that waits for its time to the list of one worker. assigned_to tells it there from what that worker has
-- claimed itself.
--
-- KEYS: scheduled, task, direct, directs
-- ARGV: task id, worker id
--
-- Returns 1, also when the task stands in that list already, as after a lost answer, or 0 when it does not wait in
-- scheduled any more.
if redis.call("ZREM", KEYS[1], ARGV[1]) == 0 then
  return redis.call("HGET", KEYS[2], "assigned_to") == ARGV[2] and 1 or 0
end
local now = redis.call("TIME")
local since = now[1] .. string.format("%06d", tonumber(now[2])) .. "000"
redis.call("HSET", KEYS[2], "state", "pending", "pending_since", since, "assigned_to", ARGV[2])
redis.call("SADD", KEYS[4], ARGV[2])
redis.call("LPUSH", KEYS[3], ARGV[1])
return 1
