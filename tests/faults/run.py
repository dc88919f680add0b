#!/usr/bin/env python3
"""Faults on the real cluster: boots it in network namespaces, runs the cells of cells.py under load, prints the table.

usage: run.py [--quick] [--requests N] [--time-factor F] [--seed N] [--only TEXT] [--list]
  --quick        the sample of ./check
  --requests N   rounds of the cells with many small requests, until N were under way during a fault
  --only TEXT    cells whose name contains it
Needs root.  Exit code 77: cannot run here, and says why.
"""
import argparse
import asyncio
import random
import sys
import time

import world
from cells import all_cells
from fleet import Fleet
from judge import Result, judge, print_result, publish
from traffic import Oracle, Traffic

GROUPS = {"ucx": {}, "mapped": {"same_host": True}}
WARM_S, AFTER_S = 0.8, 1.0
QUIET_S = 2.5    # law 3: all that a dead peer held is free
HEALED_S = 10.0  # after the heal everybody is back


class Run:
    """What the cells of one group share."""

    def __init__(self, options, group):
        self.options, self.group = options, group
        self.rng = random.Random(f"{options.seed} {group}")
        self.fleet = Fleet(factor=options.time_factor, **GROUPS[group])
        self.calm = 0.0  # the longest gap without a fault

    async def cell(self, cell):
        fleet, fault = self.fleet, cell.make()
        traffic = Traffic(fleet, oracle(cell.kind), cell.streams)
        traffic.retry_elsewhere = cell.retry
        result = Result(cell, self, fault, traffic)
        traffic.start()
        await asyncio.sleep(WARM_S)
        result.injected = time.monotonic()
        await fault.inject(self)
        await asyncio.sleep(cell.hold * fleet.factor)
        await fault.heal(self)
        await asyncio.to_thread(self.wait_healed)  # under load; what is not there yet is still a fault to its clients
        result.mended = time.monotonic()
        await asyncio.sleep(AFTER_S)
        await traffic.finish()
        result.left = await asyncio.to_thread(self.wait_quiet)
        result.unhealed = await asyncio.to_thread(self.wait_healed)
        result.notes += await fault.check(self)
        judge(result)
        return result

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
            result = await run.cell(cell)
            results.append(result)
            print_result(result)
            if result.broken():  # what it left behind must not spoil the next one
                await asyncio.to_thread(run.fleet.stop)
                calm = run.calm
                run = Run(options, group)
                run.calm = calm
                await asyncio.to_thread(run.fleet.start)
        run.fleet.stop()
    return results


def chosen(options):
    cells = all_cells()
    if options.quick:
        cells = [c for c in cells if c.quick]
    if options.only:
        cells = [c for c in cells if any(word in c.name for word in options.only) or c.name.startswith("calm")]
        groups = {c.group for c in cells if not c.name.startswith("calm")}
        cells = [c for c in cells if c.group in groups]
    return cells


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--time-factor", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(cell.name for cell in chosen(options)))
        return 0
    if why := world.why_not():
        print("skipped: " + why)
        return 77
    world.enter()
    oracle("mixed")
    results = asyncio.run(run_cells(options, chosen(options)))
    return publish(results)


if __name__ == "__main__":
    sys.exit(main())
