-- Deletes or archives a task that stands in some worker's list, with the effect of asynq's own scripts, which look for
-- what is pending in the shared list alone.
--
-- KEYS: task, directs, archived
-- ARGV: task id, prefix of the lists' keys, "archive" or "delete", how long the archive keeps (s), how many it keeps
--
-- Returns 1, or 0 when the task is in none of the lists.
if redis.call("HGET", KEYS[1], "state") ~= "pending" then
  return 0
end
local removed = 0
for _, worker in ipairs(redis.call("SMEMBERS", KEYS[2])) do
  removed = removed + redis.call("LREM", ARGV[2] .. worker, 0, ARGV[1])
end
if removed == 0 then
  return 0
end
if ARGV[3] == "archive" then
  local now = redis.call("TIME")[1]
  redis.call("ZADD", KEYS[3], now, ARGV[1])
  redis.call("HSET", KEYS[1], "state", "archived")
  redis.call("HDEL", KEYS[1], "assigned_to")
  redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", tonumber(now) - tonumber(ARGV[4]))
  redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -tonumber(ARGV[5]))
  return 1
end
local unique = redis.call("HGET", KEYS[1], "unique_key")
if unique and unique ~= "" and redis.call("GET", unique) == ARGV[1] then
  redis.call("DEL", unique)
end
redis.call("DEL", KEYS[1])
return 1
