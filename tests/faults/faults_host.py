"""What a host does to a process: disks, clocks, memory; and processes that do not belong."""
import asyncio
import os
import pathlib
import random
import re
import subprocess

from faults import Fault
from faults_etcd import fill
from fleet import ENGINES, ROOT, Process
from world import Cgroup


class LogsFull(Fault):
    """The disk of everybody's logs is full: lines are lost, nothing else."""

    def victims(self):
        return []

    async def inject(self, run):
        self.filler = f"{run.fleet.folder}/filler"
        await asyncio.to_thread(fill, self.filler)

    async def heal(self, run):
        os.unlink(self.filler)


class BadDisk(Fault):
    """The victim is killed and must start from a disk that is bad (shim.c): it refuses, and says what and where."""

    def __init__(self, role, kind, name, expect):
        super().__init__(role)
        self.kind, self.name, self.expect = kind, name, expect

    async def inject(self, run):
        self.choose(run)
        if self.kind == "flip" and self.role in ENGINES:
            self.pin()
        self.victim.kill()
        self.victim.environment["FAULTS_FILE"] = f"{self.kind}:{self.name}"
        size = self.victim.log.stat().st_size
        self.victim.start()
        self.victim.ended_by_us = True
        try:
            self.code = await asyncio.to_thread(self.victim.process.wait, 10)
        except subprocess.TimeoutExpired:
            self.code = None
        self.said = self.victim.log.read_text(errors="replace")[size:]

    def pin(self):
        """A changed bit is a model like any other, unless somebody says which one was meant: what its first start said."""
        if "--model-fingerprint" not in self.victim.arguments:
            said = re.search("fingerprint ([0-9a-f]{64})", self.victim.log.read_text())[1]
            self.victim.arguments += ["--model-fingerprint", said]

    async def heal(self, run):
        del self.victim.environment["FAULTS_FILE"]
        self.victim.kill()
        self.victim.start()

    async def check(self, run):
        if self.code is None:
            return [f"{self.victim.name} serves from a bad {self.name}"]
        if self.code != 1 or self.expect not in self.said:
            return [f"{self.victim.name} ended with {self.code}, saying {self.said[-300:]!r}"]
        return []


class ClockJump(Fault):
    """The wall clock of the victim (or of everybody) jumps; with `restart` it starts again in that other time."""

    def __init__(self, role, seconds, restart=False, stays=False):
        super().__init__(role)
        self.seconds, self.restart, self.stays = seconds, restart, stays

    def clocks(self, run):
        return [self.victim] if self.role else [p for p in run.fleet.all.values() if p.role != "etcd"]

    def victims(self):
        return [self.victim] if self.victim and self.restart else []

    async def inject(self, run):
        if self.role:
            self.choose(run)
        for process in self.clocks(run):
            process.clock.write_text(str(self.seconds))
        if self.restart:
            self.victim.kill()
            self.victim.start()

    async def heal(self, run):
        for process in self.clocks(run):
            process.clock.write_text("0")


class OutOfMemory(Fault):
    """The kernel's limit strikes: the process is killed where it stands."""

    async def inject(self, run):
        self.choose(run)
        self.group = Cgroup("memory", self.role)
        self.group.put(self.victim.pid)
        self.victim.ended_by_us = True
        with open(f"/proc/{self.victim.pid}/oom_score_adj", "w") as file:
            file.write("1000")
        # What it has already counts only when it is touched anew: so the limit is set, and the process pushed over it.
        self.group.memory(1 << 20)
        await asyncio.sleep(0.5)
        self.struck = not self.victim.lives()
        self.victim.kill()

    async def heal(self, run):
        self.group.close()
        self.victim.start()


class BitRot(Fault):
    """Bits of a store's blocks change in its memory: what is read from there is refused by its digest, and computed."""

    def __init__(self, flips=4000):
        super().__init__("kvstore")
        self.flips = flips

    async def inject(self, run):
        self.choose(run)
        await asyncio.to_thread(self.flip, random.Random(run.options.seed))

    def flip(self, rng):
        areas = []
        for line in pathlib.Path(f"/proc/{self.victim.pid}/maps").read_text().splitlines():
            if "/memfd:" in line and " rw-s " in line:  # its own, not what it maps of its peers
                low, high = (int(x, 16) for x in line.split()[0].split("-"))
                areas.append((low, high - low))
        with open(f"/proc/{self.victim.pid}/mem", "r+b", buffering=0) as memory:
            for _ in range(self.flips):
                low, size = rng.choice(areas)
                at = low + rng.randrange(size)
                memory.seek(at)
                byte = memory.read(1)
                memory.seek(at)
                memory.write(bytes([byte[0] ^ 1 << rng.randrange(8)]))


class Stranger(Fault):
    """A node that says it serves the same name with another model or another layout joins, and leaves again."""

    def __init__(self, role, model="demo", *flags):
        super().__init__(role)
        self.model, self.flags = model, flags

    def victims(self):
        return []

    async def inject(self, run):
        fleet, near = run.fleet, run.fleet.of(self.role)[0]
        arguments = list(near.arguments)
        for flag, value in (("--name", "stranger"), ("--listen", f"tcp://{near.address}:21050"),
                            ("--model", str(ROOT / "models" / self.model))):
            arguments[arguments.index(flag) + 1] = value
        arguments += ["--served-model-name", "demo", *self.flags]
        self.process = Process(fleet, "stranger", self.role, near.space, arguments)
        self.process.start()

    async def heal(self, run):
        view = await asyncio.to_thread(run.fleet.topology, run.fleet.coordinators[0])
        self.seen = [n for n in view["nodes"] if n["name"] == "stranger"]
        self.died = self.process.died()
        await asyncio.to_thread(self.process.terminate, 10)

    async def check(self, run):
        if self.died:
            return [self.died]
        if not self.seen or self.seen[0]["state"] != "up":
            return [f"the stranger was not there: {self.seen}"]
        return []

