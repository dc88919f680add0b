#!/usr/bin/env python3
"""`baton kv` against real stores: every verb, plain and with TLS; quotas; blocks that move from one cluster to another.

usage: test_kv.py
"""
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from cluster import BATON, BUILD, DEMO_MOE, SLOW, Cluster, look_up

MODEL = "demo"


def say(cluster, prompt, tenant="", tier="default", tokens=24):
    """The answer's text, and how much of the prompt was found in a cache."""
    headers = {"x-baton-trace": "1", **({"x-baton-tenant": tenant} if tenant else {})}
    status, _, text = cluster.call("POST", "/v1/completions", {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0,
                                                               "service_tier": tier, "seed": 1}, headers)
    assert status == 200, text
    answer = json.loads(text)
    return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


class Kv:
    """`baton kv` at a cluster."""

    def __init__(self, cluster, *more):
        self.arguments = ["--etcd", cluster.etcd(), "--time-factor", str(SLOW), *more]
        if cluster.ca:
            folder = cluster.ca.parent
            self.arguments += ["--tls-ca-file", cluster.ca, "--tls-cert-file", folder / "operator.pem", "--tls-key-file", folder / "operator.key"]

    def run(self, *words):
        return subprocess.run([BATON, "kv", *words, *self.arguments], capture_output=True, text=True, timeout=120 * SLOW)

    def __call__(self, *words):
        out = self.run(*words)
        assert out.returncode == 0, (words, out.returncode, out.stdout, out.stderr)
        return out.stdout

    def lines(self, *words):
        return [json.loads(line) for line in self(*words, "--json").splitlines()]

    def blocks(self):
        return self.lines("ls", "--limit", "100000")

    def settle(self, at_least=1):
        """The blocks, when nothing is on its way any more."""
        before = None
        for _ in range(200):
            blocks = self.blocks()
            if len(blocks) >= at_least and before == blocks and not any(s["lag_blocks"] for s in self.lines("stat")):
                return blocks
            before = blocks
            time.sleep(0.1 * SLOW)
        raise AssertionError(f"{len(blocks)} blocks, expected {at_least} or more that stay")


def identity(block):
    return tuple(block[k] for k in ("key", "store", "tenant", "bytes", "layers", "priority", "compat", "parent"))


def prompts(seed, count, entries=30):
    rng = random.Random(seed)
    return [look_up(rng, entries) for _ in range(count)]


class Verbs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="baton-kv-"))
        cls.cluster = Cluster(prefill=1, decode=1, kvstore=2, tenant_quota="bee=256KiB").__enter__()
        cls.kv = Kv(cls.cluster)
        for prompt, tenant, tier in zip(prompts(1, 6), ("acme", "acme", "", "", "bee", "bee"), ("default", "flex") * 3):
            say(cls.cluster, prompt, tenant, tier)
        cls.kv.settle(20)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)
        shutil.rmtree(cls.folder)

    def test_stat_and_ls_agree(self):
        blocks, stats = self.kv.settle(), self.kv.lines("stat")
        self.assertEqual([s["store"] for s in stats], ["kvstore-1", "kvstore-2"])
        for stat in stats:
            here = [b for b in blocks if b["store"] == stat["store"]]
            self.assertEqual(stat["bytes"], sum(b["bytes"] for b in here))
            tenants = {t["tenant"]: (t["blocks"], t["bytes"]) for t in stat["tenants"] if t["blocks"]}
            self.assertEqual(tenants, {t: (len(own), sum(b["bytes"] for b in own)) for t in {b["tenant"] for b in here}
                                       for own in [[b for b in here if b["tenant"] == t]]})
            self.assertGreater(stat["keys_asked"], 0)
            self.assertEqual(stat["policy"], "2q-adaptive")
        self.assertEqual({b["tenant"] for b in blocks}, {"", "acme", "bee"})
        self.assertEqual({b["priority"] for b in blocks}, {"normal", "low"})
        text = self.kv("stat", "--store", "kvstore-2")
        self.assertIn("kvstore-2:", text)
        self.assertNotIn("kvstore-1:", text)
        self.assertIn("tenant acme", text)
        self.assertRegex(text, r"copies: \d+ missing, ")

    def test_no_tenant_is_over_its_quota(self):
        stats = self.kv.lines("stat")
        for bee in (t for s in stats for t in s["tenants"] if t["tenant"] == "bee"):
            self.assertEqual(bee["quota_bytes"], 256 << 10)
            self.assertTrue(0 < bee["bytes"] <= 256 << 10, bee)
        self.assertGreater(sum(s["evicted"]["quota"] for s in stats), 0)
        self.assertEqual(sum(s["evicted"]["room"] for s in stats), 0)

    def test_ls_is_bounded_and_chooses(self):
        blocks = self.kv.settle()
        out = self.kv.run("ls", "--limit", "3", "--json")
        self.assertEqual((out.returncode, len(out.stdout.splitlines())), (0, 3))
        self.assertIn("--limit", out.stderr)
        own = self.kv.lines("ls", "--tenant", "acme", "--store", "kvstore-1", "--limit", "100000")
        self.assertEqual(sorted(map(identity, own)),
                         sorted(identity(b) for b in blocks if b["tenant"] == "acme" and b["store"] == "kvstore-1"))
        none = self.kv.lines("ls", "--tenant", "-", "--limit", "100000")
        self.assertEqual(len(none), sum(b["tenant"] == "" for b in blocks))
        self.assertEqual(len(self.kv("ls", "--limit", "100000").splitlines()), len(blocks) + 1)

    def test_get_tells_who_has_it(self):
        block = next(b for b in self.kv.settle() if b["parent"])
        found = self.kv.lines("get", block["key"])
        self.assertEqual({b["store"] for b in found}, {"kvstore-1", "kvstore-2"})  # two stores, two replicas
        text = self.kv("get", block["key"])
        for part in (block["key"], block["parent"], block["compat"], "kvstore-1: dram", "kvstore-2: dram", str(block["bytes"])):
            self.assertIn(part, text)
        out = self.kv.run("get", "0" * 32)
        self.assertEqual(out.returncode, 1)
        self.assertIn("no store that was asked has block " + "0" * 32, out.stderr)

    def test_pinned_block_is_not_evicted_before_it_is_unpinned(self):
        key = next(b for b in self.kv.settle() if not b["parent"] and b["tenant"] == "")["key"]
        self.assertEqual(len(self.kv("pin", key, "--hard").splitlines()), 2)
        self.assertEqual({b["pin"] for b in self.kv.lines("get", key)}, {"hard"})
        self.assertEqual([s["pinned_hard"] for s in self.kv.lines("stat")], [1, 1])
        out = self.kv.run("evict", key)
        self.assertEqual(out.returncode, 1)
        self.assertIn("pinned hard; unpin it first", out.stderr)
        self.kv("unpin", key)
        self.assertEqual({b["pin"] for b in self.kv.lines("get", key)}, {"-"})
        self.kv("pin", key)
        self.assertEqual({b["pin"] for b in self.kv.lines("get", key)}, {"soft"})
        self.kv("evict", key)
        self.assertEqual(self.kv.run("get", key).returncode, 1)

    def test_a_chain_is_pinned_from_its_beginning(self):
        blocks = {b["key"]: b for b in self.kv.settle()}
        chains = {k: [k] for k in blocks}
        for key in chains:
            while (parent := blocks[chains[key][-1]]["parent"]) in blocks:
                chains[key].append(parent)
        chain = max((c for c in chains.values() if not blocks[c[-1]]["parent"]), key=len)
        self.assertGreater(len(chain), 5)
        self.kv("pin", chain[0], "--chain")
        pinned = {b["key"] for b in self.kv.blocks() if b["pin"] == "soft"}
        self.assertEqual(pinned, set(chain))
        self.kv("unpin", chain[0], "--chain")
        self.assertEqual({b["pin"] for b in self.kv.blocks()}, {"-"})

    def test_metrics_say_what_stat_says(self):
        def same():
            stats, metrics = self.kv.lines("stat"), self.cluster.metrics()
            expected = {}
            for stat in stats:
                node = f'node="{stat["store"]}"'
                expected[f'baton_kvstore_info{{{node},eviction_policy="2q-adaptive"}}'] = 1
                expected[f'baton_kvstore_keys_asked_total{{{node}}}'] = stat["keys_asked"]
                expected[f'baton_kvstore_keys_found_total{{{node},tier="dram"}}'] = stat["tiers"]["dram"]["keys_found"]
                expected[f'baton_kvstore_bytes_saved_total{{{node},tier="dram"}}'] = stat["tiers"]["dram"]["bytes_found"]
                expected[f'baton_kvstore_bytes{{{node},state="used"}}'] = stat["bytes"]
                expected[f'baton_kvstore_offers_total{{{node},answer="taken"}}'] = stat["offers_taken"]
                expected[f'baton_kvstore_lag_blocks{{{node}}}'] = stat["lag_blocks"]
                expected[f'baton_kv_copies_missing{{{node}}}'] = stat["copies"]["missing"]
                expected[f'baton_kv_copies_total{{{node}}}'] = stat["copies"]["made"]
                expected[f'baton_kv_copies_given_up_total{{{node}}}'] = stat["copies"]["given_up"]
                for reason, count in stat["evicted"].items():
                    expected[f'baton_kvstore_evicted_total{{{node},reason="{reason}"}}'] = count
                for t in stat["tenants"]:
                    labels = f'{{{node},tenant="{t["tenant"]}"}}'
                    expected["baton_kvstore_tenant_bytes" + labels] = t["bytes"]
                    expected["baton_kvstore_tenant_keys_asked_total" + labels] = t["keys_asked"]
                    expected["baton_kvstore_tenant_keys_found_total" + labels] = t["keys_found"]
                    if t["tenant"] == "bee":
                        expected["baton_kvstore_tenant_quota_bytes" + labels] = 256 << 10
            self.got = {name: metrics.get(name) for name in expected}
            self.expected = expected
            return self.got == expected

        self.kv.settle()
        try:
            self.cluster.wait_for(same, 5, "metrics")  # reports come every quarter of a second
        except AssertionError:
            self.assertEqual(self.got, self.expected)
        self.assertEqual({v for k, v in self.cluster.metrics().items() if k.startswith("baton_offer_lag_blocks")}, {0})

    def test_verify_reads_all_and_finds_nothing(self):
        blocks, before = self.kv.settle(), self.kv.lines("stat")
        self.assertIn(f"{len(blocks)} blocks verified", self.kv("verify"))
        after = self.kv.lines("stat")
        for name in ("keys_asked", "keys_found", "offers"):  # it is no use of a block
            self.assertEqual([s[name] for s in before], [s[name] for s in after])

    def test_what_goes_wrong_says_what_to_do(self):
        for words, text in ((("evcit",), 'did you mean "evict"'), ((), "expected stat, ls"), (("get",), "kv get wants KEY"),
                            (("get", "12"), "expected 32 hexadecimal digits"), (("stat", "more"), "too much"),
                            (("evict",), "--tenant NAME"), (("ls", "--store", "kvstore-9"), "no store of that name"),
                            (("import", "/nowhere"), "/nowhere"), (("export", "/nowhere/at/all"), "/nowhere/at/all.part")):
            out = self.kv.run(*words)
            self.assertEqual(out.returncode, 1, words)
            self.assertIn(text, out.stderr, words)
        out = self.kv.run("stat", "--cluster", "another")
        self.assertIn('cluster "another" has no store', out.stderr)


class Moving(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="baton-kv-"))
        self.file = self.folder / "blocks"

    def tearDown(self):
        shutil.rmtree(self.folder)

    def test_blocks_move_to_another_cluster_and_are_found_there(self):
        asked = prompts(5, 4)
        with Cluster(prefill=1, decode=1, kvstore=2) as first:
            kv = Kv(first)
            answers = [say(first, prompt, "acme", "flex" if i % 2 else "default")[0] for i, prompt in enumerate(asked)]
            blocks = kv.settle(20)
            self.assertIn("exported", kv("export", self.file))
            self.assertEqual(os.listdir(self.folder), ["blocks"])
            self.assertIn(f"evicted {len(blocks)};", kv("evict", "--all"))
            self.assertEqual(kv.blocks(), [])
            distinct = len({b["key"] for b in blocks})
            self.assertIn(f"imported {distinct} of {distinct} blocks", kv("import", self.file))
            self.assertEqual(sorted(map(identity, kv.settle(len(blocks)))), sorted(map(identity, blocks)))
            self.assertIn(f"imported 0 of {distinct} blocks, 0 B; {distinct} were there already", kv("import", self.file))
            self.assertIn("0 bad", kv("verify"))
        self.spoil_and_refuse()
        with Cluster(prefill=1, decode=1, kvstore=2) as second:
            kv = Kv(second)
            kv("import", self.file)
            self.assertEqual(sorted(map(identity, kv.settle(len(blocks)))), sorted(map(identity, blocks)))
            for prompt, answer in zip(asked, answers):
                text, cached = say(second, prompt, "acme")
                self.assertEqual(text, answer)
                self.assertGreater(cached, 100)
            stats = kv.lines("stat")
            self.assertGreater(sum(t["keys_found"] for s in stats for t in s["tenants"] if t["tenant"] == "acme"), 0)

    def spoil_and_refuse(self):
        data = bytearray(self.file.read_bytes())
        data[len(data) // 2] ^= 4
        (self.folder / "spoilt").write_bytes(data)
        (self.folder / "cut").write_bytes(data[:len(data) // 3])
        (self.folder / "text").write_text("no blocks at all, but long enough to have a head: " * 3)

    def test_what_cannot_be_used_or_believed_is_refused(self):
        with Cluster(prefill=1, decode=1, kvstore=1) as cluster:
            kv = Kv(cluster)
            say(cluster, prompts(6, 1)[0])
            kv.settle(5)
            kv("export", self.file)
            self.spoil_and_refuse()
            for name, text in (("spoilt", "does not match its"), ("cut", "not all of the export"), ("text", "no file of `baton kv export`")):
                out = kv.run("import", self.folder / name)
                self.assertEqual(out.returncode, 1)
                self.assertIn(text, out.stderr)
        with Cluster(models=(DEMO_MOE,), prefill=1, decode=1, kvstore=1) as other:
            kv = Kv(other)
            out = kv.run("import", self.file)
            self.assertEqual((out.returncode, kv.blocks()), (1, []))
            self.assertIn("no engine of this cluster", out.stderr)
            kv("import", self.file, "--force")
            self.assertGreater(len(kv.blocks()), 4)

    def test_blocks_of_two_sizes_are_imported(self):
        """So many small ones behind a large one that they do not fit the slots made for it."""
        subprocess.run([BUILD / "tests/tools/make_kv_file", self.file, str(8 << 20), "1", "4096", "96"],
                       check=True)
        with Cluster(prefill=1, decode=1, kvstore=1) as cluster:
            out = Kv(cluster).run("import", self.file, "--force")
            self.assertRegex(out.stdout, r"imported \d+ of 97 blocks", out.stderr)
            self.assertGreaterEqual(int(out.stdout.split()[1]), 96, out.stdout)

    def test_verify_finds_a_byte_that_has_changed(self):
        with Cluster(prefill=1, decode=1, kvstore=1) as cluster:
            kv = Kv(cluster)
            say(cluster, prompts(7, 1)[0])
            blocks = kv.settle(5)
            pid = next(n["pid"] for n in cluster.nodes() if n["role"] == "kvstore")
            self.change_a_byte(pid)
            out = kv.run("verify")
            self.assertEqual(out.returncode, 1)
            bad = re.search(r"^bad: ([0-9a-f]{32}) at kvstore-1: layer \d+ has digest", out.stdout, re.M)[1]
            self.assertIn(f"{len(blocks) - 1} blocks verified", out.stdout)
            out = kv.run("export", self.file)
            self.assertEqual(out.returncode, 1)
            self.assertIn("1 bad", out.stdout)
            kv.run("verify", "--evict")
            self.assertEqual({b["key"] for b in kv.blocks()}, {b["key"] for b in blocks} - {bad})
            self.assertIn("0 bad", kv("verify"))

    def change_a_byte(self, pid):
        """In the middle of the first block of the first slab: behind the generations, which have a page or more."""
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, _, _, _, *name = line.split()
            start, end = (int(x, 16) for x in place.split("-"))
            if rights.startswith("rw") and name and "memfd" in name[0]:
                with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
                    for at in range(start + (64 << 10), end, 4096):
                        memory.seek(at)
                        page = memory.read(4096)
                        if any(page):
                            memory.seek(at + 100)
                            memory.write(bytes([page[100] ^ 1]))
                            return
        self.fail("no memory of a slab")


class Tls(unittest.TestCase):
    def test_operators_are_known_by_their_certificates(self):
        with tempfile.TemporaryDirectory(prefix="baton-kv-") as folder, Cluster(prefill=1, decode=1, kvstore=2, tls=True) as cluster:
            kv, file = Kv(cluster), pathlib.Path(folder, "blocks")
            say(cluster, prompts(8, 1)[0])
            blocks = kv.settle(5)
            kv("export", file)
            key = blocks[0]["key"]
            kv("pin", key, "--hard")
            kv("unpin", key)
            kv("evict", "--all")
            kv("import", file)
            self.assertEqual(sorted(map(identity, kv.settle(len(blocks)))), sorted(map(identity, blocks)))
            self.assertIn(f"{len(blocks)} blocks verified", kv("verify"))
            kv("evict", "--all")
            kv("import", file, "--link-transport", "tls")  # over TLS in both directions, though this is one machine
            kv.settle(len(blocks))
            self.assertIn(f"{len(blocks)} blocks verified", kv("verify", "--link-transport", "tls"))
            tls = cluster.ca.parent
            plain = Kv(cluster, "--timeout", "3")
            plain.arguments = plain.arguments[:6]
            out = plain.run("stat")
            self.assertEqual(out.returncode, 1)
            self.assertIn("there is no session with it", out.stderr)
            out = subprocess.run([BATON, "kv", "stat", *plain.arguments, "--name", "prefill-1", "--tls-ca-file", cluster.ca, "--tls-cert-file",
                                  tls / "prefill-1.pem", "--tls-key-file", tls / "prefill-1.key"], capture_output=True, text=True, timeout=60 * SLOW)
            self.assertEqual(out.returncode, 1)
            self.assertIn("is of a prefill, this is a operator", out.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
