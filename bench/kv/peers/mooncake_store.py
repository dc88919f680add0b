#!/usr/bin/env python3
"""Mooncake's store over TCP: a client without memory of its own puts into and gets from the segment of another process, in
batches without copies of its own (batch_put_from, batch_get_into).

    mooncake_store.py                commands on standard input (memory.py); master and segment are children of it
"""
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools"))
from free_port import free_port  # noqa: E402
from memory import WINDOW, Window, serve_commands
from mooncake.store import MooncakeDistributedStore

SEGMENT = 1 << 30


def store(master, segment):
    s = MooncakeDistributedStore()
    result = s.setup("127.0.0.1", "P2PHANDSHAKE", segment, 64 << 20, "tcp", "", master)
    assert result == 0, result
    return s


def hold_segment(master):
    s = store(master, SEGMENT)
    print("segment", flush=True)
    sys.stdin.read()
    s.close()


class Client:
    def __init__(self, master):
        self.store, self.window, self.number, self.kept = store(master, 0), Window(), 0, {}
        assert self.store.register_buffer(self.window.address, self.window.length) == 0

    def put(self, size, offsets):
        """New keys each time; what was put a window ago goes first, so that there is room and the memory is cold."""
        keys = [f"{size}/{self.number + i}" for i in range(len(offsets))]
        self.number += len(keys)
        results = self.store.batch_put_from(keys, [self.window.address + o for o in offsets], [size] * len(offsets))
        assert not any(results), results
        kept = self.kept.setdefault(size, [])
        kept += keys

    def get(self, size, offsets):
        kept = self.kept[size]
        keys = [kept[(o // size) % len(kept)] for o in offsets]
        results = self.store.batch_get_into(keys, [self.window.address + o for o in offsets], [size] * len(offsets))
        assert all(r == size for r in results), results

    def clear(self, size, offsets):
        """All blocks go: not measured."""
        self.store.remove_all(True)
        self.kept.clear()


def main():
    port, metrics = free_port(), free_port()
    master = pathlib.Path(sys.executable).with_name("mooncake_master")
    children = [subprocess.Popen([master, f"--rpc_port={port}", f"--metrics_port={metrics}", "--client_ttl=3600",
                                  "--default_kv_lease_ttl=2000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
    time.sleep(1)
    address = f"127.0.0.1:{port}"
    children.append(subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    while not children[1].stdout.readline().startswith("segment"):
        pass
    client = Client(address)
    for at in range(0, SEGMENT - WINDOW // 4, 16 << 20):  # touches the segment: memory that never was is six times slower
        client.put(16 << 20, [at % WINDOW])
    client.clear(0, [])
    serve_commands({"put": client.put, "get": client.get, "clear": client.clear})
    for child in children:
        child.kill()


if __name__ == "__main__":
    hold_segment(sys.argv[1]) if len(sys.argv) > 1 else main()
