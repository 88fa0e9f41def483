-- Archives a task whose stored message cannot be read: nobody could ever run it, and nothing is thrown away.
--
-- KEYS: task, active, lease, archived
-- ARGV: task id, owner stamp
--
-- Returns 1, or 0 when the task is no longer the owner's.
if redis.call("HGET", KEYS[1], "owner") ~= ARGV[2] then
  return 0
end
redis.call("LREM", KEYS[2], 0, ARGV[1])
redis.call("ZREM", KEYS[3], ARGV[1])
redis.call("HSET", KEYS[1], "state", "archived")
redis.call("ZADD", KEYS[4], redis.call("TIME")[1], ARGV[1])
return 1
