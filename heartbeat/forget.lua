-- Strikes a worker off the registry, unless it has beaten since it was read.
-- KEYS[1] the registry
-- ARGV[1] the worker id, ARGV[2] the expiry that was read (unix s)
-- Returns 1 when it is off the registry now, 0 when it has beaten.
local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
if expiry and tonumber(expiry) > tonumber(ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
