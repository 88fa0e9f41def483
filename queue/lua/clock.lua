-- Stands in front of asynq's scripts that judge times: Redis' clock is the only one that all workers share. day.lua stands
-- in front of this.
--
-- Defines now (unix s), nowNano (unix ns) and today (UTC, as asynq's daily counters have it), all as text.
local now, nowNano, today
do
  local t = redis.call("TIME")
  now, nowNano, today = t[1], t[1] .. string.format("%06d", t[2]) .. "000", day(tonumber(t[1]))
end
