#!/usr/bin/env python3
"""Stores that write, evict, copy and are killed: what they acknowledged as durable is there when they are back, and no byte is
ever wrong.

usage: run.py plain|uring KILLS [SEED]     77: the kernel refuses io_uring

Three baton-kvstore processes and an etcd; two copies of each block, --persist ack; less memory than disk, and less disk than is
written in a minute.  crash_writer (writer.c) offers blocks all the time and reads some of them.  A round: at a random moment a
store, or several at once, get SIGKILL, and start again at once or after their blocks have begun to be copied elsewhere.  Then all
blocks that it ever acknowledged are read from it and compared.  What is missing must have made room, by the store's own
log, written before the room was used.  In the end all stores are killed at once.
"""
import collections
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from free_port import free_port  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BATON_BUILD", "build")).resolve()
SLOW = int(os.environ.get("BATON_TEST_SLOW", 1))
STORES = 3
GRACE_MS = 300
PATIENCE_S = 30 * SLOW
STAT = ("taken", "evicted", "copies", "moved", "in_flight", "missing", "disk_blocks", "disk_gone", "disk_ready")
SELF = ("offered", "acknowledged", "verified", "unreadable", "again", "refused")


class Store:
    def __init__(self, world, number):
        self.world, self.name = world, f"store-{number}-{os.getpid()}"  # another world's may get a dead one's port
        self.log = world.folder / f"{self.name}.log"
        self.gone = set()    # blocks that made room, as its log says
        self.log_at = 0
        self.is_ready = False
        self.process = None

    def start(self):
        if self.process:
            self.read_log()  # of the last life
        self.is_ready = False
        command = [BUILD / "kvstore/baton-kvstore", "--name", self.name, "--etcd", self.world.etcd_url, "--log-level", "debug",
                   "--kv-bytes", "12MiB", "--slab-bytes", "1MiB", "--replicas", 2, "--replica-grace-ms", GRACE_MS,
                   "--rebalance-rate", "16MiB", "--time-factor", SLOW,
                   "--disk-path", self.world.folder / f"{self.name}.disk", "--disk-bytes", "16MiB", "--disk-segment-bytes", "1MiB",
                   "--disk-io", self.world.io, "--persist", "ack", "--disk-write-rate", "4MiB"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log)

    def kill(self):
        self.world.total["kills"] += 1
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def read_log(self):
        """What it says since the last time: which blocks are gone, and that its disk is there."""
        with open(self.log, "rb") as log:
            log.seek(self.log_at)
            text = log.read()
        text = text[:text.rfind(b"\n") + 1]
        self.log_at += len(text)
        self.is_ready |= b" blocks found again " in text
        assert b" error " not in text, [line for line in text.splitlines() if b" error " in line]
        for key, why in re.findall(rb"disk: block ([0-9a-f]{8})[0-9a-f]{24} is gone, ([a-z ]+)", text):
            assert why == b"for room", f"{self.name}: block {int(key, 16)} is gone, {why.decode()}"
            self.gone.add(int(key, 16))


class Writer:
    def __init__(self, world):
        self.stats, self.itself, self.down, self.checked = {}, {}, set(), collections.deque()
        self.changed = threading.Condition()
        self.ended = False
        self.errors = open(world.folder / "writer.log", "w")
        self.process = subprocess.Popen([str(c) for c in (BUILD / "tests/crash/crash_writer", "--etcd", world.etcd_url,
                                                          "--name", f"crash-writer-{os.getpid()}", "--log-level", "warn", "--time-factor", SLOW)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            words = line.split()
            with self.changed:
                if words[0] == "stat":
                    self.stats[words[1]] = dict(zip(STAT, map(int, words[2:])))
                elif words[0] == "self":
                    self.itself = dict(zip(SELF, map(int, words[1:])))
                elif words[0] == "checked":
                    self.checked.append((int(words[2]), int(words[3]), list(map(int, words[4:]))))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def say(self, line):
        self.process.stdin.write(line + "\n")

    def wait(self, condition, what):
        with self.changed:
            in_time = self.changed.wait_for(lambda: self.ended or condition(), PATIENCE_S)
            assert not self.ended, f"{what}: the writer has ended"
            assert in_time, f"{what}: not in {PATIENCE_S} s"

    def check(self, name):
        """(asked, found, missing)"""
        self.say(f"check {name}")
        self.wait(lambda: self.checked, f"check of {name}")
        return self.checked.popleft()


class World:
    def __init__(self, io, seed):
        self.io, self.rng = io, random.Random(seed)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="baton-crash-"))
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.etcd_url = client
        with open(self.folder / "etcd.log", "w") as log:
            self.etcd = subprocess.Popen(
                ["etcd", "--data-dir", self.folder / "etcd", "--listen-client-urls", client, "--advertise-client-urls", client,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                 "--logger", "zap", "--log-level", "error"], stdout=log, stderr=log)
        self.stores = [Store(self, n + 1) for n in range(STORES)]
        self.total = collections.Counter()

    def __enter__(self):
        for store in self.stores:
            store.start()
        self.writer = Writer(self)
        try:
            self.ready(self.stores)
        except AssertionError:
            text = self.stores[0].log.read_text()
            refused = re.search(r"the kernel(?: refuses|'s) io_uring.*", text)
            self.__exit__(not refused, None, None)
            if refused:
                print(refused[0])
                sys.exit(77)
            raise
        return self

    def __exit__(self, kind, value, trace):
        for process in [s.process for s in self.stores] + [self.writer.process, self.etcd]:
            process.kill()
            process.wait()
        if kind:
            print(f"what is left is in {self.folder}")
            for log in sorted(self.folder.glob("*.log")):
                lines = [line for line in log.read_text(errors="replace").splitlines() if " debug " not in line]
                print(f"--- {log.name}", *lines[-12:], sep="\n")
        else:
            shutil.rmtree(self.folder)

    def ready(self, stores):
        end = time.monotonic() + PATIENCE_S
        for store in stores:
            while not store.is_ready:
                assert time.monotonic() < end and store.process.poll() is None, f"{store.name} is not back"
                time.sleep(0.005)
                store.read_log()

    def judge(self, store):
        asked, found, missing = self.writer.check(store.name)
        store.read_log()
        lost = [block for block in missing if block not in store.gone]
        assert not lost, f"{store.name} acknowledged blocks {lost[:20]} and has lost them ({len(lost)} of {asked})"
        self.total.update(checked=found, made_room=len(missing))
        assert found > 0

    def note_moment(self):
        """What the stores are busy with: by their last reports, at most 0.2 s old."""
        with self.writer.changed:
            now = {name: dict(stat) for name, stat in self.writer.stats.items()}
        before, self.before = getattr(self, "before", {}), now
        grew = lambda what: any(stat[what] > before.get(name, stat)[what] for name, stat in now.items())
        self.total.update(moments=1, while_copying=any(s["in_flight"] or s["missing"] for s in now.values()),
                          while_evicting=grew("evicted"), while_writing=grew("taken"), while_making_room=grew("disk_gone"))

    def round(self, kills_max):
        time.sleep(self.rng.uniform(0.15, 0.7) * SLOW)
        count = min(kills_max - self.total["kills"], self.rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, 3)))
        victims = self.rng.sample(self.stores, count)
        self.note_moment()
        for store in self.stores:
            assert store.process.poll() is None, f"{store.name} has ended by itself: {store.process.returncode}"
        for store in victims:
            store.kill()
        if self.rng.random() < 0.3:
            time.sleep((GRACE_MS / 1000 + self.rng.uniform(0, 0.5)) * SLOW)  # the others begin to copy what it had
        self.revive(victims, kills_max)

    def revive(self, victims, kills_max):
        for store in victims:
            self.copied(store)
            store.start()
            if self.rng.random() < 0.2 and self.total["kills"] < kills_max:  # while it starts, or reads its disk
                time.sleep(self.rng.uniform(0, 0.1) * SLOW)
                store.kill()
                self.total["while_starting"] += 1
                store.start()
        self.ready(victims)
        for store in victims:
            self.judge(store)

    def copied(self, store):
        last = self.before.get(store.name)
        if last:
            self.total.update(copies=last["copies"], moved=last["moved"])


def main(io, kills, seed):
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # so that nothing stays behind
    with World(io, seed) as world:
        world.writer.say("write")
        world.writer.wait(lambda: world.writer.itself.get("acknowledged", 0) > 300, "blocks are acknowledged")
        while world.total["kills"] < kills - STORES:
            world.round(kills - STORES)
            if sys.stdout.isatty():
                print(f"after {time.monotonic() - began:.0f} s: {dict(world.total)}", flush=True)
        world.writer.say("pause")
        world.note_moment()
        for store in world.stores:  # all at once
            store.kill()
        world.revive(world.stores, kills)
        t, itself = world.total, world.writer.itself
        assert itself["acknowledged"] > 0
        if kills >= 100:  # of few rounds not each need see each
            assert min(t["while_writing"], t["while_copying"], t["while_evicting"], t["while_making_room"], t["while_starting"], t["moved"]) > 0, t
        print(f"{io}: {t['kills']} kills in {time.monotonic() - began:.0f} s, at {t['moments']} moments; {t['while_writing']} while "
              f"writing, {t['while_evicting']} evicting, {t['while_copying']} copying, {t['while_making_room']} making room on disk; {t['while_starting']} "
              f"kills of stores that were starting\n"
              f"{itself['acknowledged']} blocks acknowledged as durable; after the kills {t['checked']} times found and right, "
              f"{t['made_room']} had made room before, 0 lost; {itself['verified']} reads compared, 0 wrong; "
              f"{t['copies']} copies made, {t['moved'] >> 20} MiB of them because stores came and went")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
