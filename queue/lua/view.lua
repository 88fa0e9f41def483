-- Writes a task's readable hash, which expires.
--
-- KEYS: readable hash; then the task, to write only while it is pending (it may have started since it was read)
-- ARGV: time to live (ms), field, value, …; a field with an empty value is deleted
--
-- Returns 1, or 0 when the task is not pending.
if KEYS[2] and redis.call("HGET", KEYS[2], "state") ~= "pending" then
  return 0
end
redis.call("HSET", KEYS[1], unpack(ARGV, 2))
local empty = {}
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == "" then
    empty[#empty + 1] = ARGV[i]
  end
end
if #empty > 0 then
  redis.call("HDEL", KEYS[1], unpack(empty))
end
redis.call("PEXPIRE", KEYS[1], ARGV[1])
return 1
