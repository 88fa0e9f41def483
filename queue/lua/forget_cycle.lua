-- Removes the record of a worker's last cycle, once the process that wrote it sends no more.
--
-- KEYS: record
-- ARGV: nonce of that process
--
-- Returns 1, or 0 when there is none, or it is another process' by now.
if redis.call("HGET", KEYS[1], "nonce") == ARGV[1] then
  return redis.call("DEL", KEYS[1])
end
return 0
