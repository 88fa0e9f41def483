-- Reads the next pending tasks, the first to run first; messages above a size come back empty.
--
-- KEYS: pending
-- ARGV: prefix of the task keys, how many, largest message (bytes)
--
-- Returns {id, message, pending since, crashes, suspicions, recoveries}, …
local out = {}
local ids = redis.call("LRANGE", KEYS[1], -tonumber(ARGV[2]), -1)
for i = #ids, 1, -1 do
  local key = ARGV[1] .. ids[i]
  local msg = ""
  if redis.call("HSTRLEN", key, "msg") <= tonumber(ARGV[3]) then
    msg = redis.call("HGET", key, "msg") or ""
  end
  local rest = redis.call("HMGET", key, "pending_since", "crashes", "suspicions", "recoveries")
  out[#out + 1] = {ids[i], msg, rest[1] or "", rest[2] or "0", rest[3] or "0", rest[4] or "0"}
end
return out
