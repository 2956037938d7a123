-- Forget a finished render, because its audio is gone: the next submission makes it again. A: key. Returns 1 if it was there.
local r = load_render(A.key)
if not r or r.st ~= 'done' then return 0 end
return call('DEL', P .. 'render:' .. A.key)
