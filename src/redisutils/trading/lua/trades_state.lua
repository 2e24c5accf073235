-- What a writer of a tape has to know, at one moment.
--
-- KEYS  1 state, then for each interval: beginnings of bars, and their records (see trades.lua)
-- ARGV  for each interval: how many further bars are wanted, then their beginnings
-- Reply {s, b, f, i, l, k}, then for each interval a list of records: the newest bar ("" if there is
--       none), and the wanted ones ("" for each that is not there)
-- O(intervals * log N + wanted bars)

local reply = { redis.call("HMGET", KEYS[1], "s", "b", "f", "i", "l", "k") }
local at = 0
for i = 2, #KEYS, 2 do
    local newest = redis.call("ZRANGE", KEYS[i], -1, -1)[1]
    local records = { newest and redis.call("HGET", KEYS[i + 1], newest) or "" }
    at = at + 1
    for _ = 1, tonumber(ARGV[at]) do
        at = at + 1
        records[#records + 1] = redis.call("HGET", KEYS[i + 1], ARGV[at]) or ""
    end
    reply[#reply + 1] = records
end
return reply
