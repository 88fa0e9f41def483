-- Counts a crash of the process against the task that was running.
--
-- KEYS: task
-- ARGV: owner stamp
--
-- Returns the task's crashes so far, or -1 when it is no longer the owner's.
if redis.call("HGET", KEYS[1], "owner") ~= ARGV[1] then
  return -1
end
return redis.call("HINCRBY", KEYS[1], "crashes", 1)
