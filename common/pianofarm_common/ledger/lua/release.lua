-- Hand a render back unfinished: not its fault, so the attempt does not count. A: key, token. Returns 'ok' or 'lost'.
local r = load_render(A.key)
if not r then return 'lost' end
if leased(r) and r.tok == A.token then
  call('HSET', P .. 'render:' .. A.key, 'att', math.max(0, r.att - 1))
  requeue(r, 'b', NOW, 'released', '', '')
  settle()
  return 'ok'
end
if r.last == A.token then return 'ok' end
return 'lost'
