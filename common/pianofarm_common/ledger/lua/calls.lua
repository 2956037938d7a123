-- Take jobs to tell about. A: limit, hold_ms, told: list of {job, due} that need no more calls, due as this script said it. Returns a list of
-- {job, failed calls, due}; they are due again after hold_ms.
for _, call_made in ipairs(A.told) do
  -- Otherwise it ended once more meanwhile, or was given to another who tells it.
  if call('ZSCORE', P .. 'calls', call_made[1]) == call_made[2] then
    call('ZREM', P .. 'calls', call_made[1])
    call('HDEL', P .. 'calltries', call_made[1])
  end
end
local out, due = {}, int(NOW + A.hold_ms)
for _, job in ipairs(A.limit > 0 and call('ZRANGEBYSCORE', P .. 'calls', '-inf', int(NOW), 'LIMIT', 0, A.limit) or {}) do
  call('ZADD', P .. 'calls', due, job)
  out[#out + 1] = { job, call('HGET', P .. 'calltries', job) or '0', due }
end
return out
