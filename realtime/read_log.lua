-- What the logs of some rooms hold since a moment, as long as it is not too much.
-- KEYS[i] a log. ARGV: milliseconds since the epoch, entries that a log keeps at least, most entries, most bytes.
-- Returns whether it is all there was, then for each entry the number of its log, its id and its body.
local since, kept, entries_left, bytes_left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local before = string.format('%.0f', math.max(since - 1, 0))
local answer = {1}
for i, name in ipairs(KEYS) do
  -- A log that was never cut is shorter than what it keeps; of one that was, only the oldest entries have gone.
  if redis.call('XLEN', name) >= kept and #redis.call('XRANGE', name, '-', before, 'COUNT', 1) == 0 then
    return {0}
  end
  for _, entry in ipairs(redis.call('XRANGE', name, since, '+', 'COUNT', entries_left + 1)) do
    local body = entry[2][2]
    entries_left, bytes_left = entries_left - 1, bytes_left - #body
    if entries_left < 0 or bytes_left < 0 then
      return {0}
    end
    answer[#answer + 1] = i
    answer[#answer + 1] = entry[1]
    answer[#answer + 1] = body
  end
end
return answer
