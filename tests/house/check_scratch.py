#!/usr/bin/env python3
"""What a test writes is gone when it is over (tests/scratch.sh): when it passes, fails, or is killed with all its group; so are the processes
that it has left behind.  Of one that failed the logs stay.  And no test writes elsewhere.

usage: check_scratch.py
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEST = """
import os, pathlib, subprocess, sys, time
folder = os.environ["TMPDIR"]
pathlib.Path(folder, "data").write_bytes(bytes(1 << 16))
pathlib.Path(folder, "node").mkdir()
pathlib.Path(folder, "node", "store.log").write_text("what went wrong")
stray = subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(folder, stray.pid, flush=True)
time.sleep(60 if sys.argv[1] == "hang" else 0)
sys.exit(int(sys.argv[1]))
"""


def lives(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def waited(condition):
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def check(how, build):
    process = subprocess.Popen([ROOT / "tests" / "scratch.sh", build, sys.executable, "-c", TEST, how], stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    folder, stray = process.stdout.readline().split()
    if how == "hang":
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    assert how == "hang" or process.returncode == int(how), (how, process.returncode)
    assert waited(lambda: not os.path.exists(folder)), f"{how}: {folder} is left"
    assert waited(lambda: not lives(stray)), f"{how}: process {stray} is left"
    kept = sorted(pathlib.Path(build).rglob("*.log"))
    assert [log.name for log in kept] == ([] if how == "0" else ["node-store.log"]), (how, kept)
    for log in kept:
        assert log.read_text() == "what went wrong"
        log.unlink()


def strangers():
    """Tests that name a folder of everybody's."""
    found = []
    for path in sorted((ROOT / "tests").rglob("*")):
        if path.suffix not in (".c", ".h", ".cc", ".py", ".sh") or path.name.startswith(("scratch.", "check_scratch")):
            continue
        found += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(path.read_text().splitlines(), 1)
                  if re.search(r"""["'](/tmp|/dev/shm|/var/tmp)/""", line)]
    return found


def main():
    with tempfile.TemporaryDirectory() as build:
        for how in ("0", "3", "hang"):
            check(how, build)
    found = strangers()
    print("\n".join(f"{place}: expected tests/scratch.h, or Python's tempfile" for place in found) or "nothing of tests is left")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
