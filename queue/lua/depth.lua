-- Reads how many tasks of a queue are in which state, and for how long the one that waits longest has been waiting: all
-- at one instant, by the server's clock.
--
-- An id at the end of a list may have no task (it was evicted, or adopted tasks are still to come). So a few more are
-- looked at; the first task that is found is then the oldest.
--
-- KEYS: pending, active, scheduled, retry, archived, completed, paused, directs, groups
-- ARGV: prefix of the task keys, prefix of the direct lists, how many ids to look at in each list, prefix of the groups,
-- how many groups to count
--
-- Returns pending, active, scheduled, retry, archived, completed, 1 when paused, the age in µs (0 when nothing waits, -1
-- when it is not known), how many tasks of scheduled and retry are due, the number of groups, and how many tasks are in
-- those that were counted.
local age = -1
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function look(list)
  local ids = redis.call("LRANGE", list, -tonumber(ARGV[3]), -1)
  for i = #ids, 1, -1 do
    local since = tonumber(redis.call("HGET", ARGV[1] .. ids[i], "pending_since") or nil)
    if since then
      age = math.max(age, math.floor(now - since / 1000), 0)
      return
    end
  end
end

local pending = redis.call("LLEN", KEYS[1])
if pending > 0 then
  look(KEYS[1])
end
for _, worker in ipairs(redis.call("SMEMBERS", KEYS[8])) do
  local list = ARGV[2] .. worker
  local length = redis.call("LLEN", list)
  if length > 0 then
    pending = pending + length
    look(list)
  end
end
if pending == 0 then
  age = 0
end

local groups = redis.call("SCARD", KEYS[9])
local grouped = 0
if groups > 0 then
  for _, group in ipairs(redis.call("SRANDMEMBER", KEYS[9], ARGV[5])) do
    grouped = grouped + redis.call("ZCARD", ARGV[4] .. group)
  end
end
return {
  pending, redis.call("LLEN", KEYS[2]), redis.call("ZCARD", KEYS[3]), redis.call("ZCARD", KEYS[4]),
  redis.call("ZCARD", KEYS[5]), redis.call("ZCARD", KEYS[6]), redis.call("EXISTS", KEYS[7]), age,
  redis.call("ZCOUNT", KEYS[3], "-inf", time[1]) + redis.call("ZCOUNT", KEYS[4], "-inf", time[1]), groups, grouped,
}
