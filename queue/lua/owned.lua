-- Says which tasks are active and still their owner's.
--
-- KEYS: prefix of the task keys
-- ARGV: id, owner stamp, id, owner stamp, …
--
-- Returns a text with one character for each: 1, or 0 when the task is no longer the owner's.
local owned = {}
for i = 1, #ARGV, 2 do
  local task = redis.pcall("HMGET", KEYS[1] .. ARGV[i], "owner", "state")
  owned[#owned + 1] = task[1] == ARGV[i + 1] and task[2] == "active" and "1" or "0"
end
return table.concat(owned)
