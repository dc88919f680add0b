#!/usr/bin/env python3
"""Mooncake's transfer engine over TCP between two processes: put = a batch of writes, get = a batch of reads.

    mooncake_engine.py               commands on standard input (memory.py); the target is a child of it
"""
import subprocess
import sys

from memory import Window, serve_commands
from mooncake.engine import TransferEngine


def engine():
    e = TransferEngine()
    assert e.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    return e


def check(result):
    assert result == 0, result


def target():
    e, window = engine(), Window()
    check(e.register_memory(window.address, window.length))
    print("target", e.get_rpc_port(), window.address, flush=True)
    sys.stdin.read()


def main():
    child = subprocess.Popen([sys.executable, __file__, "target"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in child.stdout:  # it logs there too
        if line.startswith("target "):
            _, port, remote = line.split()
            break
    e, window, name, remote = engine(), Window(), f"127.0.0.1:{port}", int(remote)
    check(e.register_memory(window.address, window.length))

    def move(call, size, offsets):
        check(call(name, [window.address + o for o in offsets], [remote + o for o in offsets], [size] * len(offsets)))

    serve_commands({"put": lambda s, o: move(e.batch_transfer_sync_write, s, o),
                    "get": lambda s, o: move(e.batch_transfer_sync_read, s, o)})
    child.kill()


if __name__ == "__main__":
    target() if sys.argv[1:] == ["target"] else main()
