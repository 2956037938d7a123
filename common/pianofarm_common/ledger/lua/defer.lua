-- Hand a render back because a service is away: the attempt does not count. A: key, token, et, err, jitter 0..1, base_ms, cap_ms,
-- patience_ms. Returns the state, 'overdue' if services were away for it longer than that (nothing is changed then), or 'lost'.
local r = load_render(A.key)
if not r then return 'lost' end
if not (leased(r) and r.tok == A.token) then
  if r.last == A.token then return r.st end
  return 'lost'
end
local known = call('HMGET', P .. 'render:' .. A.key, 'defs', 'since')
local n, since = (tonumber(known[1] or '') or 0) + 1, tonumber(known[2] or '') or NOW
if NOW - since > A.patience_ms then return 'overdue' end
call('HSET', P .. 'render:' .. A.key, 'att', math.max(0, r.att - 1), 'defs', n, 'since', int(since))
local wait = math.min(A.cap_ms, A.base_ms * 2 ^ math.min(30, n - 1))
requeue(r, 'b', NOW + math.floor(wait * (0.5 + 0.5 * A.jitter)), 'retry', A.et, A.err)
settle()
return r.st
