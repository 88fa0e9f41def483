-- Deletes a heartbeat hash, if it is still the caller's.
--
-- KEYS: hash
-- ARGV: nonce of the caller
--
-- Returns 1 when it is gone now, 0 when it is another process's.
local nonce = redis.call("HGET", KEYS[1], "nonce")
if nonce and nonce ~= ARGV[1] then
  return 0
end
redis.call("DEL", KEYS[1])
return 1
