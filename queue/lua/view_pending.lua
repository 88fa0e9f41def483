-- Writes the readable hash of a pending task, unless it has started since it was read.
--
-- KEYS: task, readable hash
-- ARGV: time to live (ms), field, value, …
if redis.call("HGET", KEYS[1], "state") ~= "pending" then
	return 0
end
redis.call("HSET", KEYS[2], unpack(ARGV, 2))
redis.call("PEXPIRE", KEYS[2], ARGV[1])
return 1
