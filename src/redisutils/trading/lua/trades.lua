-- Appends to an instrument's tape: its history, its latest trade, its bars and its place in the
-- source, all or nothing.
--
-- Contract: the writer has decided everything from the state it has seen (trades_state.lua). If that
-- is no longer the state, nothing is written. Each run has a token of its own, by which the next one
-- says what it has seen, and one that is repeated finds that it was carried out already.
-- Numbers are strings here, and are not reckoned with.
--
-- KEYS  1 state (hash)      s  place in the source up to which everything is in
--                           b  token of the run that wrote it last
--                           p  token of the run before
--                           f  form: intervals, policy, encoding
--                           i  time part of the newest id in the history, ms
--                           l  how far at most an id's time is after its trade's, ms
--                           k  order key of the latest trade
--                           o:<key 5, 7, …>  where the bars begin that are all kept; older ones go
--       2 history (stream)  id <ms>-<place in the source>; r record
--       3 latest (hash)     k order key, v record
--       4 busts (hash)      place of the trade -> record of the bust
--       5, 6, 7, 8, …       for each interval: beginnings of bars (sorted set by name; 20 digits),
--                           and their records (hash)
-- ARGV  1 b as seen ("" none)  2 f  3 token  4 s to be  5 i to be  6 l to be
--       7 entries that the history keeps, about (0 all)
--       8 time that the history keeps, as its least id ("" all)
--       9 k to be, or "" as it is, or "-" there is none any more  10 its record
--      11 ms that the latest trade lives (0 for ever)
--      12 ms that the rest lives after its last write (0 for ever)
--      13 number of trades, then id and record of each
--      then number of busts, then place of the trade and record of each ("" no longer kept)
--      then for each interval: least beginning that is kept ("" all), number of bars, then beginning
--      and record of each ("" there is none any more)
-- Reply 1 written; 2 had been written by this token; 0 the state is another;
--       {f}: it is of another form
-- O(trades * log N); and for what is removed, at most 1000 bars of each interval at a time.

local KINDS = { "hash", "stream", "hash", "hash" }

local state, history, latest, busts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local seen = redis.call("HMGET", state, "b", "p", "f")
if (seen[1] or "") ~= ARGV[1] then
    -- Two runs may be under way, of which the first one is repeated.
    if seen[1] == ARGV[3] or seen[2] == ARGV[3] then
        return 2
    end
    return 0
end
if seen[1] and seen[3] ~= ARGV[2] then
    return { seen[3] }
end
-- Nothing is undone when a command fails, so none may.
for i, key in ipairs(KEYS) do
    local kind = KINDS[i] or (i % 2 == 1 and "zset" or "hash")
    local found = redis.call("TYPE", key).ok
    if found ~= kind and found ~= "none" then
        return redis.error_reply("WRONGTYPE " .. key .. " is a " .. found .. ", not a " .. kind)
    end
    if i == 2 and found == kind and not seen[1] then
        return redis.error_reply("ERR " .. key .. " is there without " .. state)
    end
end

local at = 12
local function next_argument()
    at = at + 1
    return ARGV[at]
end

for _ = 1, tonumber(next_argument()) do
    local id = next_argument()
    redis.call("XADD", history, id, "r", next_argument())
end
redis.call("HSET", state, "s", ARGV[4], "b", ARGV[3], "p", ARGV[1], "f", ARGV[2], "i", ARGV[5], "l", ARGV[6])
if ARGV[7] ~= "0" then
    redis.call("XTRIM", history, "MAXLEN", "~", ARGV[7])
end
if ARGV[8] ~= "" then
    redis.call("XTRIM", history, "MINID", "~", ARGV[8])
end

if ARGV[9] == "-" then
    redis.call("HDEL", state, "k")
    redis.call("DEL", latest)
elseif ARGV[9] ~= "" then
    redis.call("HSET", state, "k", ARGV[9])
    redis.call("HSET", latest, "k", ARGV[9], "v", ARGV[10])
    if ARGV[11] ~= "0" then
        redis.call("PEXPIRE", latest, ARGV[11])
    end
end

for _ = 1, tonumber(next_argument()) do
    local trade, record = next_argument(), next_argument()
    if record == "" then
        redis.call("HDEL", busts, trade)
    else
        redis.call("HSET", busts, trade, record)
    end
end

for i = 5, #KEYS, 2 do
    local starts, bars = KEYS[i], KEYS[i + 1]
    local least = next_argument()
    for _ = 1, tonumber(next_argument()) do
        local start, record = next_argument(), next_argument()
        if record == "" then
            redis.call("ZREM", starts, start)
            redis.call("HDEL", bars, start)
        else
            redis.call("ZADD", starts, 0, start)
            redis.call("HSET", bars, start, record)
        end
    end
    if least ~= "" then
        local old = redis.call("ZRANGEBYLEX", starts, "-", "(" .. least, "LIMIT", 0, 1000)
        if #old > 0 then
            redis.call("ZREM", starts, unpack(old))
            redis.call("HDEL", bars, unpack(old))
            if (redis.call("HGET", state, "o:" .. starts) or "") < least then
                redis.call("HSET", state, "o:" .. starts, least)
            end
        end
    end
end

if ARGV[12] ~= "0" then
    for i, key in ipairs(KEYS) do
        if i ~= 3 or ARGV[11] == "0" then -- the latest trade may have a life of its own
            redis.call("PEXPIRE", key, ARGV[12])
        end
    end
end
return 1
