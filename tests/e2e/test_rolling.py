#!/usr/bin/env python3
"""Every process restarts, one after the other: coordinator, prefill, decode, each store.  The next turn of every chat finds what it
would have found without that.

usage: test_rolling.py [CHATS]     (default 100)

Two clusters answer the same chats, so by law 1 with the same tokens: one goes on as it is, the other one is restarted between
the turns by SIGTERM, as in an update.  Stores have no disk: what is kept, others kept.
"""
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import unittest

from cluster import SLOW, Cluster, essence, look_up

CHATS = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 100
BLOCK = 16
EXIT_S = 25  # a pod has 30


def first_turns():
    rng = random.Random(6)
    return [[{"role": "user", "content": look_up(rng, rng.randrange(5, 40))}] for _ in range(CHATS)]


def second_turns(chats, answers):
    return [messages + [{"role": "assistant", "content": answer["choices"][0]["message"]["content"]},
                        {"role": "user", "content": "And of the first one?"}] for messages, answer in zip(chats, answers)]


def turn(cluster, chats):
    return cluster.post_all([("/v1/chat/completions", {"model": "demo", "messages": messages, "max_tokens": 12, "temperature": 0,
                                                       "return_token_ids": True}) for messages in chats], 4)


def hits(answers):
    return [answer["usage"]["prompt_tokens_details"]["cached_tokens"] // BLOCK for answer in answers]


def settle(cluster):
    """Nothing is offered or copied any more.  Whoever is asked to end waits for that itself."""
    def settled():
        metrics = cluster.metrics()
        return (all(n["load"]["offer_lag"] == 0 for n in cluster.nodes()) and
                not any(v for k, v in metrics.items() if k.startswith(("baton_kv_copies_missing", "baton_kv_copy_lag_blocks"))))
    time.sleep(0.6 * SLOW)  # two reports
    cluster.wait_for(settled, 60, "offered and copied")


class Rolling(unittest.TestCase):
    flags = {"prefill": 1, "decode": 1, "kvstore": 3, "kv_bytes": "256MiB", "time_factor": 2}

    def processes(self, cluster):
        """(name, pid, command) of all but etcd, in the order in which they restart."""
        pids = pathlib.Path(f"/proc/{cluster.process.pid}/task/{cluster.process.pid}/children").read_text().split()
        found = []
        for pid in pids:
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            if b"--name" in command:
                found.append((command[command.index(b"--name") + 1].decode(), int(pid), command))
        rank = ("coordinator", "prefill", "decode", "kvstore")
        return sorted(found, key=lambda p: (rank.index(p[0].rpartition("-")[0]), p[0]))

    def ended(self, pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def there(self, cluster, name, pid, count):
        try:
            nodes = [n for n in cluster.nodes() if n["state"] == "up"]
            ready = cluster.call("GET", "/readyz")[0] == 200
        except OSError:
            return False
        is_there = name.startswith("coordinator") or any(n["name"] == name and n["pid"] == pid for n in nodes)
        return ready and is_there and len(nodes) == count

    def restart(self, cluster, name, pid, command, count):
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + EXIT_S * SLOW
        while not self.ended(pid):  # the coordinator may be what ends
            self.assertLess(time.monotonic(), end, f"{name} ends")
            time.sleep(0.02)
        with open(pathlib.Path(cluster.folder, name + ".again.log"), "wb") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log)
        self.addCleanup(child.wait)
        self.addCleanup(child.send_signal, signal.SIGTERM)
        end = time.monotonic() + 60 * SLOW
        while not self.there(cluster, name, child.pid, count):
            self.assertLess(time.monotonic(), end, f"{name} is back")
            time.sleep(0.05)

    def test_second_turn_hits_after_everything_was_restarted(self):
        chats = first_turns()
        with Cluster(**self.flags) as cluster:
            answers = turn(cluster, chats)
            settle(cluster)
            second = second_turns(chats, answers)
            before = turn(cluster, second)
        with Cluster(**self.flags) as cluster:
            for again, answer in zip(turn(cluster, chats), answers):
                self.assertEqual(essence(again), essence(answer))
            began = time.monotonic()
            processes = self.processes(cluster)
            self.assertEqual(len(processes), 6)
            for name, pid, command in processes:
                self.restart(cluster, name, pid, command, len(processes) - 1)
            took = time.monotonic() - began
            after = turn(cluster, second)
            for again, answer in zip(after, before):
                self.assertEqual(essence(again), essence(answer))
            # Of what each process knew nothing is left: all of it came from the stores.
            fetched = sum(a["usage"]["baton"]["attempts"][0]["prefill"]["fetched"] for a in after) // BLOCK
        had, has = sum(hits(before)), sum(min(a, b) for a, b in zip(hits(after), hits(before)))
        print(f"{CHATS} chats: second turn hit {had} blocks without a restart, {has} of them ({100 * has / had:.2f} %) after all "
              f"{len(processes)} processes restarted in {took:.1f} s; {fetched} came from stores")
        self.assertGreater(had, CHATS * 5)
        self.assertGreaterEqual(has, 0.99 * had)
        self.assertGreaterEqual(fetched, has * 0.99)


if __name__ == "__main__":
    unittest.main(verbosity=2)
