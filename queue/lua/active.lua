-- Lists the active tasks of a queue with who took them, when their lease ends and how often they have lost their worker.
--
-- KEYS: active, lease
-- ARGV: prefix of the task keys
--
-- Returns Redis' time (unix s), then id, owner stamp or "", lease (unix s) or "", recoveries, …
local found = {redis.call("TIME")[1]}
for _, id in ipairs(redis.call("LRANGE", KEYS[1], 0, -1)) do
  local task = redis.call("HMGET", ARGV[1] .. id, "owner", "recoveries")
  found[#found + 1] = id
  found[#found + 1] = task[1] or ""
  found[#found + 1] = redis.call("ZSCORE", KEYS[2], id) or ""
  found[#found + 1] = task[2] or "0"
end
return found
