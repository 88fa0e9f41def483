-- Ends the lease of the role, if it is the caller's.
-- KEYS[1] the lease, ARGV[1] the caller
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
