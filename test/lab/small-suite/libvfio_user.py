"""The part of libvfio-user's own module of this name that the small suite needs."""

import ctypes
import os
import socket
import struct
import tempfile

lib = ctypes.CDLL(os.path.join(os.getenv("LIBVFIO_SO_DIR"), "libvfio-user.so"), use_errno=True)
PATH = os.path.join(tempfile.mkdtemp(), "device.sock").encode()
ANSWER = 41


def context():
    ctx = lib.vfu_create_ctx(0, PATH, 1, None, 0)
    assert lib.vfu_setup_region(ctx, 0, 0x1000, None, 4, None, 0, -1, 0) == 0
    assert lib.vfu_realize_ctx(ctx) == 0
    return ctx


def client(ctx, major=0, expect=0):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(PATH)
    text = b'{"capabilities":{}}\0'
    sock.send(struct.pack("<HHIIIHH", 1, 1, 20 + len(text), 0, 0, major, 0) + text)
    assert lib.vfu_attach_ctx(ctx) == (0 if expect == 0 else -1)
    assert struct.unpack_from("<HHIII", sock.recv(4096))[4] == expect
    return sock


def region_info(ctx, sock, index):
    sock.send(struct.pack("<HHIII", 2, 5, 48, 0, 0) + struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
    assert lib.vfu_run_ctx(ctx) == 0
    reply = sock.recv(4096)
    return struct.unpack_from("<HHIII", reply)[4], reply[16:]
