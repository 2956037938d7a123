-- Let the objects of renders be deleted that nobody points to. A: keys, ms. Returns those of them that the ledger does not know: they cannot
-- be claimed for this long, or until their mark is taken away.
local free = {}
for _, key in ipairs(A.keys) do
  if call('EXISTS', P .. 'render:' .. key) == 0 then
    call('SET', P .. 'retiring:' .. key, '1', 'PX', int(A.ms))
    free[#free + 1] = key
  end
end
return free
