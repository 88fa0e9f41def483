-- Keeps the death of one process of a worker. Told again of the same one, the earlier time stands and the tasks add up.
-- The entries of more than an hour ago go, and the oldest beyond a number.
--
-- KEYS: the hash of deaths
-- ARGV: its field (worker id and nonce), what is known of the worker (JSON), tasks that went back, how long ago it was
-- found dead (ms), how long entries are kept (ms), how many at most
--
-- A value is "<time, unix ms> <tasks> <JSON>".
--
-- Returns 1, or 0 when the death of this process was known.
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local at, tasks = now - tonumber(ARGV[4]), tonumber(ARGV[3])

local function parse(value)
  local at, tasks = string.match(value, "^(%d+) (%d+) ")
  return tonumber(at) or 0, tonumber(tasks) or 0
end

local known = redis.call("HGET", KEYS[1], ARGV[1])
if known then
  local before, returned = parse(known)
  at, tasks = math.min(at, before), tasks + returned
end
redis.call("HSET", KEYS[1], ARGV[1], string.format("%.0f %.0f ", at, tasks) .. ARGV[2])

local entries = redis.call("HGETALL", KEYS[1])
local kept = {}
for i = 1, #entries, 2 do
  local died = parse(entries[i + 1])
  if now - died > tonumber(ARGV[5]) then
    redis.call("HDEL", KEYS[1], entries[i])
  else
    kept[#kept + 1] = { died, entries[i] }
  end
end
table.sort(kept, function(a, b) return a[1] < b[1] end)
for i = 1, #kept - tonumber(ARGV[6]) do
  redis.call("HDEL", KEYS[1], kept[i][2])
end
redis.call("PEXPIRE", KEYS[1], ARGV[5])
return known and 0 or 1
