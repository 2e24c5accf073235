-- A page of an instrument's bars, by time.
--
-- KEYS  1 beginnings of bars, 2 their records (see trades.lua)
-- ARGV  1 ">" from the earliest, "<" from the latest  2 where to begin  3 where to end, both as
--       ZRANGEBYLEX has them: "[", "(" and a name, "-", "+"  4 how many at most
-- Reply records
-- O(log N + bars)

local starts
if ARGV[1] == ">" then
    starts = redis.call("ZRANGEBYLEX", KEYS[1], ARGV[2], ARGV[3], "LIMIT", 0, ARGV[4])
else
    starts = redis.call("ZREVRANGEBYLEX", KEYS[1], ARGV[2], ARGV[3], "LIMIT", 0, ARGV[4])
end
if #starts == 0 then
    return {}
end
return redis.call("HMGET", KEYS[2], unpack(starts))
