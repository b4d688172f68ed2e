-- Sends the requests of a file one after the other, or, in a chain, what the answer before has brought.
-- The file: for each request its length in decimal, a line end, and its bytes.
local requests, tokens, first, last, place = {}, {}, 1, 0, 0
local before, after

local function read_all(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(args)
  local text, at = read_all(args[1]), 1
  while at <= #text do
    local stop = text:find("\n", at, true)
    local length = tonumber(text:sub(at, stop - 1))
    requests[#requests + 1] = text:sub(stop + 1, stop + length)
    at = stop + length + 1
  end
  if args[2] then
    local hole = ("@"):rep(43)
    local from, to = requests[1]:find(hole, 1, true)
    before, after = requests[1]:sub(1, from - 1), requests[1]:sub(to + 1)
    for token in read_all(args[2]):gmatch("[^\n]+") do
      last = last + 1
      tokens[last] = token
    end
    response = function(_, _, body)
      local token = body:match('"refresh_token"%s*:%s*"([^"]+)"')
      if token then
        last = last + 1
        tokens[last] = token
      end
    end
  end
end

function request()
  if before then
    local token = tokens[first]
    tokens[first] = nil
    first = first + 1
    return before .. token .. after
  end
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency)
  local e = summary.errors
  io.stderr:write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    e.status, e.connect + e.read + e.write + e.timeout))
end
