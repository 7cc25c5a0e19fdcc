-- Sends the requests of a file in order, and prints the measurements as JSON.
-- Arguments: the file (each request after a line with its length); the mean pause of a connection in milliseconds; and
-- "apart", to measure the latency of accepted requests (200) and of refused ones (503) separately.
local requests, at, thread = {}, 0, nil
-- Number of answers per latency, in tens of microseconds; number of answers with another status.
accepted, refused, others = {}, {}, 0

-- The request id contains the time of sending, and the answer returns it.
local function tell_apart()
  local ffi = require("ffi")
  ffi.cdef("typedef struct {long seconds, nanoseconds;} moment; int clock_gettime(int, moment *);")
  local moment, monotonic = ffi.new("moment"), 1
  local function now()
    ffi.C.clock_gettime(monotonic, moment)
    return tonumber(moment.seconds) * 1e5 + math.floor(tonumber(moment.nanoseconds) / 1e4)
  end
  local next_request = request
  function request()
    return (next_request():gsub("\r\n", string.format("\r\nX-Request-ID: %d\r\n", now()), 1))
  end
  function response(status, headers)
    local waits = status == 200 and accepted or status == 503 and refused
    if waits then
      local wait = now() - tonumber(headers["x-request-id"])
      waits[wait] = (waits[wait] or 0) + 1
    else
      others = others + 1
    end
  end
end

function setup(one)
  thread = one
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for length in function() return file:read("*n") end do
    file:read(1)
    requests[#requests + 1] = file:read(length)
  end
  file:close()
  local pause = tonumber(args[2])
  if pause > 0 then
    function delay() return -math.log(1 - math.random()) * pause end
  end
  if args[3] == "apart" then tell_apart() end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

local function told(waits)
  local pairs_of = {}
  for wait, count in pairs(waits) do
    pairs_of[#pairs_of + 1] = string.format("[%d, %d]", wait, count)
  end
  return "[" .. table.concat(pairs_of, ", ") .. "]"
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "broken": %d, "not_ok": %d,'
      .. ' "accepted": %s, "refused": %s, "others": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    told(thread:get("accepted")), told(thread:get("refused")), thread:get("others")))
end
