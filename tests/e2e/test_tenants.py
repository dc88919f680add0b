#!/usr/bin/env python3
"""Keys and tenants on a real cluster: who has no key gets nothing but life signs, and no tenant gets a hit on what another
one has written: not in a node's memory, not in the store, not after its engines were restarted or a stream has moved.

usage: test_tenants.py
"""
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
import unittest

from cluster import BATON, DEMO, Cluster, essence, look_up, solo

BLOCK_TOKENS = 16
PUBLIC = {"/health", "/ping", "/livez", "/readyz"}


def new_key(*arguments):
    """(key, entry) of `baton key new`"""
    done = subprocess.run([str(BATON), "key", "new", *arguments], capture_output=True, text=True, check=True)
    return done.stderr.strip(), done.stdout


class Tenants(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="baton-tenants-")
        cls.keys, entries = {}, ""
        for name, role, tenant in (("a1", "user", "acme"), ("a2", "user", "acme"), ("b", "user", "beta"), ("s", "user", "small"),
                                   ("scrape", "metrics", ""), ("root", "admin", "")):
            extra = ["--tenant", tenant] if tenant else []
            cls.keys[name], entry = new_key("--name", name, "--role", role, *extra)
            entries += entry
        cls.file = pathlib.Path(cls.folder, "keys.yaml")
        cls.file.write_text("tenants:\n  small: {requests-per-minute: 6, tokens-per-minute: 200, context: 256}\n"
                            "keys:\n" + entries)
        cls.salt = pathlib.Path(cls.folder, "salt")
        cls.salt.write_bytes(os.urandom(32))
        cls.cluster = Cluster(prefill=1, decode=2, kvstore=1, coordinator=2, api_keys_file=cls.file,
                              tenant_salt_file=cls.salt).__enter__()
        cls.cluster.key = cls.keys["root"]

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    # ---- asking

    def call(self, key, method, path, body=None, headers=None, port=None):
        headers = {**(headers or {}), **({"Authorization": "Bearer " + self.keys.get(key, key)} if key else {})}
        before = self.cluster.port, self.cluster.key
        self.cluster.port, self.cluster.key = port or self.cluster.port, None
        try:
            return self.cluster.call(method, path, body, headers)
        finally:
            self.cluster.port, self.cluster.key = before

    def ask(self, key, prompt, port=None, **fields):
        """(answer, the account of its first attempt: what was reused in memory, and read from others.  A later one, after a
        failure, may find what the first has left.)"""
        body = {"model": "demo", "prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, "logprobs": 1,
                "return_token_ids": True, **fields}
        status, _, text = self.call(key, "POST", "/v1/completions", body, {"x-baton-trace": "1"}, port)
        self.assertEqual(status, 200, text)
        answer = json.loads(text)
        account = answer["usage"]["baton"]["attempts"][0]["prefill"]
        self.assertTrue(account["ended"] or answer["usage"]["baton"]["recoveries"], answer["usage"])
        self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], account["reused"] + account["fetched"],
                         answer["usage"])
        return answer, account

    def assert_no_hit(self, account):
        self.assertEqual((account["reused"], account["fetched"], account["blocks_read"]), (0, 0, 0), account)

    def prompt(self, seed):
        return look_up(random.Random(seed), 60)

    def node(self, role):
        return [n for n in self.cluster.nodes() if n["role"] == role and n["state"] == "up"]

    def stored(self):
        return sum(n["kv_blocks_cached"] + n["kv_blocks_used"] for n in self.node("kvstore"))

    def settle(self):
        """Waits until the store has read what was offered."""
        before, since, end = self.stored(), time.monotonic(), time.monotonic() + 30
        while time.monotonic() - since < 1.0 and time.monotonic() < end:
            time.sleep(0.1)
            now = self.stored()
            if now != before:
                before, since = now, time.monotonic()

    def restart(self, node):
        """The same program with the same arguments in a new process: nothing in memory is left."""
        pid = node["pid"]
        arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        os.kill(pid, signal.SIGKILL)
        with open(pathlib.Path(self.cluster.folder, node["name"] + ".again.log"), "wb") as log:
            child = subprocess.Popen(arguments, stdout=log, stderr=log)
        self.addClassCleanup(child.wait)
        self.addClassCleanup(child.send_signal, signal.SIGTERM)
        self.cluster.wait_for(lambda: any(n["name"] == node["name"] and n["pid"] == child.pid and n["state"] == "up"
                                          for n in self.cluster.nodes()), 60, node["name"] + " again")

    # ---- who may ask

    def test_1_without_a_key_only_life_signs_answer(self):
        routes = json.loads(self.call("root", "GET", "/debug/routes")[2])["routes"]
        self.assertGreater(len(routes), 10)
        for route in routes:
            path = route["path"].replace("*", "demo")
            for key, expected in ((None, 401), ("sk-wrong", 401)):
                status, headers, text = self.call(key, route["method"], path, {} if route["method"] == "POST" else None)
                if path in PUBLIC:
                    self.assertEqual((status, route["class"]), (200, "public"), (route, text))
                    continue
                self.assertEqual(status, expected, (route, text))
                error = json.loads(text)["error"]
                self.assertEqual(error["type"], "invalid_request_error")
                self.assertEqual(error["code"], "invalid_api_key" if key else None)
                self.assertEqual(headers["WWW-Authenticate"], "Bearer")
                self.assertNotIn("sk-wrong", text)
        for path in ("/", "/v1", "/debug", "/debug/", "/metrics/", "/v1/models/../../debug/topology", "//metrics"):
            self.assertIn(self.call(None, "GET", path)[0], (401, 404), path)

    def test_2_a_role_may_what_its_class_says(self):
        may = {"user": {"api"}, "metrics": {"metrics"}, "admin": {"api", "metrics", "admin"}}
        routes = json.loads(self.call("root", "GET", "/debug/routes")[2])["routes"]
        for route in routes:
            if route["class"] == "public" or "drain" in route["path"]:
                continue
            path = route["path"].replace("*", "demo")
            for key, role in (("a1", "user"), ("scrape", "metrics"), ("root", "admin")):
                status, _, text = self.call(key, route["method"], path, {} if route["method"] == "POST" else None)
                if route["class"] in may[role]:
                    self.assertNotIn(status, (401, 403), (route, role, text))
                else:
                    self.assertEqual(status, 403, (route, role, text))
                    self.assertEqual(json.loads(text)["error"]["code"], "insufficient_permissions")

    def test_3_keys_are_changed_without_a_restart(self):
        key, entry = new_key("--name", "late", "--tenant", "acme")
        self.assertEqual(self.call(key, "GET", "/v1/models")[0], 401)
        before = self.file.read_text()
        self.file.write_text(before + entry)
        self.cluster.wait_for(lambda: self.call(key, "GET", "/v1/models")[0] == 200, 15, "the new key")
        self.assertEqual(self.call("a1", "GET", "/v1/models")[0], 200)
        self.file.write_text(before + "  - {name: broken}\n")
        failures = lambda: float(next(line.split()[1] for line in self.call("root", "GET", "/metrics")[2].splitlines()
                                      if line.startswith("baton_api_keys_reload_errors_total")))
        self.cluster.wait_for(lambda: failures() >= 1, 15, "the broken file to be seen")
        self.assertEqual(self.call(key, "GET", "/v1/models")[0], 200)
        self.file.write_text(before)
        self.cluster.wait_for(lambda: self.call(key, "GET", "/v1/models")[0] == 401, 15, "the key to be gone")

    def test_4_keys_stand_in_no_log_and_no_process(self):
        self.ask("a1", self.prompt(4))
        self.call("sk-a-wrong-one", "GET", "/v1/models")
        needles = [*self.keys.values(), "sk-a-wrong-one", self.salt.read_bytes().hex()]
        for log in pathlib.Path(self.cluster.folder).glob("*.log"):
            text = log.read_text(errors="replace")
            for needle in needles:
                self.assertNotIn(needle, text, log)
        for node in self.cluster.nodes():
            for file in ("cmdline", "environ"):
                data = pathlib.Path(f"/proc/{node['pid']}/{file}").read_bytes().decode(errors="replace")
                for needle in needles:
                    self.assertNotIn(needle, data, (node["name"], file))
        for needle in needles:
            self.assertNotIn(needle, self.call("root", "GET", "/metrics")[2])

    # ---- who shares

    def test_5_memory_is_shared_within_a_tenant_only(self):
        prompt = self.prompt(5)
        first, cold = self.ask("a1", prompt)
        self.assert_no_hit(cold)
        again, warm = self.ask("a2", prompt)
        tokens = first["usage"]["prompt_tokens"]
        self.assertGreaterEqual(warm["reused"], tokens - 2 * BLOCK_TOKENS, "control: another key of the same tenant")
        other, foreign = self.ask("b", prompt)
        self.assert_no_hit(foreign)
        self.assertEqual(essence(first), essence(again))
        self.assertEqual(essence(first), essence(other), "law 1: whose KV it is never shows in the tokens")
        # Through the other coordinator: the salt is the same there.
        _, through = self.ask("a1", prompt, port=self.cluster.port + 1)
        self.assertGreaterEqual(through["reused"], tokens - 2 * BLOCK_TOKENS)

    def test_6_what_a_client_says_cannot_widen(self):
        prompt = self.prompt(6)
        self.assert_no_hit(self.ask("a1", prompt)[1])
        for headers in ({"x-baton-tenant": "acme"}, {"X-Baton-Tenant": "acme"}):
            body = {"model": "demo", "prompt": prompt, "max_tokens": 1}
            status, _, text = self.call("b", "POST", "/v1/completions", body, {"x-baton-trace": "1", **headers})
            self.assertEqual(status, 200, text)
            self.assertEqual(json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"] > BLOCK_TOKENS,
                             headers == {"X-Baton-Tenant": "acme"}, "only beta's own first request may hit")
        for salt in ("acme", "", "x"):
            _, account = self.ask("a2", prompt, cache_salt=salt)
            self.assertEqual(account["reused"] > 0, salt == "", f"cache_salt {salt!r} narrows")
        # An administrator acts for a tenant.
        body = {"model": "demo", "prompt": prompt, "max_tokens": 1}
        _, _, text = self.call("root", "POST", "/v1/completions", body, {"x-baton-tenant": "acme"})
        self.assertGreater(json.loads(text)["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertEqual(self.call("root", "POST", "/v1/completions", body, {"x-baton-tenant": "a b"})[0], 400)

    def test_7_the_store_is_shared_within_a_tenant_only(self):
        prompt = self.prompt(7)
        first, cold = self.ask("a1", prompt)
        self.assert_no_hit(cold)
        self.settle()
        for node in self.node("prefill") + self.node("decode"):
            self.restart(node)
        other, foreign = self.ask("b", prompt)
        self.assert_no_hit(foreign)
        again, warm = self.ask("a2", prompt)
        self.assertGreaterEqual(warm["fetched"] + warm["reused"], first["usage"]["prompt_tokens"] - 2 * BLOCK_TOKENS,
                                "control: the store has it for the tenant")
        self.assertGreater(warm["blocks_read"], 0)
        self.assertEqual(essence(first), essence(again))
        self.assertEqual(essence(first), essence(other))

    def test_8_a_stream_that_moved_leaves_nothing_for_others(self):
        prompt = self.prompt(8)
        body = {"model": "demo", "prompt": prompt, "max_tokens": 500, "temperature": 0, "ignore_eos": True,
                "return_token_ids": True, "logprobs": 1}
        expected = essence(solo(DEMO, [("/v1/completions", body)])[0])
        killed, seen = [], [0]

        def on_event(_):
            seen[0] += 1
            if seen[0] == 30:
                busy = lambda: [n for n in self.node("decode") if n["load"]["sequences"]]
                self.cluster.wait_for(busy, 5, "the load report of the node that decodes")
                victim = busy()[0]
                killed.append(victim)
                os.kill(victim["pid"], signal.SIGKILL)

        self.cluster.key = self.keys["a1"]
        try:
            events, done = self.cluster.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}}, lambda e: self.as_root(on_event, e))
        finally:
            self.cluster.key = self.keys["root"]
        self.assertTrue(done and killed)
        self.assertGreaterEqual(events[-1]["usage"]["baton"]["recoveries"], 1)
        tokens = [t for e in events for c in e.get("choices", []) for t in c.get("token_ids") or []]
        self.assertEqual(tokens, expected[0]["token_ids"])
        self.settle()
        text = prompt + "".join(c.get("text") or "" for e in events for c in e.get("choices", []))
        _, foreign = self.ask("b", text)
        self.assert_no_hit(foreign)
        _, warm = self.ask("a2", text)
        self.assertGreater(warm["reused"] + warm["fetched"], 0, "control")

    def test_9_a_tenant_gets_its_quota_and_no_more(self):
        def ask(key="s", prompt="Mira has 482.", **fields):
            body = {"model": "demo", "prompt": prompt, "max_tokens": 2, "temperature": 0, "ignore_eos": True, **fields}
            status, headers, text = self.call(key, "POST", "/v1/completions", body)
            return status, {k.lower(): v for k, v in headers.items()}, json.loads(text)

        status, headers, answer = ask()
        self.assertEqual(status, 200, answer)
        self.assertEqual((headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-tokens"]), ("6", "200"))
        self.assertEqual(headers["x-ratelimit-remaining-requests"], "5")
        # What was not used is back: only prompt and answer are gone.
        used = answer["usage"]["total_tokens"]
        status, headers, answer = ask(max_tokens=100)
        self.assertEqual(status, 200, answer)
        status, headers, answer = ask(prompt=self.prompt(9))
        self.assertEqual((status, answer["error"]["code"]), (400, "context_length_exceeded"), "the tenant's context")
        status, headers, answer = ask(max_tokens=220)
        self.assertEqual((status, answer["error"]["code"]), (429, "insufficient_quota"))
        self.assertEqual(headers["x-should-retry"], "false")
        self.assertNotIn("retry-after", headers)
        status, headers, answer = ask(max_tokens=150)
        self.assertEqual((status, answer["error"]["code"]), (429, "rate_limit_exceeded"), answer)
        self.assertGreater(int(headers["retry-after-ms"]), 1000)
        self.assertIn("tokens a minute", answer["error"]["message"])
        self.assertLessEqual(int(headers["x-ratelimit-remaining-tokens"]), 200 - used - 100)
        seen = [ask(max_tokens=1)[0] for _ in range(3)]
        self.assertEqual(seen[-1], 429)
        status, headers, answer = ask(max_tokens=1)
        self.assertIn("requests a minute", answer["error"]["message"])
        self.assertTrue(0 < int(headers["retry-after-ms"]) <= 10_000, headers)
        self.assertEqual(ask("b")[0], 200, "others are not concerned")
        self.assertNotIn("x-ratelimit-limit-requests", ask("b")[1])
        metrics = self.call("root", "GET", "/metrics")[2]
        refused = next(line for line in metrics.splitlines() if line.startswith('baton_tenant_refused_total{tenant="small"}'))
        self.assertGreaterEqual(int(refused.split()[1]), 4)

    def as_root(self, function, event):
        before, self.cluster.key = self.cluster.key, self.keys["root"]
        try:
            function(event)
        finally:
            self.cluster.key = before


class PlainKey(unittest.TestCase):
    def test_a_key_of_the_environment_opens_the_api_and_stands_nowhere(self):
        key = "sk-test-" + os.urandom(16).hex()
        os.environ["BATON_API_KEY"] = key
        try:
            with Cluster(prefill=1, decode=1, kvstore=0) as c:
                self.assertEqual(c.call("GET", "/v1/models")[0], 401)
                bearer = {"Authorization": "Bearer " + key}
                self.assertEqual(c.call("GET", "/v1/models", headers=bearer)[0], 200)
                self.assertEqual(c.call("GET", "/debug/topology", headers=bearer)[0], 403)
                self.assertEqual(c.call("GET", "/metrics", headers=bearer)[0], 403)
                pids = pathlib.Path(f"/proc/{c.process.pid}/task/{c.process.pid}/children").read_text().split()
                names = {pathlib.Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[0].decode().rsplit("/", 1)[-1]: p
                         for p in pids}
                pid = names["baton-coordinator"]
                self.assertNotIn(key.encode(), pathlib.Path(f"/proc/{pid}/environ").read_bytes())
                limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
                core = next(line for line in limits.splitlines() if line.startswith("Max core"))
                self.assertEqual(core.split()[4:6], ["0", "0"])
        finally:
            del os.environ["BATON_API_KEY"]


if __name__ == "__main__":
    unittest.main(verbosity=2)
