-- A whole order book takes the place of what was there.
--
-- The book is two hashes, price to quantity as the venue writes them; two sorted sets of the same
-- prices, by whole ticks; and a hash m: o "<writer>:<number>" of the last snapshot, e its count, n
-- the sequence of the last change, s good or stale, w why it is stale, t and r when that change came
-- to be and was received (ns), k the tick.
--
-- KEYS  m, bids, asks, bids by ticks, asks by ticks
-- ARGV  1 o, new for each snapshot  2 n  3 t  4 r  5 ttl, ms  6 k  7 whose book may
--       be replaced, a writer, or empty: anybody's  8 empty, or why it is stale  9 how many bids
--       then of each bid, and of each ask: ticks, price, quantity
-- Reply: e, or 0: it is another writer's. A repeated run changes nothing.
-- O(levels * log(levels))

local m = KEYS[1]
local state = redis.call('HMGET', m, 'o', 'e')
if state[1] == ARGV[1] then
  return tonumber(state[2])
end
if state[1] and ARGV[7] ~= '' and string.match(state[1], '^[^:]*') ~= ARGV[7] then
  return 0
end
local epoch = string.format('%.0f', (state[2] or 0) + 1)
redis.call('DEL', unpack(KEYS))

-- No more than this many arguments at once: Lua's stack holds 8,000.
local function fill(prices, index, from, to)
  for start = from, to, 3000 do
    local pairs, scores = {}, {}
    for at = start, math.min(start + 2999, to), 3 do
      pairs[#pairs + 1] = ARGV[at + 1]
      pairs[#pairs + 1] = ARGV[at + 2]
      scores[#scores + 1] = ARGV[at]
      scores[#scores + 1] = ARGV[at + 1]
    end
    redis.call('HSET', prices, unpack(pairs))
    redis.call('ZADD', index, unpack(scores))
  end
end

local last_bid = 9 + 3 * tonumber(ARGV[9])
fill(KEYS[2], KEYS[4], 10, last_bid)
fill(KEYS[3], KEYS[5], last_bid + 1, #ARGV)
redis.call('HSET', m, 'o', ARGV[1], 'e', epoch, 'n', ARGV[2], 's', ARGV[8] == '' and 'good' or 'stale',
  'w', ARGV[8], 't', ARGV[3], 'r', ARGV[4], 'k', ARGV[6])
for i = 1, 5 do
  redis.call('PEXPIRE', KEYS[i], ARGV[5])
end
return tonumber(epoch)
