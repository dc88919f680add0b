#!/usr/bin/env python3
"""Blocks on disk: they outlive every process that knew them, and serve what a small memory cannot hold.  Every token is compared
with the oracle's.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from cluster import Cluster, DEMO, essence, look_up, solo
from test_kv import Kv

CHATS = 12


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def chats(seed, count=CHATS, entries=40):
    rng = random.Random(seed)
    return [("/v1/chat/completions", {"model": "demo", "temperature": 0, "max_tokens": 8, "return_token_ids": True,
                                      "messages": [{"role": "user", "content": look_up(rng, entries)}]})
            for _ in range(count)]


def second_turns(requests, answers):
    turns = []
    for (path, body), answer in zip(requests, answers):
        messages = body["messages"] + [{"role": "assistant", "content": answer["choices"][0]["message"]["content"]},
                                       {"role": "user", "content": "And of the first one?"}]
        turns.append((path, {**body, "messages": messages}))
    return turns


def restart(cluster, roles):
    """kill -9, then the very same command again, which is not the first one's child any more."""
    nodes = [n for n in cluster.nodes() if n["role"] in roles]
    commands = [pathlib.Path(f"/proc/{n['pid']}/cmdline").read_bytes().split(b"\0")[:-1] for n in nodes]
    for node in nodes:
        os.kill(node["pid"], signal.SIGKILL)
    time.sleep(0.1)
    patient = [b"--fetch-deadline-ms", b"20000"]  # a slow disk is waited for
    with open(pathlib.Path(cluster.folder, "again.log"), "ab") as log:
        started = [subprocess.Popen(command + patient * (node["role"] != "kvstore"), stdout=log, stderr=log)
                   for node, command in zip(nodes, commands)]
    pids = {n["name"]: p.pid for n, p in zip(nodes, started)}
    cluster.wait_for(lambda: sum(n["state"] == "up" and pids.get(n["name"]) == n["pid"] for n in cluster.nodes()) == len(nodes),
                     60, f"{sorted(pids)} are up again")
    cluster.wait_stores()
    return started


class Disk(unittest.TestCase):
    def setUp(self):
        self.started = []
        self.addCleanup(lambda: [p.kill() or p.wait() for p in self.started])

    def settle(self, cluster):
        """Everything that was offered is taken, and durable."""
        def settled():
            metrics = cluster.metrics()
            lag = sum(v for k, v in metrics.items() if k.startswith("baton_kv_disk_lag_blocks"))
            return lag == 0 and all(n["load"]["offer_lag"] == 0 for n in cluster.nodes())
        for _ in range(2):
            time.sleep(0.6)  # two reports: what is settled stays so
            cluster.wait_for(settled, 60, "blocks durable")

    def disk(self, cluster, name, label=""):
        return sum(v for k, v in cluster.metrics().items() if k.startswith(f"baton_kv_disk_{name}") and label in k)

    def test_second_turn_hits_after_every_process_was_killed(self):
        first = chats(1)
        # All shall be found: so nobody computes what a disk is slow to bring (prefill/compute.c) before its time is over.
        with Cluster(prefill=1, decode=1, kvstore=2, store_disk_bytes="128MiB", store_persist="ack", time_factor=5) as cluster:
            cluster.wait_stores()
            answers = cluster.post_all(first, 3)
            second = second_turns(first, answers)
            self.settle(cluster)
            self.assertGreater(self.disk(cluster, "blocks"), 100)
            self.started += restart(cluster, ("kvstore", "prefill", "decode"))
            again = cluster.post_all(second, 3)
            self.settle(cluster)  # so that the stores have reported
            loads = self.disk(cluster, "loads_total", "right")
            bad = self.disk(cluster, "gone_total", "bad")
            plain, stored = (self.disk(cluster, "block_bytes", f'as="{how}"') for how in ("plain", "stored"))
            stat = Kv(cluster).lines("stat")
        for answer, before in zip(again, answers):
            whole = before["usage"]["prompt_tokens"] // 16 * 16
            self.assertGreaterEqual(cached(answer), whole, answer["usage"])
        self.assertGreater(loads, 100)
        self.assertEqual(bad, 0)
        self.assertGreater(plain / stored, 1.1)  # of the 9 pages that a block of these takes plain 8 are left
        self.assertEqual(sum(s["disk"]["bytes_stored"] for s in stat), stored)
        for answer, right in zip(again, solo(DEMO, second)):
            self.assertEqual(essence(answer), essence(right))
        print(f"{CHATS} chats: all of the first turn found again, {loads:.0f} blocks read from disk, {plain / stored:.2f} times smaller there")

    def test_store_smaller_than_its_load_serves_from_disk(self):
        first = chats(2, 30)
        # Behind, a disk that is slow would leave out what memory no longer has when its turn comes: how much is no test's business.
        with Cluster(prefill=1, decode=1, kvstore=1, store_bytes="8MiB", kv_bytes="32MiB", store_disk_bytes="256MiB",
                     store_persist="ack") as cluster:
            answers = cluster.post_all(first, 3)
            self.settle(cluster)
            self.started += restart(cluster, ("prefill", "decode"))  # their own caches are gone
            again = cluster.post_all(first, 3)
            self.settle(cluster)
            loads = self.disk(cluster, "loads_total", "right")
            tokens = sum(a["usage"]["prompt_tokens"] for a in answers)
        self.assertGreater(tokens * 2048, 2 * 8 << 20)  # of KV: 2 KiB a token
        hit = sum(cached(a) for a in again)
        self.assertGreater(hit, tokens * 0.5)  # nobody waits for a disk longer than computing takes
        self.assertGreater(loads, 300)
        for answer, right in zip(again, answers):
            self.assertEqual(essence(answer), essence(right))
        print(f"{tokens} tokens of KV in a store of 8 MiB: {hit} found again, {loads:.0f} blocks read from disk")

    def test_operators_see_what_is_only_on_disk_and_are_obeyed_over_restarts(self):
        secret = pathlib.Path(tempfile.mkdtemp(), "disk.key")
        self.addCleanup(shutil.rmtree, secret.parent)
        secret.write_bytes(os.urandom(32))
        with Cluster(prefill=1, decode=1, kvstore=1, store_bytes="8MiB", kv_bytes="32MiB", store_disk_bytes="256MiB",
                     store_disk_key=secret) as cluster:
            cluster.post_all(chats(3, 30), 3)
            self.settle(cluster)
            kv = Kv(cluster)
            blocks = kv.blocks()
            on_disk = [b["key"] for b in blocks if b["tier"] == "disk"]
            disk = json.loads(kv("stat", "--json"))["disk"]
            self.assertEqual(disk["blocks"], sum("disk" in b["tier"] for b in blocks))
            self.assertEqual((disk["bytes_total"], disk["lag_blocks"], disk["stopped"], disk["ready"]), (256 << 20, 0, "", True))
            self.assertTrue(0 < disk["bytes_used"] <= disk["bytes_total"], disk)
            self.assertIn(f"disk: {disk['blocks']} blocks", kv("stat"))
            self.assertEqual(len({b["key"] for b in blocks}), len(blocks))
            self.assertGreater(len(on_disk), 100)
            self.assertEqual(json.loads(kv("get", on_disk[0], "--json"))["tier"], "dram+disk")  # it was read back
            # What came while writes were many is in memory only, and may go for what is read back; all else is verified and exported.
            durable = {b["key"] for b in blocks if "disk" in b["tier"]}
            verified = kv("verify")
            count = int(verified.split()[0])
            self.assertTrue(len(durable) <= count <= len(blocks), (len(durable), count, len(blocks)))
            self.assertRegex(verified, r"\d+ records of these on disk verified; 0 bad")
            exported = pathlib.Path(cluster.folder, "blocks.kv")
            count = int(kv("export", exported).split()[1])
            self.assertTrue(len(durable) <= count <= len(blocks), (len(durable), count, len(blocks)))
            evicted, pinned = on_disk[1], on_disk[2]
            kv("evict", evicted)
            kv("pin", "--hard", pinned)
            self.assertEqual(kv.run("evict", pinned).returncode, 1)
            for _ in range(2):
                self.started += restart(cluster, ("kvstore",))
                after = {b["key"]: b for b in kv.blocks()}
                self.assertNotIn(evicted, after)
                self.assertEqual(after[pinned]["pin"], "hard")
                self.assertEqual(durable - {evicted} - set(after), set())
        print(f"{len(blocks)} blocks, {len(on_disk)} of them only on disk: listed, verified, exported; one evicted, one pinned")


if __name__ == "__main__":
    unittest.main(verbosity=2)
