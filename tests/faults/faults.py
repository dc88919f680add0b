"""The faults, each a small object: inject() breaks something, heal() mends it, check() says what else was wrong.

They act on a Run (run.py): its fleet, its random numbers.  inject() and heal() may wait, but never block the loop for
long: the clients' clocks run on it.
"""
import asyncio
import signal

from world import API_PORTS, CLIENT, DATA_PORTS, ETCD_PORTS, Cgroup


class Fault:
    """A fault of one process, chosen among those of a role."""

    asked = 0  # requests that the fault itself makes

    def __init__(self, role=None, index=None):
        self.role, self.index, self.victim = role, index, None

    def choose(self, run):
        processes = [p for p in run.fleet.of(self.role) if p.lives() and not p.stopped]
        self.victim = processes[self.index] if self.index is not None else run.pick(self, processes)
        return self.victim

    def victims(self):
        return [self.victim]

    async def inject(self, run):
        raise NotImplementedError

    async def heal(self, run):
        pass

    async def check(self, run):
        """Violations, as text."""
        return []


class Kill(Fault):
    """kill -9; the heal starts it again under the same name."""

    async def inject(self, run):
        self.choose(run).kill()

    async def heal(self, run):
        self.victim.start()


class KillAll(Fault):
    """Every process of a role at once: no spare is left."""

    async def inject(self, run):
        self.all = [p for p in run.fleet.of(self.role) if p.lives()]
        for process in self.all:
            process.kill()

    def victims(self):
        return self.all

    async def heal(self, run):
        for process in self.all:
            process.start()


class Restart(Kill):
    """Killed and started at once: the same name, a new incarnation, while peers may still believe in the old one."""

    async def inject(self, run):
        self.choose(run).kill()
        self.victim.start()

    async def heal(self, run):
        pass


class Flap(Fault):
    """Killed and started again several times in a row."""

    async def inject(self, run):
        self.choose(run)
        for _ in range(3):
            self.victim.kill()
            self.victim.start()
            await asyncio.sleep(0.7)


class Stop(Fault):
    """SIGSTOP: hung, with its connections alive.  SIGCONT wakes a ghost."""

    async def inject(self, run):
        self.choose(run).send(signal.SIGSTOP)

    async def heal(self, run):
        self.victim.send(signal.SIGCONT)


class Blink(Stop):
    """Shorter than a term: nobody may take it for dead... or must care."""

    async def inject(self, run):
        self.choose(run).send(signal.SIGSTOP)
        await asyncio.sleep(0.8 * run.fleet.factor)
        self.victim.send(signal.SIGCONT)

    async def heal(self, run):
        pass


class SlowCpu(Fault):
    """A tenth of one core."""

    def __init__(self, role, share=0.1):
        super().__init__(role)
        self.share = share

    async def inject(self, run):
        self.group = Cgroup("cpu", self.role)
        self.group.cpu(self.share)
        self.group.put(self.choose(run).pid)

    async def heal(self, run):
        self.group.close()


class Cut(Fault):
    """Packets from and/or to the victim vanish.  whom: a role, "cluster" (all but the clients) or None for everybody;
    ports: only those ("data": UCX's)."""

    def __init__(self, role, direction="both", whom=None, ports=None, percent=None):
        super().__init__(role)
        self.direction, self.whom, self.ports, self.percent = direction, whom, ports, percent

    def addresses(self, run, outwards):
        side = "daddr" if outwards else "saddr"
        if self.whom is None:
            return ""
        if self.whom == "cluster":
            return f"ip {side} != {CLIENT} "
        found = ", ".join(sorted({p.address for p in run.fleet.of(self.whom) if p is not self.victim}))
        return f"ip {side} {{ {found} }} "

    def rules(self, run, outwards):
        device = "oif != lo" if outwards else "iif != lo"
        chance = f"numgen random mod 100 < {self.percent} " if self.percent else ""
        ports = {"data": DATA_PORTS, "etcd": ETCD_PORTS, "api": API_PORTS}.get(self.ports)
        if self.ports == "data":  # neither end is a port that we know
            return [f"{device} {self.addresses(run, outwards)}tcp dport {ports} tcp sport {ports} {chance}drop"]
        if ports:
            return [f"{device} {self.addresses(run, outwards)}tcp {end} {ports} {chance}drop" for end in ("dport", "sport")]
        return [f"{device} {self.addresses(run, outwards)}{chance}drop"]

    async def inject(self, run):
        self.choose(run)
        chains = {}
        if self.direction in ("in", "both"):
            chains["input"] = self.rules(run, False)
        if self.direction in ("out", "both"):
            chains["output"] = self.rules(run, True)
        self.victim.space.nft("fault", chains)

    async def heal(self, run):
        self.victim.space.nft("fault", None)


class Rate(Fault):
    """What leaves the victim goes through a thin pipe."""

    def __init__(self, role, bits_per_s):
        super().__init__(role)
        self.bits_per_s = bits_per_s

    async def inject(self, run):
        self.choose(run).space.rate(self.bits_per_s)

    async def heal(self, run):
        self.victim.space.rate(None)


class Drain(Fault):
    """SIGTERM under load: it takes nothing new, finishes or hands over, and is gone in time."""

    async def inject(self, run):
        self.choose(run)
        self.victim.descriptors = None
        self.took = await asyncio.to_thread(self.victim.terminate, 25)

    async def heal(self, run):
        if self.took is None:
            self.victim.kill()
        self.victim.start()

    async def check(self, run):
        return [] if self.took is not None else [f"{self.victim.name} had not ended 25 s after SIGTERM"]


class Both(Fault):
    """Two faults at once, or the second `after` seconds into the first."""

    def __init__(self, first, second, after=0.0):
        self.first, self.second, self.after = first, second, after

    def victims(self):
        return self.first.victims() + self.second.victims()

    async def inject(self, run):
        await self.first.inject(run)
        await asyncio.sleep(self.after)
        await self.second.inject(run)

    async def heal(self, run):
        await self.second.heal(run)
        await self.first.heal(run)

    async def check(self, run):
        return await self.first.check(run) + await self.second.check(run)


class Calm(Fault):
    """Nothing is broken: what the machine does by itself, which the bounds of the others rest on."""

    def victims(self):
        return []

    async def inject(self, run):
        pass
