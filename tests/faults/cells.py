"""The table: fault x role, what must come of it, and how long a client may wait for it (docs of each column in Cell)."""
from dataclasses import dataclass, field

from faults import Blink, Both, Calm, Cut, Drain, Flap, Kill, KillAll, Rate, Restart, SlowCpu, Stop

BROKEN = 0.5   # law 3: a broken connection is known at once
SILENT = 2.25  # silence is death after 2 s, seen at the next beat


@dataclass
class Cell:
    name: str
    make: object               # () -> Fault
    extra: float               # seconds that a client may wait longer than in calm, at time factor 1
    hold: float = 2.0          # seconds between inject and heal, at time factor 1
    group: str = "ucx"         # the fleet it runs on: groups.py
    # Outcomes besides "ok" of requests under way at a coordinator that is a victim; of all requests.
    at_victim: tuple = ()
    anywhere: tuple = ()
    held_up: float = 0.0       # extra seconds for those at a coordinator that is a victim
    retry: bool = False        # what was cut is asked again at the other coordinator and must be the same
    quick: bool = False        # in the sample of ./check
    streams: int = 8
    kind: str = "mixed"
    tags: tuple = field(default=())


def kills():
    for role in ("prefill", "decode"):
        yield Cell(f"kill -9 {role}", lambda r=role: Kill(r), BROKEN, quick=True)
        # Those under way wait for a node to come back (spare_ns); new ones are refused at once.
        yield Cell(f"kill -9 every {role}", lambda r=role: KillAll(r), BROKEN + 4.0, anywhere=("refused", "failed"))
    yield Cell("kill -9 kvstore", lambda: Kill("kvstore"), BROKEN, quick=True)
    yield Cell("kill -9 every kvstore", lambda: KillAll("kvstore"), BROKEN)
    yield Cell("kill -9 coordinator", lambda: Kill("coordinator"), BROKEN, at_victim=("cut",), retry=True, quick=True)
    for role in ("prefill", "decode", "kvstore"):
        yield Cell(f"restart {role}, same name", lambda r=role: Restart(r), BROKEN, quick=role == "decode")
        yield Cell(f"{role} flaps", lambda r=role: Flap(r), 3 * BROKEN)
    yield Cell("restart coordinator, same name", lambda: Restart("coordinator"), BROKEN, at_victim=("cut", "refused"),
               retry=True)


def hangs():
    for role in ("prefill", "decode", "kvstore"):
        yield Cell(f"SIGSTOP {role}, SIGCONT", lambda r=role: Stop(r), SILENT, hold=3.5, quick=role == "decode")
        yield Cell(f"{role} stops for 0.8 s", lambda r=role: Blink(r), 1.3)
    yield Cell("SIGSTOP coordinator, SIGCONT", lambda: Stop("coordinator"), 0.3, hold=3.5, held_up=4.5)
    for role in ("prefill", "decode", "kvstore"):
        yield Cell(f"{role} at a tenth of a core", lambda r=role: SlowCpu(r), 5.0, hold=6.0)
    yield Cell("coordinator at a tenth of a core", lambda: SlowCpu("coordinator"), 0.5, hold=4.0, held_up=6.0,
               at_victim=("refused",))


def partitions():
    for role in ("prefill", "decode", "kvstore"):
        for direction in ("both", "in", "out"):
            word = {"both": "cut off", "in": "hears nobody", "out": "is heard by nobody"}[direction]
            yield Cell(f"{role} {word}", lambda r=role, d=direction: Cut(r, d), SILENT, hold=3.5,
                       quick=(role, direction) == ("prefill", "both"))
        yield Cell(f"{role} and its coordinators apart", lambda r=role: Cut(r, whom="coordinator"), SILENT, hold=3.5)
        yield Cell(f"{role} and etcd apart", lambda r=role: Cut(r, whom="etcd"), 0.0, hold=8.0)
    yield Cell("prefill and decode apart", lambda: Cut("prefill", whom="decode"), SILENT, hold=3.5)
    yield Cell("decode and kvstores apart", lambda: Cut("decode", whom="kvstore"), SILENT, hold=3.5)
    yield Cell("prefill and kvstores apart", lambda: Cut("prefill", whom="kvstore"), SILENT, hold=3.5)
    for direction in ("both", "in", "out"):
        yield Cell(f"coordinator and the cluster apart, {direction}", lambda d=direction: Cut("coordinator", d, "cluster"),
                   0.3, hold=3.5, at_victim=("refused",), held_up=6.0)


def network():
    for role in ("prefill", "decode", "kvstore"):
        yield Cell(f"data plane of {role} cut", lambda r=role: Cut(r, ports="data"), BROKEN, hold=4.0,
                   quick=role == "prefill")
    yield Cell("data plane decode cannot send", lambda: Cut("decode", "out", ports="data"), BROKEN, hold=4.0)
    for percent in (1, 5, 20):
        for role in ("prefill", "decode"):
            yield Cell(f"{role} loses {percent} %", lambda r=role, p=percent: Cut(r, percent=p), SILENT, hold=4.0)
    yield Cell("coordinator loses 5 %", lambda: Cut("coordinator", percent=5), 1.0, hold=4.0, held_up=SILENT)
    for role in ("prefill", "decode", "kvstore"):
        yield Cell(f"{role} at 1 Mbit/s", lambda r=role: Rate(r, 1000000), 5.0, hold=4.0)


def drains():
    yield Cell("SIGTERM prefill", lambda: Drain("prefill"), BROKEN, hold=0.0)
    yield Cell("SIGTERM decode", lambda: Drain("decode"), BROKEN, hold=0.0)
    yield Cell("SIGTERM kvstore", lambda: Drain("kvstore"), BROKEN, hold=0.0)
    yield Cell("SIGTERM coordinator", lambda: Drain("coordinator"), BROKEN, hold=0.0, at_victim=("refused", "cut"),
               retry=True)


def doubles():
    yield Cell("kill prefill and decode", lambda: Both(Kill("prefill"), Kill("decode")), BROKEN)
    yield Cell("kill decode and kvstore", lambda: Both(Kill("decode"), Kill("kvstore")), BROKEN)
    yield Cell("kill decode, then the next in its recovery", lambda: Both(Restart("decode"), Kill("decode", 1), 0.3),
               4 * BROKEN, anywhere=("refused", "failed"))
    yield Cell("kill prefill while decode hangs", lambda: Both(Stop("decode"), Kill("prefill"), 1.0), SILENT, hold=3.5)
    yield Cell("kill coordinator and decode", lambda: Both(Kill("coordinator"), Kill("decode")), BROKEN,
               at_victim=("cut",), retry=True)
    yield Cell("decode loses 5 % while prefill dies", lambda: Both(Cut("decode", percent=5), Kill("prefill"), 0.5),
               SILENT, hold=3.0)


def mapped():
    for cell in list(kills()) + list(hangs())[:4]:
        if "coordinator" not in cell.name and "flaps" not in cell.name:
            yield Cell(**{**cell.__dict__, "name": cell.name + " (mapped)", "group": "mapped", "quick": False})


def all_cells():
    cells = [Cell("calm", Calm, 0.0, quick=True)]
    for part in (kills, hangs, partitions, network, drains, doubles):
        cells += part()
    cells.append(Cell("calm (mapped)", Calm, 0.0, group="mapped"))
    cells += mapped()
    return cells
