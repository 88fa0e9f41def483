-- Ends the lease of the leader, if it is the caller's.
--
-- KEYS: lease
-- ARGV: caller
--
-- Returns 1, or 0 when the lease is not the caller's.
if redis.call("GET", KEYS[1]) == ARGV[1] then
  return redis.call("DEL", KEYS[1])
end
return 0
