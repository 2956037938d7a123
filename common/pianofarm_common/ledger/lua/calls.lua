-- Take jobs to tell about. A: limit, hold_ms. Returns a list of {job, failed calls}; they are due again after hold_ms.
local out = {}
for _, job in ipairs(call('ZRANGEBYSCORE', P .. 'calls', '-inf', int(NOW), 'LIMIT', 0, A.limit)) do
  call('ZADD', P .. 'calls', int(NOW + A.hold_ms), job)
  out[#out + 1] = { job, call('HGET', P .. 'calltries', job) or '0' }
end
return out
