-- Writes a task's readable hash, which expires.
--
-- KEYS: readable hash; then the task, to write only while it is pending (it may have started since it was read)
-- ARGV: time to live (ms), field, value, …
--
-- Returns 1, or 0 when the task is not pending.
if KEYS[2] and redis.call("HGET", KEYS[2], "state") ~= "pending" then
  return 0
end
redis.call("HSET", KEYS[1], unpack(ARGV, 2))
redis.call("PEXPIRE", KEYS[1], ARGV[1])
return 1
