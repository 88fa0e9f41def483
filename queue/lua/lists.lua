-- Refreshes the plain copies of a queue's pending and active lists, if the caller has the lease for it or nobody has.
-- COPY of a list that is gone leaves the old copy, so it is deleted instead.
--
-- KEYS: lease, pending, active, copy of pending, copy of active
-- ARGV: worker id, time to live (ms), length from which a list is long, time to live then (ms)
--
-- Returns {pending, active} lengths, or nothing when another worker holds the lease.
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then
  return nil
end
local lengths = {redis.call("LLEN", KEYS[2]), redis.call("LLEN", KEYS[3])}
local ttl = ARGV[2]
if math.max(lengths[1], lengths[2]) > tonumber(ARGV[3]) then
  ttl = ARGV[4]
end
redis.call("SET", KEYS[1], ARGV[1], "PX", ttl)
for i = 1, 2 do
  if lengths[i] > 0 then
    redis.call("COPY", KEYS[i + 1], KEYS[i + 3], "REPLACE")
    redis.call("PEXPIRE", KEYS[i + 3], ttl)
  else
    redis.call("DEL", KEYS[i + 3])
  end
end
return lengths
