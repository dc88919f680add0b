"""An hour of the table: 70 % of what the cluster can do, a fault every 30 s, and nothing may grow.

Kills and restarts strike the first of each role only, so that the second one lives through the whole: what its memory
and its descriptors do over that time is the verdict.  Everything else strikes any.
"""
import asyncio
import gc
import json
import time

import run as table
from cells import all_cells
from faults import Drain, Flap, Kill
from faults_host import OutOfMemory
from fleet import BUILD
from judge import print_result
from traffic import Traffic

PERIOD_S = 30
LOAD = 0.7
WARM_UP_S = 300           # of a process; at most a quarter of the run
SLOPE_MAX = 2 << 20       # bytes an hour
DESCRIPTORS_MAX = 4.0     # an hour
ENDS = (Kill, Flap, Drain, OutOfMemory)


class SoakRun(table.Run):
    def __init__(self, options):
        super().__init__(options, "tcp", etcd=3)
        self.period = PERIOD_S
        self.samples = {}  # pid: (name, [(time, rss, descriptors)])

    def pick(self, fault, processes):
        return processes[0] if isinstance(fault, ENDS) else self.rng.choice(processes)

    async def measure_rate(self):
        """Requests a second that eight clients get answered without a pause."""
        traffic = Traffic(self.fleet, table.oracle("mixed"), 8)
        traffic.start()
        await asyncio.sleep(15)
        await traffic.finish()
        done = [r.ended for r in traffic.requests if r.ended]
        return len(done) / (max(done) - min(r.sent for r in traffic.requests))

    async def watch(self):
        while True:
            for process in self.fleet.all.values():
                if process.role != "etcd" and process.lives() and not process.stopped:
                    _, samples = self.samples.setdefault(process.pid, (process.name, []))
                    samples.append((time.monotonic(), process.rss(), process.fd_count()))
            await asyncio.sleep(5)


def slope(points):
    """Least squares, a second."""
    n = len(points)
    mean_t, mean_v = sum(t for t, _ in points) / n, sum(v for _, v in points) / n
    below = sum((t - mean_t) ** 2 for t, _ in points)
    return sum((t - mean_t) * (v - mean_v) for t, v in points) / below if below else 0.0


def growth(samples, run_s):
    """[(name, seconds, MiB an hour, descriptors an hour)] of the lives that cover half of the run, without warm-up."""
    warm_up, found = min(WARM_UP_S, run_s / 4), []
    for name, series in samples.values():
        kept = [s for s in series if s[0] >= series[0][0] + warm_up]
        if len(kept) < 10 or kept[-1][0] - kept[0][0] < run_s / 2:
            continue
        found.append((name, kept[-1][0] - kept[0][0], slope([(t, rss) for t, rss, _ in kept]) * 3600 / (1 << 20),
                      slope([(t, count) for t, _, count in kept]) * 3600))
    return found


async def soak(options):
    run = SoakRun(options)
    cells = [c for c in all_cells() if c.group in ("tcp", "etcd3") and c.streams and c.hold < 30]
    await asyncio.to_thread(run.fleet.start)
    run.rate = LOAD * await run.measure_rate()
    print(f"{options.soak:g} minutes at {run.rate:.1f} requests a second, {LOAD:.0%} of what eight clients got", flush=True)
    watch = asyncio.create_task(run.watch())
    begin, results = time.monotonic(), []
    while time.monotonic() < begin + options.soak * 60:
        result = await run.guarded(run.rng.choice(cells))
        print_result(result)
        results.append(result)
        result.close()
        gc.collect()
        if result.broken():
            print("the cluster is not whole again: the soak ends here")
            break
    watch.cancel()
    lives = growth(run.samples, time.monotonic() - begin)
    await asyncio.to_thread(run.fleet.stop)
    return verdict(results, lives)


def verdict(results, lives):
    rows = [r.row() for r in results]
    failed = [row for row in rows if not row["ok"]]
    grown = [life for life in lives if life[2] * (1 << 20) > SLOPE_MAX or abs(life[3]) > DESCRIPTORS_MAX]
    for name, seconds, memory, descriptors in sorted(lives):
        print(f"{name:<16} {seconds:6.0f} s  {memory:+7.2f} MiB/h  {descriptors:+6.2f} descriptors/h")
    total = {key: sum(row[key] for row in rows) for key in ("requests", "faulted", "wrong", "lost", "duplicated", "left")}
    print(f"{len(rows)} faults, {len(failed)} not as required, {len(grown)} processes that grew; {total}")
    (BUILD / "faults" / "soak.json").write_text(json.dumps({"cells": rows, "lives": lives, "total": total}, indent=1))
    return 1 if failed or grown or not lives else 0
