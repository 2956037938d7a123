-- Detach jobs from their renders. A.jobs: list of job ids; A.reason. Returns for each its state before ('' where it waited), or 'unknown'.
local answers = {}
for i, id in ipairs(A.jobs) do
  local job = call('HMGET', P .. 'job:' .. id, 'st', 'key', 'batch')
  if not job[1] then
    answers[i] = 'unknown'
  else
    answers[i] = job[1]
    if job[1] == '' then
      local r, batch = load_render(job[2]), job[3]
      call('HDEL', P .. 'waiting:' .. job[2], id)
      finish_job(id, 'cancelled', 'Cancelled', A.reason or 'cancelled by its submitter')
      count_jobs(batch, r and batch_column(r.st) or 'queued', -1)
      count_jobs(batch, 'cancelled', 1)
      settle_later(batch)
      tell(r or { key = job[2] }, id, batch, 'cancelled', 0)
      if r and not FINAL[r.st] and call('HLEN', P .. 'waiting:' .. job[2]) == 0 then
        finish(r, 'cancelled', 'Cancelled', 'nobody waits for it any more')
      end
    end
  end
end
settle()
return answers
