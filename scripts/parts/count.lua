-- Makes the record say how things are now.
local flags = (noted and 1 or 0) + (owned and 2 or 0) + (idle ~= IDLE and 4 or 0)
record = string.sub(record, 1, 35) .. flags .. string.format('%.0f', bytes)
