-- Wireshark dissector for captures of "barter serve --pcap": vfio-user, and the socket of a lent buffer.
-- docs/captures.md says how to install it, and describes the header in front of each message.

-- The tables between the two marks are those of Barter's sources (BARTER_UPDATE_GOLDEN=1 writes them anew).
-- begin of the tables
local STRUCTS = {
  vfio_user_version = {
    { "major", 0, 2, "number" },
    { "minor", 2, 2, "number" },
  },
  vfio_user_dma_map = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "offset", 8, 8, "hex" },
    { "addr", 16, 8, "hex" },
    { "size", 24, 8, "hex" },
  },
  vfio_user_dma_unmap = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "addr", 8, 8, "hex" },
    { "size", 16, 8, "hex" },
  },
  vfio_user_device_info = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "num_regions", 8, 4, "number" },
    { "num_irqs", 12, 4, "number" },
  },
  vfio_region_info = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "index", 8, 4, "number" },
    { "cap_offset", 12, 4, "hex" },
    { "size", 16, 8, "hex" },
    { "offset", 24, 8, "hex" },
  },
  vfio_user_region_io_fds = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "index", 8, 4, "number" },
    { "count", 12, 4, "number" },
  },
  vfio_irq_info = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "index", 8, 4, "number" },
    { "count", 12, 4, "number" },
  },
  vfio_irq_set = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "index", 8, 4, "number" },
    { "start", 12, 4, "number" },
    { "count", 16, 4, "number" },
  },
  vfio_user_region_access = {
    { "offset", 0, 8, "hex" },
    { "region", 8, 4, "number" },
    { "count", 12, 4, "number" },
  },
  vfio_user_dma_region_access = {
    { "addr", 0, 8, "hex" },
    { "count", 8, 8, "number" },
  },
  vfio_user_region_write_multi = {
    { "wr_cnt", 0, 8, "number" },
  },
  vfio_device_feature = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
  },
  vfio_user_mig_data = {
    { "argsz", 0, 4, "number" },
    { "size", 4, 4, "hex" },
  },
  vfio_pci_hot_reset_info = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "count", 8, 4, "number" },
  },
  vfio_pci_hot_reset = {
    { "argsz", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
    { "count", 8, 4, "number" },
  },
  dma_buf_socket_open = {
    { "major", 0, 2, "number" },
    { "minor", 2, 2, "number" },
    { "flags", 4, 4, "hex" },
  },
  dma_buf_socket_opened = {
    { "major", 0, 2, "number" },
    { "minor", 2, 2, "number" },
    { "max_attachments", 4, 4, "number" },
    { "max_mappings", 8, 4, "number" },
    { "max_fences", 12, 4, "number" },
    { "max_requests", 16, 4, "number" },
    { "invalidate_timeout_ms", 20, 4, "number" },
  },
  dma_buf_socket_info = {
    { "size", 0, 8, "hex" },
    { "flags", 8, 4, "hex" },
    { "reserved", 12, 4, "number" },
    { "exp_name", 16, 32, "bytes" },
    { "name", 48, 32, "bytes" },
  },
  dma_buf_socket_name = {
    { "name", 0, 32, "bytes" },
  },
  dma_buf_socket_id = {
    { "id", 0, 4, "number" },
    { "reserved", 4, 4, "number" },
  },
  dma_buf_socket_map = {
    { "attachment", 0, 4, "number" },
    { "flags", 4, 4, "hex" },
  },
  dma_buf_socket_mapped = {
    { "mapping", 0, 4, "number" },
    { "nr_ranges", 4, 4, "number" },
  },
  dma_buf_socket_fence = {
    { "attachment", 0, 4, "number" },
    { "usage", 4, 4, "number" },
  },
  dma_buf_socket_signal = {
    { "fence", 0, 4, "number" },
    { "error", 4, 4, "number" },
  },
  dma_buf_socket_wait = {
    { "events", 0, 4, "number" },
    { "timeout_ms", 4, 4, "number" },
  },
  dma_buf_socket_ready = {
    { "events", 0, 4, "number" },
    { "reserved", 4, 4, "number" },
  },
  vf_token = {
    { "uuid", 0, 16, "bytes" },
  },
  vfio_device_feature_migration = {
    { "flags", 0, 8, "hex" },
  },
  vfio_device_feature_mig_state = {
    { "device_state", 0, 4, "number" },
    { "data_fd", 4, 4, "signed" },
  },
  vfio_device_low_power_entry_with_wakeup = {
    { "wakeup_eventfd", 0, 4, "signed" },
    { "reserved", 4, 4, "number" },
  },
  vfio_user_device_feature_dma_logging_control = {
    { "page_size", 0, 8, "number" },
    { "num_ranges", 8, 4, "number" },
    { "reserved", 12, 4, "number" },
  },
  vfio_user_device_feature_dma_logging_report = {
    { "iova", 0, 8, "hex" },
    { "length", 8, 8, "hex" },
    { "page_size", 16, 8, "number" },
  },
  vfio_device_feature_mig_data_size = {
    { "stop_copy_length", 0, 8, "number" },
  },
  vfio_device_feature_bus_master = {
    { "op", 0, 4, "number" },
  },
  vfio_device_feature_dma_buf = {
    { "region_index", 0, 4, "number" },
    { "open_flags", 4, 4, "hex" },
    { "flags", 8, 4, "hex" },
    { "nr_ranges", 12, 4, "number" },
  },
}

local VFIO_USER = {
  [1] = {
    name = "VERSION", rest = "text",
    request = "vfio_user_version", reply = "vfio_user_version",
  },
  [2] = {
    name = "DMA_MAP", rest = "nothing",
    request = "vfio_user_dma_map", reply = "",
  },
  [3] = {
    name = "DMA_UNMAP", rest = "nothing",
    request = "vfio_user_dma_unmap", reply = "vfio_user_dma_unmap",
  },
  [4] = {
    name = "DEVICE_GET_INFO", rest = "nothing",
    request = "vfio_user_device_info", reply = "vfio_user_device_info",
  },
  [5] = {
    name = "DEVICE_GET_REGION_INFO", rest = "bytes",
    request = "vfio_region_info", reply = "vfio_region_info",
  },
  [6] = {
    name = "DEVICE_GET_REGION_IO_FDS", rest = "bytes",
    request = "vfio_user_region_io_fds", reply = "vfio_user_region_io_fds",
  },
  [7] = {
    name = "DEVICE_GET_IRQ_INFO", rest = "nothing",
    request = "vfio_irq_info", reply = "vfio_irq_info",
  },
  [8] = {
    name = "DEVICE_SET_IRQS", rest = "bytes",
    request = "vfio_irq_set", reply = "",
  },
  [9] = {
    name = "REGION_READ", rest = "bytes",
    request = "vfio_user_region_access", reply = "vfio_user_region_access",
  },
  [10] = {
    name = "REGION_WRITE", rest = "bytes",
    request = "vfio_user_region_access", reply = "vfio_user_region_access",
  },
  [11] = {
    name = "DMA_READ", rest = "bytes",
    request = "vfio_user_dma_region_access", reply = "vfio_user_dma_region_access",
  },
  [12] = {
    name = "DMA_WRITE", rest = "bytes",
    request = "vfio_user_dma_region_access", reply = "vfio_user_dma_region_access",
  },
  [13] = {
    name = "DEVICE_RESET", rest = "nothing",
    request = "", reply = "",
  },
  [15] = {
    name = "REGION_WRITE_MULTI", rest = "bytes",
    request = "vfio_user_region_write_multi", reply = "vfio_user_region_write_multi",
  },
  [16] = {
    name = "DEVICE_FEATURE", rest = "bytes",
    request = "vfio_device_feature", reply = "vfio_device_feature",
  },
  [17] = {
    name = "MIG_DATA_READ", rest = "bytes",
    request = "vfio_user_mig_data", reply = "vfio_user_mig_data",
  },
  [18] = {
    name = "MIG_DATA_WRITE", rest = "bytes",
    request = "vfio_user_mig_data", reply = "vfio_user_mig_data",
  },
  [32769] = {
    name = "X_GET_PCI_HOT_RESET_INFO", rest = "bytes",
    request = "vfio_pci_hot_reset_info", reply = "vfio_pci_hot_reset_info",
  },
  [32770] = {
    name = "X_PCI_HOT_RESET", rest = "bytes",
    request = "vfio_pci_hot_reset", reply = "vfio_pci_hot_reset",
  },
}

local DMA_BUF = {
  [1] = {
    name = "OPEN", rest = "nothing",
    request = "dma_buf_socket_open", reply = "dma_buf_socket_opened",
  },
  [2] = {
    name = "QUERY", rest = "nothing",
    request = "", reply = "dma_buf_socket_info",
  },
  [3] = {
    name = "SET_NAME", rest = "nothing",
    request = "dma_buf_socket_name", reply = "",
  },
  [4] = {
    name = "ATTACH", rest = "nothing",
    request = "dma_buf_socket_id", reply = "dma_buf_socket_id",
  },
  [5] = {
    name = "DETACH", rest = "nothing",
    request = "dma_buf_socket_id", reply = "",
  },
  [6] = {
    name = "MAP", rest = "bytes",
    request = "dma_buf_socket_map", reply = "dma_buf_socket_mapped",
  },
  [7] = {
    name = "UNMAP", rest = "nothing",
    request = "dma_buf_socket_id", reply = "",
  },
  [8] = {
    name = "INVALIDATE", rest = "nothing",
    request = "dma_buf_socket_id", reply = "",
  },
  [9] = {
    name = "RESTORE", rest = "nothing",
    request = "dma_buf_socket_id", reply = "",
  },
  [10] = {
    name = "ADD_FENCE", rest = "nothing",
    request = "dma_buf_socket_fence", reply = "dma_buf_socket_id",
  },
  [11] = {
    name = "SIGNAL_FENCE", rest = "nothing",
    request = "dma_buf_socket_signal", reply = "",
  },
  [12] = {
    name = "WAIT", rest = "nothing",
    request = "dma_buf_socket_wait", reply = "dma_buf_socket_ready",
  },
}

local FEATURES = {
  [0] = { name = "PCI_VF_TOKEN", payload = "vf_token" },
  [1] = { name = "MIGRATION", payload = "vfio_device_feature_migration" },
  [2] = { name = "MIG_DEVICE_STATE", payload = "vfio_device_feature_mig_state" },
  [3] = { name = "LOW_POWER_ENTRY", payload = "" },
  [4] = { name = "LOW_POWER_ENTRY_WITH_WAKEUP", payload = "vfio_device_low_power_entry_with_wakeup" },
  [5] = { name = "LOW_POWER_EXIT", payload = "" },
  [6] = { name = "DMA_LOGGING_START", payload = "vfio_user_device_feature_dma_logging_control" },
  [7] = { name = "DMA_LOGGING_STOP", payload = "" },
  [8] = { name = "DMA_LOGGING_REPORT", payload = "vfio_user_device_feature_dma_logging_report" },
  [9] = { name = "MIG_DATA_SIZE", payload = "vfio_device_feature_mig_data_size" },
  [10] = { name = "BUS_MASTER", payload = "vfio_device_feature_bus_master" },
  [11] = { name = "DMA_BUF", payload = "vfio_device_feature_dma_buf" },
  [12] = { name = "MIG_PRECOPY_INFOv2", payload = "" },
}

local ERRNO = {
  [1] = "EPERM",
  [2] = "ENOENT",
  [3] = "ESRCH",
  [4] = "EINTR",
  [5] = "EIO",
  [6] = "ENXIO",
  [7] = "E2BIG",
  [9] = "EBADF",
  [11] = "EAGAIN",
  [12] = "ENOMEM",
  [13] = "EACCES",
  [14] = "EFAULT",
  [16] = "EBUSY",
  [17] = "EEXIST",
  [18] = "EXDEV",
  [19] = "ENODEV",
  [20] = "ENOTDIR",
  [21] = "EISDIR",
  [22] = "EINVAL",
  [23] = "ENFILE",
  [24] = "EMFILE",
  [25] = "ENOTTY",
  [27] = "EFBIG",
  [28] = "ENOSPC",
  [29] = "ESPIPE",
  [30] = "EROFS",
  [32] = "EPIPE",
  [33] = "EDOM",
  [34] = "ERANGE",
  [35] = "EDEADLK",
  [36] = "ENAMETOOLONG",
  [38] = "ENOSYS",
  [40] = "ELOOP",
  [42] = "ENOMSG",
  [61] = "ENODATA",
  [62] = "ETIME",
  [71] = "EPROTO",
  [75] = "EOVERFLOW",
  [77] = "EBADFD",
  [88] = "ENOTSOCK",
  [90] = "EMSGSIZE",
  [95] = "EOPNOTSUPP",
  [98] = "EADDRINUSE",
  [99] = "EADDRNOTAVAIL",
  [103] = "ECONNABORTED",
  [104] = "ECONNRESET",
  [105] = "ENOBUFS",
  [106] = "EISCONN",
  [107] = "ENOTCONN",
  [108] = "ESHUTDOWN",
  [109] = "ETOOMANYREFS",
  [110] = "ETIMEDOUT",
  [111] = "ECONNREFUSED",
  [114] = "EALREADY",
  [115] = "EINPROGRESS",
  [125] = "ECANCELED",
}
-- end of the tables

local FEATURE_MASK = 0xffff
local FEATURE_VERBS = { { 18, "PROBE" }, { 16, "GET" }, { 17, "SET" } }
local KINDS = { [0] = "vfio-user", [1] = "twin", [2] = "dma-buf" }
local FD_KINDS = { [0] = "other", [1] = "file", [2] = "eventfd", [3] = "socket" }
local CAPTURE_HEADER, FD_NOTE, MESSAGE_HEADER = 16, 16, 16
local FLAG_SENT, FLAG_CONTINUED = 1, 2
local TYPE_MASK, TYPE_REPLY, F_NO_REPLY, F_ERROR = 0xf, 1, 0x10, 0x20

local capture = Proto("barter", "Barter capture")
local vfio_user = Proto("vfio_user", "vfio-user")
local dma_buf = Proto("dma_buf_socket", "Socket of a lent buffer")

local cf = {
  version = ProtoField.uint8("barter.version", "Version"),
  kind = ProtoField.uint8("barter.kind", "Kind of socket", base.DEC, KINDS),
  sent = ProtoField.bool("barter.sent", "Sent by the server", 8, nil, FLAG_SENT),
  continued = ProtoField.bool("barter.continued", "Continues the packet before it", 8, nil, FLAG_CONTINUED),
  fds = ProtoField.uint8("barter.fds", "Descriptors"),
  connection = ProtoField.uint32("barter.connection", "Connection"),
  pid = ProtoField.uint32("barter.pid", "Process of the peer"),
  length = ProtoField.uint32("barter.length", "Bytes of the message"),
  device = ProtoField.string("barter.device", "Device"),
  fd_kind = ProtoField.uint32("barter.fd.kind", "Descriptor", base.DEC, FD_KINDS),
  fd_size = ProtoField.uint64("barter.fd.size", "Bytes of the file"),
  ended = ProtoField.bool("barter.ended", "The connection ended"),
  part = ProtoField.bytes("barter.part", "Part of the message"),
}
capture.fields = cf

-- The fields of a protocol's messages: of the header, of each struct, and of what follows it.
local function fields_of(proto, prefix, structs)
  local f = {
    id = ProtoField.uint16(prefix .. ".id", "Message id"),
    command = ProtoField.uint16(prefix .. ".command", "Command"),
    name = ProtoField.string(prefix .. ".name", "Name"),
    size = ProtoField.uint32(prefix .. ".size", "Message size"),
    flags = ProtoField.uint32(prefix .. ".flags", "Flags", base.HEX),
    type = ProtoField.uint32(prefix .. ".type", "Type", base.DEC, { [0] = "command", [1] = "reply" }, TYPE_MASK),
    no_reply = ProtoField.bool(prefix .. ".no_reply", "No reply wanted", 32, nil, F_NO_REPLY),
    is_error = ProtoField.bool(prefix .. ".is_error", "Error", 32, nil, F_ERROR),
    error_no = ProtoField.uint32(prefix .. ".error_no", "Errno", base.DEC, ERRNO),
    feature = ProtoField.string(prefix .. ".feature", "Feature"),
    json = ProtoField.string(prefix .. ".json", "JSON"),
    data = ProtoField.bytes(prefix .. ".data", "Data"),
    response_in = ProtoField.framenum(prefix .. ".response_in", "Reply in", base.NONE, frametype.RESPONSE),
    response_to = ProtoField.framenum(prefix .. ".response_to", "Command in", base.NONE, frametype.REQUEST),
    response_time = ProtoField.double(prefix .. ".response_time", "Seconds from command to reply"),
  }
  local all = {}
  for _, field in pairs(f) do all[#all + 1] = field end
  f.structs = {}
  for struct in pairs(structs) do
    f.structs[struct] = {}
    local short = struct:gsub("^vfio_user_", ""):gsub("^dma_buf_socket_", "")
    for _, each in ipairs(STRUCTS[struct]) do
      local name, _, size, kind = each[1], each[2], each[3], each[4]
      local abbreviation = prefix .. "." .. short .. "." .. name
      local field
      if kind == "bytes" then
        field = ProtoField.bytes(abbreviation, name)
      else
        local shown = kind == "hex" and base.HEX or base.DEC
        field = ProtoField[(kind == "signed" and "int" or "uint") .. (size * 8)](abbreviation, name, shown)
      end
      f.structs[struct][name] = field
      all[#all + 1] = field
    end
  end
  proto.fields = all
  local function fault(name, text, group, severity)
    return ProtoExpert.new(prefix .. "." .. name, text, expert.group[group], expert.severity[severity])
  end
  f.unknown = fault("unknown", "This command is not known", "UNDECODED", "WARN")
  f.short = fault("short", "The payload is shorter than its struct", "MALFORMED", "ERROR")
  f.wrong_size = fault("wrong_size", "The size in the header is not that of the message", "MALFORMED", "ERROR")
  f.failed = fault("failed", "The command failed", "RESPONSE_CODE", "NOTE")
  f.unasked = fault("unasked", "A reply without a command", "SEQUENCE", "WARN")
  proto.experts = { f.unknown, f.short, f.wrong_size, f.failed, f.unasked }
  return f
end

local function structs_of(commands, features)
  local used = {}
  for _, each in pairs(commands) do
    used[each.request] = true
    used[each.reply] = true
  end
  for _, each in pairs(features) do used[each.payload] = true end
  used[""] = nil
  return used
end

local vf = fields_of(vfio_user, "vfio_user", structs_of(VFIO_USER, FEATURES))
local df = fields_of(dma_buf, "dma_buf_socket", structs_of(DMA_BUF, {}))

-- Commands without a reply so far, and for each frame of a pair the other one. Wireshark dissects a file in order once;
-- later it may dissect any frame again.
local waiting, partner = {}, {}
function capture.init() waiting, partner = {}, {} end

local function link(pinfo, key, is_reply, wants_reply)
  if pinfo.visited then return end
  if not is_reply then
    waiting[key] = wants_reply and { frame = pinfo.number, time = pinfo.abs_ts } or nil
  elseif waiting[key] ~= nil then
    local command = waiting[key]
    waiting[key] = nil
    local seconds = pinfo.abs_ts - command.time
    partner[command.frame] = { frame = pinfo.number, seconds = seconds }
    partner[pinfo.number] = { frame = command.frame, seconds = seconds }
  end
end

local function hex(value)
  local digits = type(value) == "number" and string.format("%x", value) or value:tohex():gsub("^0+(%x)", "%1")
  return "0x" .. digits
end

local QUIET = { argsz = true, reserved = true, padding = true }

-- Adds a struct's fields to the tree. Returns its size, and its fields in short.
local function add_struct(tree, f, name, payload)
  local info, size = {}, 0
  for _, each in ipairs(STRUCTS[name]) do
    local field, at, length, kind = each[1], each[2], each[3], each[4]
    local range = payload(at, length)
    size = at + length
    if kind == "bytes" then
      tree:add(f.structs[name][field], range)
    else
      tree:add_le(f.structs[name][field], range)
      local value = length == 8 and range:le_uint64() or range:le_uint()
      if not QUIET[field] then info[#info + 1] = field .. "=" .. (kind == "hex" and hex(value) or tostring(value)) end
    end
  end
  return size, table.concat(info, " ")
end

local function size_of(name)
  local last = STRUCTS[name] and STRUCTS[name][#STRUCTS[name]]
  return last and last[2] + last[3] or 0
end

local function feature_name(flags)
  local words = {}
  for _, verb in ipairs(FEATURE_VERBS) do
    if bit.band(bit.rshift(flags, verb[1]), 1) == 1 then words[#words + 1] = verb[2] end
  end
  local number = bit.band(flags, FEATURE_MASK)
  words[#words + 1] = FEATURES[number] and FEATURES[number].name or ("feature " .. number)
  return table.concat(words, " ")
end

-- Adds the payload, which is nil where it has no bytes. Returns its fields in short.
local function add_payload(tree, f, command, is_reply, payload)
  local struct = is_reply and command.reply or command.request
  local length = payload and payload:len() or 0
  local info, at = "", 0
  if struct ~= "" then
    if length < size_of(struct) then
      tree:add_proto_expert_info(f.short, "a struct " .. struct .. " has " .. size_of(struct) .. " bytes")
      return ""
    end
    at, info = add_struct(tree, f, struct, payload)
  end
  if struct == "vfio_device_feature" then
    local flags = payload(4, 4):le_uint()
    info = feature_name(flags)
    tree:add(f.feature, payload(4, 4), info)
    local feature = FEATURES[bit.band(flags, FEATURE_MASK)]
    local inner = feature and feature.payload or ""
    -- A SET or a PROBE may come back with its header alone.
    if inner ~= "" and length - at >= size_of(inner) then
      local size, more = add_struct(tree, f, inner, payload(at):tvb())
      at, info = at + size, info .. " " .. more
    end
  end
  if length > at then
    local rest = payload(at)
    if command.rest == "text" then tree:add(f.json, rest, rest:stringz())
    else tree:add(f.data, rest) end
  end
  return info
end

-- Dissects a message, or the first packet of a long one.
local function add_message(proto, f, commands, tvb, pinfo, root, context)
  local tree = root:add(proto, tvb())
  if tvb:len() < MESSAGE_HEADER then
    tree:add_proto_expert_info(f.short, "a message begins with a header of 16 bytes")
    return
  end
  local id, number = tvb(0, 2):le_uint(), tvb(2, 2):le_uint()
  local size, flags, error_no = tvb(4, 4):le_uint(), tvb(8, 4):le_uint(), tvb(12, 4):le_uint()
  local is_reply = bit.band(flags, TYPE_MASK) == TYPE_REPLY
  local has_failed = bit.band(flags, F_ERROR) ~= 0
  local command = commands[number]
  local name = command and command.name or ("command " .. number)
  tree:add_le(f.id, tvb(0, 2))
  tree:add_le(f.command, tvb(2, 2)):append_text(" (" .. name .. ")")
  tree:add(f.name, tvb(2, 2), name)
  tree:add_le(f.size, tvb(4, 4))
  local flags_tree = tree:add_le(f.flags, tvb(8, 4))
  flags_tree:add_le(f.type, tvb(8, 4))
  flags_tree:add_le(f.no_reply, tvb(8, 4))
  flags_tree:add_le(f.is_error, tvb(8, 4))
  local error_item = tree:add_le(f.error_no, tvb(12, 4))
  if size ~= context.length then tree:add_proto_expert_info(f.wrong_size) end

  local sender = context.sent ~= is_reply
  local key = table.concat({ context.kind, context.connection, tostring(sender), id }, ":")
  link(pinfo, key, is_reply, bit.band(flags, F_NO_REPLY) == 0)
  local other = partner[pinfo.number]
  if other ~= nil and is_reply then
    tree:add(f.response_to, other.frame):set_generated()
    tree:add(f.response_time, other.seconds):set_generated()
  elseif other ~= nil then
    tree:add(f.response_in, other.frame):set_generated()
  elseif is_reply then
    tree:add_proto_expert_info(f.unasked)
  end

  local info = ""
  if command == nil then
    tree:add_proto_expert_info(f.unknown)
    if tvb:len() > MESSAGE_HEADER then tree:add(f.data, tvb(MESSAGE_HEADER)) end
  elseif has_failed then
    error_item:add_proto_expert_info(f.failed, name .. ": " .. (ERRNO[error_no] or error_no))
    if tvb:len() > MESSAGE_HEADER then tree:add(f.data, tvb(MESSAGE_HEADER)) end
  else
    local payload = tvb:len() > MESSAGE_HEADER and tvb(MESSAGE_HEADER):tvb() or nil
    info = add_payload(tree, f, command, is_reply, payload)
  end
  local result = not is_reply and "" or has_failed and (" " .. (ERRNO[error_no] or error_no)) or " ok"
  pinfo.cols.info = name .. result .. (info == "" and "" or " " .. info) .. context.fds
  tree:append_text(", " .. name .. (is_reply and " reply" or " command") .. (has_failed and result or ""))
end

local interface_name = Field.new("frame.interface_name")

function capture.dissector(tvb, pinfo, root)
  if tvb:len() < CAPTURE_HEADER or tvb(0, 1):uint() ~= 1 then return 0 end
  local tree = root:add(capture, tvb(0, CAPTURE_HEADER))
  local kind, flags, fds = tvb(1, 1):uint(), tvb(2, 1):uint(), tvb(3, 1):uint()
  local length = tvb(12, 4):le_uint()
  tree:add(cf.version, tvb(0, 1))
  tree:add(cf.kind, tvb(1, 1))
  tree:add(cf.sent, tvb(2, 1))
  tree:add(cf.continued, tvb(2, 1))
  tree:add(cf.fds, tvb(3, 1))
  tree:add_le(cf.connection, tvb(4, 4))
  tree:add_le(cf.pid, tvb(8, 4))
  tree:add_le(cf.length, tvb(12, 4))
  local interface = interface_name()
  local device = interface and tostring(interface):gsub(" [^ ]*$", "") or "?"
  tree:add(cf.device, device):set_generated()
  local at, words = CAPTURE_HEADER, ""
  for _ = 1, fds do
    tree:add_le(cf.fd_kind, tvb(at, 4))
    tree:add_le(cf.fd_size, tvb(at + 8, 8))
    words = words .. " [" .. (FD_KINDS[tvb(at, 4):le_uint()] or "?") .. "]"
    at = at + FD_NOTE
  end

  local context = { kind = kind, connection = tvb(4, 4):le_uint(), length = length, fds = words }
  context.sent = bit.band(flags, FLAG_SENT) ~= 0
  local peer = "process " .. tvb(8, 4):le_uint()
  pinfo.cols.protocol = KINDS[kind] or "barter"
  pinfo.cols.src = context.sent and device or peer
  pinfo.cols.dst = context.sent and peer or device
  if length == 0 then
    tree:add(cf.ended, true):set_generated()
    pinfo.cols.info = "the connection ended"
  elseif bit.band(flags, FLAG_CONTINUED) ~= 0 then
    tree:add(cf.part, tvb(at))
    pinfo.cols.info = "more of the message before"
  elseif kind == 2 then
    add_message(dma_buf, df, DMA_BUF, tvb(at):tvb(), pinfo, root, context)
  else
    add_message(vfio_user, vf, VFIO_USER, tvb(at):tvb(), pinfo, root, context)
  end
  return tvb:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, capture)
