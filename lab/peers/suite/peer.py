"""The socket to the process that serves the tests (session.ts): one JSON document a line, both ways."""

import json
import socket
import sys


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
