-- Enters a worker into the registry by the clock of Redis, and drops those
-- that lapsed long ago.
-- KEYS[1] the registry
-- ARGV[1] the worker id, ARGV[2] the TTL of its hash in seconds
-- ARGV[3] for how many seconds lapsed workers are kept
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[3]))
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return 1
