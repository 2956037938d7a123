-- What every script shares: names of keys, the clock, and the few moves from which all changes of state are made.
--
-- KEYS[1] is the prefix of every key, "{pianofarm}:". All keys carry that hash tag, hence live in one slot, and a script may build
-- the others from it, in a Cluster too. ARGV[1] is a JSON object with the settings and the script's own arguments.
--
--   render:<key>      hash: st state, at where it is listed (q queued, l leased, b backoff), cls class, spec, ams audio in ms,
--                     att attempts, kills, tok current token, last token before it, nonce, wk worker, lease, sub, start, fin (ms),
--                     frac, fev fraction of the last progress event, et error type, err error, res result, rest keys of its message,
--                     defs how often it was deferred, since when (ms)
--   waiting:<key>     hash: job -> batch; who is told when the render is finished
--   job:<id>          hash: key, batch, owner, name, cls, created, cached, st final state ('' while it waits), fin, et, err
--   batch:<id>        hash: total and a count for each state; batchjobs:<id> list of job ids; events:<id> stream
--   events            stream of the whole farm
--   queued:<class>    sorted set: when its message was published last
--   leases, backoff   sorted sets: when the lease lapses, when the wait is over
--   load              hash: n:<class>:<q|l> renders and ms:<class>:<q|l> audio
--   mark              hash: class -> the youngest publication that was claimed
--   quarantine        sorted set of quarantined renders; parked: list of unreadable messages; fence: counter of tokens
--   workers, seen     hash and sorted set of living workers
--   heard, grace      when a worker or a sweeper was heard last, and until when no lease lapses after nobody was (ms)
--
-- What is not finished has no lifetime, or an accepted job could be forgotten; what is finished expires after ttl_s.

local P = KEYS[1]
local A = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local call = redis.call

local FINAL = { done = true, failed = true, quarantined = true, cancelled = true }
local URGENCY = { interactive = 3, standard = 2, bulk = 1 }
local FIELDS = { 'st', 'at', 'cls', 'ams', 'att', 'kills', 'tok', 'last', 'nonce', 'wk', 'lease', 'sub', 'fev', 'err', 'spec', 'rest' }

local function int(number) return string.format('%.0f', number) end

local function load_render(key)
  local values = call('HMGET', P .. 'render:' .. key, unpack(FIELDS))
  if not values[1] then return nil end
  local r = { key = key }
  for i, name in ipairs(FIELDS) do r[name] = values[i] or '' end
  r.ams, r.att, r.kills = tonumber(r.ams) or 0, tonumber(r.att) or 0, tonumber(r.kills) or 0
  r.lease, r.sub, r.fev = tonumber(r.lease) or 0, tonumber(r.sub) or 0, tonumber(r.fev) or 0
  return r
end

local function leased(r) return r.at == 'l' end

-- The column of `load` a list counts in: a render that backs off waits as much as one in the queue.
local function column(at) if at == 'b' then return 'q' end return at end

local function list_of(r)
  if r.at == 'q' then return P .. 'queued:' .. r.cls end
  if r.at == 'l' then return P .. 'leases' end
  return P .. 'backoff'
end

local function count(r, sign)
  local name = r.cls .. ':' .. column(r.at)
  call('HINCRBY', P .. 'load', 'n:' .. name, sign)
  call('HINCRBY', P .. 'load', 'ms:' .. name, int(sign * r.ams))
end

-- Put a render in another list (or in none, at = ''), perhaps in another class; keeps `load` true.
local function move(r, at, score, cls)
  if r.at ~= '' then
    call('ZREM', list_of(r), r.key)
    count(r, -1)
  end
  r.at, r.cls = at, cls or r.cls
  if at ~= '' then
    call('ZADD', list_of(r), int(score), r.key)
    count(r, 1)
  end
  call('HSET', P .. 'render:' .. r.key, 'at', r.at, 'cls', r.cls)
end

local function batch_column(state) if state == 'uploading' then return 'running' end return state end

-- Finished batches get their lifetime, growing ones lose it.
local function settle_batch(batch)
  local c = call('HMGET', P .. 'batch:' .. batch, 'total', 'done', 'failed', 'quarantined', 'cancelled')
  local finished = 0
  for i = 2, 5 do finished = finished + (tonumber(c[i]) or 0) end
  for _, name in ipairs({ 'batch:', 'batchjobs:', 'events:' }) do
    if finished >= (tonumber(c[1]) or 0) then call('EXPIRE', P .. name .. batch, A.ttl_s)
    else call('PERSIST', P .. name .. batch) end
  end
end

local function tell(r, job, batch, kind, fraction, err)
  local fields = { 'k', kind, 'j', job, 'b', batch, 'r', r.key, 'f', tostring(fraction or 0), 'w', r.wk or '', 'e', err or '' }
  call('XADD', P .. 'events:' .. batch, 'MAXLEN', '~', A.events_max, '*', unpack(fields))
  call('XADD', P .. 'events', 'MAXLEN', '~', A.events_max, '*', unpack(fields))
end

local function waiting(r)
  local flat, jobs = call('HGETALL', P .. 'waiting:' .. r.key), {}
  for i = 1, #flat, 2 do jobs[#jobs + 1] = { id = flat[i], batch = flat[i + 1] } end
  return jobs
end

-- Change the state of a render and the counts of the batches that wait for it, and say so in the streams.
local function change(r, state, kind, fraction, err)
  local from, to, changed = batch_column(r.st), batch_column(state), {}
  for _, job in ipairs(waiting(r)) do
    changed[job.batch] = (changed[job.batch] or 0) + 1
    if kind then tell(r, job.id, job.batch, kind, fraction, err) end
  end
  if from ~= to then
    for batch, n in pairs(changed) do
      call('HINCRBY', P .. 'batch:' .. batch, from, -n)
      call('HINCRBY', P .. 'batch:' .. batch, to, n)
    end
  end
  r.st = state
  call('HSET', P .. 'render:' .. r.key, 'st', state)
  return changed
end

local function finish_job(id, state, et, err)
  call('HSET', P .. 'job:' .. id, 'st', state, 'fin', int(NOW), 'et', et, 'err', err)
  call('EXPIRE', P .. 'job:' .. id, A.ttl_s)
end

local function finish(r, state, et, err, result)
  local render, jobs = P .. 'render:' .. r.key, waiting(r)
  local batches = change(r, state, state, state == 'done' and 1 or 0, err)
  move(r, '', 0)
  call('HSET', render, 'fin', int(NOW), 'et', et, 'err', err, 'res', result or '', 'last', r.tok, 'tok', '', 'nonce', '', 'rest', '')
  if state == 'done' then call('HSET', render, 'frac', '1') end
  call('EXPIRE', render, A.ttl_s)
  for _, job in ipairs(jobs) do finish_job(job.id, state, et, err) end
  if state == 'failed' or state == 'quarantined' then
    -- Kept, so that a retry can tell those who waited.
    call('EXPIRE', P .. 'waiting:' .. r.key, A.ttl_s)
  else
    call('DEL', P .. 'waiting:' .. r.key)
  end
  if state == 'quarantined' then
    call('ZADD', P .. 'quarantine', int(NOW), r.key)
    call('ZREMRANGEBYRANK', P .. 'quarantine', 0, -10001)
  end
  for batch in pairs(batches) do settle_batch(batch) end
end

-- Back to waiting: the token is void from here on.
local function requeue(r, at, score, kind, et, err)
  change(r, 'queued', kind, 0, err)
  move(r, at, score)
  call('HSET', P .. 'render:' .. r.key, 'last', r.tok, 'tok', '', 'nonce', '', 'rest', '', 'frac', '0', 'fev', '0', 'et', et, 'err', err)
end

-- Note that somebody was heard. Where nobody was for half a lease, the network or Redis itself was away, and workers that live could not
-- renew: every lease then has one more lease to be renewed in.
local function hear()
  local heard = tonumber(call('GET', P .. 'heard') or '') or NOW
  if NOW - heard > A.lease_ms / 2 then call('SET', P .. 'grace', int(NOW + A.lease_ms), 'PX', int(A.lease_ms)) end
  if NOW - heard > A.lease_ms / 8 or heard >= NOW then call('SET', P .. 'heard', int(NOW)) end
end

-- True where a lease that is over may be taken away.
local function graceless() return call('EXISTS', P .. 'grace') == 0 end

-- The lease ran out: its worker is dead, cut off or stuck. Again at once, or out of the way if that was the last attempt.
local function lapse(r)
  r.kills = r.kills + 1
  r.tok = '' -- whoever still holds it has lost the lease, and is told so
  call('HSET', P .. 'render:' .. r.key, 'kills', r.kills)
  local err = 'worker ' .. r.wk .. ' gave no sign of life during attempt ' .. r.att
  if r.att >= A.max_attempts then
    finish(r, 'quarantined', 'WorkerDied', err .. '; ' .. r.kills .. ' attempts ended like that')
  else
    requeue(r, 'q', NOW, 'retry', 'WorkerDied', err)
  end
end

-- A fresh set of attempts for a render that was finished without a result.
local function restart(r, cls)
  local render = P .. 'render:' .. r.key
  call('PERSIST', render)
  call('ZREM', P .. 'quarantine', r.key)
  call('HSET', render, 'st', 'queued', 'att', 0, 'kills', 0, 'tok', '', 'nonce', '', 'frac', '0', 'fev', '0', 'et', '', 'err', '', 'res', '',
    'defs', 0, 'since', '', 'sub', int(NOW), 'start', '0', 'fin', '0')
  r.st = 'queued'
  move(r, 'q', NOW, cls)
end
