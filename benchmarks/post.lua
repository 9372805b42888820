-- Posts the bodies of a file in turn; prints what was measured as one line of JSON.
local requests, next_one = {}, 0

function init(arguments)
   for i, body in ipairs(dofile(arguments[1])) do
      requests[i] = wrk.format("POST", nil, {["Content-Type"] = arguments[2]}, body)
   end
end

function request()
   next_one = next_one % #requests + 1
   return requests[next_one]
end

function done(summary, latency)
   local e = summary.errors
   print(string.format(
      '{"rate": %f, "p50": %f, "p99": %f, "requests": %d, "errors": %d}',
      summary.requests / summary.duration * 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
