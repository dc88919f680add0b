#!/usr/bin/env python3
"""`baton doctor` on this machine, whatever it is: text and JSON tell the same, trials find what is arranged for them.

usage: doctor_here.py BATON
"""
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading


def doctor(baton, *args):
    # What sanitizers ask of UCX stays: ThreadSanitizer and its hooks do not go together.
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("UCX_", "BATON_")) or name == "UCX_MEM_MMAP_HOOK_MODE"}
    return subprocess.run([baton, "doctor", *args], capture_output=True, text=True, timeout=120, env=environment)


def findings_of_text(text):
    """{(level, about, what)} of the lines that are findings."""
    levels = ("problem", "warning", "note", "ok")
    found = set()
    for line in text.splitlines():
        level, _, rest = line.partition(" ")
        if level in levels and ": " in rest:
            found.add((level, *rest.strip().split(": ", 1)))
    return found


def findings_of_json(report):
    return {(f["level"], f["about"], f["what"]) for f in report["findings"]}


def check(baton, folder):
    text, as_json = doctor(baton), doctor(baton, "--json")
    report = json.loads(as_json.stdout)
    assert findings_of_text(text.stdout) == findings_of_json(report), (text.stdout, as_json.stdout)
    assert text.returncode == as_json.returncode == (1 if report["problems"] else 0), (text.returncode, as_json.returncode)
    assert text.stderr == as_json.stderr == "", (text.stderr, as_json.stderr)
    assert report["ucx"]["asked"] and any(t.startswith("tcp/") for t in report["ucx"]["transports"]), report["ucx"]

    # A port that is taken is a problem; a folder and a server that are there are not.
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen(1)
    port = taken.getsockname()[1]
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    etcd = f"http://127.0.0.1:{server.server_port}"
    result = doctor(baton, "--json", "--ports", str(port), "--disk-path", folder, "--etcd", etcd)
    server.shutdown()
    server.server_close()
    found = findings_of_json(json.loads(result.stdout))
    assert result.returncode == 1
    assert ("problem", "ports", f"{port} is taken") in found, found
    assert ("ok", "etcd", f"{etcd} answers, and its clock agrees") in found, found
    assert any(about == "disk" and level in ("ok", "warning") for level, about, _ in found), found
    assert os.listdir(folder) == [], "the trial leaves nothing behind"

    # Nobody listens there any more, and the folder is none.
    gone = json.loads(doctor(baton, "--json", "--disk-path", folder + "/none", "--etcd", etcd).stdout)
    assert any(f["about"] == "etcd" and f["level"] == "warning" and "does not answer" in f["what"] for f in gone["findings"]), gone
    assert any(f["about"] == "disk" and f["level"] == "problem" for f in gone["findings"]), gone

    for wrong in (["--ports", "http"], ["--ports", "0"], ["--wrong"], ["--ports", ",".join(["9"] * 17)]):
        result = doctor(baton, *wrong)
        assert result.returncode == 1 and result.stderr.startswith("baton doctor: ") and result.stdout == "", (wrong, result)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        check(sys.argv[1], folder)
