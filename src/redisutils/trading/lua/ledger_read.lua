-- What is to be known of an account before something is decided about it, at one moment.
--
-- KEYS: what to read, all in one slot. ARGV, one for each key: "r" for a record, "l" for a list,
--   "s" for a string, and "f<field>" for a field of a hash.
-- Reply: one for each key: {version, record}, a list, a string; false for what is not there; an
--   error for a record that is of another type.
-- Complexity: O(N) in the length of the lists, else O(1) for each key.

local found = {}
for place, what in ipairs(ARGV) do
  local key, kind = KEYS[place], string.sub(what, 1, 1)
  if kind == 'r' then
    found[place] = redis.pcall('HMGET', key, 'n', 'r')
  elseif kind == 'l' then
    found[place] = redis.call('LRANGE', key, 0, -1)
  elseif kind == 's' then
    found[place] = redis.call('GET', key)
  else
    found[place] = redis.call('HGET', key, string.sub(what, 2))
  end
end
return found
