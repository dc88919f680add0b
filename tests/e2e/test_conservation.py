#!/usr/bin/env python3
"""Every token of every prompt is accounted for, once: computed, reused, read from others or moved, in each answer and in the
sums that /metrics shows; with several choices, streamed or not, and when clients leave in the middle.

usage: test_conservation.py [REQUESTS]     (default 500)
"""
import http.client
import json
import random
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor

from cluster import Cluster, look_up, mixed_requests

COUNT = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 500
BLOCK = 16
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")


def prompt_ids(answer):
    return answer.get("prompt_token_ids") or answer["choices"][0]["prompt_token_ids"]


def chain(ids):
    """Names of the full blocks of a context: a block is what it holds and all before it."""
    return [hash(tuple(ids[:end])) for end in range(BLOCK, len(ids) + 1, BLOCK)]


def shared(ids, known):
    """Leading tokens of a prompt that whoever has the known blocks need not compute: whole blocks, never the last token."""
    blocks = chain(ids[:-1])
    return next((i for i, block in enumerate(blocks) if block not in known), len(blocks)) * BLOCK


class Conservation(unittest.TestCase):
    def sums(self, cluster):
        self.settle(cluster)
        metrics = cluster.metrics()
        by = lambda name, more="": sum(v for k, v in metrics.items() if k.startswith(name + "{") and more in k)
        return {"prompt": by("vllm:prompt_tokens_total"), "cached": by("vllm:prompt_tokens_cached_total"),
                "generated": by("vllm:generation_tokens_total"), "requests": by("vllm:request_queue_time_seconds_count"),
                "aborted": by("vllm:request_success_total", 'finished_reason="abort"'), "ends": by("vllm:request_success_total"),
                "moved": by("baton_decode_context_tokens_total", '"transferred"') + by("baton_decode_context_tokens_total", '"reused"'),
                **{source: by("vllm:prompt_tokens_by_source_total", f'source="{source}"') for source in SOURCES}}

    def settle(self, cluster):
        """Nothing runs, and stores have taken what they were offered."""
        def quiet():
            topology = json.loads(cluster.call("GET", "/debug/topology")[2])
            return not topology["coordinator"]["requests"] and not any(
                n["load"].get("jobs") or n["load"].get("offer_lag") or n["kv_blocks_used"] for n in topology["nodes"])
        cluster.wait_for(quiet, what="nothing runs")

    def check_one(self, answer):
        usage, account = answer["usage"], answer["usage"]["baton"]
        attempt = account["attempts"][-1]
        prefill, decode = attempt["prefill"], attempt["decode"]
        self.assertEqual(account["recoveries"], 0, account)
        self.assertEqual(prefill["computed"] + prefill["reused"] + prefill["fetched"], usage["prompt_tokens"], account)
        self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], prefill["reused"] + prefill["fetched"], account)
        self.assertIn(decode["transferred"] + decode["reused"], (0, usage["prompt_tokens"]), account)
        self.assertEqual(usage["completion_tokens"], sum(len(c["token_ids"]) for c in answer["choices"]))
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertEqual(usage["prompt_tokens"], len(prompt_ids(answer)))

    def check_sums(self, before, after, answers):
        grown = {key: after[key] - before[key] for key in after}
        usages = [a["usage"] for a in answers]
        accounts = [u["baton"]["attempts"][-1] for u in usages]
        self.assertEqual(grown["prompt"], sum(u["prompt_tokens"] for u in usages))
        self.assertEqual(grown["generated"], sum(u["completion_tokens"] for u in usages))
        self.assertEqual(grown["cached"], sum(u["prompt_tokens_details"]["cached_tokens"] for u in usages))
        self.assertEqual(sum(grown[s] for s in SOURCES), grown["prompt"])
        self.assertEqual(grown["cached"], grown["local_cache_hit"] + grown["external_kv_transfer"])
        self.assertEqual(grown["moved"], sum(a["decode"]["transferred"] + a["decode"]["reused"] for a in accounts))
        self.assertEqual((grown["requests"], grown["ends"], grown["aborted"]),
                         (len(answers), sum(len(a["choices"]) for a in answers), 0))

    def test_what_was_read_before_is_what_is_saved(self):
        """One at a time, on one prefill node, every second one the next turn of an earlier one: a prompt saves just the blocks
        that were left to it."""
        requests, rng = mixed_requests("demo", COUNT // 5, 5), random.Random(5)
        with Cluster(prefill=1, decode=1, kvstore=1) as cluster:
            prompts, contexts, answers, before = set(), set(), [], self.sums(cluster)
            for number, (path, body) in enumerate(requests):
                if number % 2 and path.endswith("/chat/completions"):
                    turn = rng.choice(answers)
                    more = json.loads(cluster.call("POST", "/tokenize", {"prompt": look_up(rng, 4)})[2])["tokens"]
                    path, body = "/v1/completions", {"model": "demo", "max_tokens": 24, "return_token_ids": True, "temperature": 0,
                                                     "prompt": prompt_ids(turn) + turn["choices"][0]["token_ids"] + more}
                answer = cluster.post(path, body)
                self.check_one(answer)
                ids, cached = prompt_ids(answer), answer["usage"]["prompt_tokens_details"]["cached_tokens"]
                if not body.get("prompt_logprobs") and not body.get("echo"):  # those rows are always computed
                    self.assertLessEqual(shared(ids, prompts), cached)
                    self.assertLessEqual(cached, shared(ids, contexts))
                prompts.update(chain(ids))
                for choice in answer["choices"]:
                    contexts.update(chain(ids + choice["token_ids"]))
                answers.append(answer)
            self.check_sums(before, self.sums(cluster), answers)
            self.assertGreater(sum(a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in answers), 0)

    def test_a_busy_cluster_counts_each_token_once(self):
        """Many at once, streamed and not; then the same with clients that leave."""
        requests = mixed_requests("demo", COUNT * 3 // 5, 6)
        with Cluster(prefill=2, decode=2, kvstore=2) as cluster:
            before = self.sums(cluster)
            answers = cluster.post_all(requests, 12)
            for number, answer in enumerate(answers):
                with self.subTest(request=number):
                    self.check_one(answer)
            middle = self.sums(cluster)
            self.check_sums(before, middle, answers)
            read = lambda name, less="?": sum(v for k, v in cluster.metrics().items() if k.startswith(name + "{") and less not in k)
            by_peer = lambda: read("baton_transport_bytes_read_total", 'node="kvstore')  # which read what they are offered
            cluster.wait_for(lambda: by_peer() == read("baton_kv_bytes_read_total"),
                             what="every byte that a job read came from a peer")
            self.assertGreater(read("baton_kv_bytes_read_total"), 0)
            self.leave_some(cluster, middle)

    def leave_some(self, cluster, before):
        rng = random.Random(7)
        sizes = []

        def leave(number):
            text = look_up(random.Random(1000 + number), rng.choice((2, 30, 80)))
            body = {"model": "demo", "prompt": text, "max_tokens": 1500, "ignore_eos": True, "stream": True, "n": 1 + number % 3}
            size = json.loads(cluster.call("POST", "/tokenize", {"prompt": text})[2])["count"]
            connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=60)
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            for _ in range(number % 7):
                response.readline()
            response.close()
            connection.close()
            sizes.append((size, body["n"]))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(leave, range(COUNT // 5)))
        after = self.sums(cluster)
        grown = {key: after[key] - before[key] for key in after}
        self.assertEqual(grown["prompt"], sum(size for size, _ in sizes))  # once, whatever n
        self.assertEqual((grown["ends"], grown["aborted"]), (sum(n for _, n in sizes),) * 2)
        self.assertEqual(grown["requests"], len(sizes))
        self.assertLessEqual(sum(grown[s] for s in SOURCES), grown["prompt"])
        self.assertEqual(grown["cached"], grown["local_cache_hit"] + grown["external_kv_transfer"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
