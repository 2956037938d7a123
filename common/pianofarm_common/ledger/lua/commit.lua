-- Make renders done. A: keys, tokens; from ARGV[2] on: results. Returns for each 'ok', 'cancelled' or 'lost'.
local answers = {}
for i, key in ipairs(A.keys) do
  local r, token, answer = load_render(key), A.tokens[i], 'lost'
  if r and leased(r) and r.tok == token then
    finish(r, 'done', '', '', ARGV[i + 1])
    answer = 'ok'
  elseif r and r.last == token then
    if r.st == 'done' then answer = 'ok' elseif r.st == 'cancelled' then answer = 'cancelled' end
  end
  answers[i] = answer
end
settle()
return answers
