#!/usr/bin/env python3
"""A coordinator dies by kill -9 with a stream open; the client repeats its request with the same Idempotency-Key at another
one, and gets the same tokens from the first on.  And what a key is not for: two requests, or two copies at once.

usage: test_idempotency.py [TIMES]     kills (default 20)
"""
import http.client
import json
import os
import random
import subprocess
import sys
import time
import unittest

from cluster import BUILD, DEMO, Cluster, look_up
from free_port import free_port

TIMES = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 20


class Coordinator:
    """One more, of our own, to be killed."""

    def __init__(self, etcd, number):
        self.port = free_port()
        self.process = subprocess.Popen(
            [str(BUILD / "coordinator" / "baton-coordinator"), "--name", f"victim-{number}", "--etcd", etcd, "--model",
             str(DEMO), "--port", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_ready(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.03)
        raise AssertionError("a coordinator did not become ready")

    def kill(self):
        self.process.kill()
        self.process.wait()


def stream(port, path, body, key, enough=None):
    """({choice: token ids}, ended whole); when `enough` tokens came it calls enough() and reads what is left."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    tokens, done, count = {}, False, 0
    try:
        connection.request("POST", path, json.dumps({**body, "stream": True}),
                           {"Content-Type": "application/json", "Idempotency-Key": key})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        for line in response:
            if line.startswith(b"data: [DONE]"):
                done = True
            elif line.startswith(b"data: "):
                for choice in json.loads(line[6:]).get("choices", []):
                    ids = choice.get("token_ids") or []
                    tokens.setdefault(choice["index"], []).extend(ids)
                    count += len(ids)
                if enough and count >= enough[0]:
                    enough[1]()
                    enough = None
    except (http.client.HTTPException, OSError):
        pass  # the coordinator is dead
    finally:
        connection.close()
    return tokens, done


class Idempotency(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(prefill=1, decode=1, kvstore=1).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def request(self, number):
        """Drawn, not greedy: without the key's seed no two answers are alike."""
        rng = random.Random(number)
        body = {"model": "demo", "max_tokens": 600, "temperature": 1.0, "ignore_eos": True, "return_token_ids": True}
        text = f"{number}: " + look_up(rng, rng.choice((2, 20, 60))) + " Then tell a story."
        if number % 2:
            return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": text}]}
        return "/v1/completions", {**body, "prompt": text, "n": rng.choice((1, 2))}

    def one_kill(self, victim, number):
        """None: the answer was whole before its coordinator died."""
        victim.wait_ready()
        path, body = self.request(number)
        key = f"order-{number}-{os.urandom(4).hex()}"
        kill_after = random.Random(number).randrange(1, 60)
        before, done = stream(victim.port, path, body, key, (kill_after, victim.kill))
        if done:
            return None
        self.assertGreaterEqual(sum(map(len, before.values())), kill_after)
        after, done = stream(self.cluster.port, path, body, key)
        self.assertTrue(done)
        for choice, tokens in before.items():
            self.assertEqual(after[choice][:len(tokens)], tokens, (number, choice))
            self.assertEqual(len(after[choice]), body["max_tokens"])
        return path, body, after

    def test_the_same_tokens_after_a_killed_coordinator(self):
        etcd = self.cluster.etcd()
        same, number, victims = 0, 0, [Coordinator(etcd, 0)]
        try:
            while same < TIMES:
                self.assertLess(number, 3 * TIMES, "most answers were whole before the kill")
                number += 1
                victims.append(Coordinator(etcd, number))  # starts while the one before it is used
                last = self.one_kill(victims[-2], number)
                same += last is not None
        finally:
            for victim in victims:
                victim.kill()
        print(f"\n{same} of {TIMES} killed: the same tokens from the first on ({number - same} answers were whole before)")
        path, body, after = last
        other, _ = stream(self.cluster.port, path, body, "another key")
        self.assertNotEqual(other, after)

    def call(self, body, key):
        return self.cluster.call("POST", "/v1/completions", body, {"Idempotency-Key": key})

    def test_a_key_belongs_to_one_request(self):
        body = {"model": "demo", "prompt": "Who?", "max_tokens": 4}
        first, again = self.call(body, "k1"), self.call(body, "k1")
        self.assertEqual((first[0], again[0]), (200, 200))
        one, two = json.loads(first[2]), json.loads(again[2])
        self.assertEqual((one["id"], one["choices"]), (two["id"], two["choices"]))
        status, _, text = self.call({**body, "max_tokens": 5}, "k1")
        self.assertEqual((status, json.loads(text)["error"]["code"]), (422, "idempotency_key_reused"))
        for key in ("", "x" * 256):
            self.assertEqual(self.call(body, key)[0], 400)

    def test_one_copy_runs_at_a_time(self):
        body = {"model": "demo", "prompt": "Tell a long story.", "max_tokens": 1500, "ignore_eos": True}
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}),
                           {"Content-Type": "application/json", "Idempotency-Key": "k2"})
        response = connection.getresponse()
        response.readline()
        status, headers, text = self.call({**body, "stream": True}, "k2")
        self.assertEqual((status, json.loads(text)["error"]["code"]), (409, "idempotency_key_in_use"))
        self.assertIn("retry-after-ms", headers)
        response.close()
        connection.close()  # its client leaves: the key is free, at once
        self.cluster.wait_for(lambda: json.loads(self.cluster.call("GET", "/load")[2])["server_load"] == 0, 1)
        self.assertEqual(self.call({**body, "stream": True}, "k2")[0], 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
