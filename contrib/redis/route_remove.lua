-- A device of a user is no longer connected to a gateway.
--
--   EVALSHA <sha> 1 resonance:router:user:<username> <device> <gateway_id>
--
-- Only where both are what is stored: the goodbye of an old connection, which comes after the device is connected elsewhere,
-- changes nothing. Devices whose time is over go as well, and with the last one the route.
-- Returns 1 when the device was connected there, else 0.

local device, gateway = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return 0 end
local is_json, route = pcall(cjson.decode, redis.call('GET', KEYS[1]))
if not is_json or type(route) ~= 'table' then return 0 end
if type(route.devices) ~= 'table' then
  -- Of an older writer, which knows one connection.
  if route.gateway_id ~= gateway then return 0 end
  redis.call('DEL', KEYS[1])
  return 1
end

local devices, is_removed = {}, 0
for _, of in ipairs(route.devices) do
  local is_whole = type(of) == 'table' and type(of.gateway_id) == 'string' and type(of.expires) == 'number'
  if is_whole and of.device == device and of.gateway_id == gateway then
    is_removed = 1
  elseif is_whole and of.expires > now then
    devices[#devices + 1] = of
  end
end
if #devices == #route.devices then return 0 end
if #devices == 0 then
  redis.call('DEL', KEYS[1])
  return is_removed
end

local gateways, seen, last = {}, {}, now
for place = #devices, 1, -1 do
  local of = devices[place]
  if not seen[of.gateway_id] then
    seen[of.gateway_id] = true
    gateways[#gateways + 1] = of.gateway_id
  end
  last = math.max(last, of.expires)
end
local newest = devices[#devices]
route.gateway_id, route.remote_ip = newest.gateway_id, newest.remote_ip
route.gateways, route.devices = gateways, devices
redis.call('SET', KEYS[1], cjson.encode(route), 'PX', math.max(1, math.floor(last - now)))
return is_removed
