-- Returns Redis' time (unix ms) and all deaths that are kept, as HGETALL does.
--
-- KEYS: the hash of deaths
local time = redis.call("TIME")
local out = redis.call("HGETALL", KEYS[1])
table.insert(out, 1, string.format("%.0f", tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)))
return out
