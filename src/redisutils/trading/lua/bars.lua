-- A page of an instrument's bars, by time.
--
-- KEYS  1 state, 2 beginnings of bars, 3 their records (see trades.lua)
-- ARGV  1 ">" from the earliest, "<" from the latest  2 where to begin  3 where to end, both as
--       ZRANGEBYLEX has them: "[", "(" and a name, "-", "+"  4 how many at most
-- Reply {the beginning before which bars have gone, "" if none has; records}
-- O(log N + bars)

local starts
if ARGV[1] == ">" then
    starts = redis.call("ZRANGEBYLEX", KEYS[2], ARGV[2], ARGV[3], "LIMIT", 0, ARGV[4])
else
    starts = redis.call("ZREVRANGEBYLEX", KEYS[2], ARGV[2], ARGV[3], "LIMIT", 0, ARGV[4])
end
local gone = redis.call("HGET", KEYS[1], "o:" .. KEYS[2]) or ""
if #starts == 0 then
    return { gone, {} }
end
return { gone, redis.call("HMGET", KEYS[3], unpack(starts)) }
