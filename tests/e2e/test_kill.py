#!/usr/bin/env python3
"""kill -9 under load, with one spare of the role: no request fails, no token differs, nothing stays held, and every
recovery says what it cost.  Without a spare: a clean refusal.

usage: test_kill.py [TIMES]    kills of each role, half as many of stores (default 2)
"""
import json
import os
import random
import signal
import sys
import threading
import time
import unittest

from cluster import DEMO, LATENT, WINDOWED, Cluster, essence, look_up, solo

TIMES = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 2
STREAMS = 8
FREE_S = 2.5  # law 3: all that a dead peer held is free


def requests(seed, model):
    rng = random.Random(seed)
    sizes = (20, 60, 110) if model == DEMO else (5, 20, 40)
    return [("/v1/completions", {"model": model.name, "prompt": look_up(rng, rng.choice(sizes)), "seed": i,
                                 "temperature": rng.choice((0, 0.8)), "max_tokens": 160, "ignore_eos": True,
                                 "logprobs": 1, "return_token_ids": True}) for i in range(STREAMS)]


def joined(events):
    """What a streamed completion said, in the shape of essence()."""
    ids, text, logprobs, finish = [], "", [], None
    for event in events:
        for choice in event.get("choices", []):
            ids += choice.get("token_ids") or []
            text += choice.get("text") or ""
            logprobs += (choice.get("logprobs") or {}).get("token_logprobs") or []
            finish = choice.get("finish_reason") or finish
    return ids, text, logprobs, finish


class Kill(unittest.TestCase):
    def one_round(self, cluster, role, seed, model=DEMO):
        """8 streams; a node of the role dies at a random moment under them: by the clock while prompts are read, or when
        so many tokens have come.  Returns how many recoveries it took."""
        work = requests(seed, model)
        expected = [essence(answer)[0] for answer in solo(model, work)]
        rng = random.Random(seed)
        by_clock = role == "prefill" or rng.random() < 0.3
        kill_after = -1 if by_clock else rng.randrange(1, STREAMS * 100)
        seen, lock, killed = [0], threading.Lock(), threading.Event()
        victims = [n for n in cluster.nodes() if n["role"] == role and n["state"] == "up"]
        killed.victim = rng.choice(victims)

        def kill():
            os.kill(killed.victim["pid"], signal.SIGKILL)
            killed.set()

        def on_event(_):
            with lock:
                seen[0] += 1
                if seen[0] == kill_after:
                    kill()

        results = [None] * STREAMS

        def client(i):
            results[i] = cluster.stream(*work[i][:1], {**work[i][1], "stream_options": {"include_usage": True}}, on_event)

        threads = [threading.Thread(target=client, args=(i,)) for i in range(STREAMS)]
        for thread in threads:
            thread.start()
        if by_clock:
            time.sleep(rng.random() * 0.4)
            kill()
        for thread in threads:
            thread.join(120)
        self.assertTrue(killed.is_set(), "nothing was killed")
        recoveries = 0
        for (events, done), want in zip(results, expected):
            self.assertTrue(done, events[-1:])
            ids, text, logprobs, finish = joined(events)
            self.assertEqual(ids, want["token_ids"])
            self.assertEqual(text, want["text"])
            self.assertEqual(logprobs, want["logprobs"]["token_logprobs"])
            self.assertEqual(finish, want["finish_reason"])
            recoveries += self.check_account(events, role, model in WINDOWED)
        self.check_free(cluster, killed.victim)
        return recoveries

    def check_account(self, events, role, windowed):
        """Each attempt that failed says so; the last one accounts for its whole context: what was read and what was
        computed anew."""
        account = [e for e in events if e.get("usage")][-1]["usage"]["baton"]
        attempts = account["attempts"]
        self.assertEqual(account["recoveries"], len(attempts) - 1, account)
        self.assertEqual([bool(a["failed"]) for a in attempts], [True] * (len(attempts) - 1) + [False], account)
        if role == "kvstore":
            self.assertEqual(account["recoveries"], 0, account)  # a store is a cache: its death costs no attempt
        last = attempts[-1]
        prefill, decode = last["prefill"], last["decode"]
        if prefill["ended"]:
            self.assertEqual(prefill["computed"] + prefill["reused"] + prefill["fetched"], last["context"], account)
        if decode["ended"]:
            self.assertEqual(decode["transferred"] + decode["reused"], last["context"], account)
            blocks = -(-last["context"] // 16) - decode["reused"] // 16
            if windowed:  # layers with a window have less to read, those without as much
                self.assertLessEqual(decode["blocks_read"], 2 * blocks, account)
            else:
                self.assertEqual(decode["blocks_read"], blocks, account)
        if account["recoveries"]:
            self.assertGreater(last["context"], 0)
        return account["recoveries"]

    def check_free(self, cluster, victim):
        def free():
            return all(n["kv_blocks_used"] == 0 and n["load"]["jobs"] == 0 for n in cluster.nodes()
                       if n["role"] in ("prefill", "decode") and n["state"] == "up")
        cluster.wait_for(free, FREE_S, f"everything free after {victim['name']} died")

    def rounds(self, role, **flags):
        recoveries, times = 0, TIMES if role != "kvstore" else -(-TIMES // 2)
        for number in range(times):
            with self.subTest(role=role, number=number), Cluster(kvstore=2, **flags) as cluster:
                recoveries += self.one_round(cluster, role, seed=1000 * len(role) + number)
        print(f"{times} kills of a {role} node under {STREAMS} streams: {recoveries} recoveries, no token differs")
        return recoveries

    def test_decode(self):
        self.assertGreater(self.rounds("decode", prefill=1, decode=2), 0)

    def test_prefill(self):
        self.assertGreater(self.rounds("prefill", prefill=2, decode=1), 0)

    def test_kvstore(self):
        self.rounds("kvstore", prefill=1, decode=1)

    def test_latent_blocks_of_a_decode_node(self):
        """Read back from the store or computed again: the same tokens of a model whose KV is latent."""
        with Cluster(models=[LATENT], prefill=1, decode=2, kvstore=2) as cluster:
            self.assertGreater(self.one_round(cluster, "decode", seed=7, model=LATENT), 0)

    def test_windowed_layers_of_either_node(self):
        """What lies before the window is gone when a context is read again on other nodes."""
        recoveries = 0
        nodes = {"decode": {"prefill": 1, "decode": 2}, "prefill": {"prefill": 2, "decode": 1}}
        for seed, (model, (_, has_global)) in enumerate(WINDOWED.items()):
            for role in nodes if has_global else ("decode",):
                with self.subTest(model=model.name, role=role), Cluster(models=[model], kvstore=2, **nodes[role]) as cluster:
                    recoveries += self.one_round(cluster, role, seed=20 + seed, model=model)
        self.assertGreater(recoveries, 0)

    def test_no_spare_is_a_clean_refusal(self):
        with Cluster(prefill=1, decode=1, kvstore=0) as cluster:
            body = {"model": "demo", "prompt": "Tell me a story", "max_tokens": 1500, "ignore_eos": True}
            killed = []

            def on_event(_):
                if not killed:
                    node = next(n for n in cluster.nodes() if n["role"] == "decode")
                    killed.append(time.monotonic())
                    os.kill(node["pid"], signal.SIGKILL)

            events, done = cluster.stream("/v1/completions", body, on_event)
            self.assertFalse(done, "a broken stream must not end with [DONE]")
            self.assertIn("error", events[-1], events[-1:])
            cluster.wait_for(lambda: cluster.call("GET", "/readyz")[0] == 503, 5, "readyz says 503")
            status, headers, text = cluster.call("POST", "/v1/completions", body)
            self.assertEqual(status, 503, text)
            self.assertIn("retry-after", {name.lower() for name in headers})
            self.assertEqual(set(json.loads(text)["error"]), {"message", "type", "param", "code"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
