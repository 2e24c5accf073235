-- Quotes of one or many instruments: the newest of each is kept and published, all go into history.
--
-- An instrument's state is a hash: k the order of its newest quote (two numbers of 19 digits with a
-- colon between, which compare as strings), v that quote, e and n the number of its last update:
-- an epoch (the server's microseconds when this hash began) and a count from 1.
--
-- KEYS  of each instrument: the hash; and a stream, if history is kept
-- ARGV  1 ttl, ms, of the hash          2 SPUBLISH, PUBLISH, or empty: nothing is published
--       3 entries that the stream keeps, about; 0: no history     4 its ttl, ms
--       5 all: each quote that is newer than those before is published; last: only the newest
--       6 what an array of records begins with; 7 what stands between two; 8 what it ends with;
--         where 6 is empty it begins with msgpack's array 32
--       9 1: this may have been run before: what the stream has already is not entered again
--       then of each instrument: how many quotes, and of each its order and its record
-- A message goes to the channel that is named as the hash: "<e>:<n> <array>", n of the array's last.
-- Reply: of each instrument one digit for each quote, 1 it was newer, 0 it was not, 2 it is there
--        already; or what is wrong with its keys, and nothing was changed but history. An error of
--        any other kind is the reply as a whole, and nothing was changed.
-- O(quotes); a repeated run also looks at the last 4,000 entries of each stream, unless it finds
-- sooner what it looks for.

local ttl, publish, kept, stream_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local all, open, comma, close = ARGV[5] == 'all', ARGV[6], ARGV[7], ARGV[8]
local again, history = ARGV[9] == '1', kept ~= '0'

local function array(records)
  if open == '' then
    return struct.pack('>BI4', 0xdd, #records) .. table.concat(records)
  end
  return open .. table.concat(records, comma) .. close
end

-- Which of the records the stream has.
local function entered(stream, from, count)
  local missing, found = {}, {}
  for at = from, from + 2 * (count - 1), 2 do
    missing[ARGV[at + 1]] = true
  end
  local last, left = '+', count + 4000
  while next(missing) and left > 0 do
    local entries = redis.pcall('XREVRANGE', stream, last, '-', 'COUNT', 200)
    if entries.err or #entries == 0 then
      break
    end
    for _, entry in ipairs(entries) do
      local record = entry[2][2]
      if missing[record] then
        missing[record], found[record] = nil, true
      end
    end
    last, left = '(' .. entries[#entries][1], left - #entries
  end
  return found
end

local function record_all(stream, from, count)
  local had = again and entered(stream, from, count) or {}
  for at = from, from + 2 * (count - 1), 2 do
    if not had[ARGV[at + 1]] then
      local reply = redis.pcall('XADD', stream, 'MAXLEN', '~', kept, '*', 'r', ARGV[at + 1])
      if reply.err then
        return reply
      end
    end
  end
  redis.call('PEXPIRE', stream, stream_ttl)
end

-- Whether an error concerns the keys that were written to. Others, like READONLY and OOM, concern
-- all: a server that gives one refuses the first write of a run already.
local function of_key(refusal)
  local code = string.match(refusal.err, '^%-?(%u+)')
  return code == 'WRONGTYPE' or code == 'ERR'
end

local function apply(key, from, count, state)
  local newest, best, codes, fresh = state[1], nil, {}, {}
  for at = from, from + 2 * (count - 1), 2 do
    local order, record = ARGV[at], ARGV[at + 1]
    if not newest or order > newest then
      newest, best = order, record
      codes[#codes + 1] = '1'
      fresh[#fresh + 1] = record
    elseif order == newest and record == (best or redis.call('HGET', key, 'v')) then
      codes[#codes + 1] = '2'
    else
      codes[#codes + 1] = '0'
    end
  end
  if best then
    if not all then
      fresh = { best }
    end
    local epoch = state[3]
    if not epoch then
      local now = redis.call('TIME')
      epoch = now[1] .. string.format('%06d', now[2])
    end
    local number = string.format('%.0f', (state[2] or 0) + #fresh)
    redis.call('HSET', key, 'k', newest, 'v', best, 'n', number, 'e', epoch)
    redis.call('PEXPIRE', key, ttl)
    if publish ~= '' then
      redis.call(publish, key, epoch .. ':' .. number .. ' ' .. array(fresh))
    end
  end
  return table.concat(codes)
end

local out, at = {}, 10
for i = 1, #KEYS, history and 2 or 1 do
  local count = tonumber(ARGV[at])
  local state = redis.pcall('HMGET', KEYS[i], 'k', 'n', 'e')
  local refusal = state.err and state
  if history and not refusal then
    refusal = record_all(KEYS[i + 1], at + 1, count)
  end
  if refusal and not of_key(refusal) then
    return refusal
  end
  out[#out + 1] = refusal and refusal.err or apply(KEYS[i], at + 1, count, state)
  at = at + 1 + 2 * count
end
return out
