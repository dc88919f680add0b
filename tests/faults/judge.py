"""The verdict of a cell: every request against the oracle and the clock, every process against what it was."""
import json
import time

from fleet import BUILD
from traffic import said

FD_DRIFT = 8  # connections that close in the next moments


class Result:
    def __init__(self, cell, run, fault, traffic):
        self.cell, self.run, self.fault, self.traffic = cell, run, fault, traffic
        self.injected = self.mended = None
        self.left, self.unhealed, self.notes = [], [], []
        self.faulted = self.wrong = self.lost = self.duplicated = self.refused = 0
        self.gap = self.bound = 0.0
        self.crashed = False
        self.row_of_end = None

    @property
    def requests(self):
        return self.traffic.requests

    def ok(self):
        return not (self.wrong or self.lost or self.duplicated or self.left or self.unhealed or self.notes)

    def broken(self):
        """The cluster may not be used for another cell."""
        return bool(self.crashed or self.left or self.unhealed or any(p.died() for p in self.run.fleet.all.values()))

    def close(self):
        """Only the row stays: the requests of a long run are many."""
        self.row_of_end = self.row()
        self.traffic.requests = []

    def row(self):
        if self.row_of_end:
            return self.row_of_end
        asked = self.fault.asked  # by the fault itself, and never waited for
        return {"cell": self.cell.name, "requests": len(self.requests) + asked, "faulted": self.faulted + asked, "wrong": self.wrong,
                "lost": self.lost, "duplicated": self.duplicated, "left": len(self.left) + len(self.unhealed),
                "gap": round(self.gap, 2), "bound": round(self.bound, 2), "ok": self.ok()}


def was_faulted(result, request):
    """Under way between the fault and everybody's being back."""
    return request.sent < result.mended and (request.ended or time.monotonic()) > result.injected


def judge(result):
    cell, run = result.cell, result.run
    factor = run.fleet.factor
    victims = result.fault.victims()
    # To compute again, with half of the nodes and behind the others that do the same: from what the machine takes in calm.
    again = 3 * run.calm + 0.25 * factor
    result.bound = cell.extra * factor + again
    worst = None
    for request in result.requests:
        faulted = was_faulted(result, request)
        result.faulted += faulted
        at_victim = request.coordinator in victims
        judge_request(result, request, faulted, at_victim)
        # One that a coordinator held up answers for that coordinator's bound; a broken one has no next token.
        held_up = cell.held_up * factor if at_victim else 0
        if request.outcome() == "ok" or request.outcome() == "wrong":
            gap = max(0.0, request.gap() - held_up)
            if gap >= result.gap:
                result.gap, worst = gap, request
    if cell.name.startswith("calm"):
        # More than a second is the machine's noise, not what a bound may rest on.
        run.calm, result.bound = max(0.25 * factor, min(result.gap, 1.0 * factor)), result.gap
    elif result.gap > result.bound:
        result.notes.append(f"a client waited {result.gap:.2f} s, at most {result.bound:.2f} s: {worst.timeline(result)}")
    for coordinator in result.traffic.unreached - set(victims):
        result.notes.append(f"{coordinator.name} did not listen")
    judge_processes(result)


def judge_request(result, request, faulted, at_victim):
    cell, outcome = result.cell, request.outcome()
    allowed = ("ok",) + ((cell.anywhere + (cell.at_victim if at_victim else ())) if faulted else ())
    if request.after_end or longer_than_answer(request):
        result.duplicated += 1
        result.notes.append("said more than the answer: " + request.explain())
    if outcome == "lost":
        result.lost += 1
        result.notes.append(request.explain())
    elif outcome == "wrong" or (outcome != "ok" and not request.is_prefix()):
        result.wrong += 1
        result.notes.append(request.explain())
    elif outcome not in allowed:
        result.notes.append("not allowed here: " + request.explain())
    elif outcome in ("refused", "failed"):
        result.refused += 1
        if why := bad_error(request):
            result.notes.append(f"{why}: {request.explain()}")


def longer_than_answer(request):
    want = request.oracle.answers[request.number]
    return any(index not in want or len(value[0]) > len(want[index][0]) for index, value in said(request.choices).items())


def bad_error(request):
    """A refusal is a 429 or 503 that says when to come again; an error in a stream is an object like any other."""
    error = request.error.get("error", request.error) if isinstance(request.error, dict) else {}
    if not error.get("message"):
        return "an error without a message"
    if request.status == 200:
        return None
    if request.status not in (429, 503):
        return f"status {request.status}"
    return None if "retry-after" in request.headers else "no Retry-After"


def judge_processes(result):
    for process in result.run.fleet.all.values():
        if why := process.died():
            result.notes.append(why)
        elif process.lives() and not process.stopped and process.role != "etcd":
            count = process.fd_count()
            if process.descriptors is None:
                process.descriptors = count
            elif count > process.descriptors + FD_DRIFT:
                result.notes.append(f"{process.name} has {count} descriptors, {process.descriptors} at first")
                process.descriptors = count


COLUMNS = ("cell", "requests", "faulted", "wrong", "lost", "duplicated", "left", "gap", "bound")
WIDTHS = (44, 8, 8, 6, 5, 11, 5, 6, 6)


def print_result(result):
    row = result.row()
    if not print_result.begun:
        print(" ".join(f"{name:<{w}}" if i == 0 else f"{name:>{w}}" for i, (name, w) in enumerate(zip(COLUMNS, WIDTHS))))
        print_result.begun = True
    text = " ".join(f"{row[name]:<{w}}" if i == 0 else f"{row[name]:>{w}}"
                    for i, (name, w) in enumerate(zip(COLUMNS, WIDTHS)))
    print(text, " ok" if row["ok"] else " FAILED", flush=True)
    for note in (result.notes + ["left: " + x for x in result.left] + ["unhealed: " + x for x in result.unhealed])[:6]:
        print("    " + note, flush=True)


print_result.begun = False


def publish(results):
    """The table as markdown and JSON in the build folder; the exit code."""
    rows = [r.row() for r in results]
    total = {name: sum(row[name] for row in rows) for name in COLUMNS[1:7]}
    total["cells"], total["ok"] = len(rows), sum(row["ok"] for row in rows)
    folder = BUILD / "faults"
    folder.mkdir(exist_ok=True)
    (folder / "table.json").write_text(json.dumps({"cells": rows, "total": total}, indent=1))
    lines = ["| " + " | ".join(COLUMNS) + " | verdict |", "|" + " --- |" * (len(COLUMNS) + 1)]
    lines += ["| " + " | ".join(str(row[name]) for name in COLUMNS) + f" | {'ok' if row['ok'] else 'FAILED'} |" for row in rows]
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    print(f"{total['ok']} of {total['cells']} cells as required; {total['requests']} requests, {total['faulted']} of them "
          f"under a fault: {total['wrong']} wrong, {total['lost']} lost, {total['duplicated']} duplicated, "
          f"{total['left']} left")
    print(f"the table: {folder / 'table.md'}, table.json")
    return 0 if total["ok"] == total["cells"] else 1
