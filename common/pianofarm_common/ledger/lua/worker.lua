-- Remember a living worker, forget silent ones. A: name, info, alive_ms. Returns the list of {info, ms when seen} of those alive.
if A.name ~= '' then
  call('HSET', P .. 'workers', A.name, A.info)
  call('ZADD', P .. 'seen', int(NOW), A.name)
end
for _, name in ipairs(call('ZRANGEBYSCORE', P .. 'seen', '-inf', int(NOW - A.alive_ms))) do
  call('ZREM', P .. 'seen', name)
  call('HDEL', P .. 'workers', name)
end
if A.name ~= '' then return {} end
local alive, seen = {}, call('ZRANGE', P .. 'seen', 0, -1, 'WITHSCORES')
for i = 1, #seen, 2 do
  local info = call('HGET', P .. 'workers', seen[i])
  if info then alive[#alive + 1] = { info, seen[i + 1] } end
end
return alive
