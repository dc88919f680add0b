#!/usr/bin/env python3
"""Prefill and decode on fake GPUs of one machine (tests/gpu/): KV goes from the memory of one device to that of the other, its bytes are
counted so, and the tokens are those of the same cluster without that way.

usage: test_device.py NODE    (the engine node with the fake device linked in)
"""
import os
import pathlib
import random
import shutil
import sys
import tempfile
import unittest
from unittest import mock

import cluster
from cluster import BUILD, ROOT, Cluster, essence

NODE = pathlib.Path(sys.argv.pop(1)).resolve()
MODEL = ROOT / "tests" / "golden" / "families" / "gpt-oss"  # two layer groups; a token a byte


def requests():
    rng = random.Random(5)
    text = "".join(rng.choice("abcdefgh ") for _ in range(150))
    common = {"model": MODEL.name, "max_tokens": 6, "ignore_eos": True, "logprobs": 1, "return_token_ids": True, "seed": 7}
    return [{**common, "prompt": text[:100], "temperature": 0},
            {**common, "prompt": text[:100] + "!", "temperature": 0.9, "n": 2},  # most of it is there already
            {**common, "prompt": text, "temperature": 0.9}]


def total(values, family, **labels):
    return sum(value for name, value in values.items()
               if name.startswith(family + "{") and all(f'{k}="{v}' in name for k, v in labels.items()))


class Devices(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """What `baton up` finds beside itself are the programs of its cluster."""
        cls.programs = pathlib.Path(tempfile.mkdtemp(prefix="baton-e2e-programs-"))
        for name, source in {"baton": BUILD / "tools" / "baton", "baton-prefill": NODE, "baton-decode": NODE,
                             "baton-kvstore": BUILD / "kvstore" / "baton-kvstore",
                             "baton-coordinator": BUILD / "coordinator" / "baton-coordinator"}.items():
            if name == "baton":
                shutil.copy(source, cls.programs / name)
            else:
                os.symlink(source, cls.programs / name)
        cls.addClassCleanup(shutil.rmtree, cls.programs)

    def serve(self, transport):
        """(what was answered, the metrics when all that was moved is counted)"""
        with mock.patch.object(cluster, "BATON", self.programs / "baton"), \
                Cluster(models=(MODEL,), prefill=1, decode=1, kvstore=1, max_num_seqs=4, time_factor=4) as c:
            c.wait_for(lambda: any(n["role"] == "decode" and t["transport"] == transport and t["peer"].startswith("prefill")
                                   for n in c.nodes() for t in n["transports"]), what="decode reads from prefill over " + transport)
            answers = [c.post("/v1/completions", body) for body in requests()]
            moved = sum(a["decode"]["bytes_read"] for answer in answers for a in answer["usage"]["baton"]["attempts"])
            counted = lambda: total(c.metrics(), "baton_transport_bytes_read_total", node="decode", peer="prefill")
            c.wait_for(lambda: counted() == moved, what="all that was moved is counted")
            for answer in answers:
                self.assertEqual([a["decode"]["transport"] for a in answer["usage"]["baton"]["attempts"]], [transport])
                self.assertEqual(answer["usage"]["baton"]["recoveries"], 0)
            c.wait_for(lambda: total(c.metrics(), "baton_transport_bytes_read_total", node="kvstore", peer="prefill") > 0,
                       what="the store reads what prefill offers")
            return [essence(answer) for answer in answers], c.metrics(), moved

    def test_device_to_device(self):
        answers, metrics, moved = self.serve("mapped+device")
        self.assertGreater(moved, 0)
        self.assertEqual(total(metrics, "baton_transport_device_bytes_read_total", node="decode", peer="prefill"), moved)
        self.assertEqual(total(metrics, "baton_transport_device_bytes_read_total", node="kvstore"), 0)
        with mock.patch.dict(os.environ, {"BATON_FAKE_NO_PEERS": "1"}):
            others, metrics, _ = self.serve("mapped")
        self.assertEqual(total(metrics, "baton_transport_device_bytes_read_total"), 0)
        self.assertEqual(answers, others)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
