-- Forget a quarantined render. Its jobs stay quarantined; the next submission of the same makes it anew. A: key. Returns 1 if it was there.
local r = load_render(A.key)
if r and r.st ~= 'quarantined' then return 0 end
call('DEL', P .. 'render:' .. A.key, P .. 'waiting:' .. A.key)
return call('ZREM', P .. 'quarantine', A.key)
