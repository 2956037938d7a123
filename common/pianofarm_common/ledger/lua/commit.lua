-- Make a render done. A: key, token; ARGV[2]: result. Returns 'ok', 'cancelled' or 'lost'.
local r = load_render(A.key)
if not r then return 'lost' end
if leased(r) and r.tok == A.token then
  finish(r, 'done', '', '', ARGV[2])
  return 'ok'
end
if r.last == A.token and r.st == 'done' then return 'ok' end
if r.last == A.token and r.st == 'cancelled' then return 'cancelled' end
return 'lost'
