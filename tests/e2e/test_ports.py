#!/usr/bin/env python3
"""What a stranger on the network finds: every port of every process of a cluster with TLS, scanned from another network
namespace.  Only the API answers without a certificate; nothing listens where it was not told to; no port of UCX is open."""
import json
import os
import pathlib
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

import own_net
from cluster import BATON, BUILD, DEMO, essence, solo

NODE, FOREIGN = "10.9.0.1", "10.9.0.2"
API, ETCD, ETCD_PEER = 21000, 21001, 21002
BODY = {"model": "demo", "prompt": "Remember this list.\nMirao has 812.\nWhich number belongs to Mirao?", "max_tokens": 8,
        "temperature": 0, "return_token_ids": True}


# ---- what runs in the foreign namespace: this file with "scan"

def scan(address):
    """Open TCP ports, by connecting to each."""
    found, poller, waiting = [], select.poll(), {}

    def reap(milliseconds):
        for fd, _ in poller.poll(milliseconds):
            port, s = waiting.pop(fd)
            poller.unregister(fd)
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(port)
            s.close()

    for port in range(1, 65536):
        s = socket.socket()
        s.setblocking(False)
        error = s.connect_ex((address, port))
        if error == 115:  # EINPROGRESS
            waiting[s.fileno()] = (port, s)
            poller.register(s, select.POLLOUT)
        else:
            s.close()
        if len(waiting) >= 500:
            reap(1000)
    end = time.monotonic() + 5
    while waiting and time.monotonic() < end:
        reap(200)
    return sorted(found)


def heard(address, port, data, tls):
    """All that comes back to some bytes, or to nothing, within a moment."""
    answer = b""
    try:
        with socket.create_connection((address, port), timeout=4) as s:
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                s = context.wrap_socket(s)
            s.sendall(data)
            while part := s.recv(4096):
                answer += part
    except OSError:
        pass
    return answer


def scan_main(address):
    get = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    probes = {"plain http": (get, False), "plain frame": (b"\x05\0\0\0hello" * 8, False),
              "plain bulk": (b"BULK\1\0\0\0" + bytes(32), False),
              "ucx": (b"\x01\x00\xca\xfe\xba\xbe\0\0" * 8, False),  # what a UCX peer's first bytes look like
              "tls http": (get, True)}
    result = {}
    for port in scan(address):
        result[port] = {name: heard(address, port, *probe).hex() for name, probe in probes.items()}
    print(json.dumps(result))


# ---- the cluster, in the namespace "node"

class Ports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="baton-ports-"))
        os.chmod(cls.folder, 0o755)
        cls.processes = {}
        cls.net()
        nodes = ["kvstore/kvstore-1", "prefill/prefill-1", "decode/decode-1", "coordinator/coordinator-1"]
        subprocess.run([str(BATON), "certs", "--dir", str(cls.folder / "tls"), "--host", NODE] +
                       [w for n in nodes for w in ("--node", n)], check=True, capture_output=True)
        cls.start("etcd", ["/usr/bin/etcd", "--data-dir", str(cls.folder / "etcd"),
                           "--listen-client-urls", f"http://127.0.0.1:{ETCD}",
                           "--advertise-client-urls", f"http://127.0.0.1:{ETCD}",
                           "--listen-peer-urls", f"http://127.0.0.1:{ETCD_PEER}",
                           "--initial-advertise-peer-urls", f"http://127.0.0.1:{ETCD_PEER}",
                           "--initial-cluster", f"default=http://127.0.0.1:{ETCD_PEER}"])
        engine = ["--model", str(DEMO), "--kv-bytes", "32MiB", "--threads", "1"]
        cls.baton("kvstore", "kvstore-1", ["--kv-bytes", "16MiB", "--slab-bytes", "4MiB"])
        cls.baton("prefill", "prefill-1", engine, "node")
        cls.baton("decode", "decode-1", engine, "node")
        pem = cls.folder / "tls" / "coordinator-1"
        cls.baton("coordinator", "coordinator-1", ["--model", str(DEMO), "--host", NODE, "--port", str(API),
                                                   "--ssl-certfile", f"{pem}.pem", "--ssl-keyfile", f"{pem}.key"])
        end = time.monotonic() + 60
        while cls.ask("GET", "/readyz")[0] != 200:
            if time.monotonic() > end:
                for log in cls.folder.glob("*.log"):
                    print(f"--- {log.name}", log.read_text()[-1500:])
                raise RuntimeError("the cluster did not start")
            time.sleep(0.1)

    @classmethod
    def tearDownClass(cls):
        for process in reversed(cls.processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in cls.processes.values():
            process.wait(30)

    @staticmethod
    def net():
        for line in ("netns add node", "netns add foreign",
                     "link add n0 netns node type veth peer name f0 netns foreign",
                     f"-n node addr add {NODE}/24 dev n0", f"-n foreign addr add {FOREIGN}/24 dev f0",
                     "-n node link set lo up", "-n node link set n0 up", "-n foreign link set lo up",
                     "-n foreign link set f0 up"):
            subprocess.run(["ip", *line.split()], check=True)

    @classmethod
    def start(cls, name, arguments):
        with open(cls.folder / f"{name}.log", "wb") as log:
            cls.processes[name] = subprocess.Popen(["ip", "netns", "exec", "node", *arguments], stdout=log, stderr=log)

    @classmethod
    def baton(cls, role, name, arguments, room=None):
        pem = cls.folder / "tls" / name
        cls.start(name, [str(BUILD / (room or role) / f"baton-{role}"), "--name", name, "--listen", f"tcp://{NODE}:0", "--etcd",
                         f"http://127.0.0.1:{ETCD}", "--tls-ca-file", str(cls.folder / "tls" / "ca.pem"), "--tls-cert-file",
                         f"{pem}.pem", "--tls-key-file", f"{pem}.key", *arguments])

    @classmethod
    def ask(cls, method, path, body=None):
        """(status, text), from the foreign namespace, with the CA's trust."""
        done = cls.curl(["-s", "-m", "30", "-w", "\n%{http_code}", "--cacert", str(cls.folder / "tls" / "ca.pem"), "-X", method] +
                        (["-d", json.dumps(body)] if body else []) + [f"https://{NODE}:{API}{path}"])
        text, _, status = done.rpartition("\n")
        return int(status or 0), text

    @staticmethod
    def curl(arguments):
        return subprocess.run(["ip", "netns", "exec", "foreign", "curl", *arguments], capture_output=True, text=True).stdout

    def listeners(self):
        """[(protocol, address, port, program)] of everything that listens in the node's namespace."""
        out = subprocess.run(["ip", "netns", "exec", "node", "ss", "-H", "-l", "-n", "-t", "-u", "-p"], capture_output=True,
                             text=True, check=True).stdout
        found = []
        for line in out.splitlines():
            fields = line.split()
            address, _, port = fields[4].rpartition(":")
            program = re.search(r'\(\("([^"]+)"', line)
            found.append((fields[0], address.strip("[]"), int(port), program[1] if program else "?"))
        return found

    def test_only_the_api_answers_a_stranger(self):
        status, text = self.ask("POST", "/v1/completions", BODY)
        self.assertEqual(status, 200, text)
        expected = essence(solo(DEMO, [("/v1/completions", BODY)])[0])
        self.assertEqual(essence(json.loads(text)), expected)

        listeners = self.listeners()
        print("\n".join(f"{p} {a}:{n} {who}" for p, a, n, who in sorted(listeners, key=lambda x: x[2])))
        self.assertTrue(all(p == "tcp" for p, *_ in listeners), "nothing of ours takes datagrams")
        beyond = {port: who for _, address, port, who in listeners if address != "127.0.0.1"}
        self.assertTrue(all(address in (NODE, "127.0.0.1") for _, address, _, _ in listeners), listeners)
        self.assertTrue(all(who.startswith("baton-") for who in beyond.values()), beyond)
        # Names are cut at 15 characters.  One port of control each, one of bulk for each that has memory, the API: no UCX.
        self.assertEqual(sorted(beyond.values()), sorted(["baton-coordinat"] * 2 + ["baton-decode"] * 2 +
                                                         ["baton-kvstore"] * 2 + ["baton-prefill"] * 2))

        begin = time.monotonic()
        out = subprocess.run(["ip", "netns", "exec", "foreign", sys.executable, __file__, "scan", NODE], capture_output=True,
                             text=True, timeout=120)
        self.assertEqual(out.returncode, 0, out.stderr)
        scanned = {int(port): answers for port, answers in json.loads(out.stdout).items()}
        print(f"65535 ports scanned in {time.monotonic() - begin:.1f} s, open: {sorted(scanned)}")
        self.assertEqual(set(scanned), set(beyond))
        for port, answers in scanned.items():
            answers = {name: bytes.fromhex(text) for name, text in answers.items()}
            with self.subTest(port=port, program=beyond[port]):
                if port == API:
                    self.assertIn(b" 200 OK", answers.pop("tls http"))
                # An alert of TLS is the only word that a stranger hears.
                self.assertEqual({k: v for k, v in answers.items() if v and v[0] != 0x15}, {})
                self.assertTrue(all(len(v) <= 7 for v in answers.values()), answers)

        self.check_counted()
        self.assertEqual(essence(json.loads(self.ask("POST", "/v1/completions", BODY)[1])), expected)

    def check_counted(self):
        """Every node says in the metrics what it refused."""
        end = time.monotonic() + 10
        wanted = {(n, r) for n in ("prefill-1", "decode-1", "kvstore-1", "coordinator-1") for r in ("plaintext", "no_certificate")}
        while time.monotonic() < end:
            text = self.ask("GET", "/metrics")[1]
            found = {m.groups()[:2] for m in re.finditer(
                r'baton_connections_refused_total\{node="([^"]+)",reason="([^"]+)"\} ([1-9]\d*)', text)}
            if wanted <= found:
                return
            time.sleep(0.2)
        self.fail(f"not counted: {wanted - found}")

    def test_mapped_memory_is_handed_to_our_own_user_only(self):
        out = subprocess.run(["ip", "netns", "exec", "node", "ss", "-H", "-x", "-l", "-n"], capture_output=True, text=True).stdout
        names = re.findall(r"(@baton-link-[0-9a-f]+)", out)
        self.assertEqual(len(names), 3, out)
        script = ("import os, socket, sys\nos.setuid(int(sys.argv[1]))\nfor name in sys.argv[2:]:\n"
                  " s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n s.settimeout(5)\n s.connect('\\0' + name[1:])\n"
                  " try:\n  data, fds, _, _ = socket.recv_fds(s, 4096, 8)\n except OSError:\n  data, fds = b'', []\n"
                  " print(len(data) > 0)\n")
        for user, expected in (("65534", "False"), (str(os.geteuid()), "True")):
            done = subprocess.run(["ip", "netns", "exec", "node", sys.executable, "-c", script, user, *names], capture_output=True,
                                  text=True)
            self.assertEqual(done.stdout.split(), [expected] * 3, done.stderr)

    def test_nothing_starts_open(self):
        """Closed by default: an address that others reach needs TLS or --insecure, UCX a network, TLS all its files."""
        pem = self.folder / "tls" / "prefill-1"
        engine = [str(BUILD / "node" / "baton-prefill"), "--model", str(DEMO), "--etcd", "http://127.0.0.1:1"]
        coordinator = [str(BUILD / "coordinator" / "baton-coordinator"), "--model", str(DEMO), "--etcd", "http://127.0.0.1:1"]
        files = ["--tls-ca-file", str(self.folder / "tls" / "ca.pem"), "--tls-cert-file", f"{pem}.pem", "--tls-key-file",
                 f"{pem}.key"]
        cases = [
            (engine + ["--listen", "tcp://0.0.0.0:0"], "--listen 0.0.0.0 can be reached from other machines"),
            (engine + ["--listen", "tcp://[::]:0"], "--insecure"),
            (coordinator + ["--host", "0.0.0.0", "--port", "0"], "--ssl-certfile and --ssl-keyfile"),
            (engine + ["--link-transport", "ucx-tcp"], "--link-network"),
            (engine + ["--link-transport", "tls"], "needs certificates"),
            (engine + files[:4], "--tls-key-file is missing"),
            (engine + files + ["--name", "prefill-2"], 'is of "prefill-1", this is --name "prefill-2"'),
            (engine + files + ["--link-transport", "tcp"], "expected tls"),
            (engine + files + ["--cluster", "other"], 'is of cluster "default"'),
            (coordinator + files + ["--name", "prefill-1", "--port", "0"], "is of a prefill, this is a coordinator"),
            (engine + ["--listen", "tls+tcp://127.0.0.1:0"], "needs --tls-ca-file"),
        ]
        for arguments, reason in cases:
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1, arguments)
            self.assertIn(reason, done.stderr, arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["scan"]:
        scan_main(sys.argv[2])
    else:
        own_net.enter()
        unittest.main(verbosity=2, argv=sys.argv[:1])
