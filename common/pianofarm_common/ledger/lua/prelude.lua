-- What every script shares: names of keys, the clock, and the few moves from which all changes of state are made.
--
-- KEYS[1] is the prefix of every key, "{pianofarm}:". All keys carry that hash tag, hence live in one slot, and a script may build
-- the others from it, in a Cluster too. ARGV[1] is a JSON object with the settings and the script's own arguments.
--
--   render:<key>      hash: st state, at where it is listed (w waits for its owner's turn, q published, l leased, b backoff, p paused),
--                     cls class, own whose turn it waits for, spec, ams audio in ms,
--                     att attempts, kills, tok current token, last token before it, nonce, wk worker, lease, sub, start, fin (ms),
--                     frac, fev fraction of the last progress event, et error type, err error, res result, rest keys of its message,
--                     many claimed together, made '1' where its worker went on to another before the commit, alone '1' where it is to be
--                     made with nothing else in hand, defs how often it was deferred, since when (ms), hosts those
--                     its workers died on, fates who they were and their memory in MB
--   waiting:<key>     hash: job -> batch; who is told when the render is finished
--   job:<id>          hash: key, batch, owner, name, cls, created, cached, st final state ('' while it waits), fin, et, err
--   batch:<id>        hash: total and a count for each state; batchjobs:<id> list of job ids; events:<id> stream
--   events            stream of the whole farm
--   lane:<class>:<owner>  sorted set: what waits for the turn of an owner; by time of submission
--   turns:<class>     sorted set: owners whose lane is not empty, by start tag; rested:<class> those who were served last, by finish tag
--   virtual, weights  hashes: class -> virtual time, owner -> weight
--   queued:<class>    sorted set of what is published: when its message was published last
--   leases, backoff   sorted sets: when the lease lapses, when the wait is over
--   load              hash: n:<class>:<q|l> renders and ms:<class>:<q|l> audio, waiting and leased; pms:<class> audio that is published
--   switches          hash: what is paused or drained; paused: sorted set of renders that met a pause, by time of submission
--   mark              hash: class -> the youngest publication that was claimed
--   quarantine        sorted set of quarantined renders; parked: list of unreadable messages; fence: counter of tokens
--   callback:<batch>  the address that is told of every end of the batch's jobs; calls: sorted set of jobs to tell about, by when (ms)
--   retiring:<key>    while the objects of a forgotten render are deleted
--   workers, seen     hash and sorted set of living workers; fate:<worker> what ended one, as its parent saw it
--   deaths:<host>     sorted set: renders whose worker died on this host and on no other, when; barred: hash of hosts that get no work
--   heard, grace      when a worker or a sweeper was heard last, and until when no lease lapses after nobody was (ms)
--
-- What is not finished has no lifetime, or an accepted job could be forgotten; what is finished expires after ttl_s.

local P = KEYS[1]
local A = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local call = redis.call

-- So many renders of one owner are looked at at a time.
local AHEAD = 32

local FINAL = { done = true, failed = true, quarantined = true, cancelled = true }
local URGENCY = { interactive = 3, standard = 2, bulk = 1 }

local function int(number) return string.format('%.0f', number) end

-- A field of a hash as a number, 0 where there is none.
local function number(value) return tonumber(value or '') or 0 end

-- `more`: a long field that only this script wants.
local function load_render(key, more)
  local v = call('HMGET', P .. 'render:' .. key, 'st', 'at', 'cls', 'ams', 'att', 'kills', 'tok', 'last', 'nonce', 'wk', 'lease', 'sub', 'fev',
    'err', 'own', 'many', 'made', 'alone', more or 'st')
  if not v[1] then return nil end
  local r = { key = key, st = v[1], at = v[2] or '', cls = v[3] or '', ams = number(v[4]), att = number(v[5]), kills = number(v[6]),
    tok = v[7] or '', last = v[8] or '', nonce = v[9] or '', wk = v[10] or '', lease = number(v[11]), sub = number(v[12]), fev = number(v[13]),
    err = v[14] or '', own = v[15] or '', many = v[16] or '', made = v[17] or '', alone = v[18] or '' }
  if more then r[more] = v[19] or '' end
  return r
end

-- Write fields of a render: now, or where it was begun with `gather`, with others by `save`.
local function write(r, ...)
  if not r.gathered then return call('HSET', P .. 'render:' .. r.key, ...) end
  for i = 1, select('#', ...) do r.gathered[#r.gathered + 1] = (select(i, ...)) end
end

local function gather(r) r.gathered = r.gathered or {} end

local function save(r)
  local fields = r.gathered
  r.gathered = nil
  if fields and fields[1] then call('HSET', P .. 'render:' .. r.key, unpack(fields)) end
end

local function leased(r) return r.at == 'l' end

-- The column of `load` a list counts in: whatever is not leased waits.
local function column(at) if at == 'l' then return 'l' end return 'q' end

local function lane(cls, owner) return P .. 'lane:' .. cls .. ':' .. owner end

local function list_of(r)
  if r.at == 'q' then return P .. 'queued:' .. r.cls end
  if r.at == 'l' then return P .. 'leases' end
  if r.at == 'w' then return lane(r.cls, r.own or '') end
  if r.at == 'p' then return P .. 'paused' end
  return P .. 'backoff'
end

-- What a call changes of counts is added up, and written by `settle` at its end: the renders of a bundle change the same ones.
-- Fields of `load`; of each batch its columns; batches to be looked at by `settle_batch`, true where they grew; what is no longer leased
-- and what is to be deleted; of each batch the jobs that ended.
local loads, columns, unsettled, unleased, gone, ended = {}, {}, {}, {}, {}, {}

local function add(counts, name, n) counts[name] = (counts[name] or 0) + n end

-- What may be published of each class, as far as this call has looked.
local windows = {}

local function window(cls)
  local w = windows[cls]
  if not w then
    local workers = math.max(1, call('ZCARD', P .. 'seen'))
    local counted = 'pms:' .. cls
    w = { n = call('ZCARD', P .. 'queued:' .. cls), ms = number(call('HGET', P .. 'load', counted)) + (loads[counted] or 0),
      min_n = 2 * workers, max_ms = (A.window_ms or 0) * workers }
    -- Nothing is published: what an older version counted otherwise is forgotten.
    if w.n == 0 and w.ms ~= 0 then
      call('HDEL', P .. 'load', counted)
      w.ms, loads[counted] = 0, nil
    end
    windows[cls] = w
  end
  return w
end

local function has_room(cls)
  local w = window(cls)
  return w.ms < w.max_ms or w.n < w.min_n
end

local function count(name, sign, ms)
  add(loads, 'n:' .. name, sign)
  add(loads, 'ms:' .. name, sign * ms)
end

local function count_published(cls, sign, ms)
  add(loads, 'pms:' .. cls, sign * ms)
  local w = windows[cls]
  if w then w.n, w.ms = w.n + sign, w.ms + sign * ms end
end

-- Keep `load` true for a render that came from another list, perhaps of another class ('' is none).
local function recount(r, from_at, from_cls)
  local from, to = from_at ~= '' and from_cls .. ':' .. column(from_at), r.at ~= '' and r.cls .. ':' .. column(r.at)
  if from ~= to then
    if from then count(from, -1, r.ams) end
    if to then count(to, 1, r.ams) end
  end
  local was, is = from_at == 'q' and from_cls, r.at == 'q' and r.cls
  if was ~= is then
    if was then count_published(was, -1, r.ams) end
    if is then count_published(is, 1, r.ams) end
  end
end

-- Start-time fair queuing (Goyal, Vin, Cheng, SIGCOMM 1996). A render starts at the virtual time of its class, or when the one of the same
-- owner before it ends, whichever is later; it ends its audio, divided by its owner's weight, after its start. Next is who starts first,
-- and its start is the virtual time from then on.

local virtuals, virtuals_moved, weights, turns_known = {}, {}, {}, {}

local function virtual(cls)
  if not virtuals[cls] then virtuals[cls] = number(call('HGET', P .. 'virtual', cls)) end
  return virtuals[cls]
end

local function weight(owner)
  if not weights[owner] then weights[owner] = tonumber(call('HGET', P .. 'weights', owner) or '') or 1 end
  return weights[owner]
end

local function tag(number) return string.format('%.3f', number) end

-- Where the next render of an owner starts who has none waiting.
local function start_of(cls, owner)
  return math.max(virtual(cls), number(call('ZSCORE', P .. 'rested:' .. cls, owner)))
end

local function rest(cls, owner, finish)
  local rested = P .. 'rested:' .. cls
  call('ZREM', P .. 'turns:' .. cls, owner)
  call('ZADD', rested, tag(finish), owner)
  -- Who ended in the past starts like a newcomer.
  call('ZREMRANGEBYSCORE', rested, '-inf', tag(virtual(cls)))
  call('ZREMRANGEBYRANK', rested, 0, -10001)
end

-- Serve a render of an owner that starts at `start`; returns where the owner's next one starts. `keep_virtual` follows.
local function serve(r, owner, start)
  if start > virtual(r.cls) then virtuals[r.cls], virtuals_moved[r.cls] = start, true end
  return start + r.ams / weight(owner)
end

local function keep_virtual(cls)
  if virtuals_moved[cls] then call('HSET', P .. 'virtual', cls, tag(virtuals[cls])) end
  virtuals_moved[cls] = nil
end

-- Put a render in another list (or in none, at = ''), perhaps in another class; keeps `load` true. Returns true where its owner's lane is
-- empty now.
local function move(r, at, score, cls)
  local from_at, from_cls, emptied = r.at, r.cls, false
  if from_at ~= '' then
    call('ZREM', list_of(r), r.key)
    emptied = from_at == 'w' and call('EXISTS', list_of(r)) == 0
    if emptied then
      turns_known[r.cls .. ':' .. r.own] = nil
      local start = call('ZSCORE', P .. 'turns:' .. r.cls, r.own)
      if start then rest(r.cls, r.own, tonumber(start)) end
    end
  end
  r.at, r.cls = at, cls or r.cls
  if at ~= '' then call('ZADD', list_of(r), tag(score), r.key) end
  recount(r, from_at, from_cls)
  write(r, 'at', r.at, 'cls', r.cls)
  return emptied
end

-- Put a render that is in no list where it waits for its owner's turn.
local function into_lane(r, score)
  local known = r.cls .. ':' .. r.own
  if not turns_known[known] then
    if not call('ZSCORE', P .. 'turns:' .. r.cls, r.own) then
      local start = start_of(r.cls, r.own)
      call('ZREM', P .. 'rested:' .. r.cls, r.own)
      call('ZADD', P .. 'turns:' .. r.cls, tag(start), r.own)
    end
    turns_known[known] = true
  end
  move(r, 'w', score)
end

-- The switches of operators: "pause:queue:bulk", "pause:owner:...", "pause:batch:...", the same with drain.
local switches = nil

local function switch(action, kind, name)
  if not switches then
    switches = { any = false }
    local flat = call('HGETALL', P .. 'switches')
    for i = 1, #flat, 2 do
      switches[flat[i]] = true
      switches.any = true
    end
  end
  return switches.any and switches[action .. ':' .. kind .. ':' .. name]
end

local function batch_column(state) if state == 'uploading' then return 'running' end return state end

local function count_jobs(batch, column, n)
  columns[batch] = columns[batch] or {}
  add(columns[batch], column, n)
end

-- Have a batch looked at when the counts are true.
local function settle_later(batch, grew) unsettled[batch] = unsettled[batch] or grew or false end

-- Add to fields of a hash.
local function add_all(hash, counts)
  local names, values = {}, {}
  for name, n in pairs(counts) do
    if n ~= 0 then names[#names + 1] = name end
  end
  if not names[1] then return end
  for i, known in ipairs(call('HMGET', hash, unpack(names))) do
    values[2 * i - 1], values[2 * i] = names[i], int(number(known) + counts[names[i]])
  end
  call('HSET', hash, unpack(values))
end

-- Somebody asked to be told of a batch: its jobs that ended are to be told about. By when they ended, also those that ended before (a
-- retry lets a job end twice): whoever tells of the first end at this moment must not forget the second.
local function call_back(jobs)
  for from = 1, #jobs, 1000 do
    local noted = {}
    for i = from, math.min(#jobs, from + 999) do
      noted[#noted + 1] = int(NOW)
      noted[#noted + 1] = jobs[i]
    end
    call('ZADD', P .. 'calls', unpack(noted))
  end
end

-- Finished batches get their lifetime, those that grew or have work again lose it.
local function settle_batch(batch, grew)
  local c = call('HMGET', P .. 'batch:' .. batch, 'total', 'done', 'failed', 'quarantined', 'cancelled')
  local finished = 0
  for i = 2, 5 do finished = finished + number(c[i]) end
  local is_over = finished >= number(c[1])
  for _, name in ipairs((is_over or grew) and { 'batch:', 'batchjobs:', 'events:' } or {}) do
    if is_over then call('EXPIRE', P .. name .. batch, A.ttl_s)
    else call('PERSIST', P .. name .. batch) end
  end
  -- The address lives as long as its batch; one call says whether there is any.
  local address = P .. 'callback:' .. batch
  if grew and not is_over then call('PERSIST', address) end
  if is_over or ended[batch] then
    local asked = is_over and call('EXPIRE', address, A.ttl_s) or not is_over and call('EXISTS', address)
    if ended[batch] and asked == 1 then call_back(ended[batch]) end
  end
  if is_over and (switch('pause', 'batch', batch) or switch('drain', 'batch', batch)) then
    -- Whoever submits for one owner may only read the switches: then the next sweep takes these away.
    redis.pcall('HDEL', P .. 'switches', 'pause:batch:' .. batch, 'drain:batch:' .. batch)
  end
end

-- The end of every script that changes something.
local function settle()
  if unleased[1] then call('ZREM', P .. 'leases', unpack(unleased)) end
  if gone[1] then call('DEL', unpack(gone)) end
  add_all(P .. 'load', loads)
  for batch, counts in pairs(columns) do add_all(P .. 'batch:' .. batch, counts) end
  for batch, grew in pairs(unsettled) do settle_batch(batch, grew) end
end

local function tell(r, job, batch, kind, fraction, err)
  if FINAL[kind] then
    ended[batch] = ended[batch] or {}
    table.insert(ended[batch], job)
  end
  for _, stream in ipairs({ P .. 'events:' .. batch, P .. 'events' }) do
    call('XADD', stream, 'MAXLEN', '~', A.events_max, '*', 'k', kind, 'j', job, 'b', batch, 'r', r.key, 'f', tostring(fraction or 0),
      'w', r.wk or '', 'e', err or '')
  end
end

-- The jobs that wait for a render, as they were when it was asked first.
local function waiting(r)
  if not r.jobs then
    r.jobs = {}
    local flat = call('HGETALL', P .. 'waiting:' .. r.key)
    for i = 1, #flat, 2 do r.jobs[#r.jobs + 1] = { id = flat[i], batch = flat[i + 1] } end
  end
  return r.jobs
end

-- True where nobody who waits for a render may have it started now.
local function paused(r)
  if switch('pause', 'queue', r.cls) then return true end
  if not switches.any then return false end
  local jobs = waiting(r)
  for _, job in ipairs(jobs) do
    if not switch('pause', 'batch', job.batch) and not switch('pause', 'owner', call('HGET', P .. 'job:' .. job.id, 'owner') or '') then
      return false
    end
  end
  return #jobs > 0
end

-- True where an owner would be next in a class: nobody waits but those who are paused, or all of them start later.
local function is_next(cls, owner)
  local turns, skipped = P .. 'turns:' .. cls, 0
  if call('EXISTS', turns) == 0 then return true end
  if call('ZSCORE', turns, owner) then return false end
  while true do
    local turn = call('ZRANGE', turns, skipped, skipped, 'WITHSCORES')
    if not turn[1] then return true end
    if not switch('pause', 'owner', turn[1]) then return start_of(cls, owner) <= tonumber(turn[2]) end
    skipped = skipped + 1
  end
end

-- Enter a render that is in no list: published at once while there is room and its owner is next, else when it is its turn. Returns 1
-- if its message is to be published now.
local function enqueue(r, owner, score)
  r.own = owner
  call('HSET', P .. 'render:' .. r.key, 'own', owner)
  if not has_room(r.cls) or switch('pause', 'queue', r.cls) or switch('pause', 'owner', owner) or not is_next(r.cls, owner) then
    into_lane(r, score)
    return 0
  end
  -- Where nothing waits at all, everybody is a newcomer.
  if window(r.cls).n == 0 and call('EXISTS', P .. 'turns:' .. r.cls) == 0 then call('DEL', P .. 'rested:' .. r.cls) end
  local start = start_of(r.cls, owner)
  local finish = serve(r, owner, start)
  keep_virtual(r.cls)
  rest(r.cls, owner, finish)
  move(r, 'q', NOW)
  return 1
end

-- True where an owner that starts then is served before another.
local function goes_first(owner, start, other, other_start)
  return not other or start < other_start or (start == other_start and owner < other)
end

-- Publish what has its turn while there is room, at most this many; returns the renders.
local function admit(cls, most)
  local turns, admitted, skipped, seen = P .. 'turns:' .. cls, {}, 0, 0
  if switch('pause', 'queue', cls) then return admitted end
  while seen < most and has_room(cls) do
    local turn = call('ZRANGE', turns, skipped, skipped + 1, 'WITHSCORES')
    local owner, start, other, other_start = turn[1], tonumber(turn[2] or ''), turn[3], tonumber(turn[4] or '')
    if not owner then break end
    if switch('pause', 'owner', owner) then
      skipped = skipped + 1
    else
      local from, taken, published = lane(cls, owner), {}, {}
      for _, key in ipairs(call('ZRANGE', from, 0, math.min(most - seen, AHEAD) - 1)) do
        if taken[1] and not (has_room(cls) and goes_first(owner, start, other, other_start)) then break end
        seen = seen + 1
        taken[#taken + 1] = key
        local r = load_render(key)
        if r and paused(r) then
          move(r, 'p', r.sub)
        elseif r then
          start = serve(r, owner, start)
          r.at = 'q'
          recount(r, 'w', cls)
          call('HSET', P .. 'render:' .. key, 'at', 'q')
          published[#published + 1] = int(NOW)
          published[#published + 1] = key
          admitted[#admitted + 1] = r
        end
      end
      if taken[1] then call('ZREM', from, unpack(taken)) end
      if published[1] then call('ZADD', P .. 'queued:' .. cls, unpack(published)) end
      if call('EXISTS', from) == 0 then
        turns_known[cls .. ':' .. owner] = nil
        rest(cls, owner, start)
      else
        call('ZADD', turns, tag(start), owner)
      end
    end
  end
  keep_virtual(cls)
  -- A bundle is to hold similar lengths, and no long one is to be left for the end.
  if cls == 'bulk' then table.sort(admitted, function(a, b) return a.ams > b.ams end) end
  return admitted
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
      count_jobs(batch, from, -n)
      count_jobs(batch, to, n)
    end
  end
  r.st = state
  write(r, 'st', state)
  return changed
end

local function finish_job(id, state, et, err)
  call('HSET', P .. 'job:' .. id, 'st', state, 'fin', int(NOW))
  -- What waits has none of an earlier end.
  if et ~= '' then call('HSET', P .. 'job:' .. id, 'et', et, 'err', err) end
  call('EXPIRE', P .. 'job:' .. id, A.ttl_s)
end

local function finish(r, state, et, err, result)
  gather(r)
  local batches = change(r, state, state, state == 'done' and 1 or 0, err)
  if leased(r) then
    unleased[#unleased + 1], r.at = r.key, ''
    recount(r, 'l', r.cls)
    write(r, 'at', '')
  else
    move(r, '', 0)
  end
  write(r, 'fin', int(NOW), 'et', et, 'err', err, 'res', result or '', 'last', r.tok, 'tok', '', 'nonce', '', 'rest', '')
  if state == 'done' then write(r, 'frac', '1') end
  save(r)
  call('EXPIRE', P .. 'render:' .. r.key, A.ttl_s)
  for _, job in ipairs(waiting(r)) do finish_job(job.id, state, et, err) end
  if state == 'failed' or state == 'quarantined' then
    -- Kept, so that a retry can tell those who waited.
    call('EXPIRE', P .. 'waiting:' .. r.key, A.ttl_s)
  else
    gone[#gone + 1] = P .. 'waiting:' .. r.key
  end
  if state == 'quarantined' then
    call('ZADD', P .. 'quarantine', int(NOW), r.key)
    call('ZREMRANGEBYRANK', P .. 'quarantine', 0, -10001)
  end
  for batch in pairs(batches) do settle_later(batch) end
end

-- Back to waiting: the token is void from here on.
local function requeue(r, at, score, kind, et, err)
  gather(r)
  change(r, 'queued', kind, 0, err)
  move(r, at, score)
  write(r, 'last', r.tok, 'tok', '', 'nonce', '', 'rest', '', 'frac', '0', 'fev', '0', 'et', et, 'err', err)
  save(r)
end

-- Note that somebody was heard. Where nobody was for half a lease, the network or Redis itself was away, and workers that live could not
-- renew: every lease then has one more lease to be renewed in. Once in ten leases at most, or a sweeper that is merely slow would keep the
-- leases of the dead alive.
-- A time in the future is left: it tells the next sweep that the clock was set back.
local function hear()
  local known = call('GET', P .. 'heard')
  local heard = tonumber(known or '') or NOW
  if NOW - heard > math.max(A.lease_ms / 2, 3 * A.sweep_ms) then
    call('SET', P .. 'grace', int(NOW + A.lease_ms), 'NX', 'PX', int(10 * A.lease_ms))
  end
  if NOW - heard > A.lease_ms / 8 or not known then call('SET', P .. 'heard', int(NOW)) end
end

-- True where a lease that is over may be taken away.
local function graceless() return NOW >= (number(call('GET', P .. 'grace'))) end

-- A worker is named NODE@HOST:PROCESS.
local function host_of(worker) return string.match(worker, '@(.*):%d+$') or string.match(worker, '^(.*):%d+$') or worker end

-- A host is taken out of rotation when different renders die on it that died nowhere else. A render that dies on a second host clears the
-- first one: then it is the job. Deaths within a lease of each other count as one, or whoever pulls a plug would condemn a host of many
-- workers; and the last host of a farm stays, for a farm that does nothing is no better than one that does it badly.
local function blame(r)
  local host, render = host_of(r.wk), P .. 'render:' .. r.key
  if A.host_deaths == 0 then return end
  local known = call('HGET', render, 'hosts') or ''
  if known ~= '' and known ~= host then
    for other in string.gmatch(known, '%S+') do call('ZREM', P .. 'deaths:' .. other, r.key) end
    if not string.find(' ' .. known .. ' ', ' ' .. host .. ' ', 1, true) then call('HSET', render, 'hosts', known .. ' ' .. host) end
    return
  end
  call('HSET', render, 'hosts', host)
  local deaths = P .. 'deaths:' .. host
  local last = call('ZRANGE', deaths, -1, -1, 'WITHSCORES')[2]
  if last and NOW - tonumber(last) < A.lease_ms then return end
  call('ZADD', deaths, int(NOW), r.key)
  call('ZREMRANGEBYSCORE', deaths, '-inf', int(NOW - A.host_window_ms))
  call('EXPIRE', deaths, math.ceil(A.host_window_ms / 1000))
  local n_deaths = call('ZCARD', deaths)
  if n_deaths < A.host_deaths or call('HEXISTS', P .. 'barred', host) == 1 then return end
  for _, info in ipairs(call('HVALS', P .. 'workers')) do
    if cjson.decode(info).host ~= host then
      call('HSET', P .. 'barred', host, cjson.encode({ at = NOW / 1000, why = n_deaths .. ' renders died here and nowhere else' }))
      call('EXPIRE', P .. 'barred', 2592000)
      return
    end
  end
end

-- A worker that died, and what is known of its end: what its parent saw, which may be seconds late, and its memory when it was heard last.
local function fate_of(worker, memory_mb)
  local known = {}
  known[1] = call('GET', P .. 'fate:' .. worker) or nil
  if memory_mb > 0 then known[#known + 1] = string.format('%.0f MB when heard last', memory_mb) end
  return worker .. (#known > 0 and ' (' .. table.concat(known, ', ') .. ')' or '')
end

local function memory_of(worker)
  local info = call('HGET', P .. 'workers', worker)
  return info and tonumber(cjson.decode(info).memory_mb or 0) or 0
end

-- The lease ran out: its worker is dead, cut off or stuck. Again at once, or out of the way if that was the last attempt.
-- A worker may have died of another render that it had in hand: then this attempt does not count, and the next ones are made with nothing
-- else in hand, so that there is no second doubt.
local function lapse(r)
  r.tok = '' -- whoever still holds it has lost the lease, and is told so
  blame(r)
  local render, memory_mb = P .. 'render:' .. r.key, memory_of(r.wk)
  local err = 'worker ' .. fate_of(r.wk, memory_mb) .. ' gave no sign of life during attempt ' .. r.att
  if r.alone ~= '1' and (r.made == '1' or (tonumber(r.many) or 1) > 1) then
    call('HSET', render, 'att', math.max(0, r.att - 1), 'alone', '1')
    requeue(r, 'q', NOW, 'retry', 'WorkerDied', err .. ', with other renders in hand; made alone from now on')
    return
  end
  r.kills = r.kills + 1
  local fates, told = call('HGET', render, 'fates') or '', {}
  for worker, mb in string.gmatch(fates, '([^\t\n]+)\t(%S+)\n') do told[#told + 1] = fate_of(worker, tonumber(mb)) end
  call('HSET', render, 'kills', r.kills, 'fates', string.sub(fates .. r.wk .. '\t' .. tag(memory_mb) .. '\n', 1, 1000))
  if r.att >= A.max_attempts then
    local before = #told > 0 and ', before that of ' .. table.concat(told, ', ') or ''
    finish(r, 'quarantined', 'WorkerDied', err .. '; ' .. r.kills .. ' attempts ended like that' .. before)
  else
    requeue(r, 'q', NOW, 'retry', 'WorkerDied', err)
  end
end

-- A fresh set of attempts for a render that was finished without a result. It is in no list then.
local function restart(r)
  local render = P .. 'render:' .. r.key
  call('PERSIST', render)
  call('ZREM', P .. 'quarantine', r.key)
  call('HSET', render, 'st', 'queued', 'att', 0, 'kills', 0, 'alone', '', 'tok', '', 'nonce', '', 'frac', '0', 'fev', '0', 'et', '', 'err', '',
    'res', '', 'defs', 0, 'since', '', 'hosts', '', 'fates', '', 'sub', int(NOW), 'start', '0', 'fin', '0')
  r.st, r.sub = 'queued', NOW
end
