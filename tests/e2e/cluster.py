"""A local cluster for the end-to-end tests: starts `baton up`, speaks HTTP to it, and knows the oracle, `baton solo`.

Only the standard library.  The build folder comes from BATON_BUILD, the sources from this file's place.
"""
import http.client
import json
import os
import pathlib
import random
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from free_port import free_port  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BATON_BUILD", ROOT / "build")).resolve()
BATON = BUILD / "tools" / "baton"
DEMO = ROOT / "models" / "demo"
DEMO_MOE = ROOT / "models" / "demo-moe"
LATENT = ROOT / "tests" / "golden" / "families" / "deepseek-v3"  # random; a token a byte, 1024 of them, no chat
WINDOWED = {  # random as well: tokens that a token sees in layers with a window, and whether there are layers without
    ROOT / "tests" / "golden" / "families" / "gemma2": (70, True),
    ROOT / "tests" / "golden" / "families" / "gpt-oss": (70, True),
    ROOT / "tests" / "golden" / "families" / "mistral": (100, False),
}
SLOW = int(os.environ.get("BATON_TEST_SLOW", 1))  # under a sanitizer: clocks are this many times longer
REPORTS = os.environ.get("BATON_TEST_REPORTS")    # where its reports appear (run.sh)


def proto_version():
    """Of the messages between nodes, as proto/codec.h has it."""
    return int(re.search(r"PROTO_VERSION = (\d+)", (ROOT / "proto" / "codec.h").read_text()).group(1))


def sanitizer_reports():
    """Files of the processes that found something."""
    return set(pathlib.Path(REPORTS).iterdir()) if REPORTS else set()


class Cluster:
    """`with Cluster(prefill=1, decode=2) as c: c.post(...)`.  Keyword arguments are flags of `baton up`."""

    def __init__(self, models=(DEMO,), **flags):
        self.port = free_port(flags.get("coordinator", 1))
        self.key = None  # shown with every request that names no other
        self.folder = tempfile.mkdtemp(prefix="baton-e2e-")
        arguments = [str(BATON), "up", "--port", str(self.port), "--run-dir", self.folder]
        for model in models:
            arguments += ["--model", str(model)]
        flags = {"kv_bytes": "64MiB", "store_bytes": "64MiB", **flags}
        flags["time_factor"] = flags.get("time_factor", 1) * SLOW
        self.reports_before = sanitizer_reports()
        for name, value in flags.items():
            arguments += ["--" + name.replace("_", "-")] + ([] if value is True else [str(value)])
        self.ca = pathlib.Path(self.folder, "tls", "ca.pem") if flags.get("tls") else None
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        start_new_session=True)
        self.lines, self.is_ready, self.has_ended = [], threading.Event(), threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if "ready:" in line:
                self.is_ready.set()
        self.has_ended.set()
        self.is_ready.set()

    def __enter__(self):
        self.is_ready.wait(120 * SLOW)
        if not self.is_ready.is_set() or self.has_ended.is_set():
            self.process.kill()
            raise RuntimeError("the cluster did not start:\n" + "\n".join(self.lines))
        return self

    def __exit__(self, kind, value, trace):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if kind:
            print("\n".join(self.lines[-10:]))
            self.show_logs()
        reports = sanitizer_reports() - self.reports_before
        assert not reports, "\n".join(path.read_text(errors="replace")[:8000] for path in sorted(reports))

    def show_logs(self, lines=12):
        for log in sorted(pathlib.Path(self.folder).glob("*.log")):
            if log.name != "etcd.log":
                print(f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-lines:], sep="\n")

    # ---- HTTP

    def _bearer(self):
        return {"Authorization": "Bearer " + self.key} if self.key else {}

    def connect(self, timeout):
        if not self.ca:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        trust = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=trust)

    def call(self, method, path, body=None, headers=None, timeout=120 * SLOW):
        """(status, headers, text)"""
        connection = self.connect(timeout)
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, data, {"Content-Type": "application/json", **self._bearer(), **(headers or {})})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def post(self, path, body, trace=True):
        """The parsed answer; with the node's account under usage.baton."""
        status, _, text = self.call("POST", path, body, {"x-baton-trace": "1"} if trace else None)
        assert status == 200, (status, text)
        return json.loads(text)

    def stream(self, path, body, on_event=None):
        """(list of parsed events, ended with [DONE])"""
        connection = self.connect(120 * SLOW)
        events, done = [], False
        try:
            connection.request("POST", path, json.dumps({**body, "stream": True}).encode(),
                               {"Content-Type": "application/json", "x-baton-trace": "1", **self._bearer()})
            response = connection.getresponse()
            if response.status != 200:
                return [{"status": response.status, "headers": dict(response.getheaders()),
                         "body": response.read().decode()}], False
            for raw in response:
                line = raw.decode().strip()
                if not line.startswith("data: "):
                    continue
                if line == "data: [DONE]":
                    done = True
                    continue
                events.append(json.loads(line[6:]))
                if on_event:
                    on_event(events[-1])
        except (http.client.HTTPException, OSError) as error:
            events.append({"broken": str(error)})
        finally:
            connection.close()
        return events, done

    def metrics(self):
        """{name{labels}: value} of /metrics"""
        text = self.call("GET", "/metrics")[2]
        return {m[1]: float(m[2]) for m in re.finditer(r"^([a-z_:]+(?:\{[^}]*\})?) (\S+)$", text, re.M)}

    def nodes(self):
        return json.loads(self.call("GET", "/debug/topology")[2])["nodes"]

    def etcd(self):
        """Where its etcd is: as `baton up` says it, a moment after it is ready."""
        found = []
        self.wait_for(lambda: found.extend(re.findall(r"--etcd (\S+)", "\n".join(self.lines))) or found, what="the address of etcd")
        return found[0]

    def wait_for(self, condition, timeout=30, what="condition"):
        end = time.monotonic() + timeout * SLOW
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout} s: {what}; nodes: {json.dumps(self.nodes(), indent=1)}")

    def wait_stores(self):
        """Until every engine knows every store that is up: before that it reads and offers without them."""
        def known():
            nodes = [n for n in self.nodes() if n["state"] == "up"]
            stores = {n["name"] for n in nodes if n["role"] == "kvstore"}
            return all(stores <= {t["peer"] for t in n["transports"]} for n in nodes if n["role"] in ("prefill", "decode"))
        self.wait_for(known, 30, "engines know the stores")

    def post_all(self, requests, concurrency):
        """Answers in the order of the requests: [(path, body)]."""
        with ThreadPoolExecutor(concurrency) as pool:
            return list(pool.map(lambda r: self.post(*r), requests))


def solo(model, requests, extra=()):
    """The oracle's answers to [(path, body)], in order."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for path, body in requests:
            file.write(json.dumps({"path": path, "body": body}) + "\n")
        file.flush()
        out = subprocess.run([str(BATON), "solo", "--model", str(model), "--requests", file.name, *extra],
                             capture_output=True, text=True, timeout=600 * SLOW)
    assert out.returncode == 0, out.stderr[-2000:]
    answers = [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == len(requests), (len(answers), out.stderr[-2000:])
    return answers


def essence(answer):
    """What law 1 speaks of: tokens, text, log-probabilities and why it ended; not ids, times or accounts."""
    return [{"index": c["index"], "text": c.get("text"), "message": c.get("message"), "logprobs": c.get("logprobs"),
             "token_ids": c.get("token_ids"), "finish_reason": c["finish_reason"],
             "prompt_logprobs": c.get("prompt_logprobs", answer.get("prompt_logprobs"))} for c in answer["choices"]]


NAMES = [a + b for a in ("Mi", "To", "Le", "Sa", "Ro", "Ka", "Ne", "Da") for b in ("ra", "bin", "na", "lio", "ven", "su")]


def look_up(rng, entries):
    names = [rng.choice(NAMES) + rng.choice(("", "a", "o", "is")) for _ in range(entries)]
    lines = [f"{name} has {rng.randrange(100, 1000)}." for name in names]
    return "Remember this list.\n" + "\n".join(lines) + f"\nWhich number belongs to {rng.choice(names)}?"


def mixed_requests(model, count, seed):
    """Completions and chats of mixed lengths, greedy and sampled, some with shared prefixes, some with n > 1."""
    rng = random.Random(seed)
    bases = [look_up(rng, size) for size in (3, 10, 30, 60, 100)]
    requests = []
    for number in range(count):
        text = rng.choice(bases) if rng.random() < 0.4 else look_up(rng, rng.choice((1, 2, 5, 12, 25, 50, 90)))
        if rng.random() < 0.3:
            text += f" Then tell a story about {rng.choice(NAMES)}."
        body = {"model": model, "max_tokens": rng.choice((1, 2, 5, 12, 24, 40)), "seed": rng.randrange(1 << 40),
                "temperature": rng.choice((0, 0, 0.7, 1.0)), "return_token_ids": True}
        if rng.random() < 0.2:
            body["n"] = rng.choice((2, 3))
        if rng.random() < 0.3:
            body.update(top_p=0.9, top_k=rng.choice((0, 20)), min_p=rng.choice((0, 0.02)))
        if rng.random() < 0.2:
            body.update(presence_penalty=0.5, frequency_penalty=0.3, repetition_penalty=1.1)
        if rng.random() < 0.2:
            body.update(ignore_eos=True)
        if number % 12 in (2, 3):  # what is said of the prompt, now and then
            body.update(prompt_logprobs=3)
        if number % 2:
            body.update(messages=[{"role": "user", "content": text}], logprobs=True, top_logprobs=3)
            requests.append(("/v1/chat/completions", body))
        else:
            body.update(prompt=text, logprobs=2, echo=number % 12 == 4)
            requests.append(("/v1/completions", body))
    return requests
