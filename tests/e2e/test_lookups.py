#!/usr/bin/env python3
"""The demonstration models do what they are for: fresh look-ups at about 1,500 tokens, exact.  What was measured is in
tools/demo_model/README.md; the bounds here are a little below it, because another numerics class may answer one or two of
the 200 differently.

usage: test_lookups.py [COUNT]     look-ups of each model (default 200)
"""
import json
import sys
import unittest

from cluster import DEMO, DEMO_MOE, ROOT, solo

sys.path.insert(0, str(ROOT / "tools" / "demo_model"))
import text  # noqa: E402  the generator; needs nothing but Python

COUNT = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 200


class Lookups(unittest.TestCase):
    def check_model(self, path, share):
        cases = json.loads((ROOT / "tests/golden/demo/lookups.json").read_text())[:COUNT]
        asked = [text.lookup(case["seed"], case["tokens"]) for case in cases]
        answers = solo(path, [("/v1/chat/completions", {"model": path.name, "messages": look_up.messages,
                                                         "temperature": 0, "max_tokens": 24}) for look_up in asked])
        right = 0
        for look_up, case, answer in zip(asked, cases, answers):
            self.assertEqual(look_up.answer, case["answer"])
            self.assertEqual(answer["usage"]["prompt_tokens"], case["prompt_tokens"])
            right += answer["choices"][0]["message"]["content"].strip() == case["answer"]
        print(f"{path.name}: {right} of {len(cases)} look-ups right")
        self.assertGreaterEqual(right, int(share * len(cases)))  # of few, one may miss

    def test_dense(self):
        self.check_model(DEMO, 0.98)

    def test_mixture(self):
        self.check_model(DEMO_MOE, 0.97)


if __name__ == "__main__":
    unittest.main(verbosity=2)
