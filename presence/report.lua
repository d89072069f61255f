-- One node's word on some of its users. What is left of a user who is nowhere is when they were last seen, for a while.
-- KEYS[1] the node's users. ARGV: node, prefix of users' keys, milliseconds that "seen" is kept, then for each user
-- the id, the report (empty: withdrawn) and the last time seen (empty: not for others to know).
local node, prefix, kept = ARGV[1], ARGV[2], ARGV[3]
for i = 4, #ARGV, 3 do
  local user, report, seen = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local key = prefix .. user
  if seen ~= '' and tonumber(redis.call('HGET', key, 'seen') or 0) < tonumber(seen) then
    redis.call('HSET', key, 'seen', seen)
  end
  if report ~= '' then
    redis.call('HSET', key, node, report)
    redis.call('PERSIST', key)
    redis.call('SADD', KEYS[1], user)
  else
    redis.call('HDEL', key, node)
    redis.call('SREM', KEYS[1], user)
    if redis.call('HLEN', key) == redis.call('HEXISTS', key, 'seen') then
      redis.call('PEXPIRE', key, kept)
    end
  end
end
return 0
