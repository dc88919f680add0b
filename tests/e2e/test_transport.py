#!/usr/bin/env python3
"""--require-transport: a cluster on one host serves over mapped memory alone and says so; where nothing of what is required is there, its
nodes end and say what they have.

usage: test_transport.py
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

from cluster import BUILD, DEMO, SLOW, Cluster

PROMPT = {"model": "demo", "prompt": "Mira has 482. Theo has 17. Anna has 906. Mira has", "max_tokens": 4, "temperature": 0}


def carried(cluster, name=None):
    return {t["transport"] for node in cluster.nodes() if name in (None, node["name"]) for t in node["transports"]}


def pid_of(cluster, name):
    return next(node["pid"] for node in cluster.nodes() if node["name"] == name)


def etcd_of(cluster):
    cluster.wait_for(lambda: re.search(r"--etcd (\S+)", "\n".join(cluster.lines)), what="it says where etcd is")
    return re.search(r"--etcd (\S+)", "\n".join(cluster.lines))[1]


class Required(unittest.TestCase):
    def test_mapped_on_one_host(self):
        with Cluster(prefill=1, decode=1, kvstore=1, require_transport="mapped,rdma") as cluster:
            answer = cluster.post("/v1/completions", PROMPT)
            self.assertTrue(answer["choices"][0]["text"].strip())
            cluster.wait_for(lambda: carried(cluster) == {"mapped"}, what="every link is mapped memory")
            info = [name for name in cluster.metrics() if name.startswith("baton_transport_info")]
            self.assertTrue(info and all('transport="mapped"' in name for name in info), info)

    def test_link_that_would_fall_back_is_refused(self):
        # One store more, which may read over UCX alone; nobody else has any.
        with Cluster(prefill=1, decode=1, kvstore=1) as cluster, tempfile.TemporaryFile("w+") as log:
            store = subprocess.Popen([BUILD / "kvstore" / "baton-kvstore", "--name", "picky", "--etcd", etcd_of(cluster), "--kv-bytes", "64MiB", "--slab-bytes", "8MiB",
                                      "--link-network", "lo", "--require-transport", "rdma,ucx-tcp", "--time-factor", str(SLOW)],
                                     stdout=log, stderr=subprocess.STDOUT)
            try:
                cluster.wait_for(lambda: carried(cluster, "picky") == {"refused"}, what="its links are refused")
                self.assertTrue(any('node="picky"' in name and 'transport="refused"' in name for name in cluster.metrics()))
                self.assertTrue(cluster.post("/v1/completions", PROMPT)["choices"][0]["text"].strip())
            finally:
                store.terminate()
                store.wait(60 * SLOW)
            log.seek(0)
            said = re.findall(r"no link to node ([0-9a-f]{16}): (--require-transport .*)", log.read())
            self.assertEqual({text for _, text in said}, {
                "--require-transport rdma, ucx-tcp: the peer, on this host, offers mapped, tcp, this node has mapped, ucx-tcp, tcp; `baton doctor` on "
                "both says what is missing"})
            self.assertEqual(len({node for node, _ in said}), len(said), "each once")
            self.assertEqual(len(said), 3)

    def test_refused_pair_is_not_chosen(self):
        # One decode node more, which may read over UCX alone; the prefill node has none.
        with Cluster(prefill=1, decode=1, kvstore=0) as cluster, tempfile.TemporaryFile("w+") as log:
            picky = subprocess.Popen([BUILD / "node" / "baton-decode", "--name", "picky", "--model", DEMO, "--etcd", etcd_of(cluster), "--kv-bytes", "64MiB",
                                      "--link-network", "lo", "--require-transport", "rdma,ucx-tcp", "--time-factor", str(SLOW)],
                                     stdout=log, stderr=subprocess.STDOUT)
            try:
                cluster.wait_for(lambda: carried(cluster, "picky") == {"refused"}, what="its link is refused")
                for seed in range(8):
                    self.assertTrue(cluster.post("/v1/completions", {**PROMPT, "seed": seed})["choices"][0]["text"].strip())
                steps = {node["name"]: node["load"]["steps"] for node in cluster.nodes()}
                self.assertEqual(steps["picky"], 0)
                os.kill(pid_of(cluster, "decode-1"), signal.SIGKILL)
                cluster.wait_for(lambda: cluster.call("GET", "/readyz")[0] == 503, what="nobody can do a request")
                status, _, text = cluster.call("POST", "/v1/completions", PROMPT)
                self.assertEqual(status, 503, text)
                self.assertIn("no two nodes of model demo can exchange KV: picky reads over rdma, ucx-tcp only (--require-transport), and none of that "
                              "reaches prefill-1", text)
                self.assertIn("picky reads over rdma", cluster.call("GET", "/readyz")[2])
            finally:
                picky.terminate()
                picky.wait(60 * SLOW)

    @unittest.skipIf(os.path.exists("/sys/class/infiniband"), "there is a NIC that does RDMA")
    def test_rdma_where_there_is_none(self):
        cluster = Cluster(prefill=1, decode=1, kvstore=1, require_transport="rdma")
        with self.assertRaises(RuntimeError):
            cluster.__enter__()
        cluster.process.wait()
        cluster.process.stdout.close()
        logs = {log.stem: log.read_text(errors="replace") for log in pathlib.Path(cluster.folder).glob("*.log")}
        said = [text for text in logs.values() if "--require-transport rdma: this node has mapped, " in text]
        self.assertTrue(said, logs)
        for text in said:
            self.assertIn("`baton doctor` says what is missing", text)
        self.assertFalse([name for name, text in logs.items() if name.startswith(("prefill", "decode")) and "registered in etcd" in text])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
