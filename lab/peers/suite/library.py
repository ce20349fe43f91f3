"""Runs one file of libvfio-user's tests with a Barter server in the place of the library.

usage: library.py FOLDER FILE

FOLDER holds the tests. Descriptor 3 is a socket to the process that serves (suite/session.ts): one JSON document a
line, both ways. The tests load their library through ctypes.CDLL. They get the functions of this file instead, which
keep the configuration of a device, let the server build it, and let it run when the tests call vfu_run_ctx.
"""

import ctypes
import errno
import importlib
import inspect
import json
import linecache
import os
import re
import socket
import struct
import sys
import traceback
import types

# A reply that does not come within this time never comes: the server runs only while a test waits for it.
REPLY_TIMEOUT_S = 2

PROT_WRITE = 2
STANDARD, EXTENDED = 0x40, 0x100
CAP_ID_PM, CAP_ID_VNDR, CAP_ID_EXP, CAP_ID_MSIX = 0x01, 0x09, 0x10, 0x11
EXT_CAP_ID_DSN, EXT_CAP_ID_VNDR = 0x03, 0x0B
CAP_FLAG_EXTENDED = 1
REGION_FLAG_MEM = 4
CONFIG_REGION = 7
BARS = range(6)
INTX, MSI, MSIX, ERR = 0, 1, 2, 3


class Peer:
    """The serving process. While it works on a request it may call functions of this side."""

    def __init__(self, fd):
        self.file = socket.socket(fileno=fd).makefile("rw", encoding="ascii", newline="\n")
        self.calls = {}

    def ask(self, op, **fields):
        self.send({"op": op, **fields})
        while True:
            line = self.file.readline()
            if line == "":
                sys.exit("the serving process is gone")
            answer = json.loads(line)
            if "call" not in answer:
                return answer
            self.send({"returned": self.calls[answer["call"]](*answer["arguments"])})

    def send(self, document):
        self.file.write(json.dumps(document) + "\n")
        self.file.flush()


peer = Peer(3)


class Context:
    """The configuration of one device."""

    def __init__(self, path):
        self.path = path.decode()
        self.bars = {}
        self.irqs = {}
        self.config_size = 4096
        self.capabilities = []
        self.callbacks = {}
        self.served = None
        self.shadow = None
        self.buffers = []

    def end_of(self, is_extended):
        ends = [c["at"] + c["length"] for c in self.capabilities if c["extended"] == is_extended]
        end = max(ends, default=EXTENDED if is_extended else STANDARD)
        return (end + 3) & ~3

    def add(self, is_extended, position, data, length):
        for capability in self.capabilities:
            if capability["early"] and capability["data"][0] == data[0]:
                capability["early"] = False
                return capability["at"]
        at = position if position != 0 else self.end_of(is_extended)
        self.capabilities.append(
            {"at": at, "length": length, "extended": is_extended, "data": data.ljust(length, b"\0"), "early": False}
        )
        return at

    def registers(self):
        """Config space as its capabilities were added, with those that the interrupts need."""
        space = bytearray(self.config_size)
        space[0:4] = struct.pack("<HH", 0x1B36, 0x0B01)
        space[0x0B] = 0xFF
        space[0x3D] = 1 if self.irqs.get(INTX, 0) > 0 else 0
        for extended in (False, True):
            at_link = 0x34
            for capability in [c for c in self.capabilities if c["extended"] == extended]:
                at, data = capability["at"], capability["data"]
                space[at : at + len(data)] = data
                if extended:
                    space[at + 2 : at + 4] = struct.pack("<H", 1)
                    if at != EXTENDED:
                        head = struct.unpack_from("<H", space, at_link + 2)[0]
                        struct.pack_into("<H", space, at_link + 2, head & 0xF | at << 4)
                    at_link = at
                else:
                    space[at + 1] = 0
                    space[at_link] = at
                    at_link = at + 1
                    space[6] |= 0x10
        return space

    def describe(self):
        if self.irqs.get(ERR, 0) > 0 and not self.has(CAP_ID_EXP):
            self.add(False, 0, express(), 0x3C)
        if self.irqs.get(MSIX, 0) > 0 and not self.has(CAP_ID_MSIX):
            bar = next(index for index in reversed(BARS) if index not in self.bars)
            self.bars[bar] = {"index": bar, "size": 0x10000, "kind": "mem32", "mappable": False}
            data = struct.pack("<BBHII", CAP_ID_MSIX, 0, self.irqs[MSIX] - 1, bar, 0x8000 | bar)
            self.add(False, 0, data, 12)
        return {"path": self.path, "config": self.registers().hex(), "bars": list(self.bars.values())}

    def has(self, cap_id):
        return any(c["data"][0] == cap_id and not c["extended"] for c in self.capabilities)


def express():
    """An endpoint with a function level reset."""
    return struct.pack("<BBHI", CAP_ID_EXP, 0, 2, 1 << 28).ljust(0x3C, b"\0")


contexts = {}
# Capabilities that a test adds to a device that has a client already. A Barter device gets them when it is built.
early = []


def failed(code):
    ctypes.set_errno(code)
    return -1


def outcome(answer):
    return failed(answer["errno"]) if answer["errno"] != 0 else 0


def vfu_create_ctx(_transport, path, _flags, _private, _device_type):
    number = len(contexts) + 1
    contexts[number] = Context(path)
    return number


def vfu_setup_log(_ctx, _log, _level):
    return 0


def vfu_setup_region(ctx, index, size, _callback, flags, _areas, _count, fd, _offset):
    context = contexts[ctx]
    if index in BARS:
        kind = "mem32" if flags & REGION_FLAG_MEM else "io"
        context.bars[index] = {"index": index, "size": size, "kind": kind, "mappable": fd != -1}
    elif index == CONFIG_REGION:
        context.config_size = size
    if fd != -1:
        os.close(fd)
    return 0


def vfu_setup_device_nr_irqs(ctx, kind, count):
    contexts[ctx].irqs[kind] = count
    return 0


def vfu_pci_init(_ctx, _pci_type, _header_type, _revision):
    return 0


def keep(name):
    def setup(ctx, *arguments):
        contexts[ctx].callbacks[name] = arguments
        return 0

    return setup


vfu_setup_device_reset_cb = keep("reset")
vfu_setup_device_quiesce_cb = keep("quiesce")
vfu_setup_device_dma = keep("dma")
vfu_setup_irq_state_callback = keep("irq_state")
vfu_setup_device_migration_callbacks = keep("migration")


def vfu_realize_ctx(ctx):
    context = contexts[ctx]
    for cap_id in early:
        data = express() if cap_id == CAP_ID_EXP else struct.pack("<BBHII", CAP_ID_MSIX, 0, 0, 0, 0)
        context.add(False, 0, data, length_of(data, False))
        context.capabilities[-1]["early"] = True
    description = context.describe()
    if context.served == description:
        return 0
    if context.served is not None:
        peer.ask("destroy", ctx=ctx)
    answer = peer.ask("create", ctx=ctx, **description)
    if answer["errno"] == 0:
        context.served = description
    return outcome(answer)


def vfu_attach_ctx(ctx):
    return outcome(peer.ask("attach", ctx=ctx))


def vfu_run_ctx(ctx):
    if contexts[ctx].served is None:
        return failed(errno.EINVAL)
    return outcome(peer.ask("run", ctx=ctx))


def vfu_destroy_ctx(ctx):
    if contexts[ctx].served is not None:
        peer.ask("destroy", ctx=ctx)
        contexts[ctx].served = None


def vfu_pci_get_config_space(ctx):
    """A copy: the registers are the server's."""
    context = contexts[ctx]
    space = bytes.fromhex(peer.ask("config", ctx=ctx)["bytes"]) if context.served else bytes(context.registers())
    context.shadow = ctypes.create_string_buffer(space.ljust(4096, b"\0"), 4096)
    return ctypes.addressof(context.shadow)


def length_of(data, is_extended):
    """The length that the capability's id or its own length field gives."""
    if is_extended:
        return 12 if data[0] == EXT_CAP_ID_DSN else struct.unpack_from("<H", data, 6)[0] >> 4
    lengths = {CAP_ID_PM: 8, CAP_ID_EXP: 0x3C, CAP_ID_MSIX: 12}
    return lengths.get(data[0]) or data[2]


def vfu_pci_add_capability(ctx, position, flags, data):
    is_extended = flags & CAP_FLAG_EXTENDED != 0
    data = bytes(data)
    return contexts[ctx].add(is_extended, position, data, length_of(data, is_extended))


def capability_list(ctx, is_extended):
    """Offset and id of each capability, from the server's registers."""
    vfu_pci_get_config_space(ctx)
    space = contexts[ctx].shadow.raw
    at = EXTENDED if is_extended else space[0x34]
    while at != 0 and space[at : at + 4] != b"\0\0\0\0":
        head = struct.unpack_from("<I", space, at)[0]
        yield at, head & 0xFFFF if is_extended else head & 0xFF
        at = head >> 20 if is_extended else head >> 8 & 0xFF


def vfu_pci_find_capability(ctx, is_extended, cap_id):
    return vfu_pci_find_next_capability(ctx, is_extended, 0, cap_id)


def vfu_pci_find_next_capability(ctx, is_extended, offset, cap_id):
    listed = list(capability_list(ctx, is_extended))
    if offset + 2 > (4096 if is_extended else 256):
        ctypes.set_errno(errno.EINVAL)
        return 0
    if offset != 0 and offset not in [at for at, _ in listed]:
        ctypes.set_errno(errno.ENOENT)
        return 0
    return next((at for at, each in listed if at > offset and each == cap_id), 0)


def vfu_irq_trigger(ctx, vector):
    return outcome(peer.ask("trigger", ctx=ctx, vector=vector))


def vfu_create_ioeventfd(ctx, region, _fd, offset, size, _flags, datamatch):
    return outcome(peer.ask("doorbell", ctx=ctx, region=region, offset=offset, size=size, datamatch=datamatch))


def vfu_device_quiesced(ctx, code):
    return outcome(peer.ask("quiesced", ctx=ctx, errno=code))


def dma_sg_size():
    return ctypes.sizeof(suite().dma_sg_t)


def vfu_addr_to_sgl(ctx, address, length, entries, most, protection):
    answer = peer.ask("ranges", ctx=ctx, address=address, length=length)
    if answer["errno"] != 0:
        return failed(answer["errno"])
    ranges = answer["ranges"]
    if len(ranges) > most:
        return -len(ranges) - 1
    for entry, (start, size) in zip(entries, ranges):
        entry.dma_addr, entry.region, entry.length, entry.offset = start, 0, size, 0
        entry.writeable = protection & PROT_WRITE != 0
    return len(ranges)


def vfu_sgl_get(ctx, entries, vectors, count, _flags):
    """Lets the device read the memory. The test gets a copy: the address is in another process."""
    for entry, vector in zip(listed(entries, count), listed(vectors, count)):
        answer = peer.ask("dma", ctx=ctx, address=entry.dma_addr or 0, length=entry.length, isWrite=False)
        if answer["errno"] != 0:
            return failed(answer["errno"])
        copy = ctypes.create_string_buffer(bytes.fromhex(answer["bytes"]), entry.length)
        contexts[ctx].buffers.append(copy)
        vector.iov_base, vector.iov_len = ctypes.addressof(copy), entry.length
    return 0


def vfu_sgl_put(ctx, entries, vectors, count):
    """Lets the device write the copy back."""
    for entry, vector in zip(listed(entries, count), listed(vectors, count)):
        if not entry.writeable:
            continue
        data = ctypes.string_at(vector.iov_base, vector.iov_len).hex()
        peer.ask("dma", ctx=ctx, address=entry.dma_addr or 0, length=entry.length, isWrite=True, bytes=data)


def listed(argument, count):
    """One structure, or an array of them."""
    return argument if isinstance(argument, ctypes.Array) else [argument][:count]


def suite():
    return sys.modules["libvfio_user"]


# What the server calls.


def called(ctx, name, index, *arguments):
    """Calls a callback of the test. Returns 0, or the errno that it failed with."""
    callbacks = contexts[ctx].callbacks.get(name)
    if callbacks is None or not callbacks[index]:
        return 0
    result = callbacks[index](ctx, *arguments)
    return ctypes.get_errno() if result == -1 else 0


def on_dma(ctx, is_map, address, size, protection):
    info = suite().vfu_dma_info_t()
    info.iova.iov_base, info.iova.iov_len = address, size
    info.page_size, info.prot = 0x1000, protection
    return called(ctx, "dma", 0 if is_map else 1, ctypes.pointer(info))


peer.calls = {
    "reset": lambda ctx, kind: called(ctx, "reset", 0, kind),
    "quiesce": lambda ctx: called(ctx, "quiesce", 0),
    "dma": on_dma,
}


# The run of a file.


def library():
    """The functions of this file, as ctypes would show those of the library."""
    own = {name: value for name, value in globals().items() if name.startswith("vfu_") or name == "dma_sg_size"}
    return types.SimpleNamespace(**own)


def loading(original):
    def load(name, *arguments, **keywords):
        if str(name).endswith("libvfio-user.so"):
            return library()
        return original(name, *arguments, **keywords)

    return load


def place_of(error, folder):
    """The line of the tests that failed, the numbers in it, and the error."""
    frames = [each for each in traceback.walk_tb(error.__traceback__) if each[0].f_code.co_filename.startswith(folder)]
    lines = []
    for frame, number in reversed(frames[-2:]):
        name = frame.f_code.co_filename
        line = linecache.getline(name, number).strip()
        words = sorted(set(re.findall(r"\b[a-z_]+\b", line)))
        known = [f"{word} is {frame.f_locals[word]}" for word in words if isinstance(frame.f_locals.get(word), int)]
        lines.append(f"{os.path.basename(name)}:{number} `{line}`" + "".join(f"; {each}" for each in known))
    what = str(error).replace("\n", " ")
    return f"{type(error).__name__}{what and ': ' + what} ({' < '.join(lines)})"


def attempt(function, folder):
    try:
        function()
        return None
    except BaseException as error:  # pylint: disable=broad-except
        if isinstance(error, KeyboardInterrupt):
            raise
        return place_of(error, folder)


def run_file(folder, name):
    socket.setdefaulttimeout(REPLY_TIMEOUT_S)
    ctypes.CDLL = loading(ctypes.CDLL)
    os.environ["LIBVFIO_SO_DIR"] = ""
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    for constant, value in peer.ask("constants")["values"].items():
        setattr(importlib.import_module("libvfio_user"), constant, value)
    module = importlib.import_module(name)
    setup = getattr(module, "setup_function", None)
    teardown = getattr(module, "teardown_function", None)
    own = [each for each in vars(module).items() if each[0].startswith("test_") and inspect.isfunction(each[1])]
    for test, function in own:
        begin = peer.ask("begin", test=test)
        early[:] = begin["early"]
        if begin["skip"]:
            continue
        problem = attempt(lambda: setup(function), folder) if setup else None
        if problem is None:
            problem = attempt(function, folder)
        if teardown:
            after = attempt(lambda: teardown(function), folder)
            problem = problem or after
        peer.ask("verdict", test=test, problem=problem)


run_file(os.path.realpath(sys.argv[1]), sys.argv[2])
