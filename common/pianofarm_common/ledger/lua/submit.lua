-- Enter jobs. A.runs: list of {batch, owner, class, how many jobs}; of each job, in turn, ARGV has key, job, name, spec, audio in ms. Returns
-- for each "STATE CLASS CACHED NEEDS_MESSAGE"; or {'draining', kind, name} where one of them goes to what is being drained: then none is
-- entered.
--
-- Most jobs of a large batch want a render that is new and waits for its owner's turn. Those are written with few calls, and what they
-- have in common (lists, counts) once for many of them: `settle` does it, before anything else is looked at.
local answers, now = {}, int(NOW)
local lane_of, members, lane_cls, lane_ms = nil, {}, '', 0
local ids = {}

local function settle_lane()
  if #members == 0 then return end
  call('ZADD', lane_of, unpack(members))
  add(loads, 'n:' .. lane_cls .. ':q', #members / 2)
  add(loads, 'ms:' .. lane_cls .. ':q', lane_ms)
  members, lane_ms = {}, 0
end

local function settle_run(batch)
  if #ids == 0 then return end
  call('RPUSH', P .. 'batchjobs:' .. batch, unpack(ids))
  count_jobs(batch, 'total', #ids)
  ids = {}
end

local function note_job(run, id, key, name, cached)
  call('HSET', P .. 'job:' .. id, 'key', key, 'batch', run.batch, 'owner', run.owner, 'name', name, 'cls', run.cls, 'created', now,
    'cached', cached, 'st', '')
  ids[#ids + 1] = id
end

-- A new render that is surely behind others of its owner.
local function enter_behind(run, key, id, name, spec, ams, place)
  call('HSET', P .. 'render:' .. key, 'st', 'queued', 'spec', spec, 'ams', ams, 'sub', now, 'cls', run.cls, 'own', run.owner, 'at', 'w')
  call('HSET', P .. 'waiting:' .. key, id, run.batch)
  note_job(run, id, key, name, 0)
  count_jobs(run.batch, 'queued', 1)
  if lane_of ~= run.lane then
    settle_lane()
    lane_of, lane_cls = run.lane, run.cls
  end
  members[#members + 1] = tag(place)
  members[#members + 1] = key
  lane_ms = lane_ms + ams
  return run.behind
end

local function answer(state, cls, cached, needs) return state .. ' ' .. cls .. ' ' .. cached .. ' ' .. needs end

-- Any other.
local function enter(run, key, id, name, spec, ams, place)
  settle_lane()
  local job, r = P .. 'job:' .. id, load_render(key)
  local known = call('HGET', job, 'st')
  if known then
    -- Sent twice, because the first answer was lost.
    local state = known ~= '' and known or (r and r.st or 'queued')
    local lost = known == '' and r and r.at == 'q'
    return answer(state, r and r.cls or run.cls, call('HGET', job, 'cached') or '0', lost and 1 or 0)
  end

  local needs, cached, final, et, err = 0, 0, '', '', ''
  if not r then
    -- Who waited for a render that was forgotten waits for nothing.
    call('DEL', P .. 'waiting:' .. key)
    r = { key = key, st = 'queued', at = '', cls = run.cls, ams = tonumber(ams), wk = '' }
    call('HSET', P .. 'render:' .. key, 'st', 'queued', 'spec', spec, 'ams', ams, 'sub', now, 'cls', run.cls)
    needs = enqueue(r, run.owner, place)
  elseif r.st == 'done' then
    cached, final = 1, 'done'
    call('EXPIRE', P .. 'render:' .. key, A.ttl_s)
  elseif r.st == 'quarantined' then
    final, et, err = 'quarantined', 'WorkerDied', r.err
    -- As long as those who wait for it (below): a new render must not find them.
    call('EXPIRE', P .. 'render:' .. key, A.ttl_s)
  elseif FINAL[r.st] then
    call('DEL', P .. 'waiting:' .. key)
    restart(r)
    r.cls = run.cls
    needs = enqueue(r, run.owner, place)
  elseif URGENCY[run.cls] > URGENCY[r.cls] then
    -- Somebody more urgent waits now: a second message, in the better queue; the first one will find the render taken.
    if r.at == 'q' or r.at == 'w' then
      move(r, '', 0)
      r.cls = run.cls
      needs = enqueue(r, run.owner, place)
    else
      move(r, r.at, tonumber(r.at ~= '' and call('ZSCORE', list_of(r), key) or NOW), run.cls)
    end
  elseif r.at == 'w' and r.own ~= run.owner and call('ZCARD', lane(r.cls, run.owner)) < call('ZCARD', lane(r.cls, r.own)) then
    -- It is sooner the turn of this owner.
    move(r, '', 0)
    needs = enqueue(r, run.owner, place)
  end

  note_job(run, id, key, name, cached)
  count_jobs(run.batch, batch_column(r.st), 1)
  if final ~= '' then
    finish_job(id, final, et, err)
    tell(r, id, run.batch, final, cached, err)
  else
    call('HSET', P .. 'waiting:' .. key, id, run.batch)
  end
  if final == 'quarantined' then
    -- Told when somebody retries it.
    call('HSET', P .. 'waiting:' .. key, id, run.batch)
    call('EXPIRE', P .. 'waiting:' .. key, A.ttl_s)
  end
  return answer(r.st, r.cls, cached, needs)
end

if switch('drain', 'queue', '') or switches.any then
  for _, run in ipairs(A.runs) do
    for kind, name in pairs({ queue = run[3], owner = run[2], batch = run[1] }) do
      if switch('drain', kind, name) then return { 'draining', kind, name } end
    end
  end
end
local at = 2
for _, given in ipairs(A.runs) do
  local batch, owner, cls, n = unpack(given)
  local run = { batch = batch, owner = owner, cls = cls, lane = lane(cls, owner), behind = answer('queued', cls, 0, 0) }
  for _ = 1, n do
    local key, id, ams = ARGV[at], ARGV[at + 1], ARGV[at + 4]
    -- Within one millisecond, too, the order of submission counts.
    local place = NOW + #answers / 1000
    local is_behind = turns_known[cls .. ':' .. owner] and call('EXISTS', P .. 'render:' .. key, P .. 'job:' .. id, P .. 'waiting:' .. key) == 0
    answers[#answers + 1] = (is_behind and enter_behind or enter)(run, key, id, ARGV[at + 2], ARGV[at + 3], ams, place)
    at = at + 5
  end
  settle_run(batch)
  settle_later(batch, true)
end
settle_lane()
settle()
return answers
