"""What relay.c does to the streams of the first node of a role."""
import asyncio

from faults import Fault


class Relayed(Fault):
    """Commands to the relay before the victim; the heal takes them back.  must_act: something must have been done to the
    streams, or the cell proved nothing."""

    def __init__(self, role, kind, *commands, must_act=False):
        super().__init__(role, index=0)
        self.kind, self.commands, self.must_act = kind, commands, must_act

    async def inject(self, run):
        self.choose(run)
        self.relay = run.fleet.relays[self.victim.name, self.kind]
        self.before = self.relay.done()
        self.relay.tell(*self.commands)

    async def heal(self, run):
        self.relay.tell(*(" ".join(c.split()[:-1]) + " 0" for c in self.commands if not c.startswith("reset")))

    async def check(self, run):
        did = self.relay.done() - self.before
        return [f"the relay did nothing: {', '.join(self.commands)}"] if self.must_act and not did else []


class Resets(Relayed):
    """All streams of the victim end with a reset, again and again."""

    def __init__(self, role, kind, times):
        super().__init__(role, kind)
        self.times = times

    async def inject(self, run):
        await super().inject(run)
        for _ in range(self.times):
            self.relay.tell("reset 1")
            await asyncio.sleep(0.6)
