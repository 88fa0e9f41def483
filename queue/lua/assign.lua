-- Moves a task that waits for its time to the list of one worker.
--
-- KEYS: scheduled, task, direct, directs
-- ARGV: task id, worker id, now (unix ns)
--
-- Returns 1, or 0 when the task does not wait in scheduled any more.
if redis.call("ZREM", KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call("HSET", KEYS[2], "state", "pending", "pending_since", ARGV[3])
redis.call("SADD", KEYS[4], ARGV[2])
redis.call("LPUSH", KEYS[3], ARGV[1])
return 1
