-- Enter jobs. A.jobs: list of {key, job, batch, owner, name, cls, spec, ams}. Returns for each {state, class, cached, needs_message}; or
-- {'draining', kind, name} where one of them goes to what is being drained: then none is entered.
local answers, batches = {}, {}

-- Within one millisecond, too, the order of submission counts.
local function enter(q, place)
  local job, r = P .. 'job:' .. q.job, load_render(q.key)
  local known = call('HGET', job, 'st')
  if known then
    -- Sent twice, because the first answer was lost.
    local state = known ~= '' and known or (r and r.st or 'queued')
    local lost = known == '' and r and r.at == 'q'
    return { state, r and r.cls or q.cls, tonumber(call('HGET', job, 'cached')) or 0, lost and 1 or 0 }
  end

  local needs, cached, final, et, err = 0, 0, '', '', ''
  if not r then
    r = { key = q.key, st = 'queued', at = '', cls = q.cls, ams = q.ams, wk = '' }
    call('HSET', P .. 'render:' .. q.key, 'st', 'queued', 'spec', q.spec, 'ams', int(q.ams), 'att', 0, 'kills', 0, 'sub', int(NOW), 'tok', '',
      'cls', q.cls)
    needs = enqueue(r, q.owner, place)
  elseif r.st == 'done' then
    cached, final = 1, 'done'
    call('EXPIRE', P .. 'render:' .. q.key, A.ttl_s)
  elseif r.st == 'quarantined' then
    final, et, err = 'quarantined', 'WorkerDied', r.err
  elseif FINAL[r.st] then
    call('DEL', P .. 'waiting:' .. q.key)
    restart(r)
    r.cls = q.cls
    needs = enqueue(r, q.owner, place)
  elseif URGENCY[q.cls] > URGENCY[r.cls] then
    -- Somebody more urgent waits now: a second message, in the better queue; the first one will find the render taken.
    if r.at == 'q' or r.at == 'w' then
      move(r, '', 0)
      r.cls = q.cls
      needs = enqueue(r, q.owner, place)
    else
      move(r, r.at, tonumber(r.at ~= '' and call('ZSCORE', list_of(r), q.key) or NOW), q.cls)
    end
  elseif r.at == 'w' and r.own ~= q.owner and call('ZCARD', lane(r.cls, q.owner)) < call('ZCARD', lane(r.cls, r.own)) then
    -- It is sooner the turn of this owner.
    move(r, '', 0)
    needs = enqueue(r, q.owner, place)
  end

  call('HSET', job, 'key', q.key, 'batch', q.batch, 'owner', q.owner, 'name', q.name, 'cls', q.cls, 'created', int(NOW), 'cached', cached, 'st', '')
  call('RPUSH', P .. 'batchjobs:' .. q.batch, q.job)
  call('HINCRBY', P .. 'batch:' .. q.batch, 'total', 1)
  call('HINCRBY', P .. 'batch:' .. q.batch, batch_column(r.st), 1)
  batches[q.batch] = true
  if final ~= '' then
    finish_job(q.job, final, et, err)
    tell(r, q.job, q.batch, final, cached, err)
  else
    call('HSET', P .. 'waiting:' .. q.key, q.job, q.batch)
  end
  if final == 'quarantined' then
    -- Told when somebody retries it.
    call('HSET', P .. 'waiting:' .. q.key, q.job, q.batch)
    call('EXPIRE', P .. 'waiting:' .. q.key, A.ttl_s)
  end
  return { r.st, r.cls, cached, needs }
end

if #A.jobs > 0 and (switch('drain', 'queue', '') or switches.any) then
  for _, q in ipairs(A.jobs) do
    for kind, name in pairs({ queue = q.cls, owner = q.owner, batch = q.batch }) do
      if switch('drain', kind, name) then return { 'draining', kind, name } end
    end
  end
end
for i, request in ipairs(A.jobs) do answers[i] = enter(request, NOW + i / 1000) end
for batch in pairs(batches) do settle_batch(batch) end
return answers
