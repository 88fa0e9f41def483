-- Takes or renews the lease of the role.
-- KEYS[1] the lease, ARGV[1] who asks, ARGV[2] for how long (ms)
-- Returns {1} when the role is the caller's, else {0, what is left of the holder's lease (ms)}.
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {1}
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 then -- set by hand: it must end some time
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  left = tonumber(ARGV[2])
end
return {0, left}
