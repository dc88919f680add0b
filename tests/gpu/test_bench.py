#!/usr/bin/env python3
"""What bench/gpu makes of figures: the verdict over made-up ones, sections that end, fail or hang.

usage: test_bench.py
"""
import contextlib
import io
import json
import os
import pathlib
import stat
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/gpu"))
sys.dont_write_bytecode = True
import measure  # noqa: E402
import verdict  # noqa: E402


def ours(name, us=100.0, tflops=900.0, of_copy=0.9, **more):
    return {"name": name, "class": "exact", "us": us, "tflops": tflops, "of_copy": of_copy, **more}


def good_figures():
    """Of each target a figure that meets it, and what it is set against."""
    rows = [{"device": "a GPU", "class": "exact", "numerics": "cuda", "copy_gbytes": 4000}]
    for name, what, *_ in verdict.targets():
        if what == "of prefill":
            continue
        rows.append(ours(name))
        if what == "of cublasLt":
            rows.append({"name": name, "by": "cublasLt", "us": 95.0, "tflops": 700.0})
    rows += [ours("digest/8192", us=3.0), ours("prefill/8b/8 x 1024", us=200000.0)]
    return rows


class Verdicts(unittest.TestCase):
    def judge(self, rows, torn="", sections=None):
        """(exit status, what is printed, the results' file)"""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "products.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)
            (folder / "sections.json").write_text(json.dumps(sections or []))
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                status = verdict.judge(folder, "a machine", folder / "bench.json")
            return status, out.getvalue(), json.loads((folder / "bench.json").read_text())

    def last(self, text):
        return text.splitlines()[-1]

    def test_all_targets_met_is_complete(self):
        status, text, results = self.judge(good_figures())
        count = len(list(verdict.targets()))
        self.assertEqual(status, 0)
        self.assertTrue(self.last(text).startswith(f"verdict: complete: {count} targets met, 0 missed ("), self.last(text))
        self.assertEqual(results["device"], "a GPU")
        self.assertEqual(results["dense_tflops"]["cublasLt"], 700.0)

    def test_digests_are_set_against_all_layers_of_a_prefill(self):
        rows = [row for row in good_figures() if row.get("name") != "digest/8192"]
        # 32 layers of 100 us are 1.6 % of 200 ms; of 60, 0.96 %.
        for us, met in ((100.0, False), (60.0, True)):
            status, text, results = self.judge([*rows, ours("digest/8192", us=us)])
            target = next(f["target"] for f in results["figures"] if f["name"] == "digest/8192")
            self.assertEqual((target["met"], target["value"]), (met, round(32 * us / 200000, 4)))
            self.assertEqual(status, 0 if met else 1)
            self.assertEqual(text.count("MISSED"), 0 if met else 1)

    def test_digests_want_the_prefill_they_are_part_of(self):
        status, text, _ = self.judge([row for row in good_figures() if row.get("name") != "prefill/8b/8 x 1024"])
        self.assertEqual(status, 1)
        self.assertIn("incomplete: ", self.last(text))
        self.assertIn("1 not measured", self.last(text))

    def test_without_the_library_its_targets_are_not_compared(self):
        rows = [row for row in good_figures() if "by" not in row]
        many = sum(what == "of cublasLt" for _, what, *_ in verdict.targets())
        self.assertGreater(many, 30)
        status, text, _ = self.judge([*rows, {"missing": "cublasLt", "why": "it is not found"}])
        self.assertEqual(status, 1)
        self.assertIn("verdict: incomplete: ", self.last(text))
        self.assertIn(f"0 missed, {many} not compared (cublasLt: it is not found)", self.last(text))

    def test_what_the_library_cannot_is_not_compared(self):
        rows = [row for row in good_figures() if not (row.get("by") and row["name"] == "linear-fp8/qkv/256")]
        rows.append({"name": "linear-fp8/qkv/256", "by": "cublasLt", "why": "no algorithm"})
        # One scale a tensor is another product: faster, and beside the point.
        rows.append({"name": "linear-fp8/qkv/256", "by": "cublasLt, one scale a tensor", "us": 1.0})
        status, text, results = self.judge(rows)
        self.assertEqual(status, 1)
        self.assertIn("0 missed, 1 not compared (cublasLt: no algorithm)", self.last(text))
        figure = next(f for f in results["figures"] if f["name"] == "linear-fp8/qkv/256")
        self.assertEqual([other["by"] for other in figure["others"]], ["cublasLt", "cublasLt, one scale a tensor"])

    def test_a_library_that_is_faster_is_a_miss(self):
        rows = [row for row in good_figures() if not (row.get("by") and row["name"] == "linear/down/4096")]
        status, text, _ = self.judge([*rows, {"name": "linear/down/4096", "by": "cublasLt", "us": 89.0}])
        self.assertEqual(status, 1)
        self.assertIn(" 1 missed", self.last(text))

    def test_what_was_written_before_the_end_counts(self):
        rows = good_figures()
        status, text, _ = self.judge(rows[:4], torn='{"name": "linear/qkv/4096", "cla',
                                     sections=[{"section": "products", "status": "cut short", "seconds": 9, "budget": 9}])
        self.assertEqual(status, 1)
        self.assertIn("incomplete: 1 targets met, 0 missed, 1 not compared", self.last(text))
        self.assertIn(f"{len(list(verdict.targets())) - 2} not measured", self.last(text))
        self.assertIn("products: cut short", text)

    def test_the_fastest_other_is_named(self):
        name = "attention/prefill/8192"
        others = [{"name": name, "by": "SDPA, cuDNN", "us": 70.0}, {"name": name, "by": "SDPA, flash", "us": 90.0},
                  {"name": name, "by": "FlashAttention 3", "why": "ModuleNotFoundError"}]
        _, text, _ = self.judge([*good_figures(), *others])
        line = next(line for line in text.splitlines() if line.startswith(name))
        self.assertIn("70.0 us SDPA, cuDNN", line)
        self.assertNotIn("flash", line)

    def test_exact_and_fast_are_on_one_line(self):
        _, text, results = self.judge([*good_figures(), {**ours("decode/8b/1 x 1024", us=42.0), "class": "fast"}])
        line = next(line for line in text.splitlines() if line.startswith("decode/8b/1 x"))
        self.assertIn("100.0 us", line)
        self.assertIn("42.0 us fast", line)
        self.assertEqual(next(f for f in results["figures"] if f["name"] == "decode/8b/1 x 1024")["fast_us"], 42.0)

    def test_tiles_are_named_where_the_plan_is_five_percent_behind(self):
        def point(rows, us):
            return {"sweep": "8b/qkv", "elem": "bf16", "n": 6144, "k": 4096, "groups": 1, "rows": rows, "plan": 0, "best": 1,
                    "tiles": [[64, 64, 1, us], [128, 128, 2, 100.0]]}
        rates = {"sm_bytes_cycle": 40, "l2_bytes_cycle": 4600, "hbm_bytes_cycle": 2450, "tile_cycles": 2}
        fit = {"fit": {"points": 2, "now": {**rates, "mean": 1.05, "worst": 1.11, "behind": 1},
                       "fitted": {**rates, "sm_bytes_cycle": 50, "mean": 1.0, "worst": 1.0, "behind": 0}}}
        _, text, results = self.judge([*good_figures(), point(256, 111.0), point(512, 104.0), fit])
        self.assertIn("256 rows: 64 x 64 takes 111.0 us, 128 x 128 by two 100.0: 11 % behind", text)
        self.assertNotIn("512 rows", text)
        self.assertIn("sm_bytes_cycle 50 (now 40)", text)
        self.assertEqual(len(results["sweep"]), 2)

    def test_targets_are_what_the_programs_measure(self):
        shapes = (ROOT / "bench/gpu/shapes.h").read_text()
        for name, *_ in verdict.targets():
            kind, what, *rest = name.split("/")
            if kind.startswith("linear"):
                self.assertIn(f'{{"{what}", ', shapes)
                self.assertRegex(shapes, rf"\b{rest[0]}, (true|false)}}")
            elif kind == "attention":
                self.assertIn(f'{{"{name}", ', shapes)
            elif kind == "decode":
                self.assertIn(f'{{"{what}", ', shapes)
                self.assertRegex(shapes, rf"SHAPES_BATCHES.*\b{rest[0].split()[0]}\b")


class Sections(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        self.bench = self.folder / "bench"
        self.bench.write_text('#!/bin/sh\nkind=$1 seconds=$2; shift 2\necho "{\\"name\\": \\"$1\\", \\"class\\": \\"$kind\\", \\"us\\": 1}"\n'
                              '[ "$1" = hang ] && sleep 60\n[ "$1" = crash ] && { echo "why it did" >&2; kill -SEGV $$; }\nexit 0\n')
        self.bench.chmod(self.bench.stat().st_mode | stat.S_IXUSR)
        self.saved = measure.GRACE_S, measure.LEAST_S
        measure.GRACE_S, measure.LEAST_S = 1, 0.1

    def tearDown(self):
        measure.GRACE_S, measure.LEAST_S = self.saved
        self.scratch.cleanup()

    def measure(self, sections, seconds=60):
        with contextlib.redirect_stdout(io.StringIO()):
            report = measure.measure(str(self.bench), self.folder, time.time() + seconds, sections)
        return {row["section"]: row["status"] for row in report}, verdict.Figures(self.folder)

    def test_a_section_that_hangs_or_crashes_keeps_its_figures(self):
        (self.folder / "old.jsonl").write_text('{"name": "of another run", "us": 1}\n')
        status, figures = self.measure((("one", "exact hang", 0.2), ("two", "exact crash", 30), ("three", "fast fine", 30)))
        self.assertEqual(status["one"], "cut short")
        self.assertTrue(status["two"].startswith("failed: ") and status["two"].endswith(": why it did"), status)
        self.assertEqual(status["three"], "done")
        self.assertEqual((set(figures.ours), set(figures.fast)), ({"hang", "crash"}, {"fine"}))

    def test_what_there_is_no_time_for_is_said(self):
        status, figures = self.measure((("one", "exact fine", 30), ("two", "exact hang", 30)), seconds=0.5)
        self.assertEqual(status, {"one": "skipped: no time left", "two": "skipped: no time left"})
        self.assertEqual(figures.ours, {})

    def test_a_program_that_is_not_there_fails_its_section(self):
        self.bench.unlink()
        status, _ = self.measure((("one", "exact fine", 30),))
        self.assertTrue(status["one"].startswith("failed: No such file"), status)

    def test_all_sections_fit_into_eight_minutes(self):
        self.assertLessEqual(sum(budget for _, _, budget in measure.SECTIONS), measure.LIMIT_S - measure.BUILD_S)
        self.assertLessEqual(measure.LIMIT_S + self.saved[0], 480)
        names = [name for name, *_ in measure.SECTIONS]
        self.assertLess(max(map(names.index, ("products", "attention", "models"))), min(map(names.index, ("fast", "sweep", "rows"))))
        self.assertEqual(len(set(names)), len(names))

    def test_sections_are_those_of_the_programs(self):
        main, torch = (ROOT / "bench/gpu/main.c").read_text(), (ROOT / "bench/gpu/torch_side.py").read_text()
        for _, what, _ in measure.SECTIONS:
            kind, *sections = what.split()
            for section in sections:
                row = f'"{section}": {section}' if kind == "torch" else f'{{"{section}", bench_{section}}}'
                self.assertIn(row, torch if kind == "torch" else main)


if __name__ == "__main__":
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    unittest.main(verbosity=1)
