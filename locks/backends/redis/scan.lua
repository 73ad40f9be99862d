-- Looks at the next keys of this server; a bounded number of them at a time (R13).
-- ARGV: 1 cursor  2 pattern  3 how many to look at
-- Answers {next cursor, keys}.
return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
