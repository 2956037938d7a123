-- Give a failed or quarantined render, and the jobs that waited for it, another chance. A: key. Returns the class, '' if there is nothing to
-- retry, or 'unknown'.
local r = load_render(A.key)
if not r then return 'unknown' end
if r.st ~= 'failed' and r.st ~= 'quarantined' then return '' end
call('PERSIST', P .. 'waiting:' .. A.key)
for _, job in ipairs(waiting(r)) do
  call('HSET', P .. 'job:' .. job.id, 'st', '', 'fin', '0', 'et', '', 'err', '')
  call('PERSIST', P .. 'job:' .. job.id)
end
local batches = change(r, 'queued', 'retry', 0)
restart(r)
move(r, 'q', NOW)
for batch in pairs(batches) do settle_later(batch, true) end
settle()
return r.cls
