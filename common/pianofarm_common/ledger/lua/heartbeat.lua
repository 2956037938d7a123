-- Renew a lease. A: key, token, fraction (-1: not said), uploading. Returns 0, 1 if the render was cancelled, -1 if the lease is lost.
hear()
local r = load_render(A.key)
if r and r.st == 'cancelled' and r.last == A.token then return 1 end
if not r or not leased(r) or r.tok ~= A.token then return -1 end
call('HSET', P .. 'render:' .. A.key, 'lease', int(NOW + A.lease_ms))
call('ZADD', P .. 'leases', int(NOW + A.lease_ms), A.key)
if A.uploading and r.st == 'running' then change(r, 'uploading', 'uploading', 1) end
if A.fraction >= 0 then
  call('HSET', P .. 'render:' .. A.key, 'frac', tostring(A.fraction))
  -- An event for each twentieth is enough for a progress bar and keeps the streams short.
  if A.fraction - r.fev >= 0.05 and not A.uploading then
    call('HSET', P .. 'render:' .. A.key, 'fev', tostring(A.fraction))
    change(r, r.st, 'progress', A.fraction)
  end
end
settle()
return 0
