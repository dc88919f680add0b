"""Memory of the peers' benchmarks: as large as ours, touched beforehand, huge pages where the kernel gives them."""
import ctypes
import mmap
import sys
import time

WINDOW = 512 << 20
BATCH = 16


class Window:
    def __init__(self, length=WINDOW):
        self.map = mmap.mmap(-1, length)
        self.map.madvise(mmap.MADV_HUGEPAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.length = length
        ctypes.memset(self.address, 1, length)


def batches(size, total, length=WINDOW):
    """Offsets of as many blocks as are under way together: 16, or what 64 MiB hold."""
    count = max(1, min(BATCH, (64 << 20) // size))
    at = 0
    while at < total:
        yield [(at + i * size) % length for i in range(count)]
        at += count * size


def serve_commands(commands):
    """`NAME BYTES TOTAL` on standard input, "NAME GB/s" for an answer; a command is f(size, offsets of a batch)."""
    print("ready", flush=True)
    for line in sys.stdin:
        name, size, total = line.split()
        size, total, done = int(size), int(total), 0
        begin = time.monotonic()
        for offsets in batches(size, total):
            commands[name](size, offsets)
            done += size * len(offsets)
        print(f"{name} {done / (time.monotonic() - begin) / 1e9:.3f}", flush=True)
