--@ admit.lua
return {1}
