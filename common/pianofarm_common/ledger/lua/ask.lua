-- Have every end of a batch's jobs told. A: batch, url; from ARGV[2] on: its jobs that ended already. The address lives as long as the batch.
call('SET', P .. 'callback:' .. A.batch, A.url)
for i = 2, #ARGV do
  ended[A.batch] = ended[A.batch] or {}
  table.insert(ended[A.batch], ARGV[i])
end
settle_later(A.batch)
settle()
