-- Puts a worker into the registry by the clock of Redis, and drops those that lapsed long ago.
--
-- KEYS: registry
-- ARGV: worker id, time to live of its hash (s), for how long lapsed workers are kept (s)
--
-- Returns 1.
local now = tonumber(redis.call("TIME")[1])
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now - tonumber(ARGV[3]))
redis.call("ZADD", KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return 1
