-- Deletes a heartbeat hash that still belongs to the caller.
-- KEYS[1] the hash, ARGV[1] the nonce of the caller
-- Returns 1 when it is gone now, 0 when it belongs to another process.
local nonce = redis.call('HGET', KEYS[1], 'nonce')
if nonce and nonce ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
return 1
