"""Runs one file of libvfio-user's tests with a Barter server in the place of the library.

usage: run_file.py FOLDER FILE

FOLDER holds the tests, which load their library through ctypes.CDLL: they get library.py instead. Descriptor 3 is the
socket to the process that serves.
"""

import ctypes
import importlib
import inspect
import linecache
import os
import re
import socket
import sys
import traceback

sys.dont_write_bytecode = True
# An isolated interpreter does not look for modules beside its program.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from library import early, library  # noqa: E402
from peer import peer  # noqa: E402

# A reply that does not come within this time never comes: the server runs only while a test waits for it.
REPLY_TIMEOUT_S = 2


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
