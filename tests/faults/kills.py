"""What the end of one process costs 800 requests: the table that Dynamo publishes of itself (tests/fault_tolerance), for us.

A supervisor starts what died again after RESTART_S.  A failed request is one that did not end with the right answer,
at a client that asks once; restored is the time from the kill until every node is up again for every coordinator.
"""
import asyncio
import gc
import time

import run as table
from fleet import ROOT, Fleet
from traffic import Traffic

REQUESTS, STREAMS, RESTART_S = 800, 10, 2.0
CASES = (("coordinator", "one of two", {}), ("coordinator", "the only one", {"coordinators": 1}),
         ("decode", "no spare", {"decode": 1}), ("decode", "one spare", {}), ("decode", "three spares", {"decode": 4}),
         ("prefill", "no spare", {"prefill": 1}), ("prefill", "one spare", {}),
         ("kvstore", "no spare", {"kvstore": 1}), ("kvstore", "one spare", {}))


HEAD = f"""# What the end of one process costs {REQUESTS} requests

`tests/faults/run.py --kills`: {STREAMS} clients, {REQUESTS} requests of mixed length, each asked once; the victim dies with
`kill -9` after a third of them, and is started again {RESTART_S:g} s later. Two of each role unless it says otherwise, each in a
network namespace of its own, on two cores. *Restored*: everybody sees everybody again.

| killed | failed | of them wrong | restored, s | longest wait of the others, s |
| --- | ---: | ---: | ---: | ---: |"""


async def one(options, role, shape):
    fleet = Fleet(factor=options.time_factor, **shape)
    await asyncio.to_thread(fleet.start)
    traffic = Traffic(fleet, table.oracle("mixed"), STREAMS, count=REQUESTS)
    traffic.start()
    while len(traffic.requests) < REQUESTS // 3:
        await asyncio.sleep(0.01)
    victim, killed = fleet.of(role)[0], time.monotonic()
    victim.kill()
    await asyncio.sleep(RESTART_S)
    victim.start()
    await asyncio.to_thread(fleet.wait_healthy, 60)
    restored = time.monotonic() - killed
    await asyncio.gather(*traffic.tasks)
    outcomes = [r.outcome() for r in traffic.requests]
    gap = max(r.gap() for r in traffic.requests if r.outcome() == "ok")
    await asyncio.to_thread(fleet.stop)
    gc.collect()
    return {kind: outcomes.count(kind) for kind in ("ok", "wrong", "lost", "cut", "refused", "failed")}, restored, gap


async def kills(options):
    lines = [HEAD]
    failed_wrong = 0
    for role, words, shape in CASES:
        counts, restored, gap = await one(options, role, shape)
        failed = sum(counts.values()) - counts["ok"]
        failed_wrong += counts["wrong"] + counts["lost"]
        lines.append(f"| {role}, {words} | {failed} | {counts['wrong']} | {restored:.1f} | {gap:.1f} |")
        print(lines[-1], counts, flush=True)
    (ROOT / "bench" / "results" / "kills.md").write_text("\n".join(lines) + "\n")
    return 1 if failed_wrong else 0
