"""The table: fault x role, what must come of it, and how long a client may wait for it (docs of each column in Cell)."""
import signal
from dataclasses import dataclass

from faults_clients import (BadPeer, Leavers, Slowloris, SlowReaders, garbage, half_a_frame, huge, silence, twice,
                            wrong_version)
from faults_etcd import EtcdDown, EtcdFull, EtcdMember, Revoke, RevokeAll
from faults_host import BadDisk, BitRot, ClockJump, LogsFull, OutOfMemory, Stranger
from faults_relay import Relayed, Resets
from faults import Blink, Both, Calm, Cut, Drain, Flap, Kill, KillAll, Rate, Restart, SlowCpu, Stop

BROKEN = 0.5   # law 3: a broken connection is known at once
SILENT = 2.25  # silence is death after 2 s, seen at the next beat


@dataclass
class Cell:
    name: str
    make: object               # () -> Fault
    extra: float               # seconds that a client may wait longer than in calm, at time factor 1
    hold: float = 2.0          # seconds between inject and heal, at time factor 1
    group: str = "tcp"         # the fleet it runs on: groups.py
    # Outcomes besides "ok" of requests under way at a coordinator that is a victim; of all requests.
    at_victim: tuple = ()
    anywhere: tuple = ()
    held_up: float = 0.0       # extra seconds for those at a coordinator that is a victim
    retry: bool = False        # what was cut is asked again at the other coordinator and must be the same
    quick: bool = False        # in the sample of ./check
    streams: int = 8
    kind: str = "mixed"


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
    yield Cell("SIGSTOP coordinator, SIGCONT", lambda: Stop("coordinator"), 0.3, hold=3.5, held_up=4.5,
               at_victim=("refused",))  # woken, it needs a moment to find its nodes again
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


def relayed():
    def cell(name, extra, *arguments, hold=3.0, **more):
        fields = {k: more.pop(k) for k in list(more) if k in Cell.__dataclass_fields__}
        return Cell(name, lambda: Relayed(*arguments, **more), extra, hold=hold, group="relay", **fields)

    for role in ("prefill", "decode"):
        yield cell(f"{role} 50 ms away", 2.0, role, "control", "delay 50", "jitter 30")
        yield cell(f"data of {role} 50 ms away", 1.0, role, "data", "delay 50", "jitter 30")
        yield cell(f"stream of {role} stalls one way", SILENT, role, "control", "up stall 1")
        yield cell(f"stream of {role} stalls the other way", SILENT, role, "control", "down stall 1")
        yield cell(f"data of {role} stalls", BROKEN, role, "data", "stall 1")
        yield cell(f"data of {role} cut in the middle of a block", BROKEN, role, "data", "cut 30000", must_act=True)
        yield cell(f"a bit of {role}'s blocks flips on the way", BROKEN, role, "data", "flip 7", must_act=True)
        yield cell(f"frames of {role} come twice", BROKEN, role, "control", "dup 9", must_act=True)
        yield cell(f"frames of {role} come late again", BROKEN, role, "control", "late 9", must_act=True)
        yield cell(f"frames of {role} are truncated", 2 * BROKEN, role, "control", "truncate 40", must_act=True)
        yield cell(f"frames of {role} are garbled", 2 * BROKEN, role, "control", "garble 40", must_act=True)
        yield cell(f"frames of {role} are huge", 2 * BROKEN, role, "control", "huge 60", must_act=True)
        yield Cell(f"streams of {role} are reset", lambda r=role: Resets(r, "control", 4), 2 * BROKEN, group="relay")
        yield Cell(f"data of {role} is reset", lambda r=role: Resets(r, "data", 4), 2 * BROKEN, group="relay")
    yield cell("a bit of kvstore's blocks flips on the way", BROKEN, "kvstore", "data", "flip 5", must_act=True)
    yield cell("frames of kvstore come twice", BROKEN, "kvstore", "control", "dup 5", must_act=True)
    yield cell("frames of kvstore are garbled", BROKEN, "kvstore", "control", "garble 20", must_act=True)
    yield cell("data of kvstore at 100 kB/s", 5.0, "kvstore", "data", "rate 100000")
    yield cell("coordinator 50 ms away", 2.0, "coordinator", "control", "delay 50", "jitter 30")
    yield cell("frames of coordinator come twice", BROKEN, "coordinator", "control", "dup 9", must_act=True)
    # All its streams break, again and again: for a moment it may know no node at all, and then says so (E of the matrix).
    yield cell("frames of coordinator are truncated", 2 * BROKEN, "coordinator", "control", "truncate 60", must_act=True,
               at_victim=("refused",))
    yield Cell("streams of coordinator are reset", lambda: Resets("coordinator", "control", 3), 2 * BROKEN, group="relay",
               at_victim=("refused",))


def etcd():
    yield Cell("lease of decode revoked", lambda: Revoke("decode"), 0.0, group="etcd3", quick=True)
    yield Cell("lease of coordinator revoked", lambda: Revoke("coordinator"), 0.0, group="etcd3")
    yield Cell("every lease revoked", RevokeAll, 0.0, group="etcd3")
    yield Cell("etcd member killed", lambda: EtcdMember(), 0.0, group="etcd3")
    yield Cell("etcd leader killed", lambda: EtcdMember(leader=True), 0.0, hold=4.0, group="etcd3")
    yield Cell("etcd leader stopped, woken", lambda: EtcdMember(True, signal.SIGSTOP), 0.0, hold=4.0, group="etcd3")
    yield Cell("etcd wholly down, back", EtcdDown, 0.0, hold=8.0, group="etcd3")
    yield Cell("etcd wholly down for 60 s, back", EtcdDown, 0.0, hold=60.0, group="etcd3", streams=4)
    yield Cell("etcd back with an empty data directory", lambda: EtcdDown(emptied=True), 0.0, hold=3.0, group="etcd3")
    for role in ("prefill", "decode", "kvstore"):
        yield Cell(f"kill -9 {role} while etcd is down", lambda r=role: Both(EtcdDown(), Kill(r), 1.0), BROKEN,
                   hold=3.0, group="etcd3")
    yield Cell("etcd's disk full", EtcdFull, 0.0, hold=3.0, group="disk")


def hosts():
    yield Cell("disk of the logs full", LogsFull, 0.0, hold=4.0, group="disk")
    for role in ("prefill", "decode"):
        yield Cell(f"{role}: weights cannot be read", lambda r=role: BadDisk(r, "eio", "model.safetensors", "model.safetensors: "), BROKEN,
                   hold=0.0, group="disk")
    yield Cell("decode: weights truncated", lambda: BadDisk("decode", "short", "model.safetensors", "model.safetensors: "), BROKEN,
               hold=0.0, group="disk")
    yield Cell("prefill: a bit of its weights changed",
               lambda: BadDisk("prefill", "flip", "model.safetensors", "expected --model-fingerprint"), BROKEN, hold=0.0,
               group="disk")
    yield Cell("prefill: config.json damaged", lambda: BadDisk("prefill", "flip", "config.json", "config.json: line"), BROKEN, hold=0.0,
               group="disk")
    yield Cell("coordinator: tokenizer.json cannot be read",
               lambda: BadDisk("coordinator", "eio", "tokenizer.json", "tokenizer.json: "), BROKEN, hold=0.0, group="disk",
               at_victim=("cut",), retry=True)
    for hours in (1, -1):
        yield Cell(f"all clocks jump {hours:+} h", lambda h=hours: ClockJump(None, h * 3600), 0.0, group="disk")
        for role in ("prefill", "decode", "kvstore", "coordinator"):
            yield Cell(f"clock of {role} jumps {hours:+} h", lambda r=role, h=hours: ClockJump(r, h * 3600), 0.0,
                       group="disk")
        yield Cell(f"decode restarts {hours:+} h away", lambda h=hours: ClockJump("decode", h * 3600, True), BROKEN,
                   group="disk")
        yield Cell(f"kvstore restarts {hours:+} h away", lambda h=hours: ClockJump("kvstore", h * 3600, True), BROKEN,
                   group="disk")
    for role in ("prefill", "decode", "kvstore"):
        yield Cell(f"{role} out of memory", lambda r=role: OutOfMemory(r), BROKEN)
    yield Cell("bits of kvstore's memory change", BitRot, BROKEN)
    yield Cell("bits of kvstore's memory change (mapped)", BitRot, BROKEN, group="mapped")
    yield Cell("a decode node of another model", lambda: Stranger("decode", "demo-moe"), 0.5, hold=4.0)
    yield Cell("a prefill node of another layout",
               lambda: Stranger("prefill", "demo", "--block-size", "32"), 0.5, hold=4.0)


def clients():
    for phase in ("queue", "prefill", "decode"):
        for streamed in (True, False):
            count = 200 if phase == "queue" else 12
            yield Cell(f"clients leave in {phase}{'' if streamed else ', not streamed'}",
                       lambda p=phase, s=streamed, c=count: Leavers(p, s, c), 0.5, hold=0.0, streams=0,
                       quick=(phase, streamed) == ("decode", True))
    yield Cell("slow readers", SlowReaders, 1.0, hold=5.0)
    yield Cell("slowloris in the header", Slowloris, 0.5, hold=4.0)
    yield Cell("slowloris in the body", lambda: Slowloris(body=True), 0.5, hold=4.0)
    for difference in (-1, 1):
        yield Cell(f"a peer of protocol N{difference:+}", lambda d=difference: BadPeer(wrong_version(d)), 0.25, hold=1.0)
    for name, data, ends in (("garbage", garbage, 1), ("a huge frame", huge, 1), ("half a frame", half_a_frame, 2.5),
                             ("nothing", silence, 2.5), ("Hello twice", twice, 1)):
        yield Cell(f"a peer says {name}", lambda d=data, e=ends: BadPeer(d, e), 0.25, hold=1.0)


def elsewhere(group, names):
    """The same over another transport."""
    for cell in list(kills()) + list(hangs()) + list(network()):
        if cell.name in names:
            yield Cell(**{**cell.__dict__, "name": f"{cell.name} ({group})", "group": group, "quick": False})


def transports():
    names = ["kill -9 prefill", "kill -9 decode", "kill -9 kvstore", "restart decode, same name", "SIGSTOP prefill, SIGCONT",
             "SIGSTOP decode, SIGCONT"]
    yield from elsewhere("mapped", names)
    yield from elsewhere("ucx", names + ["data plane of prefill cut", "data plane of decode cut"])


def all_cells():
    cells = [Cell("calm", Calm, 0.0, quick=True)]
    for part in (kills, hangs, partitions, network, drains, doubles, clients, hosts, etcd, relayed):
        cells += part()
    for group in ("mapped", "ucx", "disk", "etcd3", "relay"):
        cells.append(Cell(f"calm ({group})", Calm, 0.0, group=group))
    cells.sort(key=lambda c: not c.name.startswith("calm"))
    cells += transports()
    return cells
