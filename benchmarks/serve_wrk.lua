-- Clients of wrk that ask about one picture after another: wrk ... -s serve_wrk.lua URL -- FOLDER MEDIA_TYPE
-- FOLDER has the bodies as files that are called 1, 2, ... What came of it is printed in JSON.

local requests = {}

function init(arguments)
   local headers = { ["Content-Type"] = arguments[2] }
   local file = io.open(arguments[1] .. "/1", "rb")
   while file do
      requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
      file:close()
      file = io.open(arguments[1] .. "/" .. #requests + 1, "rb")
   end
end

local number = 0

function request()
   number = number % #requests + 1
   return requests[number]
end

function done(summary, latency)
   local errors = summary.errors
   local said = '{"p50_ms": %f, "p99_ms": %f, "images_per_second": %f, "failures": %d}\n'
   local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   local rate = 1e6 * summary.requests / summary.duration
   io.write(said:format(latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, rate, failures))
end
