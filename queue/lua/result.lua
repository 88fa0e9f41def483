-- Keeps a result, if the task is still the writer's. One that asynq's recoverer has taken away keeps its old stamp
-- until somebody takes it anew, but is not active.
--
-- KEYS: task; then the result's key, where it lives in the same slot
-- ARGV: owner stamp, result (JSON), time to live (ms), "1" to keep it on asynq's task too
--
-- Returns 1, or 0 when the task is no longer the owner's.
local task = redis.call("HMGET", KEYS[1], "owner", "state")
if task[1] ~= ARGV[1] or task[2] ~= "active" then
  return 0
end
if ARGV[4] == "1" then
  redis.call("HSET", KEYS[1], "result", ARGV[2])
end
if KEYS[2] then
  redis.call("SET", KEYS[2], ARGV[2], "PX", ARGV[3])
end
return 1
