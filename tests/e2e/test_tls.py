#!/usr/bin/env python3
"""Mutual TLS on a real cluster: the same answers; nothing of prompts and KV to be read on the wire; and whoever has no
certificate for what he wants is refused and counted, while the cluster does not notice."""
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import own_net
from cluster import BATON, DEMO, Cluster, essence, mixed_requests, proto_version, solo

PROMPT = ("Remember this list.\n" + "\n".join(f"Xanthippe{i} has {100 + 7 * i}." for i in range(60)) +
          "\nWhich number belongs to Xanthippe33?")
BODY = {"model": "demo", "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
WINDOW = 48


class Capture:
    """All TCP payloads on the loopback device, a stream of bytes per connection and direction."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(("lo", 0))
        self.streams, self.going = {}, True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            going = self.going  # first: what came before stop() is read to the end, however much goes on
            self.socket.settimeout(0.2 if going else 0)
            try:
                frame, address = self.socket.recvfrom(1 << 17)
            except socket.timeout:
                continue
            except BlockingIOError:
                return
            ip = frame[14:]
            if address[2] == socket.PACKET_OUTGOING or ip[0] >> 4 != 4 or ip[9] != 6:
                continue  # each packet is seen twice
            tcp = ip[(ip[0] & 15) * 4:struct.unpack_from(">H", ip, 2)[0] or len(ip)]
            source, target = struct.unpack_from(">HH", tcp)
            data = tcp[(tcp[12] >> 4) * 4:]
            if data:
                self.streams.setdefault((source, target), bytearray()).extend(data)

    def stop(self):
        time.sleep(0.3)
        self.going = False
        self.thread.join()
        self.socket.close()
        return {key: bytes(data) for key, data in self.streams.items()}


def ports(cluster, what):
    """{node: port} that the logs name: "listens at" or "bulk at"."""
    found = {}
    for log in pathlib.Path(cluster.folder).glob("*.log"):
        match = re.search(what + r" \S+?://127\.0\.0\.1:(\d+)", log.read_text(errors="replace"))
        if match:
            found[log.stem] = int(match[1])
    return found


def observed(**flags):
    """(answer, control bytes, bulk bytes, all streams) of one prompt on a cluster of its own."""
    with Cluster(prefill=1, decode=1, kvstore=0, **flags) as cluster:
        capture = Capture()
        answer = cluster.post("/v1/completions", BODY)
        streams = capture.stop()
        bulk, control = ports(cluster, "bulk at"), ports(cluster, "listens at")
        assert {"prefill-1", "decode-1"} <= set(bulk) & set(control), (bulk, control)
        return (answer, b"".join(data for key, data in streams.items() if key[1] in control.values()),
                b"".join(data for key, data in streams.items() if key[0] in bulk.values()), streams)


def windows(first, second):
    """Samples of the first that the second has too and that are not just zeros."""
    step = max(WINDOW, len(first) // 400)
    samples = (first[at:at + WINDOW] for at in range(0, len(first) - WINDOW, step))
    return [s for s in samples if len(set(s)) > 8 and s in second]


class OnTheWire(unittest.TestCase):
    def test_nothing_of_prompt_or_kv_can_be_read(self):
        _, control, bulk, streams = observed(link_transport="tcp")
        again = observed(link_transport="tcp")
        # What the plain cluster shows to anybody who listens: the text, tokens in control messages, KV in bulk.
        self.assertTrue(any(b"Xanthippe33" in data for data in streams.values()))
        tokens, kv = windows(control, again[1]), windows(bulk, again[2])
        print(f"plain: {len(control)} bytes of control, {len(bulk)} of bulk; {len(tokens)} and {len(kv)} samples")
        self.assertGreaterEqual(len(tokens), 3)
        self.assertGreaterEqual(len(kv), 20)
        answer, control, bulk, streams = observed(link_transport="tls", tls=True)
        print(f"tls: {len(control)} bytes of control, {len(bulk)} of bulk")
        self.assertGreaterEqual(len(bulk), 0.9 * len(again[2]))  # it did go that way
        self.assertEqual(essence(answer), essence(again[0]))
        everything = b"".join(streams.values())
        self.assertNotIn(b"Xanthippe33", everything)
        self.assertEqual([s for s in tokens + kv if s in everything], [])
        # On a network that is declared trusted KV goes in the clear, and nothing else does.
        answer, control, bulk, streams = observed(link_transport="tcp", tls=True)
        print(f"tls, KV in the clear: {len(control)} bytes of control, {len(bulk)} of bulk")
        self.assertEqual(essence(answer), essence(again[0]))
        self.assertGreaterEqual(len([s for s in kv if s in bulk]), 20)
        everything = b"".join(streams.values())
        self.assertNotIn(b"Xanthippe33", everything)
        self.assertEqual([s for s in tokens if s in everything], [])


class Strangers(unittest.TestCase):
    """One cluster; each stranger is refused, counted once under the right reason, and holds nothing."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(prefill=1, decode=1, kvstore=1, tls=True, link_transport="tls").__enter__()
        cls.tls = pathlib.Path(cls.cluster.folder, "tls")
        cls.control = ports(cls.cluster, "listens at")["prefill-1"]
        cls.bulk = ports(cls.cluster, "bulk at")["prefill-1"]
        cls.other = pathlib.Path(tempfile.mkdtemp(prefix="baton-tls-"))
        cls.certs(cls.other, "coordinator/coordinator-9")
        cls.certs(cls.tls, "coordinator/coordinator-9", "decode/decode-9", "kvstore/kvstore-9")
        cls.certs(cls.tls, "coordinator/late", "--hours", "1", "--backdate-hours", "2")
        cls.certs(cls.tls, "coordinator/foreign", "--cluster", "elsewhere")

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    @staticmethod
    def certs(folder, *arguments):
        nodes = [word for a in arguments if "/" in a for word in ("--node", a)]
        subprocess.run([str(BATON), "certs", "--dir", str(folder), *nodes, *(a for a in arguments if "/" not in a)],
                       check=True, capture_output=True)

    def refused(self):
        counts = {}
        for name, value in self.cluster.metrics().items():
            match = re.match(r'baton_connections_refused_total\{node="prefill-1",reason="(\w+)"\}', name)
            if match:
                counts[match[1]] = value
        return counts

    def talk(self, port, name=None, folder=None, say=b"\5\0\0\0hello", version=ssl.TLSVersion.TLSv1_3):
        """What an own TLS client gets to hear: b"" or an alert is nothing."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        if name:
            folder = folder or self.tls
            context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        heard = b""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw, context.wrap_socket(raw) as tls:
                tls.sendall(say)
                while data := tls.recv(4096):
                    heard += data
        except OSError:  # ssl.SSLError is one
            pass
        return heard

    def shout(self, port, data):
        """The same without TLS."""
        heard = b""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(data)
                while part := raw.recv(4096):
                    heard += part
        except OSError:
            pass
        return heard

    def hello(self, name):
        body = struct.pack("<BQBQ", 0x09, 77, 0x11, 1 << 60) + b"\x18\x03" + b"\x22" + bytes([len(name)]) + name.encode() + b"\x52\x07default"
        envelope = b"\x08" + bytes([proto_version()]) + bytes([HELLO_FIELD << 3 & 0x7f | 2]) + bytes([len(body)]) + body
        return struct.pack("<I", len(envelope)) + envelope

    def bulk_hello(self):
        return struct.pack("<IIQQQQII", 0x4b4c5542, 2, 12345, 1, 2, 3, 0, 0)

    def test_each_is_refused_counted_and_leaves_nothing(self):
        requests = mixed_requests("demo", 4, seed=5)
        expected = [essence(a) for a in solo(DEMO, requests)]
        sessions = {n["name"]: n["sessions"] for n in self.cluster.nodes()}
        cases = [
            ("unknown_ca", lambda: self.talk(self.control, "coordinator-9", self.other)),
            ("expired", lambda: self.talk(self.control, "late")),
            ("wrong_role", lambda: self.talk(self.control, "kvstore-9")),
            ("wrong_role", lambda: self.talk(self.bulk, "coordinator-9")),
            ("wrong_name", lambda: self.talk(self.control, "decode-9", say=self.hello("decode-1"))),
            ("wrong_name", lambda: self.talk(self.bulk, "decode-9", say=self.bulk_hello())),
            ("other_cluster", lambda: self.talk(self.control, "foreign")),
            ("no_certificate", lambda: self.talk(self.control)),
            ("no_certificate", lambda: self.talk(self.bulk)),
            ("version", lambda: self.talk(self.control, "coordinator-9", version=ssl.TLSVersion.TLSv1_2)),
            ("plaintext", lambda: self.shout(self.control, self.hello("coordinator-1"))),
            ("plaintext", lambda: self.shout(self.bulk, self.bulk_hello())),
            ("plaintext", lambda: self.shout(self.control, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
            ("handshake", lambda: self.shout(self.control, b"\x16\x03\x01\0\x10" + b"\xff" * 16)),
            ("handshake_timeout", lambda: self.shout(self.bulk, b"\x16")),
        ]
        wanted = self.refused()
        for reason, attack in cases:
            heard = attack()
            # A Hello of ours is sent to whoever is let in; an alert record of TLS is all that a stranger sees.
            self.assertTrue(reason == "wrong_name" or heard[:1] in (b"", b"\x15"), (reason, heard))
            wanted[reason] += 1
            self.cluster.wait_for(lambda: self.refused() == wanted, 10, f"{reason} counted: {wanted} {self.refused()}")
        print("refused:", {k: int(v) for k, v in wanted.items() if v})
        self.assertEqual([essence(self.cluster.post(*r)) for r in requests], expected)
        self.assertEqual({n["name"]: n["sessions"] for n in self.cluster.nodes()}, sessions)
        self.assertTrue(all(t["transport"] == "tls" for n in self.cluster.nodes() for t in n["transports"]))


HELLO_FIELD = 2

if __name__ == "__main__":
    own_net.enter()
    unittest.main(verbosity=2, argv=sys.argv[:1])
