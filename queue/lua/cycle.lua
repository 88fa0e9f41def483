-- One cycle of a worker with one queue: writes views, applies what became of its ended attempts, takes tasks, and gives
-- back what it has claimed and does not take. Every transition has the effect of asynq's own script for it. day.lua
-- stands in front of this.
--
-- An error of one item refuses this item alone, and one in the middle of the takes ends them; what went before them in
-- the same call stays. What Redis refuses as a whole (no memory, a replica, …) it refuses at the first write, when
-- nothing has been done.
--
-- KEYS: prefix of asynq's keys of the queue, prefix of ours
-- ARGV: nonce, number, worker id, how many tasks to take, time to live of results (ms; "" writes none), time to live of
--       views (ms; "" writes none), number of items, number of views, queue, "1" behind a claim (else ""); then for each view: id, owner stamp ("" for
--       any), number of fields, fields; then for each item: ending, id, owner stamp, seconds (delay or retention),
--       unique key, message, result, number of fields and of view fields, fields, view fields. Short forms of D: S with
--       id, owner stamp without what those of this process have in common, result; V with the whole view (dump.go), too.
--       Endings: D done, C completed, R retry, A archived, H head of pending, L end of pending, P postponed, X refused.
--
-- Returns now (s), now (µs), statuses (a applied, f fenced, r refused), refusals {index, text, …}, taken {index, id,
-- message, "since" or "since,crashes,suspicions,recoveries,postponed", …}, lost {id, …}, returned, paused, more,
-- failure, views dropped, warning.
-- A number lower than the last one of the same process is answered with the error STALE, unless it is that of the last
-- cycle that ran behind a claim and took something: another one may have overtaken it, and its answer been lost.
local nonce, number, worker = ARGV[1], ARGV[2], ARGV[3]
local result_ttl, view_ttl = ARGV[5], ARGV[6]
local tasks, active, lease, pending = KEYS[1] .. "t:", KEYS[1] .. "active", KEYS[1] .. "lease", KEYS[1] .. "pending"
local direct, record = KEYS[2] .. "direct:" .. worker, KEYS[2] .. "cycle:" .. worker
local mine = worker .. "|" .. nonce .. "|"
local stamp = mine .. number .. "."

local LEASE = 30                    -- s, as asynq's
local STATS_TTL = 90 * 86400        -- s, as asynq's
local ARCHIVE_AGE = 90 * 86400      -- s, as asynq's
local ARCHIVE_SIZE = 10000          -- as asynq's
local UNENDED_TTL = 90 * 86400000   -- ms: of a view whose task may still run
local RECORD_TTL = 3600             -- s
local MOST_LOST, MOST_CLAIMS = 1000, 100
local MOST_UNPACKED = 1000          -- ids in one command: Lua passes on fewer than 8000 values

local time = redis.call("TIME")
local now = tonumber(time[1])
local nanoseconds = time[1] .. string.format("%06d", time[2]) .. "000"

-- try returns the reply of a command, or nothing and the text of its error.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == "table" and reply.err then
    return nil, reply.err
  end
  return reply
end

local function is_wrong_type(text)
  return string.find(text, "WRONGTYPE", 1, true) ~= nil
end

-- What is answered.
local statuses, refusals, taken, ids, lost = {}, {}, {}, {}, {}
local returned, dropped, failure, warning = 0, 0, "", ""

local function warn(text)
  if text and warning == "" then
    warning = text
  end
end

local function is_paused()
  return redis.pcall("EXISTS", KEYS[1] .. "paused") == 1 and 1 or 0
end

local function has_entries(list)
  local n = redis.pcall("LLEN", list)
  return type(n) == "number" and n > 0
end

local function add_taken(index, id, task)
  local since = task[2] or ""
  if task[3] or task[4] or task[5] or task[6] then
    since = table.concat({since, task[3] or "", task[4] or "", task[5] or "", task[6] or ""}, ",")
  end
  local n = #taken
  taken[n + 1], taken[n + 2], taken[n + 3], taken[n + 4] = index, id, task[1], since
end

-- answer_again is the answer to a request that has been carried out before.
local function answer_again(statuses_then, taken_then, others_then)
  for i, id in ipairs(taken_then == "" and {} or cjson.decode(taken_then)) do
    local task = try("HMGET", tasks .. id, "msg", "since", "crashes", "suspicions", "recoveries", "postponed",
      "owner", "state")
    if task and task[1] and task[7] == stamp .. i and task[8] == "active" then
      add_taken(i, id, task)
    end
  end
  local others = others_then == "" and {{}, {}, 0, 0, "", ""} or cjson.decode(others_then)
  return {time[1], time[2], statuses_then, others[1], taken, others[2], others[3], is_paused(),
    (has_entries(pending) or has_entries(direct)) and 1 or 0, others[5], others[4], others[6]}
end

-- The request before, or this one when its answer was lost.
local behind_claim = ARGV[10] == "1"
local known, broken = try("HMGET", record, "nonce", "number", "claimed")
if broken or known[1] and known[1] ~= nonce then
  redis.call("DEL", record)
  known = {}
end
if known[1] == nonce then
  local last = tonumber(known[2])
  if behind_claim and known[3] == number and tonumber(number) < last then
    return answer_again("", redis.call("HGET", record, "claims"), "")
  end
  if tonumber(number) < last then
    return redis.error_reply("STALE cycle " .. number .. " comes after cycle " .. known[2])
  end
  if tonumber(number) == last then
    local r = redis.call("HMGET", record, "statuses", "taken", "others")
    return answer_again(r[1], r[2], r[3])
  end
end
redis.call("HSET", record, "nonce", nonce, "number", number, "statuses", "", "taken", "", "others", "")
if not known[1] or tonumber(number) % 16 == 1 then
  redis.pcall("EXPIRE", record, RECORD_TTL)
end
local _, unlisted = try("SADD", KEYS[2] .. "directs", worker)
warn(unlisted)

-- write_view writes fields of a readable hash; a negative count is that of all there are, in place of what there was.
local function write_view(id, first, count, ttl)
  local key = "asynq:t:" .. id
  if count < 0 then
    redis.pcall("DEL", key)
    count = -count
  end
  local _, wrong = try("HSET", key, unpack(ARGV, first, first + count - 1))
  if wrong then
    dropped = dropped + 1
    return
  end
  redis.pcall("PEXPIRE", key, ttl)
end

-- The views of tasks that go on, before any of them ends.
local at = 11
for _ = 1, tonumber(ARGV[8]) do
  local id, owner, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if count ~= 0 and view_ttl ~= "" and (owner == "" or redis.pcall("HGET", tasks .. id, "owner") == owner) then
    write_view(id, at + 3, count, UNENDED_TTL)
  end
  at = at + 3 + math.abs(count)
end

-- elements returns the texts of a listpack with the head that dump.go puts before it.
local function elements(dump)
  local byte, list = string.byte, {}
  local first = byte(dump, 2)
  local at = (first < 64 and 3 or first < 128 and 4 or 7) + 6
  while byte(dump, at) ~= 255 do
    local head, size = byte(dump, at), nil
    local length, encoded = head % 64, 1
    if head == 240 then
      local a, b, c, d = byte(dump, at + 1, at + 4)
      length, encoded = a + b * 256 + c * 65536 + d * 16777216, 5
    elseif head >= 224 then
      length, encoded = head % 16 * 256 + byte(dump, at + 1), 2
    end
    list[#list + 1] = string.sub(dump, at + encoded, at + encoded + length - 1)
    size = encoded + length
    at = at + size + (size <= 127 and 1 or size < 16383 and 2 or size < 2097151 and 3 or size < 268435455 and 4 or 5)
  end
  return list
end

-- write_dump writes a whole readable hash. The first of a call tells whether this server reads the format and lets us use
-- RESTORE: one that is not Redis may make something else of it.
local restores
local function write_dump(id, dump)
  local key = "asynq:t:" .. id
  if restores ~= false then
    local _, wrong = try("RESTORE", key, view_ttl, dump, "REPLACE")
    if wrong and string.find(wrong, "OOM", 1, true) then
      dropped = dropped + 1
      return
    end
    if restores == nil then
      restores = not wrong and type(redis.pcall("HLEN", key)) == "number"
    end
    if restores and not wrong then
      return
    end
  end
  redis.pcall("DEL", key)
  local _, wrong = try("HSET", key, unpack(elements(dump)))
  if wrong then
    dropped = dropped + 1
    return
  end
  redis.pcall("PEXPIRE", key, view_ttl)
end

-- stamped appends the present time to an encoded message, as a field that is given by its tag.
local suffixes = {}
local function stamped(message, tag)
  if not suffixes[tag] then
    local bytes, n = {string.char(tag)}, now
    while n >= 128 do
      bytes[#bytes + 1] = string.char(n % 128 + 128)
      n = math.floor(n / 128)
    end
    bytes[#bytes + 1] = string.char(n)
    suffixes[tag] = table.concat(bytes)
  end
  return message .. suffixes[tag]
end
local LAST_FAILED_AT, COMPLETED_AT = 88, 104 -- tags of the fields 11 and 13, as varints

-- The items. Each ending returns an error text when it has done nothing.
local ended, removed, done, failed = {}, {}, 0, 0

local function keep_result(at)
  if result_ttl ~= "" then
    local _, wrong = try("SET", "asynq:result:" .. ARGV[at + 1], ARGV[at + 6], "PX", result_ttl)
    return wrong
  end
end

local function release(at)
  local lock = ARGV[at + 4]
  if lock ~= "" and redis.pcall("GET", lock) == ARGV[at + 1] then
    redis.pcall("DEL", lock)
  end
end

-- move puts a task into a sorted set and changes its hash; fields get those of the item.
local function move(key, at, set, score, ...)
  local id, fields = ARGV[at + 1], {...}
  local _, wrong = try("ZADD", set, score, id)
  if wrong then
    return wrong
  end
  for i = at + 9, at + 8 + tonumber(ARGV[at + 7]) do
    fields[#fields + 1] = ARGV[i]
  end
  _, wrong = try("HSET", key, unpack(fields))
  if wrong then
    redis.pcall("ZREM", set, id)
    return wrong
  end
  redis.pcall("HDEL", key, "owner", "since")
end

-- give_back puts a task that did not run into pending, its age restored.
local function give_back(key, at, command)
  local since = redis.pcall("HGET", key, "since")
  if not since or since == "" then
    since = nanoseconds
  end
  local _, wrong = try(command, pending, ARGV[at + 1])
  if wrong then
    return wrong
  end
  local fields = {"state", "pending", "pending_since", since}
  for i = at + 9, at + 8 + tonumber(ARGV[at + 7]) do
    fields[#fields + 1] = ARGV[i]
  end
  _, wrong = try("HSET", key, unpack(fields))
  if wrong then
    redis.pcall(command == "RPUSH" and "RPOP" or "LPOP", pending)
    return wrong
  end
  redis.pcall("HDEL", key, "owner", "since")
end

local endings = {
  D = function(key, at)
    local wrong = keep_result(at)
    if wrong then
      return wrong
    end
    removed[#removed + 1] = key
    release(at)
    done = done + 1
  end,
  C = function(key, at)
    local wrong = keep_result(at) or move(key, at, KEYS[1] .. "completed", now + tonumber(ARGV[at + 3]),
      "msg", stamped(ARGV[at + 5], COMPLETED_AT), "state", "completed", "result", ARGV[at + 6])
    if wrong then
      return wrong
    end
    release(at)
    done = done + 1
  end,
  R = function(key, at)
    local wrong = move(key, at, KEYS[1] .. "retry", now + tonumber(ARGV[at + 3]),
      "msg", stamped(ARGV[at + 5], LAST_FAILED_AT), "state", "retry")
    if wrong then
      return wrong
    end
    done, failed = done + 1, failed + 1
  end,
  A = function(key, at)
    local wrong = move(key, at, KEYS[1] .. "archived", now,
      "msg", stamped(ARGV[at + 5], LAST_FAILED_AT), "state", "archived")
    if wrong then
      return wrong
    end
    done, failed = done + 1, failed + 1
    ended.archived = true
  end,
  H = function(key, at) return give_back(key, at, "RPUSH") end,
  L = function(key, at) return give_back(key, at, "LPUSH") end,
  P = function(key, at)
    return move(key, at, KEYS[1] .. "scheduled", now + tonumber(ARGV[at + 3]), "state", "scheduled")
  end,
}
local UNENDED = {R = true, H = true, L = true, P = true}

-- release_active takes a task from active, if it still has this owner. Else it returns the item's status.
local function release_active(key, id, stamped_owner)
  local owner, wrong = try("HGET", key, "owner")
  if wrong then
    return "r", wrong
  end
  if owner ~= stamped_owner then
    if not owner and redis.pcall("EXISTS", key) == 0 then
      -- The task is gone, but its id may not be.
      if redis.pcall("LREM", active, 0, id) ~= 0 then
        ended[#ended + 1] = id
        lost[#lost + 1] = id
      end
    end
    return "f"
  end
  -- One that asynq's recoverer has taken away keeps its stamp, but is not active. The oldest are at the tail.
  local n
  n, wrong = try("LREM", active, -1, id)
  if wrong then
    return "r", wrong
  end
  if n == 0 then
    return "f"
  end
end

-- settle_simple applies an item of kind S or V.
local function settle_simple(at)
  local id = ARGV[at + 1]
  local key = tasks .. id
  local status, wrong = release_active(key, id, mine .. ARGV[at + 2])
  if status then
    return status, wrong
  end
  local _
  _, wrong = try("SET", "asynq:result:" .. id, ARGV[at + 3], "PX", result_ttl)
  if wrong then
    redis.pcall("LPUSH", active, id)
    return "r", wrong
  end
  ended[#ended + 1], removed[#removed + 1] = id, key
  done = done + 1
  if ARGV[at] == "V" then
    write_dump(id, ARGV[at + 4])
  end
  return "a"
end

-- settle applies one item and returns its status.
local function settle(at)
  local kind, id = ARGV[at], ARGV[at + 1]
  local key = tasks .. id
  if kind == "X" then
    return "r", ""
  end
  local status, wrong = release_active(key, id, ARGV[at + 2])
  if status then
    return status, wrong
  end
  wrong = endings[kind](key, at)
  if wrong then
    redis.pcall("LPUSH", active, id)
    return "r", wrong
  end
  ended[#ended + 1] = id
  local fields, view = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
  if view ~= 0 and view_ttl ~= "" then
    write_view(id, at + 9 + fields, view, UNENDED[kind] and UNENDED_TTL or view_ttl)
  end
  return "a"
end

for i = 1, tonumber(ARGV[7]) do
  local status, text
  if ARGV[at] == "S" or ARGV[at] == "V" then
    status, text = settle_simple(at)
    at = at + (ARGV[at] == "V" and 5 or 4)
  else
    status, text = settle(at)
    at = at + 9 + tonumber(ARGV[at + 7]) + math.abs(tonumber(ARGV[at + 8]))
  end
  statuses[i] = status
  if text and text ~= "" then
    refusals[#refusals + 1] = tostring(i - 1)
    refusals[#refusals + 1] = text
  end
end
if #ended > 0 then
  local _, wrong = try("ZREM", lease, unpack(ended))
  warn(wrong)
end
if #removed > 0 then
  redis.pcall("DEL", unpack(removed))
end

-- trim drops from the archive what a command lists, as asynq does with each task that it archives, and returns how
-- much.
local function trim(archived, ...)
  local old, wrong = try(...)
  if wrong or #old == 0 then
    warn(wrong)
    return 0
  end
  local keys = {}
  for i, id in ipairs(old) do
    keys[i] = tasks .. id
  end
  redis.pcall("DEL", unpack(keys))
  local n
  n, wrong = try("ZREM", archived, unpack(old))
  warn(wrong)
  return n or 0
end
if ended.archived then
  local archived, most = KEYS[1] .. "archived", 1000
  repeat
    local n = trim(archived, "ZRANGEBYSCORE", archived, "-inf", now - ARCHIVE_AGE, "LIMIT", 0, most)
  until n < most
  local excess = (try("ZCARD", archived) or 0) - ARCHIVE_SIZE + 1
  while excess > 0 do
    local n = trim(archived, "ZRANGE", archived, 0, math.min(excess, most) - 1)
    excess = n > 0 and excess - n or 0
  end
end

-- The counters. Beyond the largest number both of those over all time begin anew, as asynq's do.
local function count(name, n)
  local today = KEYS[1] .. name .. ":" .. day(now)
  local total, wrong = try("INCRBY", today, n)
  warn(wrong)
  if total == n then
    redis.pcall("EXPIREAT", today, now + STATS_TTL)
  end
  total, wrong = try("INCRBY", KEYS[1] .. name, n)
  return wrong
end
if done > 0 then
  local wrong = count("processed", done)
  local failed_wrong = failed > 0 and count("failed", failed) or nil
  if wrong and string.find(wrong, "overflow", 1, true) then
    redis.pcall("SET", KEYS[1] .. "processed", done)
    if failed > 0 then
      redis.pcall("SET", KEYS[1] .. "failed", failed)
    end
  else
    warn(wrong or failed_wrong)
  end
end

-- accept makes one popped task this worker's. It returns an error text when it has done nothing.
local seen = {}
local function accept(id)
  local key = tasks .. id
  local task, wrong = try("HMGET", key, "msg", "pending_since", "crashes", "suspicions", "recoveries", "postponed")
  if wrong and not is_wrong_type(wrong) then
    return wrong
  end
  if wrong or not task[1] then
    redis.pcall("LREM", active, 0, id)
    redis.pcall("ZREM", lease, id)
    lost[#lost + 1] = id
    return
  end
  if seen[id] then -- it stood in the list twice
    redis.pcall("LREM", active, 1, id)
    return
  end
  local index = #ids + 1
  _, wrong = try("HSET", key, "state", "active", "owner", stamp .. index, "since", task[2] or "")
  if wrong then
    return wrong
  end
  redis.pcall("HDEL", key, "pending_since", "assigned_to")
  seen[id], ids[index] = true, id
  add_taken(index, id, task)
end

-- take_from takes from the tail of a list until there are enough. It returns whether it has found the end of the list,
-- and an error text when it has stopped early.
local function take_from(list, take)
  while #ids < take and #lost < MOST_LOST do
    local wanted = math.min(take - #ids, MOST_UNPACKED)
    local tail, wrong = try("LRANGE", list, -wanted, -1)
    if wrong or #tail == 0 then
      return not wrong, wrong
    end
    local popped, leases, left = {}, {}, {}
    for i = #tail, 1, -1 do
      popped[#popped + 1] = tail[i]
      leases[#leases + 1] = now + LEASE
      leases[#leases + 1] = tail[i]
    end
    _, wrong = try("ZADD", lease, unpack(leases))
    if not wrong then
      _, wrong = try("LTRIM", list, 0, -#tail - 1)
    end
    if wrong then
      redis.pcall("ZREM", lease, unpack(popped))
      return false, wrong
    end
    _, wrong = try("LPUSH", active, unpack(popped))
    for _, id in ipairs(popped) do
      wrong = wrong or accept(id)
      if wrong then
        redis.pcall("LREM", active, 1, id)
        redis.pcall("ZREM", lease, id)
        table.insert(left, 1, id)
      end
    end
    if wrong then
      redis.pcall("RPUSH", list, unpack(left))
      return false, wrong
    end
    if #tail < wanted then
      return true
    end
  end
  return false
end

-- return_claims gives back what waits for this worker without being assigned to it. The oldest is on the right, and
-- comes last, so that it is at the head of pending.
local function return_claims()
  local waiting, wrong = try("LRANGE", direct, 0, MOST_CLAIMS - 1)
  if wrong then
    return wrong
  end
  for _, id in ipairs(waiting) do
    local assigned
    assigned, wrong = try("HGET", tasks .. id, "assigned_to")
    if wrong and not is_wrong_type(wrong) then
      return wrong
    end
    if not assigned then
      _, wrong = try("RPUSH", pending, id)
      if wrong then
        return wrong
      end
      redis.pcall("LREM", direct, 1, id)
      returned = returned + 1
    end
  end
end

local paused, pending_end, direct_end = is_paused(), false, false
if paused == 0 then
  local take, wrong = tonumber(ARGV[4]), nil
  direct_end, wrong = take_from(direct, take)
  if not wrong then
    pending_end, wrong = take_from(pending, take)
  end
  failure = wrong or ""
end
if not direct_end then
  warn(return_claims())
end

local recorded = table.concat(statuses)
local others = ""
if #refusals > 0 or #lost > 0 or returned > 0 or dropped > 0 or failure ~= "" or warning ~= "" then
  others = cjson.encode({refusals, lost, returned, dropped, failure, warning})
end
if recorded ~= "" or #ids > 0 or others ~= "" then
  redis.pcall("HSET", record, "statuses", recorded, "taken", #ids > 0 and cjson.encode(ids) or "", "others", others)
end
if behind_claim and #ids > 0 then
  redis.pcall("HSET", record, "claimed", number, "claims", cjson.encode(ids))
end
local more = (not pending_end and has_entries(pending) or not direct_end and has_entries(direct)) and 1 or 0
return {time[1], time[2], recorded, refusals, taken, lost, returned, paused, more, failure, dropped, warning}
