"""A network of our own for a test that listens to all that passes, or asks from elsewhere: it runs again inside."""
import os
import shutil
import subprocess
import sys

INSIDE = "BATON_TEST_INSIDE"
SKIP = 77


def enter():
    """Returns only inside; leaves with 77 where no namespaces can be made."""
    if os.environ.get(INSIDE):
        os.makedirs("/run/netns", exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    missing = [tool for tool in ("ip", "ss", "unshare") if not shutil.which(tool)]
    if os.geteuid() != 0 or missing or subprocess.run(["unshare", *flags, "true"], capture_output=True).returncode:
        print("no network namespaces here: not root, or the kernel makes none, or no", *missing)
        sys.exit(SKIP)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])
