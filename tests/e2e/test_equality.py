#!/usr/bin/env python3
"""Law 1 on the real programs: whatever the cluster's shape, transport, chunks or caches, the same tokens and the same
log-probabilities, those of the prompts too, as one process computes alone; and every token of every prompt is accounted for.

usage: test_equality.py [REQUESTS]     (default 200)
"""
import random
import re
import sys
import threading
import unittest

from cluster import DEMO, DEMO_MOE, LATENT, WINDOWED, Cluster, essence, look_up, mixed_requests, solo

COUNT = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 200
MODELS = {"demo": DEMO, "demo-moe": DEMO_MOE}
LATENTS = {LATENT.name: LATENT}
WINDOWS = {path.name: path for path in WINDOWED}
BLOCK = 16
REQUESTS = {name: mixed_requests(name, COUNT, seed) for seed, name in enumerate(MODELS)}
REQUESTS.update({name: [(path, body) for path, body in mixed_requests(name, COUNT, 2 + seed)
                        if len(body.get("prompt", 1024 * "-")) < 900]
                 for seed, name in enumerate({**LATENTS, **WINDOWS})})
ORACLE = {}


def setUpModule():
    for name, path in {**MODELS, **LATENTS, **WINDOWS}.items():
        ORACLE[name] = [essence(answer) for answer in solo(path, REQUESTS[name])]


def crowd(model, count, seed):
    """Prompts of some windows' length, each with answers enough that blocks of layers with a window are what runs out."""
    rng = random.Random(seed)
    return [("/v1/completions", {"model": model, "prompt": look_up(rng, rng.randrange(8, 11)), "n": rng.choice((2, 3)),
                                 "max_tokens": 80, "seed": rng.randrange(1 << 40), "temperature": 0.8, "ignore_eos": True,
                                 "logprobs": 1, "return_token_ids": True}) for _ in range(count)]


class Fill:
    """While it is open: how full each layer group was at most.  A model with one has its name from the caller."""

    def __init__(self, cluster, only):
        self.cluster, self.only, self.most, self.seen, self.over = cluster, only, {}, [], threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over.set()
        self.thread.join()
        self.take_all()

    def of(self, group):
        self.take_all()
        return self.most.get(group, 0)

    def take_all(self):
        while self.seen:
            self.take(self.seen.pop())

    def watch(self):
        while not self.over.wait(0.02):
            self.seen.append(self.cluster.metrics())

    def take(self, metrics):
        """What vLLM's gauge says is what the fullest group of the node is filled with."""
        groups = {}
        for name, value in metrics.items():
            if found := re.match(r'baton_kv_group_blocks\{node="(.*)",group="(.*)",state="(.*)"\}', name):
                groups.setdefault(found[1], {}).setdefault(found[2], {})[found[3]] = value
        for name, usage in metrics.items():
            if not (found := re.match(r'vllm:kv_cache_usage_perc\{.*engine="(.*)"\}', name)):
                continue
            fills = {group: b["reserved"] / b["reservable"] for group, b in groups.get(found[1], {}).items()} or {self.only: usage}
            assert abs(usage - max(fills.values())) < 1e-3, (usage, fills)
            self.most = {group: max(fill, self.most.get(group, 0)) for group, fill in {**self.most, **fills}.items()}


class Equality(unittest.TestCase):
    maxDiff = 2000

    def check_account(self, answer, layer_bytes_seen, window=None):
        """Fault-free: everything is computed, reused or fetched at prefill, and moved or reused at decode."""
        usage = answer["usage"]
        account = usage["baton"]
        prompt = usage["prompt_tokens"]
        self.assertEqual(account["recoveries"], 0, account)
        self.assertEqual(len(account["attempts"]), 1, account)
        attempt = account["attempts"][0]
        prefill, decode = attempt["prefill"], attempt["decode"]
        self.assertEqual(prefill["computed"] + prefill["reused"] + prefill["fetched"], prompt, account)
        self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], prefill["reused"] + prefill["fetched"])
        for half in (prefill, decode):
            for cause in ("digest", "generation", "deadline", "gone"):
                self.assertEqual(half["misses"][cause], 0, account)
        if decode["transferred"] + decode["reused"] == 0:
            # The first token ended every choice: nothing had to be handed over.
            self.assertTrue(all(n == 1 for n in self.generated(answer)), account)
            return
        self.assertEqual(decode["transferred"] + decode["reused"], prompt, account)
        self.assertEqual(decode["computed"], 0, account)
        if window:
            self.check_windowed(prompt, decode, *window)
            return
        blocks = -(-prompt // BLOCK) - decode["reused"] // BLOCK
        self.assertEqual(decode["blocks_read"], blocks, account)
        if blocks:
            layer_bytes_seen.add(decode["bytes_read"] / blocks)

    def check_windowed(self, prompt, decode, window, has_global):
        """Of layers with a window, only what the next token sees is read.  What is reused is said of the group that
        had less of the prompt, so the other may have read anything from none to as much."""
        blocks, reused = -(-prompt // BLOCK), decode["reused"] // BLOCK
        seen = max(0, prompt // BLOCK - -(-(window - 1) // BLOCK))  # the first block that the next token sees
        inside = blocks - max(seen, reused)
        if has_global:
            self.assertLessEqual(decode["blocks_read"], blocks - reused + inside, decode)
            self.assertGreaterEqual(decode["blocks_read"], min(blocks - reused, inside), decode)
        else:
            self.assertEqual(decode["blocks_read"], inside, decode)

    @staticmethod
    def generated(answer):
        return [len(choice["token_ids"]) for choice in answer["choices"]]

    def run_cluster(self, concurrency=(1, 16), models=MODELS, **flags):
        with Cluster(models=models.values(), **flags) as cluster:
            for name in models:
                sizes = set()
                for many in concurrency:
                    answers = cluster.post_all(REQUESTS[name], many)
                    for number, (answer, expected) in enumerate(zip(answers, ORACLE[name])):
                        with self.subTest(model=name, at_once=many, request=number):
                            self.assertEqual(essence(answer), expected)
                            self.check_account(answer, sizes, WINDOWED.get(models[name]))
                if models[name] not in WINDOWED:
                    self.assertEqual(len(sizes), 1, f"bytes of a block read: {sizes}")
            self.check_quiet(cluster)
            return cluster

    def check_quiet(self, cluster):
        """Afterwards nothing is held: no job, no reserved block, no sequence."""
        def quiet():
            return all(node["kv_blocks_used"] == 0 and node["load"]["sequences"] == 0 and node["load"]["jobs"] == 0
                       for node in cluster.nodes() if node["role"] in ("prefill", "decode"))
        cluster.wait_for(quiet, 20, "nothing held after the last answer")

    def test_two_models_1p1d_warm_and_cold(self):
        # The second round finds every prompt in the caches that the first one filled.
        self.run_cluster(prefill=1, decode=1, kvstore=1)

    def test_2p2d_two_stores_chunks_of_16(self):
        self.run_cluster(prefill=2, decode=2, kvstore=2, prefill_chunk_tokens=16)

    def test_chunks_of_64_over_ucx_tcp(self):
        self.run_cluster(concurrency=(16,), prefill=1, decode=1, kvstore=1, prefill_chunk_tokens=64,
                         link_transport="ucx-tcp")

    def test_chunks_of_512_over_ucx_shm(self):
        self.run_cluster(concurrency=(16,), prefill=1, decode=1, kvstore=1, prefill_chunk_tokens=512,
                         link_transport="ucx-shm")

    def test_two_stores_over_tls(self):
        first = dict([next(iter(MODELS.items()))])
        self.run_cluster(concurrency=(16,), models=first, prefill=1, decode=2, kvstore=2, tls=True, link_transport="tls")

    def test_latent_blocks(self):
        self.run_cluster(models=LATENTS, prefill=1, decode=2, kvstore=1, prefill_chunk_tokens=64)

    def test_tensor_parallel_degrees_differ(self):
        for prefill, decode in ((2, 1), (1, 4)):
            models = {"demo": DEMO, LATENT.name: LATENT}
            with Cluster(models=models.values(), prefill=1, decode=1, kvstore=1, prefill_chunk_tokens=64,
                         prefill_tensor_parallel_size=prefill, decode_tensor_parallel_size=decode) as cluster:
                degrees = {node["role"]: node["tensor_parallel_size"] for node in cluster.nodes()}
                self.assertEqual((degrees["prefill"], degrees["decode"]), (prefill, decode))
                for name in models:
                    few = slice(0, 24)
                    for number, (answer, expected) in enumerate(zip(cluster.post_all(REQUESTS[name][few], 8), ORACLE[name][few])):
                        with self.subTest(degrees=(prefill, decode), model=name, request=number):
                            self.assertEqual(essence(answer), expected)
                            self.check_account(answer, set())
                self.check_quiet(cluster)

    def test_windows_1p1d_warm_and_cold(self):
        self.run_cluster(models=WINDOWS, prefill=1, decode=1, kvstore=1)

    def test_windows_2p2d_two_stores_chunks_of_16(self):
        self.run_cluster(models=WINDOWS, prefill=2, decode=2, kvstore=2, prefill_chunk_tokens=16)

    def test_windows_where_their_blocks_run_out(self):
        """Requests wait until others have ended: their blocks of layers with a window are promised to those."""
        for seed, (name, path) in enumerate(WINDOWS.items()):
            requests = crowd(name, 2 * COUNT, seed)
            expected = [essence(answer) for answer in solo(path, requests)]
            with Cluster(models=[path], prefill=1, decode=1, kvstore=1, kv_bytes="1MiB", prefill_chunk_tokens=BLOCK) as cluster:
                refused = lambda: cluster.metrics()["baton_reserve_refusals_total"]
                with Fill(cluster, "local") as fill:
                    for turn in range(4):  # from the second on much is found in the store
                        self.run_crowd(cluster, requests, expected, 16 if turn == 1 else 32)
                        if turn >= (0 if seed else 1) and refused() > 0 and fill.of("local") > 0.8:  # seen now and then only
                            break
                self.assertGreater(refused(), 0, (name, "nobody waited"))
                self.assertGreater(fill.most["local"], 0.8, (name, fill.most))
                self.assertLess(fill.most.get("global", 0), 0.8, (name, fill.most))
                self.check_quiet(cluster)
                cluster.wait_for(lambda: not any(v for k, v in cluster.metrics().items() if "kv_cache_usage_perc" in k), 5,
                                 "nothing promised after the last answer")

    def run_crowd(self, cluster, requests, expected, many):
        for number, (answer, want) in enumerate(zip(cluster.post_all(requests, many), expected)):
            with self.subTest(at_once=many, request=number, model=answer["model"]):
                self.assertEqual(essence(answer), want)
                self.check_account(answer, set(), WINDOWED[WINDOWS[answer["model"]]])

    def test_mapped_without_stores(self):
        self.run_cluster(concurrency=(16,), prefill=1, decode=2, kvstore=0, link_transport="mapped")


if __name__ == "__main__":
    unittest.main(verbosity=2)
