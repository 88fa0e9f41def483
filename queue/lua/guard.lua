-- Stands in front of an acknowledging script of asynq's, in the same script: runs it only for who may.
--
-- The last four ARGV: owner stamp, now (unix s), index of the task key, index of the lease key.
-- With a stamp, the task must still carry it. Without one the caller is asynq's recoverer, which may only touch
-- what holds no valid lease.
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
