"""The configuration of one device, and the config space that follows from it."""

import struct

STANDARD, EXTENDED = 0x40, 0x100
CAP_ID_PM, CAP_ID_EXP, CAP_ID_MSIX = 0x01, 0x10, 0x11
BARS = range(6)
INTX, MSIX, ERR = 0, 2, 3


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
