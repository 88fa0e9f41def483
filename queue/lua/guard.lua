-- Stands in front of asynq's retry and archive, in the same script. Only asynq's recoverer calls them (recovery.go): it
-- may touch a task that no worker of ours has taken and that has no valid lease. Its times are distances from now.
--
-- KEYS: those of asynq's script: task, active, lease, retry or archived, the day's processed and failed, …
-- ARGV: those of asynq's script, the first of which is the task id
--
-- Returns OK for a task that is left alone, or what asynq's script returns.
do
  local lease = redis.call("ZSCORE", KEYS[3], ARGV[1])
  if redis.call("HEXISTS", KEYS[1], "owner") == 1 or lease and tonumber(lease) > tonumber(now) then
    return redis.status_reply("OK")
  end
  for _, i in ipairs(#KEYS == 9 and {3, 4, 6} or {3, 4}) do
    ARGV[i] = tostring(tonumber(now) + tonumber(ARGV[i]))
  end
  KEYS[5] = string.gsub(KEYS[5], "%d+-%d+-%d+$", today)
  KEYS[6] = string.gsub(KEYS[6], "%d+-%d+-%d+$", today)
end
