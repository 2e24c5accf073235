-- Changes of an order book whose last snapshot we wrote: see book_snapshot.lua for its keys.
--
-- KEYS  m, bids, asks, bids by ticks, asks by ticks
-- ARGV  1 o, of that snapshot; the writer alone counts where 7 is given
--       2 the sequence on which the changes follow  3 theirs
--       4 t  5 r  6 ttl, ms  7 empty, or why the book is stale from now on
--       then of each change: b or a, ticks, price, quantity, which is empty to delete the price
-- Reply: good; stale: it is, since now or before, and the changes were not made; replaced: another
--       snapshot was written; lost: the sequence that is there is another, or there is no book.
-- A repeated run changes nothing. The book is stale after a reply of lost, or when it would cross.
-- O(changes * log(levels))

local m = KEYS[1]
local state = redis.call('HMGET', m, 'o', 'n', 's')
if not state[1] then
  return 'lost'
elseif state[1] ~= ARGV[1] then
  local writer = '^[^:]*'
  if ARGV[7] == '' or string.match(state[1], writer) ~= string.match(ARGV[1], writer) then
    return 'replaced'
  end
end
if state[3] ~= 'good' then
  return 'stale'
end

local function expire()
  for i = 1, 5 do
    redis.call('PEXPIRE', KEYS[i], ARGV[6])
  end
end

local function spoil(why)
  redis.call('HSET', m, 's', 'stale', 'w', why)
  expire()
  return 'stale'
end

if ARGV[7] ~= '' then
  return spoil(ARGV[7])
elseif state[2] == ARGV[3] and ARGV[2] ~= ARGV[3] then
  return 'good' -- they have been made
elseif state[2] ~= ARGV[2] then
  spoil('lost')
  return 'lost'
end

-- One price may be written in two ways, 1.0 and 1.00: its ticks say which it is.
local function forget_others(prices, index, ticks, price)
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', index, ticks, ticks)) do
    if other ~= price then
      redis.call('ZREM', index, other)
      redis.call('HDEL', prices, other)
    end
  end
end

for at = 8, #ARGV, 4 do
  local bid = ARGV[at] == 'b'
  local prices, index = bid and KEYS[2] or KEYS[3], bid and KEYS[4] or KEYS[5]
  local ticks, price, quantity = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if quantity == '' then
    if redis.call('ZREM', index, price) == 1 then
      redis.call('HDEL', prices, price)
    else
      forget_others(prices, index, ticks, '')
    end
  else
    redis.call('HSET', prices, price, quantity)
    if redis.call('ZADD', index, ticks, price) == 1 then
      forget_others(prices, index, ticks, price)
    end
  end
end

local best_bid = redis.call('ZRANGE', KEYS[4], -1, -1, 'WITHSCORES')[2]
local best_ask = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2]
if best_bid and best_ask and tonumber(best_bid) > tonumber(best_ask) then
  return spoil('crossed')
end
redis.call('HSET', m, 'n', ARGV[3], 't', ARGV[4], 'r', ARGV[5])
expire()
return 'good'
