-- Lists the tasks whose lease ended 30 s ago or earlier and that no worker of ours has taken: those of other asynq
-- servers. asynq's recoverer allows 30 s for clocks that differ, and so do we.
--
-- KEYS: lease
-- ARGV: prefix of the task keys
--
-- Returns their messages.
local messages = {}
local latest = tonumber(redis.call("TIME")[1]) - 30
for _, id in ipairs(redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", latest)) do
  local task = redis.call("HMGET", ARGV[1] .. id, "msg", "owner")
  if task[1] and not task[2] then
    messages[#messages + 1] = task[1]
  end
end
return messages
