-- Enter jobs. A.jobs: list of {key, job, batch, owner, name, cls, spec, ams}. Returns for each {state, class, cached, needs_message}.
local answers, batches = {}, {}

local function enter(q)
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
    call('HSET', P .. 'render:' .. q.key, 'st', 'queued', 'spec', q.spec, 'ams', int(q.ams), 'att', 0, 'kills', 0, 'sub', int(NOW), 'tok', '')
    move(r, 'q', NOW)
    needs = 1
  elseif r.st == 'done' then
    cached, final = 1, 'done'
    call('EXPIRE', P .. 'render:' .. q.key, A.ttl_s)
  elseif r.st == 'quarantined' then
    final, et, err = 'quarantined', 'WorkerDied', r.err
  elseif FINAL[r.st] then
    call('DEL', P .. 'waiting:' .. q.key)
    restart(r, q.cls)
    needs = 1
  elseif URGENCY[q.cls] > URGENCY[r.cls] then
    -- Somebody more urgent waits now: a second message, in the better queue; the first one will find the render taken.
    local score = r.at ~= '' and call('ZSCORE', list_of(r), q.key) or NOW
    if r.at == 'q' then score, needs = NOW, 1 end
    move(r, r.at, tonumber(score), q.cls)
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

for i, request in ipairs(A.jobs) do answers[i] = enter(request) end
for batch in pairs(batches) do settle_batch(batch) end
return answers
