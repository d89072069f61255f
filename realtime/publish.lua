-- One node's batch: publish each entry, write it to its room's log, or both, in this order.
-- KEYS[i] the Redis name of an entry's room: its channel, and the stream that is its log. ARGV: the command that
-- publishes, the head of a frame's envelope, entries that a log keeps, milliseconds that it lives, one character per
-- entry ('0' + 1 publish + 2 log + 4 have the log live on + 8 the body is a whole envelope whose receivers are counted),
-- then each entry's body.
-- Returns the time (seconds, microseconds), how many entries could not be logged, then the counts asked for, in order.
local publish, head, kept, life, modes = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time = redis.call('TIME')
local answer = {time[1], time[2], 0}
for i, name in ipairs(KEYS) do
  local mode, body = string.byte(modes, i) - 48, ARGV[5 + i]
  if mode >= 8 then
    answer[#answer + 1] = redis.call(publish, name, body)
    mode = 0
  end
  if mode % 2 == 1 then
    redis.call(publish, name, head .. body)
  end
  if mode >= 2 then
    -- Not redis.call: a Redis that is full must go on to publish.
    local written = redis.pcall('XADD', name, 'MAXLEN', '~', kept, '*', 'e', body)
    if type(written) == 'table' and written.err then
      answer[3] = answer[3] + 1
    elseif mode >= 4 then
      redis.call('PEXPIRE', name, life)
    end
  end
end
return answer
