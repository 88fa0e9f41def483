-- Takes or renews the lease of the leader. The lease of another one is written as it is, so that a Redis that takes no
-- writes says so to every candidate.
--
-- KEYS: lease
-- ARGV: candidate, duration (ms)
--
-- Returns {1} when the candidate is the leader, else {0, what is left of the leader's lease (ms)}.
local leader = redis.call("GET", KEYS[1])
if not leader or leader == ARGV[1] then
  redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
  return {1}
end
local left = redis.call("PTTL", KEYS[1])
if left < 0 then -- set by hand: it must end some time
  left = tonumber(ARGV[2])
end
redis.call("SET", KEYS[1], leader, "PX", math.max(left, 1))
return {0, left}
