-- One node says that it lives, and learns which others do.
-- KEYS[1] nodes, by the time they are to be taken for dead. ARGV: node, milliseconds to live.
-- Returns whether it was taken for dead meanwhile (or never known), the time, and all nodes with their times.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local lapsed = (not before or tonumber(before) < now) and 1 or 0
return {lapsed, now, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}
