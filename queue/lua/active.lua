-- Lists the active tasks of a queue with who took them and when their lease ends.
--
-- KEYS: active, lease
-- ARGV: prefix of the task keys
--
-- Returns id, owner stamp or "", lease (unix s) or "", id, …
local found = {}
for _, id in ipairs(redis.call("LRANGE", KEYS[1], 0, -1)) do
  found[#found + 1] = id
  found[#found + 1] = redis.call("HGET", ARGV[1] .. id, "owner") or ""
  found[#found + 1] = redis.call("ZSCORE", KEYS[2], id) or ""
end
return found
