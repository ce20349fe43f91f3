"""The functions of libvfio-user, for its tests: they keep the configuration of a device, and let a server build it.

The server runs only while a test waits in vfu_attach_ctx or vfu_run_ctx.
"""

import ctypes
import errno
import os
import struct
import sys
import types

from context import CAP_ID_EXP, CAP_ID_MSIX, CAP_ID_PM, EXTENDED, Context, express
from peer import peer

PROT_WRITE = 2
CAP_FLAG_EXTENDED = 1
EXT_CAP_ID_DSN = 0x03
REGION_FLAG_MEM = 4
CONFIG_REGION = 7
BARS = range(6)


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


def library():
    """The functions of this file, as ctypes would show those of the library."""
    own = {name: value for name, value in globals().items() if name.startswith("vfu_") or name == "dma_sg_size"}
    return types.SimpleNamespace(**own)
