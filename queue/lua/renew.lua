-- Extends the leases of tasks that a worker holds. A lease that is gone is written again, since the stamp is the fence.
--
-- KEYS: lease
-- ARGV: prefix of the task keys, id, owner stamp, id, owner stamp, …
--
-- Returns the positions, from 0, of those that are no longer the owner's.
local expiry = tonumber(redis.call("TIME")[1]) + 30
local leases, lost = {}, {}
for i = 2, #ARGV, 2 do
  local task = redis.pcall("HMGET", ARGV[1] .. ARGV[i], "owner", "state")
  if task[1] == ARGV[i + 1] and task[2] == "active" then
    leases[#leases + 1] = expiry
    leases[#leases + 1] = ARGV[i]
  else
    lost[#lost + 1] = i / 2 - 1
  end
end
if #leases > 0 then
  redis.call("ZADD", KEYS[1], unpack(leases))
end
return lost
