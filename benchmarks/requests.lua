-- Sends POST requests and prints what wrk measured as one line of JSON.
-- With LIMIT, each message is a number of its own, from FIRST on; after LIMIT responses it says so on standard error
-- and sends no more, but waits to be interrupted.

local first = tonumber(os.getenv("FIRST") or "1")
local limit = tonumber(os.getenv("LIMIT"))
local answered = 0

wrk.method = "POST"

if limit then
   local message = first - 1

   function request()
      message = message + 1
      return wrk.format(nil, wrk.path .. "?message=" .. message)
   end

   function response()
      answered = answered + 1
      if answered == limit then
         wrk.thread:stop()
         io.stderr:write("enough\n")
      end
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}\n',
      summary.requests, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout
   ))
end
