#!/usr/bin/env python3
"""Faults on the real cluster: boots it in network namespaces, runs the cells of cells.py under load, prints the table.

usage: run.py [--quick] [--requests N] [--time-factor F] [--seed N] [--only TEXT] [--list]
  --quick        the sample of ./check
  --requests N   rounds of the cells with many small requests, until N were under way during a fault
  --soak MINUTES at 70 % of what it can do, with a fault of the table every 30 s (soak.py)
  --kills        what a kill costs 800 requests, with and without spares, as a table in bench/results (kills.py)
  --only TEXT    cells whose name contains it; --repeat N times
Needs root.  Exit code 77: cannot run here, and says why.
"""
import argparse
import asyncio
import gc
import os
import pathlib
import random
import re
import shutil
import sys
import time
import traceback
from dataclasses import replace

import world
from cells import all_cells
from fleet import BUILD, Fleet
from judge import Result, judge, print_result, publish
from traffic import Oracle, Traffic

GROUPS = {"tcp": {}, "mapped": {"transport": "mapped"}, "ucx": {"transport": "ucx-tcp"}, "relay": {"relayed": True},
          "etcd3": {"etcd": 3}, "disk": {"shim": True, "small_disk": True}}
WARM_S, AFTER_S = 0.8, 1.0
QUIET_S = 2.5    # law 3: all that a dead peer held is free
HEALED_S = 10.0  # after the heal everybody is back


class Run:
    """What the cells of one group share."""

    def __init__(self, options, group, **more):
        self.options, self.group = options, group
        self.rng = random.Random(f"{options.seed} {group}")
        self.fleet = Fleet(factor=options.time_factor, log_level=options.log_level, **{**GROUPS[group], **more})
        self.rate = self.period = None  # soak.py
        self.calm = 0.5 * options.time_factor  # the longest gap without a fault; measured where the group has such a cell

    def pick(self, fault, processes):
        """Which of them the fault strikes."""
        return self.rng.choice(processes)

    async def guarded(self, cell):
        """A cell that cannot even be carried through has failed."""
        traffic, fault = Traffic(self.fleet, oracle(cell.kind), cell.streams, self.rate), cell.make()
        traffic.retry_elsewhere = cell.retry
        result = Result(cell, self, fault, traffic)
        try:
            await self.cell(cell, fault, traffic, result)
        except Exception as error:  # whatever it was, the next cells must run
            await traffic.abandon()
            result.notes += [f"{type(error).__name__}: {error}"] + traceback.format_exc().splitlines()[-4:]
            result.crashed = True
        if not result.ok():
            self.keep_evidence(cell)
        return result

    async def cell(self, cell, fault, traffic, result):
        fleet = self.fleet
        traffic.start()
        await asyncio.sleep(WARM_S)
        result.injected = time.monotonic()
        await fault.inject(self)
        await asyncio.sleep(cell.hold * fleet.factor)
        await fault.heal(self)
        await asyncio.to_thread(self.wait_healed)  # under load; what is not there yet is still a fault to its clients
        result.mended = time.monotonic()
        await asyncio.sleep(max(0.3 if self.options.quick else AFTER_S, result.injected + self.period - time.monotonic() if self.period else 0))
        await traffic.finish()
        result.left = await asyncio.to_thread(self.wait_quiet)
        result.unhealed = await asyncio.to_thread(self.wait_healed)
        result.notes += await fault.check(self)
        judge(result)

    def keep_evidence(self, cell):
        """Logs and views of a cell that failed, in the build folder."""
        folder = BUILD / "faults" / re.sub(r"\W+", "-", cell.name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for process in self.fleet.all.values():
            if process.lives():
                links = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{process.pid}/fd").iterdir() if fd.is_symlink()]
                (folder / f"{process.name}.descriptors").write_text("\n".join(sorted(links)) + "\n")
        for log in pathlib.Path(self.fleet.folder).glob("*.log"):
            shutil.copy(log, folder)
        for coordinator in self.fleet.coordinators:
            for path in ("/debug/topology", "/debug/requests", "/metrics"):
                try:
                    text = self.fleet.get(coordinator, path)[1]
                except OSError as error:
                    text = repr(error)
                (folder / (coordinator.name + path.replace("/", "-"))).write_text(text)

    def wait_quiet(self):
        """What is still held when law 3's time is over."""
        end = time.monotonic() + QUIET_S * self.fleet.factor
        while (left := self.fleet.held()) and time.monotonic() < end:
            time.sleep(0.1)
        return left

    def wait_healed(self):
        end = time.monotonic() + HEALED_S * self.fleet.factor
        while (wrong := self.fleet.unhealthy()) and time.monotonic() < end:
            time.sleep(0.1)
        return wrong


ORACLES = {}


def oracle(kind):
    if kind not in ORACLES:
        ORACLES[kind] = Oracle(kind, 400, 1)
    return ORACLES[kind]


async def run_cells(options, cells):
    results = []
    for group in dict.fromkeys(cell.group for cell in cells):
        run = Run(options, group)
        await asyncio.to_thread(run.fleet.start)
        for cell in (c for c in cells if c.group == group):
            result = await run.guarded(cell)
            gc.collect()  # not under load: it stops the clients' clocks
            results.append(result)
            print_result(result)
            result.close()
            if result.broken():  # what it left behind must not spoil the next one
                await asyncio.to_thread(run.fleet.stop)
                calm = run.calm
                run = Run(options, group)
                run.calm = calm
                await asyncio.to_thread(run.fleet.start)
        await asyncio.to_thread(run.fleet.stop)
    return results


async def run_many(options):
    """Rounds of the quick faults of running processes under many small requests, until enough were faulted."""
    results, faulted = [], 0
    words = ("kill -9", "restart", "SIGSTOP", "cut off", "hears", "heard", "data plane", "loses", "SIGTERM", "apart")
    cells = [c for c in all_cells() if c.group == "tcp" and c.streams and any(word in c.name for word in words)]
    run = Run(options, "tcp")
    await asyncio.to_thread(run.fleet.start)
    while faulted < options.requests:
        cell = replace(run.rng.choice(cells), kind="short", streams=32)
        result = await run.guarded(cell)
        results.append(result)
        faulted += result.faulted
        print_result(result)
        result.close()
        gc.collect()
        if result.broken():
            await asyncio.to_thread(run.fleet.stop)
            run = Run(options, "tcp")
            await asyncio.to_thread(run.fleet.start)
    await asyncio.to_thread(run.fleet.stop)
    return results


def chosen(options):
    cells = all_cells()
    if options.quick:
        cells = [replace(c, hold=min(c.hold, 2.6 if c.extra > 1 else 0.8), streams=min(c.streams, 5)) for c in cells if c.quick]
    if options.only:
        cells = [c for c in cells if any(word in c.name for word in options.only) or c.name.startswith("calm")]
        cells = [c for c in cells for _ in range(1 if c.name.startswith("calm") else options.repeat)]
        groups = {c.group for c in cells if not c.name.startswith("calm")}
        cells = [c for c in cells if c.group in groups]
    return cells


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--soak", type=float)
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--time-factor", type=int, default=int(os.environ.get("BATON_TEST_SLOW", 1)))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(cell.name for cell in chosen(options)))
        return 0
    if why := world.why_not():
        print("skipped: " + why)
        return 77
    world.enter()
    gc.disable()
    oracle("mixed")
    if options.soak:
        from soak import soak
        return asyncio.run(soak(options))
    if options.kills:
        from kills import kills
        return asyncio.run(kills(options))
    if options.requests:
        return publish(asyncio.run(run_many(options)))
    return publish(asyncio.run(run_cells(options, chosen(options))))


if __name__ == "__main__":
    sys.exit(main())
