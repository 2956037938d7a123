-- Take the leases of renders that are to be made together. A: keys, worker, nonce, rest, made (pairs {key, token} of renders that the worker
-- has made and not yet stored), admits: most renders to admit. Returns for each key {'ok', token, spec, attempt, class, ms since submission,
-- alone} or {refusal}; then the keys admitted, of which class, over how many messages to spread them.
hear()
local answers, taken, places, queued, leases, retiring = {}, {}, {}, {}, {}, {}
for i, key in ipairs(A.keys) do retiring[i] = P .. 'retiring:' .. key end
local is_barred, any_retiring = call('HEXISTS', P .. 'barred', host_of(A.worker)) == 1, call('EXISTS', unpack(retiring)) > 0

local function granted(r) return { 'ok', r.tok, r.spec, r.att, r.cls, int(NOW - r.sub), r.alone } end

-- Why a render is not to be had now; nil where it is.
local function refusal(r)
  if not r then return 'unknown' end
  if leased(r) and r.lease <= NOW and graceless() then lapse(r) end
  if r.st == 'cancelled' then return 'cancelled' end
  if FINAL[r.st] then return 'finished' end
  if leased(r) or places[r.key] then return 'held' end
  if paused(r) then
    move(r, 'p', r.sub)
    return 'paused'
  end
  if any_retiring and call('EXISTS', P .. 'retiring:' .. r.key) == 1 then
    -- Its old objects are being deleted: the new ones must not be among them.
    if r.at == 'q' then move(r, 'b', NOW + 5000) end
    return 'backoff'
  end
  if is_barred then
    -- The message is used up: the next sweep publishes another.
    if r.at == 'q' then move(r, 'b', NOW) end
    return 'barred'
  end
  if r.at == 'b' and number(call('ZSCORE', P .. 'backoff', r.key)) > NOW then return 'backoff' end
end

for i, key in ipairs(A.keys) do
  local r = load_render(key, 'spec')
  if r and leased(r) and r.nonce == A.nonce then
    -- Asked twice, because the first answer was lost.
    answers[i] = granted(r)
  else
    local why = refusal(r)
    if why then
      answers[i] = { why }
    else
      taken[#taken + 1], places[key] = r, i
      leases[#leases + 1] = int(NOW + A.lease_ms)
      leases[#leases + 1] = key
      if r.at == 'q' then
        queued[r.cls] = queued[r.cls] or {}
        table.insert(queued[r.cls], key)
      end
    end
  end
end

for cls, keys in pairs(queued) do
  local youngest = 0
  for _, score in ipairs(call('ZMSCORE', P .. 'queued:' .. cls, unpack(keys))) do youngest = math.max(youngest, number(score)) end
  if youngest > number(call('HGET', P .. 'mark', cls)) then call('HSET', P .. 'mark', cls, int(youngest)) end
  call('ZREM', P .. 'queued:' .. cls, unpack(keys))
end
local fence = #taken > 0 and call('INCRBY', P .. 'fence', #taken) - #taken
for i, r in ipairs(taken) do
  r.att, r.wk, r.tok = r.att + 1, A.worker, int(fence + i) .. ':' .. A.nonce
  gather(r)
  -- What else there was of an earlier attempt is gone since its end.
  write(r, 'att', r.att, 'wk', r.wk, 'tok', r.tok, 'nonce', A.nonce, 'lease', int(NOW + A.lease_ms), 'start', int(NOW), 'many', #A.keys)
  if A.rest ~= '' then write(r, 'rest', A.rest) end
  if r.made ~= '' then write(r, 'made', '') end
  if r.at == 'q' then
    r.at = 'l'
    recount(r, 'q', r.cls)
    write(r, 'at', 'l')
  else
    move(r, 'l', NOW + A.lease_ms)
  end
  change(r, 'running', 'running', 0)
  save(r)
  answers[places[r.key]] = granted(r)
end
if taken[1] then call('ZADD', P .. 'leases', unpack(leases)) end
for _, mate in ipairs(A.made) do
  -- From here on nobody could tell which of them the worker died of. What is behind them in their message is behind this one, too.
  local render = P .. 'render:' .. mate[1]
  if taken[1] and call('HGET', render, 'tok') == mate[2] then call('HSET', render, 'made', '1', 'rest', '') end
end

-- Half of the window is used up: the worker that finds it so publishes what is next, so that no sweep is waited for.
local admitted, spread, cls = {}, 1, taken[1] and taken[1].cls or ''
if taken[1] and A.admits > 0 and call('EXISTS', P .. 'turns:' .. cls) == 1 then
  local w = window(cls)
  spread = w.min_n
  if w.ms < w.max_ms / 2 or w.n < w.min_n then
    for i, n in ipairs(admit(cls, A.admits)) do admitted[i] = n.key end
  end
end
settle()
return { answers, admitted, cls, spread }
