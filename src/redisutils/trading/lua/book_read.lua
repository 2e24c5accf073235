-- The best levels of an order book: see book_snapshot.lua for its keys.
--
-- KEYS  m, bids, asks, bids by ticks, asks by ticks
-- ARGV  1 how many levels of each side
-- Reply: nothing if there is no book; else s, w, n, e, t, r, and of a book that is good the bids and
--       the asks, best first: price, quantity, price, ...
-- O(levels + log(all levels))

local state = redis.call('HMGET', KEYS[1], 's', 'w', 'n', 'e', 't', 'r')
if not state[1] then
  return false
elseif state[1] ~= 'good' then
  return state
end

local function best(command, prices, index)
  local out = {}
  local found = redis.call(command, index, 0, ARGV[1] - 1)
  if #found > 0 then
    local quantities = redis.call('HMGET', prices, unpack(found))
    for i, price in ipairs(found) do
      out[2 * i - 1], out[2 * i] = price, quantities[i]
    end
  end
  return out
end

state[7] = best('ZREVRANGE', KEYS[2], KEYS[4])
state[8] = best('ZRANGE', KEYS[3], KEYS[5])
return state
