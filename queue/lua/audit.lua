-- Lists the active tasks of one worker process: what it should be holding.
--
-- KEYS: active
-- ARGV: prefix of the task keys, prefix of the owner stamps
--
-- Returns id, owner, id, owner, …
local found = {}
for _, id in ipairs(redis.call("LRANGE", KEYS[1], 0, -1)) do
  local owner = redis.call("HGET", ARGV[1] .. id, "owner")
  if owner and string.sub(owner, 1, #ARGV[2]) == ARGV[2] then
    found[#found + 1] = id
    found[#found + 1] = owner
  end
end
return found
