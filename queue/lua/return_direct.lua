-- Gives what stands in one worker's list, assigned to it or claimed by it, back to everybody: to the head of the queue,
-- in the order in which the worker would have taken it.
--
-- KEYS: direct, pending, directs
-- ARGV: worker id, prefix of the task keys, how many at most, "1" to take the worker out of directs when nothing is left
--
-- Returns how many went back.
local n = 0
while n < tonumber(ARGV[3]) do
  -- From the last to the first, since each goes in front of those before it.
  local id = redis.call("LPOP", KEYS[1])
  if not id then
    break
  end
  redis.call("HDEL", ARGV[2] .. id, "assigned_to")
  redis.call("RPUSH", KEYS[2], id)
  n = n + 1
end
if ARGV[4] == "1" and redis.call("EXISTS", KEYS[1]) == 0 then
  redis.call("SREM", KEYS[3], ARGV[1])
end
return n
