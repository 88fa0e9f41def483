-- Removes a worker from the registry, unless it has written a heartbeat since it was read.
--
-- KEYS: registry
-- ARGV: worker id, expiry that was read (unix s)
--
-- Returns 1 when it is not in the registry any more, 0 when it has written a heartbeat.
local expiry = redis.call("ZSCORE", KEYS[1], ARGV[1])
if expiry and tonumber(expiry) > tonumber(ARGV[2]) then
  return 0
end
redis.call("ZREM", KEYS[1], ARGV[1])
return 1
