#!/usr/bin/env python3
"""The commands of README.md work as they are written (port 8000 becomes a free one; ./check is what runs this)."""
import os
import re
import signal
import subprocess
import unittest

from cluster import BUILD, ROOT
from free_port import free_port


def commands():
    """Lines of the sh blocks, with continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


class Readme(unittest.TestCase):
    def run_line(self, line, port, **more):
        line = line.replace("8000", str(port)).replace("build/tools", str(BUILD / "tools"))
        result = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=300,
                                stdin=subprocess.DEVNULL, **more)
        self.assertEqual(result.returncode, 0, f"{line}\n{result.stdout[-1500:]}\n{result.stderr[-1500:]}")
        return result.stdout

    def test_quickstart(self):
        self.assertIn("./quickstart", commands())
        out = self.run_line("./quickstart", 0)
        self.assertIn("[right]", out)
        for word in ("read by", "handed over", "KV blocks", "written by", "first token", "tokens/s"):
            self.assertIn(word, out)

    def test_cluster_commands(self):
        lines = commands()
        up = next(line for line in lines if "baton up" in line)
        port = free_port()
        process = subprocess.Popen(["sh", "-c", "exec " + up.replace("8000", str(port)).replace(
            "build/tools", str(BUILD / "tools"))], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            for line in process.stdout:
                if "ready:" in line:
                    break
            else:
                self.fail("the cluster did not start")
            self.assertIn("decode-2", self.run_line(next(x for x in lines if "baton status" in x), port))
            # Sampled, so its words are not known before.
            story = self.run_line(next(x for x in lines if "baton chat" in x), port)
            self.assertGreater(len(story.split()), 10, story)
            self.assertIn('"content"', self.run_line(next(x for x in lines if x.startswith("curl")), port))
        finally:
            os.kill(process.pid, signal.SIGINT)
            process.stdout.read()
            process.stdout.close()
            self.assertEqual(process.wait(60), 0)

    def test_solo(self):
        self.assertGreater(len(self.run_line(next(x for x in commands() if "baton solo" in x), 0).strip()), 0)

    def test_every_command_is_tried(self):
        known = ("./quickstart", "./check", "baton doctor", "baton up", "baton status", "baton chat", "baton solo", "curl")
        for line in commands():
            self.assertTrue(any(word in line for word in known), f"no test runs: {line}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
