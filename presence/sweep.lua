-- Withdraw the reports of one dead node, some users at a time.
-- KEYS[1] nodes, by the time they are to be taken for dead. ARGV: prefix of nodes' sets of users, prefix of users'
-- keys, milliseconds a node lives, milliseconds that "seen" is kept, most users at a time.
-- Returns the node, when it last lived, and those of the users that were visible; nothing when no node is dead.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, 1)
if #dead == 0 then
  return {}
end
local node, seen = dead[1], tonumber(dead[2]) - ARGV[3]
local users = redis.call('SPOP', ARGV[1] .. node, ARGV[5])
if #users == 0 then
  redis.call('ZREM', KEYS[1], node)
end
local visible = {}
for _, user in ipairs(users) do
  local key = ARGV[2] .. user
  local report = redis.call('HGET', key, node)
  if report and not string.find(report, '^invisible') then
    visible[#visible + 1] = user
    if tonumber(redis.call('HGET', key, 'seen') or 0) < seen then
      redis.call('HSET', key, 'seen', string.format('%.0f', seen))
    end
  end
  redis.call('HDEL', key, node)
  if redis.call('HLEN', key) == redis.call('HEXISTS', key, 'seen') then
    redis.call('PEXPIRE', key, ARGV[4])
  end
end
return {node, string.format('%.0f', seen), visible}
