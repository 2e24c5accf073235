-- What was decided about an account, written as a whole or not at all.
--
-- Who decided had read records at certain versions, and taken certain names for unused. If one of
-- these is otherwise, nothing is written, and the reply tells what is there instead. Run twice with
-- the same arguments, it writes once: the second time, the versions are others.
--
-- A version is the name of the commit that wrote it, and no number: after a failover to a replica
-- that was behind, other commits would come to the same numbers.
--
-- KEYS: 1 the outbox, a stream; 2 the account's own hash, whose field seq counts the outbox, and
--   whose field tip names the commit of its last entry; then all the others. Arguments name a key by
--   its place in KEYS. All are in one slot.
-- ARGV: this commit's name, which no other has; then for each section its count and its entries:
--   records   key, version that was read ("": none), record. Written as fields n and r of a hash.
--   names     key, field, value. Not there yet; a field of a hash, or with "" as its field, a string.
--             An empty value is not written: what was decided rests on it not being there.
--   lasting   key, mark. If the account's own hash has the mark, the key is there; else it gets it.
--   events    (after the count, about how many the outbox keeps) history or 0, number of the words
--             that go into the history, number of all words, words: fields and values of the
--             entry. Its id is <seq>-0; seq has no gaps. Before them it gets a field c: the names of
--             the commits of the entry before it and of its own. The history, a list, gets seq and
--             the values alone: a stream of a few entries takes 4 KB.
--   opened    key, member. Added to a sorted set with the seq before this commit as its score.
--   commands  number of words after the key, command, key, words. Done last; they cannot fail
--             but for a key of another type.
-- Reply: {1, seq of the last event}, or {0, {place among the records, version, record}, ...,
--   {-place among the names, value}, ..., {0, place among the lasting}, ...}.
-- Complexity: O(log N) for what goes into sorted sets, else O(1) for each entry.

local at = 1
local function word()
  local value = ARGV[at]
  at = at + 1
  return value
end

local found = {0}
local name = word()

local records = tonumber(word())
local records_at = at
for place = 1, records do
  local key, version = KEYS[tonumber(ARGV[at])], ARGV[at + 1]
  at = at + 3
  local stored = redis.call('HMGET', key, 'n', 'r')
  if (stored[1] or '') ~= version then
    found[#found + 1] = {place, stored[1] or '', stored[2] or ''}
  end
end

local names = tonumber(word())
local names_at = at
for place = 1, names do
  local key, field = KEYS[tonumber(ARGV[at])], ARGV[at + 1]
  at = at + 3
  local stored
  if field == '' then
    stored = redis.call('GET', key)
  else
    stored = redis.call('HGET', key, field)
  end
  if stored then
    found[#found + 1] = {-place, stored}
  end
end

local lasting = tonumber(word())
local lasting_at = at
for place = 1, lasting do
  local key, mark = KEYS[tonumber(ARGV[at])], ARGV[at + 1]
  at = at + 2
  if redis.call('HEXISTS', KEYS[2], mark) == 1 and redis.call('EXISTS', key) == 0 then
    found[#found + 1] = {0, place}
  end
end

if #found > 1 then
  return found
end

-- The outbox goes first: a gap in what is told can be seen; a change that nobody was told cannot.
-- And its count before it: should a history of another type end the script, what is written next
-- goes on behind the gap.
local last = redis.call('HMGET', KEYS[2], 'seq', 'tip')
local seq, tip = tonumber(last[1] or '0'), last[2] or ''
if not last[1] then  -- the first commit; or somebody has deleted the count
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  seq = newest and tonumber(string.match(newest[1], '%d+')) or 0
end
local before = seq
local events, kept = tonumber(word()), word()
if events > 0 then
  redis.call('HSET', KEYS[2], 'seq', string.format('%.0f', seq + events), 'tip', name)
end
for _ = 1, events do
  local history, few, all = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  seq = seq + 1
  if history > 0 then
    local values = {string.format('%.0f', seq)}
    for value = at + 4, at + 2 + few, 2 do
      values[#values + 1] = ARGV[value]
    end
    redis.call('RPUSH', KEYS[history], unpack(values))
  end
  local id = string.format('%.0f-0', seq)
  redis.call(
    'XADD', KEYS[1], 'MAXLEN', '~', kept, id, 'c', tip .. ' ' .. name,
    unpack(ARGV, at + 3, at + 2 + all)
  )
  tip = name
  at = at + 3 + all
end

for place = records_at, records_at + 3 * (records - 1), 3 do
  redis.call('HSET', KEYS[tonumber(ARGV[place])], 'n', name, 'r', ARGV[place + 2])
end

for place = names_at, names_at + 3 * (names - 1), 3 do
  local key, field, value = KEYS[tonumber(ARGV[place])], ARGV[place + 1], ARGV[place + 2]
  if value ~= '' then
    if field == '' then
      redis.call('SET', key, value)
    else
      redis.call('HSET', key, field, value)
    end
  end
end

for place = lasting_at, lasting_at + 2 * (lasting - 1), 2 do
  redis.call('HSETNX', KEYS[2], ARGV[place + 1], '1')
end

for _ = 1, tonumber(word()) do
  redis.call('ZADD', KEYS[tonumber(word())], 'NX', string.format('%.0f', before), word())
end

for _ = 1, tonumber(word()) do
  local count = tonumber(word())
  redis.call(ARGV[at], KEYS[tonumber(ARGV[at + 1])], unpack(ARGV, at + 2, at + 1 + count))
  at = at + 2 + count
end

return {1, seq}
