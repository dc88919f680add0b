#!/usr/bin/env python3
"""NIXL between two processes, DRAM to DRAM over UCX as UCX_TLS says (unset: shared memory): put = WRITE, get = READ.

    nixl_agent.py                          commands on standard input (memory.py); the target is a child of it
"""
import subprocess
import sys

from memory import Window, serve_commands
from nixl_cu13._api import nixl_agent, nixl_agent_config



def agent(name):
    a, window = nixl_agent(name, nixl_agent_config(backends=["UCX"])), Window()
    assert a.register_memory([(window.address, window.length, 0, "")], "DRAM")
    return a, window


def target():
    a, window = agent("target")
    print("target", window.address, a.get_agent_metadata().hex(), flush=True)
    sys.stdin.read()


def main():
    child = subprocess.Popen([sys.executable, __file__, "target"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if line.startswith("target "):
            _, remote, metadata = line.split()
            break
    a, window = agent("initiator")
    name, remote = a.add_remote_agent(bytes.fromhex(metadata)), int(remote)
    prepared = {}

    def handle(kind, size, offsets):
        """A request is made once and posted again and again, as its documentation advises."""
        key = (kind, size, offsets[0])
        if key not in prepared:
            local = a.get_xfer_descs([(window.address + o, size, 0) for o in offsets], "DRAM")
            far = a.get_xfer_descs([(remote + o, size, 0) for o in offsets], "DRAM")
            prepared[key] = a.initialize_xfer(kind, local, far, name, b"")
        return prepared[key]

    def move(kind, size, offsets):
        h = handle(kind, size, offsets)
        state = a.transfer(h)
        while state == "PROC":
            state = a.check_xfer_state(h)
        assert state == "DONE", state

    serve_commands({"put": lambda s, o: move("WRITE", s, o), "get": lambda s, o: move("READ", s, o)})
    child.kill()


if __name__ == "__main__":
    target() if sys.argv[1:] == ["target"] else main()
