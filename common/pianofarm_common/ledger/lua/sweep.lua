-- Queue again what nobody does, and publish what has its turn. A: limit, lost_ms, backlog {class: messages in the broker}. Returns a list
-- of {class, key, alone}, then the same of {class, spread, key, ...}: what was admitted, and over how many messages to spread it.

-- The clock of Redis was set back (a step of NTP, a Redis or a replica on another machine): what has a time by the old one would be due
-- later by as much, and no dead worker be noticed meanwhile. Such times go back, too; whoever lives has one lease to renew in.
local back = (tonumber(call('GET', P .. 'heard') or '') or NOW) - NOW
if back > A.lease_ms then
  call('SET', P .. 'heard', int(NOW))
  call('DEL', P .. 'grace')
  local sets = { leases = NOW + A.lease_ms, backoff = NOW, seen = NOW, calls = NOW }
  for _, cls in ipairs({ 'interactive', 'standard', 'bulk' }) do
    sets['queued:' .. cls] = NOW
    if (tonumber(call('HGET', P .. 'mark', cls) or '') or 0) > NOW then call('HSET', P .. 'mark', cls, int(NOW)) end
  end
  for set, least in pairs(sets) do
    local late = call('ZRANGEBYSCORE', P .. set, '(' .. int(NOW), '+inf', 'WITHSCORES')
    for i = 1, #late, 2 do
      local due = math.max(least, tonumber(late[i + 1]) - back)
      call('ZADD', P .. set, int(due), late[i])
      if set == 'leases' then call('HSET', P .. 'render:' .. late[i], 'lease', int(due)) end
    end
  end
end

hear()
local out, said = {}, {}
local function publish(r, alone)
  -- Renders of one message share the rest of it.
  if not said[r.key] then out[#out + 1] = { r.cls, r.key, alone and 1 or 0 } end
  said[r.key] = true
end

local function due(set, ceiling)
  return call('ZRANGEBYSCORE', set, '-inf', int(ceiling), 'LIMIT', 0, A.limit)
end

for _, key in ipairs(graceless() and due(P .. 'leases', NOW) or {}) do
  local r = load_render(key, 'rest')
  if not r then
    call('ZREM', P .. 'leases', key)
  else
    local rest = r.rest ~= '' and cjson.decode(r.rest) or {}
    lapse(r)
    -- What killed one worker travels alone from now on; and its neighbours in the message wait for no timeout.
    if r.st == 'queued' then publish(r, true) end
    for _, other in ipairs(rest) do
      local n = load_render(other)
      if n and n.at == 'q' then
        move(n, 'q', NOW)
        publish(n, true)
      end
    end
  end
end

for _, key in ipairs(due(P .. 'backoff', NOW)) do
  local r = load_render(key)
  if not r then
    call('ZREM', P .. 'backoff', key)
  else
    move(r, 'q', NOW)
    publish(r, true)
  end
end

for _, cls in ipairs({ 'interactive', 'standard', 'bulk' }) do
  local ceiling = NOW - A.lost_ms
  -- Queues are first in, first out. While messages wait in the broker, one is lost only if a much younger one was claimed.
  if A.backlog[cls] > 0 then ceiling = math.min(ceiling, (tonumber(call('HGET', P .. 'mark', cls)) or 0) - A.lost_ms) end
  for _, key in ipairs(due(P .. 'queued:' .. cls, ceiling)) do
    local r = load_render(key)
    if not r then
      call('ZREM', P .. 'queued:' .. cls, key)
    else
      move(r, 'q', NOW)
      publish(r, r.att > 0 or r.alone == '1')
    end
  end
end

-- What met a pause waits for its turn again when the pause is over; a part of it is looked at in each sweep.
local from = tonumber(call('GET', P .. 'unpaused') or '') or 0
local held = call('ZRANGE', P .. 'paused', from, from + A.limit - 1)
for _, key in ipairs(held) do
  local r = load_render(key)
  if not r then
    call('ZREM', P .. 'paused', key)
  elseif paused(r) then
    from = from + 1
  else
    move(r, '', 0)
    into_lane(r, r.sub)
  end
end
if #held < A.limit then call('DEL', P .. 'unpaused') else call('SET', P .. 'unpaused', from) end

-- Switches of batches that are over, or that nobody knows: `settle` takes them away.
switch('pause', 'queue', '')
for field in pairs(switches) do
  local batch = string.match(field, '^%a+:batch:(.*)$')
  if batch then settle_later(batch) end
end

-- What nobody told in the time that the ledger remembers a job.
for _, job in ipairs(due(P .. 'calls', NOW - 1000 * A.ttl_s)) do
  call('ZREM', P .. 'calls', job)
  call('HDEL', P .. 'calltries', job)
end

local turns = {}
for _, cls in ipairs({ 'interactive', 'standard', 'bulk' }) do
  local admitted = { cls, window(cls).min_n }
  for _, r in ipairs(admit(cls, A.limit)) do admitted[#admitted + 1] = r.key end
  if #admitted > 2 then turns[#turns + 1] = admitted end
end
settle()
return { out, turns }
