-- Gives the tasks that wait for one worker back to everybody: to the head of the queue, the oldest first.
--
-- KEYS: direct, pending, directs
-- ARGV: worker id
--
-- Returns how many tasks.
local n = 0
while true do
  -- From the youngest to the oldest, since each goes in front of those before it.
  local id = redis.call("LPOP", KEYS[1])
  if not id then
    break
  end
  redis.call("RPUSH", KEYS[2], id)
  n = n + 1
end
redis.call("SREM", KEYS[3], ARGV[1])
return n
