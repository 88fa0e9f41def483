-- Keeps a result, if the task is still the writer's.
--
-- KEYS: task, and the result's key where it lives in the same slot
-- ARGV: owner stamp, result (JSON), time to live (ms), "1" to keep it on asynq's task too
--
-- Returns 1, or 0 when the task is no longer the owner's.
if redis.call("HGET", KEYS[1], "owner") ~= ARGV[1] then
	return 0
end
if ARGV[4] == "1" then
	redis.call("HSET", KEYS[1], "result", ARGV[2])
end
if KEYS[2] then
	redis.call("SET", KEYS[2], ARGV[2], "PX", ARGV[3])
end
return 1
