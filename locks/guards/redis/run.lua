-- Runs a script of the user's under a fence; it sees its own KEYS and ARGV, from 1 on.
-- KEYS: 1 the highest fence seen  2... the script's   ARGV: 1 the fence  2... the script's
--@ admit.lua
local function body(KEYS, ARGV)
--@ body
end
local keys, argv = {}, {}
for place = 2, #KEYS do
  keys[place - 1] = KEYS[place]
end
for place = 2, #ARGV do
  argv[place - 1] = ARGV[place]
end
return {1, body(keys, argv)}
