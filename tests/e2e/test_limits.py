#!/usr/bin/env python3
"""Limits and bad input over HTTP: each limit at its edge and one beyond, wrong types and ranges; every refusal names the
field, what came and what was expected, and holds nothing.

usage: test_limits.py
"""
import http.client
import json
import pathlib
import re
import socket
import time
import unittest

from cluster import SLOW, Cluster

CANARY = "zanzibar-canary-7719"
INT_MAX = 2**31 - 1
OWN_ALLOCATOR = SLOW == 1  # a sanitizer's keeps what was freed in quarantine: then only its own report tells of leaks


class Limits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(prefill=1, decode=1, kvstore=0, log_level="debug").__enter__()
        cls.context = json.loads(cls.cluster.call("GET", "/v1/models")[2])["data"][0]["max_model_len"]

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def raw(self, data, timeout=10 * SLOW):
        """(status, body) of bytes as they are."""
        with socket.create_connection(("127.0.0.1", self.cluster.port), timeout) as s:
            try:
                s.sendall(data)
            except OSError:
                pass  # answered before it was read
            reply = http.client.HTTPResponse(s)
            reply.begin()
            return reply.status, reply.read().decode()

    def post(self, body, path="/v1/completions"):
        """(status, error or answer): body is bytes or an object."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        status, text = self.raw(head.encode() + data)
        answer = json.loads(text)
        return status, answer.get("error", answer)

    def completion(self, **fields):
        return self.post({"model": "demo", "prompt": "Mira has", "max_tokens": 1, "temperature": 0, **fields})

    def chat(self, **fields):
        return self.post({"model": "demo", "messages": [{"role": "user", "content": "Mira"}], "max_tokens": 1, **fields},
                         "/v1/chat/completions")

    def coordinator(self):
        """Its folder of /proc."""
        children = pathlib.Path(f"/proc/{self.cluster.process.pid}/task/{self.cluster.process.pid}/children").read_text()
        for pid in children.split():
            if b"baton-coordinator" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                return pathlib.Path(f"/proc/{pid}")
        raise AssertionError("no coordinator")

    def rss(self):
        """KiB of the coordinator."""
        return int(re.search(r"VmRSS:\s+(\d+)", (self.coordinator() / "status").read_text())[1])

    def heap(self):
        """KiB that its heap reaches over, used or not."""
        if not OWN_ALLOCATOR:
            return 0
        start, end = re.search(r"^(\w+)-(\w+) .*\[heap\]$", (self.coordinator() / "maps").read_text(), re.M).groups()
        return (int(end, 16) - int(start, 16)) >> 10

    def test_buffers_of_a_burst_go_back(self):
        """Many readers at once that do not read; when they are gone, so is what was kept for them."""
        before = self.heap()
        body = json.dumps({"model": "demo", "prompt": "Mira has", "max_tokens": 400, "ignore_eos": True, "logprobs": 20,
                           "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        clients = []
        for _ in range(150 // SLOW):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", self.cluster.port))
            client.sendall(head.encode() + body)
            clients.append(client)
        self.cluster.wait_for(lambda: not json.loads(self.cluster.call("GET", "/debug/topology")[2])["coordinator"]["requests"],
                              what="nothing runs")
        self.completion()
        for client in clients:
            client.close()
        self.completion()
        self.assertLess(self.heap(), before + (8 << 10))

    def refused(self, answer, field, *says):
        status, error = answer
        self.assertTrue(400 <= status < 500, answer)
        self.assertEqual(error["type"], "invalid_request_error", error)
        if field:
            self.assertEqual(error["param"], field, error)
        for text in says:
            self.assertIn(text, error["message"])
        self.assertNotRegex(error["message"], r"0x[0-9a-f]{6}|/[a-z]+/[a-z]+/|\.c:", "no pointers, no paths")

    def test_numbers_at_and_beyond_their_range(self):
        ranges = {"temperature": (0, 2), "top_p": (0.01, 1), "min_p": (0, 1), "presence_penalty": (-2, 2), "n": (1, 16),
                  "frequency_penalty": (-2, 2), "top_k": (-1, INT_MAX), "logprobs": (0, 20), "max_tokens": (1, 64)}
        for field, (low, high) in ranges.items():
            for value in (low, high):
                status, answer = self.completion(**{field: value})
                self.assertEqual(status, 200, (field, value, answer))
            beyond = [low - 1, INT_MAX, -INT_MAX - 1, 2**62, "1", True, [1], {"a": 1}]
            beyond += [] if field == "max_tokens" else [high + 1]
            for value in beyond:
                if field == "top_k" and value in (INT_MAX,):
                    continue
                answer = self.completion(**{field: value})
                if field == "max_tokens" and value == INT_MAX:
                    self.refused(answer, "prompt", "maximum context length")
                    continue
                self.refused(answer, field, "expected")
                if isinstance(value, int) and not isinstance(value, bool) and field in ("n", "top_k", "max_tokens"):
                    self.assertIn(str(value), answer[1]["message"], "what came")
        for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 400, b"0x10", b"01", b"+1", b".5"):
            self.refused(self.post(b'{"model":"demo","prompt":"a","temperature":' + text + b"}"), None, "not JSON", "column")

    def test_lists_and_texts_at_and_beyond_their_length(self):
        for value in (["x" * 256] * 16, "x" * 256):
            self.assertEqual(self.completion(stop=value)[0], 200)
        for value in (["x"] * 17, "x" * 257, "", [""], [1], 5, {"a": "b"}):
            self.refused(self.completion(stop=value), "stop", "expected")
        self.assertEqual(self.completion(logit_bias={str(i): 1 for i in range(64)})[0], 200)
        for value in ({str(i): 1 for i in range(65)}, {"x": 1}, {"-1": 1}, {"1": 101}, {"1": "1"}, {"99999999": 1}, [1]):
            self.refused(self.completion(logit_bias=value), "logit_bias", "expected")
        self.assertEqual(self.completion(stop_token_ids=list(range(16)))[0], 200)
        for value in (list(range(17)), [-1], [2**40], ["a"], 5):
            self.refused(self.completion(stop_token_ids=value), "stop_token_ids", "expected")
        for field, most in (("user", 1024), ("cache_salt", 1024)):
            self.assertEqual(self.completion(**{field: "x" * most})[0], 200)
            self.refused(self.completion(**{field: "x" * (most + 1)}), field, "1025 bytes", "expected")
        for field in ("stream", "echo", "ignore_eos", "return_token_ids"):
            for value in (1, "true", [], {}):
                self.refused(self.completion(**{field: value}), field, "expected true or false")

    def test_prompts(self):
        self.refused(self.completion(prompt=""), "prompt", "empty")
        self.refused(self.completion(prompt=[]), "prompt", "expected")
        for value in (5, {"a": 1}, [[]], ["a", 5], [1, "a"], [-1], [10**9], [2**63], [1.5], True):
            self.refused(self.completion(prompt=value), "prompt" if value != [2**63] else None)
        self.assertEqual(self.completion(prompt=[5] * (self.context - 1), max_tokens=1)[0], 200)
        status, error = self.completion(prompt=[5] * self.context, max_tokens=1)
        self.assertEqual((status, error["code"]), (400, "context_length_exceeded"))
        for size in (self.context + 1, self.context * 50):
            status, error = self.completion(prompt=[5] * size)
            self.assertEqual((status, error["code"]), (400, "context_length_exceeded"))
        status, error = self.completion(prompt="a" * 4_000_000)
        self.assertEqual((status, error["code"]), (400, "context_length_exceeded"))
        self.refused(self.completion(model=None), "model")
        status, error = self.completion(model="no-such-model")
        self.assertEqual((status, error["code"], error["param"]), (404, "model_not_found", "model"))
        self.refused(self.completion(model="m" * 200), "model", "200 bytes")
        for messages in ([], "hi", [5], [{"content": "a"}], [{"role": 5, "content": "a"}], [{"role": "user", "content": 5}]):
            self.refused(self.chat(messages=messages), None, "messages")

    def test_urls_are_not_fetched(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.3)
            url = f"http://127.0.0.1:{server.getsockname()[1]}/picture.png"
            for part in ({"type": "image_url", "image_url": {"url": url}}, {"type": "input_audio", "input_audio": {"data": url}},
                         {"type": "file", "file": {"file_data": url}}, {"type": "video_url", "video_url": {"url": url}}):
                self.refused(self.chat(messages=[{"role": "user", "content": [part]}]), "messages[0].content[0]",
                             "only parts of type")
            self.assertRaises(TimeoutError, server.accept)

    def test_bodies_that_are_no_requests(self):
        for body, says in ((b"", "not JSON"), (b"{", "line 1"), (b"[]", "no object"), (b"5", "not JSON"), (b"null", "not JSON"),
                           (b'{"model":"demo","model":"demo"}', "duplicate"), (b'{"model":"de\xff"}', "decode byte"),
                           (b'{"model":"demo"} x', "end of file"), (b'{"a":"\\ud800"}', "not JSON"), (b"\x00", "not JSON"),
                           (b'{"a":"\\u0000"}', "not JSON"), (b'{"model":\n\n  demo}', "line 3")):
            status, error = self.post(body)
            self.refused((status, error), None, says)
        nested = lambda depth: b'{"model":"demo","prompt":"a","unknown":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
        self.assertEqual(self.post(nested(64)[:-1] + b',"max_tokens":1}')[0], 200)
        self.refused(self.post(nested(65)), None, "65 deep", "at most 64")
        self.refused(self.post(nested(1_000_000)), None, "1000000 deep")
        self.refused(self.post(b'{"a":[' + b"[]," * 70_000 + b"1]}"), None, "texts, lists and objects")
        self.refused(self.post(b'{"a":[' + b"1," * 1_100_000 + b"1]}"), None, "values")

    def test_sizes_of_head_and_body(self):
        head = b"GET /livez HTTP/1.1\r\nHost: x\r\nA: "
        room = (16 << 10) - len(head) - 4
        self.assertEqual(self.raw(head + b"a" * room + b"\r\n\r\n")[0], 200)
        self.assertEqual(self.raw(head + b"a" * (room + 1) + b"\r\n\r\n")[0], 431)
        self.assertEqual(self.raw(head + b"a" * (8 << 20) + b"\r\n\r\n")[0], 431)
        self.assertEqual(self.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 101 + b"\r\n")[0], 431)
        most = 4 << 20
        body = b'{"model":"demo","prompt":"a","max_tokens":1,"user":"' + CANARY.encode() + b'"'
        body += b" " * (most - len(body) - 1) + b"}"
        self.assertEqual(self.post(body)[0], 200)
        status, text = self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (most + 1))
        self.assertEqual(status, 413)
        self.assertEqual(self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999\r\n\r\n")[0], 413)
        for length in (b"-1", b"1e3", b"99999999999999999999", b"", b"5, 5"):
            self.assertEqual(self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")[0], 400)
        chunk = b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"
        self.assertEqual(self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 5)[0], 413)

    def test_refusals_hold_nothing_and_memory_stays(self):
        bad = [b'{"model":"demo","prompt":"a","n":17}', b"{" * 100_000, b'{"model":"demo","prompt":["' + b"a" * 900_000 + b'"]}',
               b'{"model":"demo","prompt":[' + b"5," * 400_000 + b"5]}", b'{"a":[' + b'"",' * 60_000 + b"1]}"]
        for body in bad * 2:
            self.assertEqual(self.post(body)[0], 400)
        before = self.rss()
        for body in bad * 8:
            self.assertEqual(self.post(body)[0], 400)
        if OWN_ALLOCATOR:
            self.assertLessEqual(self.rss() - before, 1024, "KiB")
        topology = json.loads(self.cluster.call("GET", "/debug/topology")[2])
        self.assertEqual(topology["coordinator"]["requests"], 0)
        self.assertEqual([n["load"]["jobs"] for n in topology["nodes"]], [0, 0])

    def test_prompts_and_texts_stand_in_no_log_or_metric(self):
        self.assertEqual(self.completion(prompt=f"{CANARY} has 5.", max_tokens=3)[0], 200)
        self.assertEqual(self.chat(messages=[{"role": "user", "content": CANARY}], user=CANARY, stop=[CANARY])[0], 200)
        for body in (f'{{"model":"demo","prompt":"{CANARY}"', f'{{"model":"demo","prompt":"{CANARY}" x}}',
                     f'{{"model":"demo","prompt":["{CANARY}",5]}}', f'{{"model":"demo","stop":["{CANARY * 50}"],"prompt":"a"}}',
                     f'{{"model":"{CANARY}","prompt":"a"}}', f'{{"model":"demo","service_tier":"{CANARY}","prompt":"a"}}',
                     f'{{"model":"demo","logit_bias":{{"{CANARY}":1}},"prompt":"a"}}'):
            self.assertGreaterEqual(self.post(body.encode())[0], 400)
        self.assertEqual(self.post(f'{{"model":"demo","{CANARY}":1,"prompt":"a","max_tokens":1}}'.encode())[0], 200)
        time.sleep(0.3)
        for log in pathlib.Path(self.cluster.folder).glob("*.log"):
            lines = [line for line in log.read_text(errors="replace").splitlines() if CANARY in line]
            self.assertEqual(lines[:3], [], log)
        for path in ("/metrics", "/debug/topology", "/debug/requests"):
            self.assertNotIn(CANARY, self.cluster.call("GET", path)[2], path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
