"""etcd lost, stopped, emptied, full; leases revoked.  None of it is on the path of a request."""
import asyncio
import base64
import json
import os
import shutil
import signal

from faults import Fault


async def etcdctl(run, *words, timeout=10):
    return await asyncio.to_thread(run.fleet.etcdctl, *words, timeout=timeout)


class EtcdMember(Fault):
    """One of three, or the leader, killed or stopped."""

    def __init__(self, leader=False, number=signal.SIGKILL):
        super().__init__("etcd")
        self.leader, self.number = leader, number

    async def inject(self, run):
        self.choose(run)
        if self.leader:
            self.victim = run.fleet.all[await self.leader_name(run)]
        if self.number == signal.SIGKILL:
            self.victim.kill()
        else:
            self.victim.send(self.number)

    @staticmethod
    async def leader_name(run):
        status = json.loads(await etcdctl(run, "endpoint", "status", "-w", "json"))
        leader = status[0]["Status"]["leader"]
        for entry in status:
            if entry["Status"]["header"]["member_id"] == leader:
                return next(n for n in run.fleet.etcd_names if run.fleet.all[n].address in entry["Endpoint"])
        raise RuntimeError("etcd has no leader")

    async def heal(self, run):
        if self.victim.stopped:
            self.victim.send(signal.SIGCONT)
        else:
            self.victim.start()
        await wait_etcd(run)


class EtcdDown(Fault):
    """All of etcd away; with `emptied` it comes back knowing nothing."""

    def __init__(self, emptied=False):
        super().__init__("etcd")
        self.emptied = emptied

    def victims(self):
        return []

    async def inject(self, run):
        for process in run.fleet.of("etcd"):
            process.kill()
        if self.emptied:
            for name in run.fleet.etcd_names:
                shutil.rmtree(f"{run.fleet.folder}/etcd/{name}.data")

    async def heal(self, run):
        for process in run.fleet.of("etcd"):
            process.start()
        await wait_etcd(run)

    async def check(self, run):
        return await unregistered(run)


async def wait_etcd(run):
    await asyncio.to_thread(run.fleet.wait_for, lambda: all(run.fleet.etcd_healthy(n) for n in run.fleet.etcd_names), 30,
                            "etcd is back")


async def unregistered(run):
    """Everybody must be in etcd again, for those who start later."""
    wanted = {p.name for p in run.fleet.all.values() if p.role != "etcd" and p.lives()}
    for _ in range(100):
        text = await etcdctl(run, "get", "--prefix", "/baton", "--keys-only")
        missing = wanted - {line.rsplit("/", 1)[-1] for line in text.split()}
        if not missing:
            return []
        await asyncio.sleep(0.2)
    return [f"not in etcd again: {', '.join(sorted(missing))}"]


class Revoke(Fault):
    """The victim's lease is taken from it while it lives."""

    async def inject(self, run):
        self.choose(run)
        for key, lease in (await self.leases(run)).items():
            if key.rsplit("/", 1)[-1] == self.victim.name:
                await etcdctl(run, "lease", "revoke", f"{lease:x}")

    @staticmethod
    async def leases(run):
        found = json.loads(await etcdctl(run, "get", "--prefix", "/baton", "-w", "json"))
        return {base64.b64decode(kv["key"]).decode(): int(kv["lease"]) for kv in found.get("kvs", []) if kv.get("lease")}

    async def check(self, run):
        return await unregistered(run)


class RevokeAll(Revoke):
    """Every lease of the cluster."""

    def victims(self):
        return []

    async def inject(self, run):
        for lease in set((await self.leases(run)).values()):
            await etcdctl(run, "lease", "revoke", f"{lease:x}")


class EtcdFull(Fault):
    """The disk of etcd has no room: it dies or refuses writes; with room it comes back."""

    def __init__(self):
        super().__init__("etcd", index=0)

    def victims(self):
        return []

    async def inject(self, run):
        self.choose(run)
        self.filler = f"{run.fleet.folder}/etcd/filler"
        await asyncio.to_thread(fill, self.filler)
        await etcdctl(run, "put", "/other/key", "x" * 4096)
        self.victim.ended_by_us = True  # 3.4 ends when its log cannot grow

    async def heal(self, run):
        os.unlink(self.filler)
        if not self.victim.lives():
            self.victim.start()
        self.victim.ended_by_us = False
        await wait_etcd(run)

    async def check(self, run):
        return await unregistered(run)


def fill(path):
    """Writes until the disk is full."""
    with open(path, "wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2
