-- Writes a whole heartbeat hash with its time to live, unless it is another process's.
--
-- KEYS: hash
-- ARGV: nonce of the writer, nonce that may be replaced ("": none), time to live (ms), "1" to leave a hash without a
--       nonce alone; then field, value, …
--
-- Returns {1} when written, else {0, nonce, host, pid} of the process that has the hash.
if redis.call("EXISTS", KEYS[1]) == 1 then
  local holder = redis.call("HMGET", KEYS[1], "nonce", "host", "pid")
  local nonce = holder[1] or ""
  if nonce ~= ARGV[1] then
    local free = nonce == "" and ARGV[4] ~= "1"
    local replaceable = nonce ~= "" and nonce == ARGV[2]
    if not (free or replaceable) then
      return {0, nonce, holder[2] or "", holder[3] or ""}
    end
    -- Nothing of the predecessor may stay.
    redis.call("DEL", KEYS[1])
  end
end
redis.call("HSET", KEYS[1], unpack(ARGV, 5))
redis.call("PEXPIRE", KEYS[1], ARGV[3])
return {1}
