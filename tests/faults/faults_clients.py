"""Bad clients, and peers that speak nonsense: their own loss, nobody else's."""
import asyncio
import random
import socket
import struct
import time

from faults import Fault
from fleet import API
from traffic import Oracle, Request, encode

from cluster import proto_version  # noqa: E402 (traffic.py adds its folder to the path)

FREE_S = 1.0  # a client that left: both halves are free after that


class Clients(Fault):
    """Not a fault of a process: nobody's requests may suffer."""

    def __init__(self):
        super().__init__("coordinator")

    def victims(self):
        return []


class Leavers(Clients):
    """Clients that go away: while they queue, while their prompt is read, or in their answer; streamed or not."""

    def __init__(self, phase, streamed, count):
        super().__init__()
        self.phase, self.streamed, self.count, self.wrong = phase, streamed, count, []

    async def inject(self, run):
        self.oracle = await asyncio.to_thread(Oracle, "long", 40, 3)
        await asyncio.gather(*(self.one(run, i) for i in range(self.count)))
        end = time.monotonic() + FREE_S * run.fleet.factor
        while (left := await asyncio.to_thread(run.fleet.held)) and time.monotonic() < end:
            await asyncio.sleep(0.05)
        self.wrong += [f"{FREE_S} s after the clients left: {x}" for x in left[:3]]

    async def one(self, run, i):
        at = run.fleet.coordinators[i % len(run.fleet.coordinators)]
        request = Request(self.oracle, i % 40, at, self.streamed)
        reader, writer = await asyncio.open_connection(at.address, API, limit=1 << 20)
        writer.write(encode(request, None))
        self.asked += 1
        await writer.drain()
        if self.phase == "decode" and self.streamed:
            for _ in range(12):
                await asyncio.wait_for(reader.readline(), 20)
        else:
            await asyncio.sleep({"queue": 0.02, "prefill": 0.06, "decode": 0.4}[self.phase])
        writer.transport.abort()

    async def check(self, run):
        return self.wrong


class SlowReaders(Clients):
    """Long streams that nobody reads: their buffers are bounded, and others' streams flow."""

    def __init__(self, count=4):
        super().__init__()
        self.count = count

    async def inject(self, run):
        oracle, self.sockets = await asyncio.to_thread(Oracle, "long", 40, 3), []
        at = run.fleet.coordinators[0]
        self.rss = at.rss()
        for i in range(self.count):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect((at.address, API))
            s.sendall(encode(Request(oracle, i, at, True), None))
            self.sockets.append(s)

    async def heal(self, run):
        self.grown = run.fleet.coordinators[0].rss() - self.rss
        for s in self.sockets:
            s.close()

    async def check(self, run):
        most = self.count * (1 << 20) + (4 << 20)
        return [f"the coordinator grew by {self.grown >> 20} MiB"] if self.grown > most else []


class Slowloris(Clients):
    """Many connections that say a byte of their request now and then."""

    def __init__(self, count=300, body=False):
        super().__init__()
        self.count, self.body = count, body

    async def inject(self, run):
        at = run.fleet.coordinators[0]
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
        if self.body:
            head += b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
        self.sockets = []
        for _ in range(self.count):
            s = socket.create_connection((at.address, API))
            s.sendall(head)
            s.setblocking(False)
            self.sockets.append(s)
        self.task = asyncio.create_task(self.drip())

    async def drip(self):
        while True:
            for s in self.sockets:
                try:
                    s.send(b" ")
                except OSError:
                    pass
            await asyncio.sleep(0.5)

    async def heal(self, run):
        self.task.cancel()
        for s in self.sockets:
            s.close()


# ---- peers by hand: u32 length, then protobuf (proto/baton.proto: Envelope, Hello)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def hello(version, node, incarnation, role=3, name="impostor"):
    """An Envelope with a Hello, framed."""
    body = b"\x09" + struct.pack("<Q", node) + b"\x11" + struct.pack("<Q", incarnation) + b"\x18" + varint(role)
    body += b"\x22" + varint(len(name)) + name.encode() + b"\x52\x07default"  # the cluster
    envelope = b"\x08" + varint(version) + b"\x12" + varint(len(body)) + body
    return struct.pack("<I", len(envelope)) + envelope


class BadPeer(Clients):
    """Connects to every control port and says `data(rng)`; each must end the connection within `ends` seconds, count it
    where there is a counter, and go on."""

    def __init__(self, data, ends=1.0, times=3, answers=True):
        super().__init__()
        self.data, self.ends, self.times, self.answers, self.open = data, ends, times, answers, []

    async def inject(self, run):
        rng = random.Random(run.options.seed)
        targets = [p for p in run.fleet.all.values() if p.role != "etcd"]
        await asyncio.gather(*(self.one(run, p, self.data(rng)) for p in targets for _ in range(self.times)))

    async def one(self, run, process, data):
        reader, writer = await asyncio.open_connection(process.address, process.port)
        try:
            writer.write(data)
            await writer.drain()
            await asyncio.wait_for(self.until_end(reader), self.ends * run.fleet.factor + 0.5)
        except asyncio.TimeoutError:
            self.open.append(f"{process.name} keeps the connection of a bad peer open")
        except OSError:
            pass
        finally:
            writer.transport.abort()

    @staticmethod
    async def until_end(reader):
        while await reader.read(65536):
            pass

    async def check(self, run):
        return self.open


def wrong_version(difference):
    return lambda rng: hello(proto_version() + difference, rng.getrandbits(63) | 1, 1)


def garbage(rng):
    return struct.pack("<I", 400) + rng.randbytes(400)


def huge(rng):
    return struct.pack("<I", 0x7fffff00) + rng.randbytes(1000)


def half_a_frame(rng):
    return struct.pack("<I", 4000) + rng.randbytes(100)


def silence(rng):
    return b""


def twice(rng):
    one = hello(proto_version(), rng.getrandbits(63) | 1, 1)
    return one + one
