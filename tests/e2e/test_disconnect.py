#!/usr/bin/env python3
"""A client that leaves frees both sides within a second, whatever its request was doing: waiting for a node, in prefill, in
the hand-over, in decode; streamed or not; closed, reset, or half closed with more requests pipelined behind.

usage: test_disconnect.py [TIMES]     rounds of each kind (default 1)
"""
import json
import os
import random
import signal
import socket
import struct
import sys
import time
import unittest

from cluster import Cluster, look_up

TIMES = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1
FREE_S = 1.0
CHUNK = 16     # tokens: a long prompt is hundreds of steps
WAYS = ("close", "reset", "half-close", "pipelined")


class Client:
    """One request on a raw socket, to be left in a way of our choosing."""

    def __init__(self, cluster, body, stream):
        data = json.dumps({**body, "stream": stream}).encode()
        self.head = (f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                     f"Content-Length: {len(data)}\r\n\r\n").encode()
        self.socket = socket.create_connection(("127.0.0.1", cluster.port))
        self.socket.sendall(self.head + data)
        self.socket.settimeout(30)
        self.heard = b""

    def wait_events(self, count):
        while self.heard.count(b"data: ") < count:
            piece = self.socket.recv(65536)
            assert piece, self.heard
            self.heard += piece
        assert b"[DONE]" not in self.heard, "the answer was over before its client left"

    def leave(self, way):
        """When it returns the client is gone; the time of it."""
        if way == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if way == "pipelined":
            self.socket.sendall(self.head)
        left = time.monotonic()
        if way == "half-close":
            self.socket.shutdown(socket.SHUT_WR)
        else:
            self.socket.close()
        return left


class Disconnect(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(prefill=1, decode=1, kvstore=1, max_num_seqs=2, prefill_chunk_tokens=CHUNK,
                              threads=1).__enter__()
        cls.number, cls.worst = 0, {}

    @classmethod
    def tearDownClass(cls):
        print("\nseconds until all was free, worst of each phase:", {k: round(v, 3) for k, v in cls.worst.items()})
        cls.cluster.__exit__(None, None, None)

    # ---- what the cluster is doing

    def topology(self):
        return json.loads(self.cluster.call("GET", "/debug/topology")[2])

    def states(self):
        """The states of all jobs, as the coordinator has them."""
        lines = self.cluster.call("GET", "/debug/requests")[2].splitlines()
        return [line.split()[4] for line in lines if line.startswith("  job ")]

    def wait_state(self, wanted, count=1):
        end = time.monotonic() + 20
        while self.states().count(wanted) < count:
            self.assertLess(time.monotonic(), end, (wanted, self.states()))

    def held(self, since, roles=("prefill", "decode")):
        """What is held that should not be, by reports that are newer than `since`; None: they are not there yet."""
        asked = time.monotonic()
        topology = self.topology()
        if topology["coordinator"]["requests"] or topology["coordinator"]["jobs_running"]:
            return topology["coordinator"]
        for node in topology["nodes"]:
            if node["role"] not in roles:
                continue
            load = node["load"]
            if load["age_ms"] is None or asked - (load["age_ms"] + 1) / 1000 <= since:
                return None
            if node["kv_blocks_used"] or node["kv_blocks_reserved"] or load["jobs"] or load["sequences"]:
                return node
        return {}

    def check_free(self, left, phase, roles=("prefill", "decode")):
        """All of it is free within FREE_S, by the reports: they come every 250 ms, which is allowed besides."""
        while (held := self.held(left, roles)) != {}:
            self.assertLess(time.monotonic() - left, FREE_S + 0.25, (phase, held))
            time.sleep(0.01)
        self.worst[phase] = max(self.worst.get(phase, 0), time.monotonic() - left)

    def body(self, entries, **more):
        """A prompt that no cache knows."""
        type(self).number += 1
        text = f"{self.number} " + look_up(random.Random(self.number), entries)
        return {"model": "demo", "prompt": text, "max_tokens": 1200, "temperature": 0, "ignore_eos": True, **more}

    def client(self, body, stream):
        client = Client(self.cluster, body, stream)
        self.addCleanup(client.socket.close)
        return client

    def client_prefilling(self, entries, stream):
        """A client whose prompt is being read: one that was past it before we looked is let go, and another one tried."""
        for _ in range(20):
            client = self.client(self.body(entries), stream)
            end = time.monotonic() + 20
            while not {"prefilling", "decoding"} & set(states := self.states()):
                self.assertLess(time.monotonic(), end, states)
            if "prefilling" in states:
                return client
            self.check_free(client.leave("close"), "missed")
        self.fail("20 prompts were read before anyone could look")

    def each(self, phase, one):
        for _ in range(TIMES):
            for stream in (True, False):
                for way in WAYS:
                    with self.subTest(phase=phase, stream=stream, way=way):
                        one(stream, way)

    # ---- the phases

    def test_queued(self):
        """Both places of decode are taken: the third request waits at the coordinator."""
        busy = [self.client(self.body(3), True) for _ in range(2)]
        for client in busy:
            client.wait_events(1)

        def one(stream, way):
            client = self.client(self.body(3), stream)
            self.wait_state("queued")
            left = client.leave(way)
            while "queued" in self.states():
                self.assertLess(time.monotonic() - left, FREE_S)
            self.worst["queued"] = max(self.worst.get("queued", 0), time.monotonic() - left)

        try:
            for stream in (True, False):
                for way in WAYS:
                    with self.subTest(stream=stream, way=way):
                        if self.states().count("decoding") < 2:  # they end by themselves
                            busy.append(self.client(self.body(3), True))
                            busy[-1].wait_events(1)
                        one(stream, way)
        finally:
            left = [client.leave("close") for client in busy][-1]
        self.check_free(left, "queued")

    def test_prefill(self):
        def one(stream, way):
            client = self.client_prefilling(170, stream)
            left = client.leave(way)
            self.check_free(left, "prefill")

        self.each("prefill", one)

    def test_hand_over(self):
        """Decode stands still, so the first token, which prefill sends, cannot have been taken over yet."""
        decode = next(n["pid"] for n in self.cluster.nodes() if n["role"] == "decode")

        def one(stream, way):
            client = self.client_prefilling(80, stream)
            os.kill(decode, signal.SIGSTOP)
            try:
                if stream:
                    client.wait_events(1)
                else:
                    self.wait_state("decoding")
                left = client.leave(way)
                self.check_free(left, "hand-over, prefill", roles=("prefill",))
            finally:
                woken = time.monotonic()
                os.kill(decode, signal.SIGCONT)
            self.check_free(woken, "hand-over, decode")

        self.each("hand-over", one)

    def test_decode(self):
        def one(stream, way):
            client = self.client(self.body(3), stream)
            if stream:
                client.wait_events(5)
            else:
                self.wait_state("decoding")
                time.sleep(0.02)
            left = client.leave(way)
            self.check_free(left, "decode")

        self.each("decode", one)


if __name__ == "__main__":
    unittest.main(verbosity=2)
