-- Takes one task from the tail of a queue, with the effect of asynq's own dequeue script, and stamps its owner. Tasks
-- that were assigned to this worker come first.
--
-- KEYS: pending, paused, active, lease, direct
-- ARGV: lease expiry (unix s), prefix of the task keys, owner stamp
--
-- Returns {"paused"}, {"empty"}, {"ghost", id} for an id whose task hash is gone (it is dropped), or
-- {"task", id, message, pending since (unix ns), crashes}.
if redis.call("EXISTS", KEYS[2]) == 1 then
  return {"paused"}
end
local id = redis.call("RPOPLPUSH", KEYS[5], KEYS[3]) or redis.call("RPOPLPUSH", KEYS[1], KEYS[3])
if not id then
  return {"empty"}
end
local key = ARGV[2] .. id
local task = redis.call("HMGET", key, "msg", "pending_since", "crashes")
if not task[1] then
  redis.call("LREM", KEYS[3], 1, id)
  return {"ghost", id}
end
-- What asynq forgets at this point is kept beside the owner, so that a task that did not run keeps its age.
redis.call("HSET", key, "state", "active", "owner", ARGV[3], "since", task[2] or "")
redis.call("HDEL", key, "pending_since")
redis.call("ZADD", KEYS[4], ARGV[1], id)
return {"task", id, task[1], task[2] or "", task[3] or "0"}
