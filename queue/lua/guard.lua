-- Stands in front of an acknowledging script of asynq's, in the same script: runs it only for a caller that may. With
-- an owner stamp, the task must still carry it. Without one the caller is asynq's recoverer (recovery.go), which may
-- only touch a task that has no valid lease.
--
-- KEYS: those of asynq's script
-- ARGV: those of asynq's script, the first of which is the task id; then owner stamp, now (unix s), index of the task
--       key, index of the lease key
--
-- Returns FENCED, or what asynq's script returns.
do
  local n = #ARGV
  if ARGV[n - 3] ~= "" then
    if redis.call("HGET", KEYS[tonumber(ARGV[n - 1])], "owner") ~= ARGV[n - 3] then
      return redis.status_reply("FENCED")
    end
  else
    local lease = redis.call("ZSCORE", KEYS[tonumber(ARGV[n])], ARGV[1])
    if lease and tonumber(lease) > tonumber(ARGV[n - 2]) then
      return redis.status_reply("FENCED")
    end
  end
end
