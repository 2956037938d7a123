-- Of A.jobs keep those whose batch or owner has used up its budget; `cancel.lua` follows in the same script and ends them. A worker's
-- user in Redis may run this one, and not `cancel` alone.
local spent = {}
for _, id in ipairs(A.jobs) do
  local payer, used_up = call('HMGET', P .. 'job:' .. id, 'batch', 'owner'), false
  for i, kind in ipairs({ 'batch', 'owner' }) do
    if payer[i] and payer[i] ~= '' then
      local budget = call('HMGET', P .. 'budget:' .. kind .. ':' .. payer[i], 'limit_ms', 'spent_ms')
      used_up = used_up or (budget[1] and (tonumber(budget[2]) or 0) >= tonumber(budget[1]))
    end
  end
  if used_up then spent[#spent + 1] = id end
end
A.jobs = spent
