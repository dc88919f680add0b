#!/usr/bin/env python3
"""Stores keep two copies of every block: prompts are read once, whatever happens to one store at a time.

One of three stores is killed, another one leaves by SIGTERM while a new one joins, then each is restarted in turn.  Before each further turn the engines are
killed and started again, so that nothing but the stores remembers: every turn of every chat finds all full blocks of the turn
before, and after a while every block has its copies again.
"""
import os
import pathlib
import random
import signal
import subprocess
import time
import unittest

from cluster import SLOW, Cluster, look_up

CHATS = 8
BLOCK = 16
EXIT_S = 25  # a pod has 30


class Replicas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(prefill=1, decode=1, kvstore=3, time_factor=2)
        cls.cluster.__enter__()
        cls.chats = [[{"role": "user", "content": look_up(random.Random(chat), 25)}] for chat in range(CHATS)]
        cls.prompt_tokens = [0] * CHATS  # of the turn before

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def turn(self, words):
        """One answer in each chat; all full blocks of the prompt before are found, and nothing of them is computed again."""
        for chat, messages in enumerate(self.chats):
            answer = self.cluster.post("/v1/chat/completions", {"model": "demo", "messages": messages, "max_tokens": 12,
                                                                "temperature": 0})
            usage = answer["usage"]
            full = self.prompt_tokens[chat] // BLOCK * BLOCK
            self.assertGreaterEqual(usage["prompt_tokens_details"]["cached_tokens"], full, (chat, usage))
            if full:
                self.assertGreaterEqual(usage["baton"]["attempts"][0]["prefill"]["fetched"], full, usage)
            self.prompt_tokens[chat] = usage["prompt_tokens"]
            messages += [{"role": "assistant", "content": answer["choices"][0]["message"]["content"]},
                         {"role": "user", "content": words}]

    def stores(self):
        return [n for n in self.cluster.nodes() if n["role"] == "kvstore" and n["state"] == "up"]

    def whole(self):
        """As the metrics say: nothing is offered or copied any more, and every block has its copies."""
        metrics = self.cluster.metrics()
        live = [n["name"] for n in self.stores()]
        if any(n["load"]["offer_lag"] for n in self.cluster.nodes() if n["role"] != "kvstore"):
            return False
        return all(metrics[f'baton_kv_{what}{{node="{name}"}}'] == 0 for name in live
                   for what in ("copies_missing", "copy_lag_blocks", "copies_in_flight"))

    def wait_whole(self, what):
        began = time.monotonic()
        self.cluster.wait_for(self.whole, 60, what)
        time.sleep(0.6 * SLOW)  # two reports: what was whole stays so
        self.cluster.wait_for(self.whole, 60, what)
        print(f"{what}: every block has its copies after {time.monotonic() - began:.1f} s")

    def arguments(self, node):
        return pathlib.Path(f"/proc/{node['pid']}/cmdline").read_bytes().split(b"\0")[:-1]

    def start(self, name, arguments):
        with open(pathlib.Path(self.cluster.folder, name + ".again.log"), "wb") as log:
            child = subprocess.Popen(arguments, stdout=log, stderr=log)
        self.addClassCleanup(child.wait)
        self.addClassCleanup(child.send_signal, signal.SIGTERM)
        self.cluster.wait_for(lambda: any(n["name"] == name and n["pid"] == child.pid and n["state"] == "up"
                                          for n in self.cluster.nodes()), 60, name)

    def forget(self):
        """The engines start anew: nothing in their memory is left."""
        for node in [n for n in self.cluster.nodes() if n["role"] in ("prefill", "decode") and n["state"] == "up"]:
            arguments = self.arguments(node)
            os.kill(node["pid"], signal.SIGKILL)
            self.start(node["name"], arguments)

    def ended(self, pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def store(self, name):
        return next(n for n in self.stores() if n["name"] == name)

    def copies(self):
        return sum(n["kv_blocks_cached"] + n["kv_blocks_used"] - n["replica"]["spare"] for n in self.stores())

    def test_1_a_store_is_killed(self):
        self.turn("And now?")
        self.wait_whole("after the first turn")
        blocks = self.copies()
        self.assertGreater(blocks, 2 * CHATS * 10)
        self.assertEqual(blocks % 2, 0)
        os.kill(self.store("kvstore-1")["pid"], signal.SIGKILL)
        self.forget()
        self.turn("And then?")
        self.cluster.wait_for(lambda: len(self.stores()) == 2, 20, "the coordinator knows of the dead store")
        self.wait_whole("one store killed")
        self.assertGreaterEqual(self.copies(), blocks)
        self.forget()
        self.turn("Go on.")

    def test_2_a_store_leaves_and_another_one_joins(self):
        self.wait_whole("before one leaves")
        leaver = self.store("kvstore-2")
        arguments = self.arguments(leaver)
        self.start("kvstore-9", [b"kvstore-9" if a == b"kvstore-2" else a for a in arguments])
        began = time.monotonic()
        os.kill(leaver["pid"], signal.SIGTERM)
        self.cluster.wait_for(lambda: any("kvstore-2 " in line and "goes on without it" in line
                                          for line in self.cluster.lines), EXIT_S, "kvstore-2 ends")
        self.assertLess(time.monotonic() - began, EXIT_S)
        said = [line for line in self.cluster.lines if "kvstore-2 " in line and "goes on without it" in line]
        self.assertNotIn("signal", said[0])
        self.forget()
        self.turn("What else?")
        self.cluster.wait_for(lambda: {n["name"] for n in self.stores()} == {"kvstore-3", "kvstore-9"}, 20, "two stores")
        self.wait_whole("one store left, one joined")
        self.forget()
        self.turn("The end.")
        self.assertGreater(self.store("kvstore-9")["kv_blocks_cached"], 0)

    def test_3_every_store_restarts_in_turn(self):
        self.wait_whole("before a rolling restart")
        for name in ("kvstore-3", "kvstore-9"):
            node = self.store(name)
            arguments = self.arguments(node)
            os.kill(node["pid"], signal.SIGTERM)
            self.cluster.wait_for(lambda: self.ended(node["pid"]), EXIT_S, f"{name} ends")
            self.start(name, arguments)  # and the next one goes as soon as this one is there
        self.forget()
        self.turn("Once more.")
        self.wait_whole("all stores restarted")


class OverTls(unittest.TestCase):
    def test_stores_read_each_other_over_tls_too(self):
        with Cluster(prefill=1, decode=1, kvstore=2, tls=True, link_transport="tls", time_factor=2) as cluster:
            cluster.post("/v1/completions", {"model": "demo", "prompt": look_up(random.Random(1), 25), "max_tokens": 2})

            def whole():
                metrics = cluster.metrics()
                stores = [n for n in cluster.nodes() if n["role"] == "kvstore"]
                blocks = [n["kv_blocks_cached"] for n in stores]
                copies = sum(metrics[f'baton_kv_copies_total{{node="{n["name"]}"}}'] for n in stores)
                return copies > 0 and blocks[0] == blocks[1] == copies

            cluster.wait_for(whole, 30, "both stores have all blocks, each read once from the other")
            names = {(n["name"], t["peer"], t["transport"]) for n in cluster.nodes() for t in n["transports"]}
            self.assertNotIn("mapped", {transport for _, _, transport in names})


if __name__ == "__main__":
    unittest.main(verbosity=2)
