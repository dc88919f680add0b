#!/usr/bin/env python3
"""What overload does: goodput and refusals at 0.5 to 2 times the capacity, and what slow readers and idle crowds cost others.

    BATON_BUILD=build bench/overload/overload.py [--seconds 10] [--repeat 3] [--out bench/results/overload.md]

One process makes an open-loop load (Poisson arrivals: a slow server does not slow its clients down) against `baton up` with
one prefill and one decode node.  Capacity is what a closed loop of 64 clients gets.  Every figure is the median of the
repetitions.  Only the standard library.
"""
import argparse
import asyncio
import json
import os
import pathlib
import platform
import random
import re
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "e2e"))
os.environ.setdefault("BATON_MAX_QUEUE_WAIT", "2")
os.environ.setdefault("BATON_WRITE_TIMEOUT", "5")
from cluster import Cluster, look_up  # noqa: E402

BODY = {"model": "demo", "max_tokens": 24, "temperature": 0, "ignore_eos": True, "stream": True}


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p))] if values else float("nan")


class Load:
    def __init__(self, port, seed=1):
        self.port, self.rng, self.number = port, random.Random(seed), 0

    def request(self, **more):
        self.number += 1
        body = json.dumps({**BODY, "prompt": f"{self.number} " + look_up(self.rng, 20), **more}).encode()
        return (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body)) + body

    async def ask(self, **more):
        """(status, seconds to the head, seconds to the end, whole, times of events)"""
        start, times = time.monotonic(), []
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self.request(**more))
            head = await reader.readuntil(b"\r\n\r\n")
            first, status, tail = time.monotonic(), int(head.split()[1]), b""
            while chunk := await reader.read(65536):
                times.append(time.monotonic())
                tail = (tail + chunk)[-64:]
            writer.close()
            return status, first - start, time.monotonic() - start, b"[DONE]" in tail, times
        except (OSError, asyncio.IncompleteReadError):
            return 0, 0, time.monotonic() - start, False, times

    async def closed(self, clients, seconds):
        """Completions a second of so many clients that ask again at once."""
        end, done, warm = time.monotonic() + seconds + 2, 0, time.monotonic() + 2

        async def client():
            nonlocal done
            while time.monotonic() < end:
                status, _, _, whole, _ = await self.ask()
                done += status == 200 and whole and warm < time.monotonic() < end
                if status != 200:
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(client() for _ in range(clients)))
        return done / seconds

    async def open(self, rate, seconds):
        """Poisson arrivals of `rate` a second; what became of those that came after the first 3 s."""
        results, tasks, start = [], [], time.monotonic()
        warm, end, next_at = start + 3, start + 3 + seconds, start

        async def one():
            came = time.monotonic()
            result = await self.ask()
            results.append((came, time.monotonic(), *result))

        while next_at < end:
            await asyncio.sleep(max(0, next_at - time.monotonic()))
            tasks.append(asyncio.create_task(one()))
            next_at += self.rng.expovariate(rate)
        await asyncio.gather(*tasks)
        late = [r for r in results if r[0] >= warm]
        refused = [r[3] * 1e3 for r in late if r[2] in (429, 503)]
        good = [r for r in results if r[2] == 200 and r[5]]
        return {"offered": len(late) / seconds, "goodput": sum(warm <= r[1] < end for r in good) / seconds,
                "refused": len(refused) / max(1, len(late)), "refusal p50 ms": percentile(refused, 0.5),
                "refusal p99 ms": percentile(refused, 0.99), "first byte p50 ms": percentile([r[3] * 1e3 for r in good], 0.5),
                "lost": sum(1 for r in results if not (r[2] in (429, 503) or (r[2] == 200 and r[5])))}

    async def gaps(self, streams=4, count=3):
        """Gaps between events of some steady streams, in ms."""
        gaps = []
        for _ in range(count):
            for _, _, _, _, times in await asyncio.gather(*(self.ask(max_tokens=200) for _ in range(streams))):
                gaps += [(b - a) * 1e3 for a, b in zip(times, times[1:])]
        return gaps


def coordinator(cluster):
    children = pathlib.Path(f"/proc/{cluster.process.pid}/task/{cluster.process.pid}/children").read_text().split()
    return next(p for p in children if b"baton-coordinator" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[0])


def rss_mib(cluster):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{coordinator(cluster)}/status").read_text())[1]) / 1024


def slow_reader(load):
    """Asks for much, with log-probabilities, and reads nothing."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", load.port))
    s.sendall(load.request(max_tokens=1200, logprobs=5))
    return s


def idle(port):
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    return s


def with_crowd(cluster, load, make, count, settle):
    """(p99 ms with the crowd, MiB that the crowd takes at most)"""
    before, crowd = rss_mib(cluster), []
    for _ in range(count):
        crowd.append(make())
    time.sleep(settle)
    gaps = asyncio.run(load.gaps())
    taken = rss_mib(cluster) - before
    for s in crowd:
        s.close()
    time.sleep(1)
    return percentile(gaps, 0.99), taken


def middle(rows):
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    lines = []

    def say(text):
        print(text, flush=True)
        lines.append(text)

    say(f"# Overload\n\n{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores shared "
        f"by cluster and load (load average {os.getloadavg()[0]:.1f} before the run); {arguments.repeat} x {arguments.seconds:.0f} s "
        f"a line, medians; --max-queue-wait {os.environ['BATON_MAX_QUEUE_WAIT']}. One prefill and one decode node, 8 sequences "
        "each; prompts of about 170 tokens, answers of 24.\n`bench/overload/overload.py`\n")
    with Cluster(prefill=1, decode=1, kvstore=0, max_num_seqs=8) as cluster:
        load = Load(cluster.port)
        capacity = statistics.median(asyncio.run(load.closed(64, arguments.seconds)) for _ in range(arguments.repeat))
        say(f"Capacity (closed loop, 64 clients): {capacity:.1f} requests/s.\n")
        say("| load | offered/s | goodput/s | of the peak | refused | refusal p50 / p99 ms | first byte p50 ms | lost |")
        say("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        rows = {f: middle([asyncio.run(load.open(f * capacity, arguments.seconds)) for _ in range(arguments.repeat)])
                for f in (0.5, 1, 1.5, 2)}
        peak = max(row["goodput"] for row in rows.values())
        for factor, r in rows.items():
            say(f"| {factor} | {r['offered']:.1f} | {r['goodput']:.1f} | {r['goodput'] / peak:.0%} | {r['refused']:.0%} | "
                f"{r['refusal p50 ms']:.0f} / {r['refusal p99 ms']:.0f} | {r['first byte p50 ms']:.0f} | {r['lost']:.0f} |")
        time.sleep(3)
    with Cluster(prefill=1, decode=1, kvstore=0, max_num_seqs=8) as cluster:
        load = Load(cluster.port, 2)
        asyncio.run(load.gaps())
        alone, slow, crowd = [], [], []
        for _ in range(arguments.repeat):
            alone.append(percentile(asyncio.run(load.gaps()), 0.99))
            # They are given up when 256 KiB wait or after the write timeout: nothing of them computes any more then.
            slow.append(with_crowd(cluster, load, lambda: slow_reader(load), arguments.slow, 20))
            crowd.append(with_crowd(cluster, load, lambda: idle(cluster.port), arguments.idle, 1))
        base = statistics.median(alone)
        say("\n| others' streams | p99 gap ms | times alone | coordinator MiB more |")
        say("| --- | ---: | ---: | ---: |")
        say(f"| alone | {base:.1f} | 1.00 | |")
        for name, rows in ((f"beside {arguments.slow} that never read", slow), (f"beside {arguments.idle} idle connections", crowd)):
            p99 = statistics.median(row[0] for row in rows)
            say(f"| {name} | {p99:.1f} | {p99 / base:.2f} | {statistics.median(row[1] for row in rows):.1f} |")
        metrics = cluster.metrics()
        say(f"\nGiven up for not reading: {metrics['baton_api_slow_readers_total'] + metrics['baton_api_stalled_total']:.0f}.")
    if arguments.out:
        pathlib.Path(arguments.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
