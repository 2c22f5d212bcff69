-- A device of a user is connected to a gateway, or still is. Call it at each connect and at each heartbeat.
--
--   EVALSHA <sha> 1 resonance:router:user:<username> <username> <device> <gateway_id> <remote_ip> <ttl_ms>
--
-- One device has one connection: where it was before is forgotten. Devices whose time is over go as well. A value that is no
-- route of this kind is replaced; one of an older writer (no "devices") counts as a device without a name until it expires.
-- gateway_id stays the gateway that was connected to last, for readers that know one only. A heartbeat changes no order.
-- Returns how many gateways the user is connected to.

local DEVICES_MAX = 16
local username, device, gateway, remote_ip, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if not ttl or ttl < 1 or gateway == '' then
  return redis.error_reply('route_add: a gateway_id and a ttl_ms of 1 or more are needed')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The devices of the stored value that are still connected, the newest last.
local function devices_of(key)
  local text = redis.call('GET', key)
  local is_json, route = pcall(cjson.decode, text or '')
  if not is_json or type(route) ~= 'table' then return {} end
  if type(route.devices) ~= 'table' then
    if type(route.gateway_id) ~= 'string' then return {} end
    local left = redis.call('PTTL', key)
    local expires = now + (left > 0 and left or ttl)
    return { { device = '', gateway_id = route.gateway_id, remote_ip = route.remote_ip, expires = expires } }
  end
  local alive = {}
  for _, of in ipairs(route.devices) do
    local is_whole = type(of) == 'table' and type(of.gateway_id) == 'string' and type(of.expires) == 'number'
    if is_whole and of.expires > now then alive[#alive + 1] = of end
  end
  return alive
end

if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
local devices = devices_of(KEYS[1])
local is_known = false
for place = #devices, 1, -1 do
  local of = devices[place]
  if of.device == device and of.gateway_id == gateway then
    of.expires, of.remote_ip, is_known = now + ttl, remote_ip, true
  elseif of.device == device or (of.device == '' and of.gateway_id == gateway) then
    table.remove(devices, place)
  end
end
if not is_known then
  devices[#devices + 1] = { device = device, gateway_id = gateway, remote_ip = remote_ip, expires = now + ttl }
end
while #devices > DEVICES_MAX do table.remove(devices, 1) end

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
local route = {
  username = username, gateway_id = newest.gateway_id, remote_ip = newest.remote_ip, timestamp = math.floor(now / 1000),
  gateways = gateways, devices = devices,
}
redis.call('SET', KEYS[1], cjson.encode(route), 'PX', math.max(1, math.floor(last - now)))
return #gateways
