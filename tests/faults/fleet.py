"""The real programs on the network of world.py: started directly, watched, stopped by pid."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from world import CONTROL_PORTS, DATA_PORTS, ETCD_PORTS, INSIDE, World, die_with_parent, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BATON_BUILD", ROOT / "build")).resolve()
DEMO = ROOT / "models" / "demo"
CONTROL, API = 21000, 22000
KEY = "faults-of-all-kinds"  # an administrator's: /debug beyond this host wants one
AUTHORIZATION = {"Authorization": "Bearer " + KEY}
PROGRAMS = {"prefill": "node/baton-prefill", "decode": "node/baton-decode", "kvstore": "kvstore/baton-kvstore",
            "coordinator": "coordinator/baton-coordinator"}
ENGINES = ("prefill", "decode")


class Process:
    """One program with a name: the same arguments at each start."""

    def __init__(self, fleet, name, role, space, arguments):
        self.fleet, self.name, self.role, self.space, self.arguments = fleet, name, role, space, arguments
        self.environment, self.prefix = {}, []
        self.log = pathlib.Path(fleet.folder, name + ".log")
        self.process, self.stopped, self.ended_by_us = None, False, True
        self.descriptors = None

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        return self.space.address

    def start(self):
        self.ended_by_us, self.stopped, self.descriptors = False, False, None
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.space.prefix() + self.prefix + self.arguments, stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                            env={**os.environ, **self.environment}, preexec_fn=die_with_parent)

    def lives(self):
        return self.process is not None and self.process.poll() is None

    def send(self, number):
        self.stopped = number == signal.SIGSTOP
        os.kill(self.pid, number)

    def kill(self):
        self.ended_by_us = True
        if self.lives():
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self, timeout):
        """SIGTERM; the seconds it took to end, or None."""
        self.ended_by_us = True
        start = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - start

    def died(self):
        """What ended it, when that was not us."""
        if self.process is None or self.ended_by_us or self.process.poll() is None:
            return None
        tail = self.log.read_text(errors="replace").splitlines()[-6:]
        return f"{self.name} ended with {self.process.returncode}:\n    " + "\n    ".join(tail)

    def fd_count(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text())[1]) * 1024


class Relay:
    """relay.c before one node: all its control streams, or all its data connections, go through it."""

    def __init__(self, space, port, mode):
        self.process = subprocess.Popen(space.prefix() + [str(BUILD / "tests" / "faults" / "relay"), str(port), mode],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=die_with_parent)

    def tell(self, *commands):
        self.process.stdin.write("".join(command + "\n" for command in commands))
        self.process.stdin.flush()

    def done(self):
        """How often it did what it was told to do to frames, messages and connections."""
        self.tell("show")
        return int(self.process.stdout.readline().split()[-1])


class Fleet:
    """2 prefill, 2 decode, 2 kvstore, 2 coordinators and etcd.  transport: what carries the blocks; "mapped" puts engines
    and stores into one namespace, where they can read each other's memory.  relayed: the first of each role has relays
    before it.  shim: Baton's
    programs run under shim.c, with a clock that can be set.  small_disk: logs and etcd's data on a small tmpfs each."""

    def __init__(self, factor=1, etcd=1, transport="tcp", prefill=2, decode=2, kvstore=2, coordinators=2, extra=None,
                 relayed=False, shim=False, small_disk=False, log_level="info"):
        self.log_level = log_level
        self.world, self.factor = World.shared(), factor
        self.folder = tempfile.mkdtemp(prefix=f"baton-faults-{os.environ[INSIDE]}-")
        self.disks = [self.folder, self.folder + "/etcd"]
        self.all, self.extra, self.relays = {}, extra or {}, {}
        self.shim = shim
        # In memory: a busy disk under the logs would be one more fault.
        self._mount(self.folder, "32m" if small_disk else "1g")
        os.mkdir(self.disks[1])
        self._mount(self.disks[1], "300m" if small_disk else "1g")
        self.transport = transport
        self.etcd_names = [f"etcd-{i + 1}" for i in range(etcd)]
        for name in self.etcd_names:
            self._add_etcd(name)
        for role, count in (("kvstore", kvstore), ("prefill", prefill), ("decode", decode), ("coordinator", coordinators)):
            for i in range(count):
                self._add(role, f"{role}-{i + 1}")
            if relayed:
                self._relay(self.of(role)[0])

    # ---- making

    @staticmethod
    def _mount(folder, size):
        run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)

    def _relay(self, process):
        """Connections from and to the process; the relays' own carry a mark, and pass."""
        space, rules = process.space, {"nat_output": [], "nat_prerouting": []}
        for kind, port, ports, mode in (("control", 20001, CONTROL_PORTS, "frames"), ("data", 20002, DATA_PORTS, "raw")):
            rules["nat_output"].append(f"oif != lo meta mark != 7 tcp dport {ports} redirect to :{port}")
            rules["nat_prerouting"].append(f"iif != lo tcp dport {ports} redirect to :{port}")
            self.relays[process.name, kind] = Relay(space, port, mode)
        space.nft("relay", rules)

    def _space(self, role, name):
        shared = self.transport == "mapped" and role in PROGRAMS and role != "coordinator"
        return self.world.namespace("host" if shared else name.replace("coordinator", "coord"))

    def _etcd_url(self, name):
        return f"http://{self.world.namespace(name).address}:2379"

    def _add_etcd(self, name):
        space = self._space("etcd", name)
        low, high = ETCD_PORTS.split("-")
        peers = ",".join(f"{n}=http://{self.world.namespace(n).address}:{high}" for n in self.etcd_names)
        url, peer = f"http://{space.address}:{low}", f"http://{space.address}:{high}"
        arguments = ["etcd", "--name", name, "--data-dir", f"{self.folder}/etcd/{name}.data", "--listen-client-urls", url,
                     "--advertise-client-urls", url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                     "--initial-cluster", peers, "--logger", "zap", "--log-level", "warn"]
        self.all[name] = Process(self, name, "etcd", space, arguments)

    def _add(self, role, name):
        space = self._space(role, name)
        port = CONTROL + sum(p.space is space for p in self.all.values())
        arguments = [str(BUILD / PROGRAMS[role]), "--name", name, "--listen", f"tcp://{space.address}:{port}",
                     "--etcd", ",".join(self._etcd_url(n) for n in self.etcd_names), "--time-factor", str(self.factor),
                     "--shutdown-timeout", "30", "--log-level", self.log_level, "--insecure"]
        if role == "coordinator":
            arguments += ["--host", space.address, "--port", str(API), "--model", str(DEMO),
                          "--admin-key", KEY]
        else:
            arguments += ["--link-transport", self.transport]
            if self.transport.startswith("ucx"):
                arguments += ["--link-network", "eth0"]
        if role == "kvstore":
            arguments += ["--kv-bytes", "16MiB", "--slab-bytes", "4MiB"]
        if role in ENGINES:
            arguments += ["--model", str(DEMO), "--kv-bytes", "32MiB", "--threads", "1", "--max-num-seqs", "64",
                          "--prefill-chunk-tokens", "64"]
        arguments += [str(word) for word in self.extra.get(role, ())]
        process = self.all[name] = Process(self, name, role, space, arguments)
        process.port = port
        if self.shim:
            process.clock = pathlib.Path(self.folder, name + ".clock")
            process.clock.write_text("0")
            process.environment = {"LD_PRELOAD": str(BUILD / "tests" / "faults" / "shim.so"),
                                   "FAULTS_CLOCK": str(process.clock)}
        return process

    def of(self, role):
        return [p for p in self.all.values() if p.role == role]

    @property
    def coordinators(self):
        return self.of("coordinator")

    def start(self):
        for name in self.etcd_names:
            self.all[name].start()
        self.wait_for(lambda: all(self.etcd_healthy(n) for n in self.etcd_names), 30, "etcd")
        for process in self.all.values():
            if process.role != "etcd":
                process.start()
        self.wait_healthy(90)

    def stop(self):
        self.world.heal()
        for process in self.all.values():
            if process.lives():
                if process.stopped:
                    process.send(signal.SIGCONT)
                process.kill()
        for relay in self.relays.values():
            relay.process.kill()
        for space in self.world.namespaces.values():
            space.nft("relay", None)
        for disk in reversed(self.disks):
            subprocess.run(["umount", disk], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- looking

    def get(self, process, path, timeout=5):
        connection = http.client.HTTPConnection(process.address, API, timeout=timeout)
        try:
            connection.request("GET", path, headers=AUTHORIZATION)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def etcd_healthy(self, name):
        try:
            connection = http.client.HTTPConnection(self.all[name].address, 2379, timeout=1)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def etcdctl(self, *words, timeout=10):
        urls = ",".join(self._etcd_url(n) for n in self.etcd_names)
        return subprocess.run(["etcdctl", "--endpoints", urls, *words], capture_output=True, text=True, timeout=timeout,
                              env={**os.environ, "ETCDCTL_API": "3"}).stdout

    def topology(self, coordinator):
        return json.loads(self.get(coordinator, "/debug/topology")[1])

    def metrics(self, coordinator):
        text = self.get(coordinator, "/metrics")[1]
        return {m[1]: float(m[2]) for m in re.finditer(r"^([a-z_:]+(?:\{[^}]*\})?) (\S+)$", text, re.M)}

    def nodes(self):
        """Every engine and store that we started and did not end."""
        return [p for p in self.all.values() if p.role in ("prefill", "decode", "kvstore") and p.lives()]

    def unhealthy(self):
        """What a healed cluster must not show; empty: every coordinator sees every node up, in its present life."""
        wrong = []
        for coordinator in self.coordinators:
            try:
                seen = {n["name"]: n for n in self.topology(coordinator)["nodes"]}
            except (OSError, ValueError, http.client.HTTPException) as error:
                wrong.append(f"{coordinator.name}: {error!r}")
                continue
            for node in self.nodes():
                view = seen.get(node.name)
                if not view or view["state"] != "up" or view["pid"] != node.pid:
                    wrong.append(f"{coordinator.name} sees {node.name} as {view and view['state']}")
                elif view["sessions"] != self.sessions_due():
                    wrong.append(f"{node.name} has {view['sessions']} sessions of {self.sessions_due()}")
        return wrong

    def sessions_due(self):
        """Of each node: with every coordinator and every other node."""
        return len(self.coordinators) + len(self.nodes()) - 1

    def held(self):
        """What is held anywhere although nobody asks for anything; empty: nothing."""
        left = []
        for coordinator in self.coordinators:
            if not coordinator.lives():
                continue
            view = self.topology(coordinator)
            own = view["coordinator"]
            for name in ("requests", "requests_queued", "jobs_running", "jobs_recovering"):
                if own[name]:
                    left.append(f"{coordinator.name}: {name} {own[name]}")
            for node in view["nodes"]:
                process = self.all.get(node["name"])
                if not process or not process.lives() or process.stopped or node["state"] == "down":
                    continue
                amounts = {"blocks reserved": node["kv_blocks_reserved"], "jobs": node["load"]["jobs"]}
                if node["role"] in ENGINES:
                    amounts.update({"blocks used": node["kv_blocks_used"], "slots": node["load"]["sequences"],
                                    "tokens waiting": node["load"]["tokens_waiting"]})
                left += [f"{coordinator.name} sees {node['name']}: {what} {n}" for what, n in amounts.items() if n]
        return left

    # ---- waiting

    def wait_for(self, condition, timeout, what):
        end = time.monotonic() + timeout
        while True:
            if condition():
                return
            ended = [p.died() for p in self.all.values() if p.died()]
            if ended:
                raise RuntimeError("\n".join(ended))
            if time.monotonic() > end:
                raise RuntimeError(f"not within {timeout} s: {what}")
            time.sleep(0.05)

    def wait_healthy(self, timeout):
        """The seconds it took."""
        start = time.monotonic()
        try:
            self.wait_for(lambda: not self.unhealthy(), timeout, "a healthy cluster")
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {'; '.join(self.unhealthy())}") from None
        return time.monotonic() - start

