-- Enter finished renders from their sidecars. A.renders: list of {key, spec, result, ams}. Returns how many were new.
local new = 0
for _, q in ipairs(A.renders) do
  local r = load_render(q.key)
  if not r then
    call('HSET', P .. 'render:' .. q.key, 'st', 'queued', 'at', '', 'cls', 'bulk', 'spec', q.spec, 'ams', int(q.ams), 'att', 0, 'kills', 0,
      'sub', int(NOW))
    r = load_render(q.key)
  end
  if r.st ~= 'done' then
    if FINAL[r.st] then
      call('DEL', P .. 'waiting:' .. q.key)
      call('ZREM', P .. 'quarantine', q.key)
    end
    finish(r, 'done', '', '', q.result)
    new = new + 1
  end
end
return new
