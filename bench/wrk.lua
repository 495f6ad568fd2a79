-- What wrk runs: requests whose cookies are the arguments, one after the other, and one line of numbers at the end.

local requests, turn = {}, 0

function init(cookies)
	for i, cookie in ipairs(cookies) do
		requests[i] = wrk.format("GET", nil, {Cookie = cookie})
	end
	if #requests == 0 then
		requests[1] = wrk.format("GET")
	end
end

function request()
	turn = turn % #requests + 1
	return requests[turn]
end

function done(summary, latency)
	local errors = summary.errors
	print(string.format("numbers %d %d %d %d %d", summary.requests,
		errors.connect + errors.read + errors.write + errors.timeout + errors.status,
		summary.duration, latency:percentile(50), latency:percentile(99)))
end
