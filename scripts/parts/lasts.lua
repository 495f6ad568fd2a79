-- How many milliseconds a session may stand from now on: its idle timeout, but not beyond the absolute one.
local lasts = idle
if ABSOLUTE > 0 then lasts = math.min(idle, created + ABSOLUTE - now()) end
