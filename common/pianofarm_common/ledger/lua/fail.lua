-- Record a failed attempt. A: key, token, permanent, fault, et, err, jitter 0..1, base_ms, cap_ms. Returns the state, or 'lost'.
local r = load_render(A.key)
if not r then return 'lost' end
if not (leased(r) and r.tok == A.token) then
  if r.last == A.token then return r.st end
  return 'lost'
end
-- An error that nobody expected may be the machine's: memory, a device that hangs.
if A.fault then blame(r) end
if A.permanent or r.att >= A.max_attempts then
  finish(r, 'failed', A.et, A.err)
else
  local wait = math.min(A.cap_ms, A.base_ms * 2 ^ (r.att - 1))
  -- Half of the wait is random: renders that failed together must not come back together.
  requeue(r, 'b', NOW + math.floor(wait * (0.5 + 0.5 * A.jitter)), 'retry', A.et, A.err)
end
settle()
return r.st
