"""A process that ends in the middle of a test."""

import os
import sys

from libvfio_user import *


def test_first():
    lib.vfu_destroy_ctx(context())


def test_dies():
    context()
    sys.stderr.write("no more\n")
    sys.stderr.flush()
    os._exit(3)


def test_never():
    pass
