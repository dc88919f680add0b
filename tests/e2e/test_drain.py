#!/usr/bin/env python3
"""Nodes of each role leave, and coordinators change, under load: no request fails, no token differs.

Draining by directive (POST /drain through the coordinator that leads) and by SIGTERM, which every program takes as: no new
work, streams move to other nodes at a token's edge, end before the time is over.
"""
import json
import os
import pathlib
import random
import signal
import threading
import time
import unittest

from cluster import DEMO, Cluster, essence, look_up, solo

CLIENTS = 3
EXIT_S = 25  # a pod has 30


class Load:
    """Clients that stream one after another from coordinator 1, and compare every answer with the oracle's."""

    def __init__(self, cluster, work, expected):
        self.cluster, self.work, self.expected = cluster, work, expected
        self.answered, self.bad, self.stop = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(CLIENTS)]

    def _run(self, number):
        while not self.stop.is_set():
            number = (number + 1) % len(self.work)
            path, body = self.work[number]
            events, done = self.cluster.stream(path, body)
            ids = [i for e in events for c in e.get("choices", []) for i in c.get("token_ids") or []]
            if not done or ids != self.expected[number]:
                self.bad.append((number, done, events[-1:]))
            self.answered += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(120)


class Drain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rng = random.Random(11)
        cls.work = [("/v1/completions", {"model": "demo", "prompt": look_up(rng, rng.choice((5, 20, 60))), "seed": i,
                                         "temperature": rng.choice((0, 0.8)), "max_tokens": rng.choice((20, 120, 300)),
                                         "ignore_eos": True, "return_token_ids": True}) for i in range(9)]
        cls.expected = [essence(answer)[0]["token_ids"] for answer in solo(DEMO, cls.work)]
        cls.cluster = Cluster(prefill=2, decode=2, kvstore=2, coordinator=2, time_factor=3)
        cls.cluster.__enter__()
        cls.ports = {"coordinator-1": cls.cluster.port, "coordinator-2": cls.cluster.port + 1}

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def ask(self, method, path, body=None, coordinator="coordinator-1"):
        """(status, headers, parsed body); redirections are not followed."""
        first = self.cluster.port
        self.cluster.port = self.ports[coordinator]
        try:
            status, headers, text = self.cluster.call(method, path, body)
        finally:
            self.cluster.port = first
        return status, {k.lower(): v for k, v in headers.items()}, json.loads(text) if text[:1] == "{" else text

    def leader(self, coordinator="coordinator-1"):
        return self.ask("GET", "/debug/topology", None, coordinator)[2]["leader"]

    def wait_leader(self, coordinator="coordinator-1", other_than=None):
        self.cluster.wait_for(lambda: self.leader(coordinator)["name"] not in (None, other_than) and
                              self.leader(coordinator)["epoch"], 15, "somebody leads")
        return self.leader(coordinator)

    def node(self, name):
        return next((n for n in self.cluster.nodes() if n["name"] == name), {"state": "gone", "load": {"jobs": 0}})

    def test_1_each_role_is_drained_and_comes_back(self):
        leader = self.wait_leader()["name"]
        for name in ("prefill-1", "decode-1", "kvstore-1"):
            with Load(self.cluster, self.work, self.expected) as load:
                time.sleep(0.3)
                status, _, answer = self.ask("POST", "/drain", {"node": name}, leader)
                self.assertEqual((status, answer["node"], answer["draining"]), (202, name, True))
                self.assertEqual(answer["epoch"], self.leader()["epoch"])
                self.cluster.wait_for(lambda: self.node(name)["state"] == "draining" and not self.node(name)["load"]["jobs"],
                                      20, f"{name} is empty")
                answered = load.answered
                self.cluster.wait_for(lambda: load.answered > answered, 20, "the others serve")
                self.assertEqual(self.node(name)["load"]["jobs"], 0)
                status, _, answer = self.ask("POST", "/undrain", {"node": name}, leader)
                self.assertEqual((status, answer["draining"]), (202, False))
                self.cluster.wait_for(lambda: self.node(name)["state"] == "up", 10, f"{name} is back")
            self.assertEqual(load.bad, [])

    def test_2_who_does_not_lead_says_who_does(self):
        leader = self.wait_leader()
        other = next(n for n in self.ports if n != leader["name"])
        status, headers, answer = self.ask("POST", "/drain", {"node": "decode-1"}, other)
        self.assertEqual(status, 307, answer)
        self.assertEqual(headers["location"], f"http://127.0.0.1:{self.ports[leader['name']]}/drain")
        self.assertIn(leader["name"], answer["error"]["message"])
        self.assertEqual(self.node("decode-1")["state"], "up")
        self.assertEqual(self.ask("POST", "/drain", {"node": "nobody"}, leader["name"])[0], 404)
        for wrong in ({"node": 5}, {"node": ""}, {"nodes": "x"}, {"node": "x" * 65}, []):
            self.assertEqual(self.ask("POST", "/drain", wrong, leader["name"])[0], 400, wrong)

    def test_3_a_coordinator_is_drained_and_comes_back(self):
        name, done = "coordinator-2", []
        first = self.cluster.port
        body = {**self.work[0][1], "max_tokens": 600}
        self.cluster.port = self.ports[name]
        started = threading.Event()
        stream = threading.Thread(target=lambda: done.append(self.cluster.stream("/v1/completions", body,
                                                                                  lambda e: started.set())))
        stream.start()
        started.wait(30)
        self.cluster.port = first
        status, _, answer = self.ask("POST", "/drain", {}, name)
        self.assertEqual((status, answer), (200, {"node": name, "draining": True}))
        self.assertEqual(self.ask("GET", "/readyz", None, name)[0], 503)
        self.assertEqual(self.ask("GET", "/health", None, name)[0], 503)
        self.assertEqual(self.ask("GET", "/livez", None, name)[0], 200)
        status, headers, _ = self.ask("POST", *self.work[1], coordinator=name)
        self.assertEqual(status, 503)
        self.assertIn("retry-after", headers)
        stream.join(60)
        self.assertTrue(done[0][1], "the open stream ends well")
        self.assertEqual(self.ask("DELETE", "/drain", None, name)[0], 200)
        self.assertEqual(self.ask("GET", "/readyz", None, name)[0], 200)
        self.assertEqual(self.ask("POST", *self.work[1], coordinator=name)[0], 200)

    def test_4_the_leader_dies_and_the_other_one_leads_with_a_higher_epoch(self):
        # The clients' coordinator is not killed: when it is the one that leads it is stopped instead.
        leader = self.wait_leader()
        if leader["name"] == "coordinator-1":
            self.hang_leader(leader)
            return
        pid = self.pid_of("coordinator-2")
        with Load(self.cluster, self.work, self.expected) as load:
            os.kill(pid, signal.SIGKILL)
            new = self.wait_leader(other_than="coordinator-2")
        self.assertEqual(load.bad, [])
        self.assertGreater(new["epoch"], leader["epoch"])

    def pid_of(self, name):
        children = pathlib.Path(f"/proc/{self.cluster.process.pid}/task/{self.cluster.process.pid}/children").read_text()
        return next(int(p) for p in children.split()
                    if f"\0{name}\0" in pathlib.Path(f"/proc/{p}/cmdline").read_text())

    def hang_leader(self, leader):
        """SIGSTOP: the standby leads; the woken one has stepped down, and says so."""
        pid = self.pid_of(leader["name"])
        os.kill(pid, signal.SIGSTOP)
        try:
            new = self.wait_leader("coordinator-2", other_than=leader["name"])
            self.assertEqual(new["name"], "coordinator-2")
            self.assertGreater(new["epoch"], leader["epoch"])
        finally:
            os.kill(pid, signal.SIGCONT)
        self.cluster.wait_for(lambda: self.leader("coordinator-1")["name"] == "coordinator-2", 15, "the woken one knows")
        self.assertNotEqual(self.leader("coordinator-1")["this"], "leading")
        self.assertEqual(self.ask("POST", "/drain", {"node": "decode-1"}, "coordinator-1")[0], 307)

    def test_5_sigterm_of_each_role(self):
        for name in ("kvstore-2", "prefill-2", "decode-2"):
            pid = self.node(name)["pid"]
            with Load(self.cluster, self.work, self.expected) as load:
                self.cluster.wait_for(lambda: self.node(name)["load"]["jobs"] or name == "kvstore-2", 20, f"{name} has work")
                began = time.monotonic()
                os.kill(pid, signal.SIGTERM)
                line = f"{name} ended"
                self.cluster.wait_for(lambda: any(f"{name} " in text and "goes on without it" in text
                                                  for text in self.cluster.lines), EXIT_S, line)
                took = time.monotonic() - began
            self.assertEqual(load.bad, [], name)
            self.assertLess(took, EXIT_S)
            said = [text for text in self.cluster.lines if f"{name} " in text and "goes on without it" in text]
            self.assertNotIn("signal", said[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
