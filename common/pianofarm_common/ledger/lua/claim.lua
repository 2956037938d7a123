-- Take the lease of a render. A: key, worker, nonce, rest, together (renders claimed with it), made (pairs {key, token} of renders that the
-- worker has made and not yet stored), admits: most renders to admit. Returns {'ok', token, spec, attempt, class, ms since submission,
-- alone, keys admitted, over how many messages to spread them} or {refusal}.
hear()
local r = load_render(A.key)
if not r then return { 'unknown' } end
if leased(r) and r.nonce == A.nonce then
  -- Asked twice, because the first answer was lost.
  return { 'ok', r.tok, r.spec, r.att, r.cls, int(NOW - r.sub), r.alone, {}, 1 }
end
if leased(r) and r.lease <= NOW and graceless() then lapse(r) end
if r.st == 'cancelled' then return { 'cancelled' } end
if FINAL[r.st] then return { 'finished' } end
if leased(r) then return { 'held' } end
if paused(r) then
  move(r, 'p', r.sub)
  return { 'paused' }
end
if call('EXISTS', P .. 'retiring:' .. A.key) == 1 then
  -- Its old objects are being deleted: the new ones must not be among them.
  if r.at == 'q' then move(r, 'b', NOW + 5000) end
  return { 'backoff' }
end
if call('HEXISTS', P .. 'barred', host_of(A.worker)) == 1 then
  -- The message is used up: the next sweep publishes another.
  if r.at == 'q' then move(r, 'b', NOW) end
  return { 'barred' }
end
local score = tonumber(call('ZSCORE', list_of(r), A.key)) or NOW
if r.at == 'b' and score > NOW then return { 'backoff' } end

if r.at == 'q' and score > (tonumber(call('HGET', P .. 'mark', r.cls)) or 0) then call('HSET', P .. 'mark', r.cls, int(score)) end
r.att, r.wk, r.tok = r.att + 1, A.worker, call('INCR', P .. 'fence') .. ':' .. A.nonce
gather(r)
write(r, 'att', r.att, 'wk', r.wk, 'tok', r.tok, 'nonce', A.nonce, 'lease', int(NOW + A.lease_ms), 'start', int(NOW), 'frac', '0', 'fev', '0',
  'rest', A.rest, 'many', A.together, 'made', '')
move(r, 'l', NOW + A.lease_ms)
change(r, 'running', 'running', 0)
save(r)
for _, mate in ipairs(A.made) do
  -- From here on nobody could tell which of them the worker died of. What is behind them in their message is behind this one, too.
  local render = P .. 'render:' .. mate[1]
  if call('HGET', render, 'tok') == mate[2] then call('HSET', render, 'made', '1', 'rest', '') end
end

-- Half of the window is used up: the worker that finds it so publishes what is next, so that no sweep is waited for.
local admitted, spread = {}, 1
if A.admits > 0 and call('EXISTS', P .. 'turns:' .. r.cls) == 1 then
  local w = window(r.cls)
  spread = w.min_n
  if w.ms < w.max_ms / 2 or w.n < w.min_n then
    for i, n in ipairs(admit(r.cls, A.admits)) do admitted[i] = n.key end
  end
end
return { 'ok', r.tok, r.spec, r.att, r.cls, int(NOW - r.sub), r.alone, admitted, spread }
