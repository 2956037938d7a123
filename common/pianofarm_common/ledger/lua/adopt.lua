-- Enter finished renders from their sidecars. A.renders: list of {key, spec, result, ams}. Returns how many were new.
local function adopt(q)
  -- Its objects are being deleted.
  if call('EXISTS', P .. 'retiring:' .. q.key) == 1 then return 0 end
  local r = load_render(q.key)
  if not r then
    call('DEL', P .. 'waiting:' .. q.key)
    call('HSET', P .. 'render:' .. q.key, 'st', 'queued', 'at', '', 'cls', 'bulk', 'spec', q.spec, 'ams', int(q.ams), 'att', 0, 'kills', 0,
      'sub', int(NOW))
    r = load_render(q.key)
  end
  if r.st == 'done' then return 0 end
  if FINAL[r.st] then
    call('DEL', P .. 'waiting:' .. q.key)
    call('ZREM', P .. 'quarantine', q.key)
  end
  finish(r, 'done', '', '', q.result)
  return 1
end

local new = 0
for _, q in ipairs(A.renders) do new = new + adopt(q) end
settle()
return new
