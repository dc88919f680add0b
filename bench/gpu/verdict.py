#!/usr/bin/env python3
"""Puts bench_gpu's figures beside others' and the targets; one JSON file, a table, a verdict.

usage: verdict.py FOLDER MACHINE RESULTS.json     FOLDER: what measure.py left there

Targets are those of the exact class; the class "fast" stands beside it where it was measured.  A target that nothing can be said about, because
its figure or the one it is set against is not there, is counted as that, and the verdict is incomplete.
Exit status: 0: complete, and no target missed.
"""
import json
import pathlib
import sys

DENSE_TFLOPS = 989  # bf16, H100 and H200 SXM, data sheet; twice that for e4m3
LAYERS_8B = 32
PRODUCTS = [f"linear/{name}" for name in ("qkv", "output", "gate_up", "down", "head")] + \
           [f"linear-fp8/{name}" for name in ("qkv", "output", "gate_up", "down")]
ROWS_MANY, ROWS_FEW = (256, 1024, 4096, 8192), (1, 8, 16)
LIBRARY = "cublasLt"


class NotMeasured(Exception):
    """There is no figure of ours."""


class NotCompared(Exception):
    """There is nothing to set it against; says why."""


class Figures:
    """What the programs wrote: lines of JSON, the last one of a program that was ended perhaps torn."""

    def __init__(self, folder):
        self.ours, self.fast, self.others = {}, {}, {}
        self.about, self.missing, self.skipped, self.sweep, self.fit = {}, {}, [], [], None
        self.sections = []
        for path in sorted(pathlib.Path(folder).glob("*.jsonl")):
            for line in path.read_text(errors="replace").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    self.take(row)
        report = pathlib.Path(folder) / "sections.json"
        if report.exists():
            self.sections = json.loads(report.read_text())

    def take(self, row):
        if "by" in row:
            self.others.setdefault(row["name"], []).append(row)
        elif "name" in row:
            (self.fast if row.get("class") == "fast" else self.ours)[row["name"]] = row
        elif "device" in row and row.get("class") != "fast":
            self.about.update({key: value for key, value in row.items() if key != "class"})
        elif "other" in row:
            self.about.setdefault("others", {})[row["other"]] = row["version"]
        elif "missing" in row:
            self.missing[row["missing"]] = row["why"]
        elif "skipped" in row:
            self.skipped.append(row["skipped"])
        elif "sweep" in row:
            self.sweep.append(row)
        elif "fit" in row:
            self.fit = row["fit"]

    def our(self, name):
        if name not in self.ours:
            raise NotMeasured(name)
        return self.ours[name]

    def best_other(self, name):
        """The fastest of the others, or None."""
        timed = [row for row in self.others.get(name, []) if "us" in row]
        return min(timed, key=lambda row: row["us"]) if timed else None


# --- targets: (name, what is measured, what is asked, at most?, its value)

def of_library(figures, name):
    ours = figures.our(name)["us"]
    theirs = [row for row in figures.others.get(name, []) if row["by"] == LIBRARY]
    for row in theirs:
        if "us" in row:
            return row["us"] / ours
    raise NotCompared(f"{LIBRARY}: {theirs[0]['why'] if theirs else figures.missing.get(LIBRARY, 'no figure')}")


def of_copy(figures, name):
    return figures.our(name)["of_copy"]


def of_dense(figures, name):
    return figures.our(name)["tflops"] / DENSE_TFLOPS


def of_roofline(figures, name):
    ours, dense = figures.our(name), DENSE_TFLOPS * (2 if "fp8" in name else 1)
    return max(ours["of_copy"], ours["tflops"] / dense)


def of_prefill(figures, name):
    """All layers' digests of as many tokens as the prefill step has."""
    layer = figures.our(name)["us"]
    return LAYERS_8B * layer / figures.our("prefill/8b/8 x 1024")["us"]


def targets():
    for product in PRODUCTS:
        for rows in ROWS_MANY if product != "linear/head" else ROWS_MANY[:1]:
            yield f"{product}/{rows}", f"of {LIBRARY}", 0.9, False, of_library
        for rows in ROWS_FEW:
            yield f"{product}/{rows}", "of copy", 0.85, False, of_copy
    yield "attention/prefill/8192", "of dense", 0.7, False, of_dense
    for case in ("1 x 8192", "16 x 8192", "64 x 4096", "256 x 4096"):
        yield f"attention/decode/{case}", "of copy", 0.85, False, of_copy
    for model in ("8b", "1b", "8b-fp8"):
        for batch in (1, 8, 16, 64, 256):
            yield f"decode/{model}/{batch} x 1024", "of roofline", 0.75, False, of_roofline
    yield "digest/8192", "of prefill", 0.01, True, of_prefill


def weigh(figures):
    """{name: its target and what became of it}"""
    results = {}
    for name, what, asked, at_most, value_of in targets():
        result = {"what": what, "asked": asked}
        try:
            value = value_of(figures, name)
            result.update(value=round(value, 4), met=value <= asked if at_most else value >= asked)
        except NotMeasured as gone:
            result["not_measured"] = str(gone)
        except NotCompared as why:
            result["not_compared"] = str(why)
        results[name] = result
    return results


# --- the table

def verdict_of(result):
    if "met" in result:
        return f"{result['value']:6.3f} {result['what']} (asked {result['asked']})" + ("" if result["met"] else "  MISSED")
    if "not_compared" in result:
        return f"       {result['what']}: NOT COMPARED, {result['not_compared']}"
    return f"       {result['what']}: NOT MEASURED"


def line_of(figures, name, result):
    ours, fast, other = figures.ours.get(name), figures.fast.get(name), figures.best_other(name)
    line = f"{name:<34}" + (f'{ours["us"]:>10.1f} us' if ours else " " * 13)
    line += f'{fast["us"]:>10.1f} us fast' if fast else " " * 18
    line += f'{other["us"]:>10.1f} us {other["by"]:<24}' if other else " " * 38
    return (line + (verdict_of(result) if result else "")).rstrip()


def tile(plan):
    return f"{plan[0]} x {plan[1]}" + (" by two" if plan[2] == 2 else "")


def sweep_lines(figures):
    """Where the plan's tile is behind the best one, and what rates would have chosen better."""
    for point in figures.sweep:
        own, best = point["tiles"][point["plan"]], point["tiles"][point["best"]]
        if own[3] > 1.05 * best[3]:
            yield (f"tiles: {point['sweep']} {point['elem']}, {point['rows']} rows: {tile(own)} takes {own[3]:.1f} us, {tile(best)} {best[3]:.1f}: "
                   f"{100 * (own[3] / best[3] - 1):.0f} % behind")
    if figures.fit:
        now, fitted = figures.fit["now"], figures.fit["fitted"]
        yield (f"tiles: {figures.fit['points']} products, {now['behind']} over 5 % behind, {100 * (now['mean'] - 1):.1f} % on average, "
               f"{100 * (now['worst'] - 1):.0f} % at worst")
        rates = [key for key in now if key.endswith("_cycle") or key.endswith("_cycles")]
        if fitted["mean"] < now["mean"]:
            yield ("tiles: kernels/cuda/linear_plan.cu with " + ", ".join(f"{key} {fitted[key]} (now {now[key]})" for key in rates) +
                   f": {fitted['behind']}, {100 * (fitted['mean'] - 1):.1f} %, {100 * (fitted['worst'] - 1):.0f} %")
        else:
            yield "tiles: no rates choose better than those of kernels/cuda/linear_plan.cu"


def summary(results):
    """(complete and all met, the verdict's words)"""
    met = sum(result.get("met", False) for result in results.values())
    missed = sum(not result.get("met", True) for result in results.values())
    not_compared = [result["not_compared"] for result in results.values() if "not_compared" in result]
    not_measured = sum("not_measured" in result for result in results.values())
    words = f"{met} targets met, {missed} missed"
    if not_compared:
        words += f", {len(not_compared)} not compared ({'; '.join(sorted(set(not_compared)))})"
    if not_measured:
        words += f", {not_measured} not measured"
    complete = not not_compared and not not_measured
    return complete and missed == 0, ("complete: " if complete else "incomplete: ") + words


def figure_of(figures, name, result):
    figure = dict(figures.ours.get(name, {"name": name}))
    figure.pop("class", None)
    if name in figures.fast:
        figure["fast_us"] = figures.fast[name]["us"]
    if name in figures.others:
        figure["others"] = [{key: value for key, value in row.items() if key != "name"} for row in figures.others[name]]
    if result:
        figure["target"] = result
    return figure


def judge(folder, machine, results_path):
    """Prints the table and the verdict; the exit status."""
    figures = Figures(folder)
    results = weigh(figures)
    names = [*results, *(name for name in [*figures.ours, *figures.others, *figures.fast] if name not in results)]
    names = list(dict.fromkeys(names))
    for name in names:
        print(line_of(figures, name, results.get(name)))
    for line in sweep_lines(figures):
        print(line)
    library = [row["tflops"] for rows in figures.others.values() for row in rows
               if row["by"] == LIBRARY and "fp8" not in row["name"] and "tflops" in row]
    figures.about["dense_tflops"] = {"data sheet": DENSE_TFLOPS, LIBRARY: max(library, default=None)}
    good, words = summary(results)
    out = {"machine": machine, **figures.about, "verdict": words, "sections": figures.sections, "missing": figures.missing,
           "skipped": figures.skipped, "figures": [figure_of(figures, name, results.get(name)) for name in names],
           "sweep": figures.sweep, "fit": figures.fit}
    pathlib.Path(results_path).write_text(json.dumps(out, indent=1) + "\n")
    for section in figures.sections:
        if section["status"] != "done":
            print(f"{section['section']}: {section['status']}")
    print(f"verdict: {words} ({results_path})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(judge(*sys.argv[1:]))
