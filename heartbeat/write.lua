-- Writes a whole heartbeat hash with its TTL, unless another process owns it.
-- KEYS[1] the hash
-- ARGV[1] the nonce of the writer
-- ARGV[2] the nonce that may be replaced, or '' for none
-- ARGV[3] the TTL in milliseconds
-- ARGV[4] '1' when a hash without a nonce must be left alone
-- ARGV[5...] field, value, field, value
-- Returns {1} when written, else {0, nonce, host, pid} of the owner.
if redis.call('EXISTS', KEYS[1]) == 1 then
  local owner = redis.call('HMGET', KEYS[1], 'nonce', 'host', 'pid')
  local nonce = owner[1] or ''
  if nonce ~= ARGV[1] then
    local free = nonce == '' and ARGV[4] ~= '1'
    local replaceable = nonce ~= '' and nonce == ARGV[2]
    if not (free or replaceable) then
      return {0, nonce, owner[2] or '', owner[3] or ''}
    end
    -- Nothing of the predecessor may shine through.
    redis.call('DEL', KEYS[1])
  end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {1}
