"""A test for each verdict, with a server between them."""

import ctypes
import errno
import struct

from libvfio_user import *

ctx = None


def setup_function(_function):
    global ctx
    ctx = context()


def teardown_function(_function):
    lib.vfu_destroy_ctx(ctx)


def test_region():
    error, info = region_info(ctx, client(ctx), 0)
    assert error == 0
    assert struct.unpack_from("<Q", info, 16)[0] == 0x1000


def test_version():
    client(ctx, major=7, expect=errno.EINVAL)
    client(ctx)


def test_constant():
    assert ANSWER == 42


def test_left():
    client(ctx).close()
    assert lib.vfu_run_ctx(ctx) == -1
    assert ctypes.get_errno() == errno.ENOTCONN


def test_silent():
    sock = client(ctx)
    assert lib.vfu_run_ctx(ctx) == 0
    sock.recv(1)


def test_wrong():
    error, _ = region_info(ctx, client(ctx), 9)
    assert error == errno.ENOENT


def test_agreed():
    error, _ = region_info(ctx, client(ctx), 9)
    assert error == errno.ENOENT


def test_unexpected():
    client(ctx)


def test_not_run():
    raise RuntimeError("it ran")
