"""A small network of our own: one namespace per node, joined by a bridge, with the faults that a network has.

Everything lives inside one private set of namespaces (network, mounts, processes) that `enter()` makes: when the test
ends, however it ends, the kernel takes the interfaces, rules and processes with it.  Only cgroups stay behind; their
names carry the pid of the run, and a run sweeps those of the dead ones.
"""
import ctypes
import os
import pathlib
import shutil
import subprocess
import sys

SUBNET = "10.77.0."
CLIENT = SUBNET + "254"
CONTROL_PORTS = "21000-21099"  # control streams of all nodes
API_PORTS = "22000-22099"
ETCD_PORTS = "2379-2380"
DATA_PORTS = f"!= {{ {CONTROL_PORTS}, {API_PORTS}, {ETCD_PORTS} }}"  # what is left is UCX's
CGROUPS = pathlib.Path("/sys/fs/cgroup")
INSIDE = "BATON_FAULTS_INSIDE"


def why_not():
    """Why no network of our own can be made here; None when it can."""
    if os.geteuid() != 0:
        return "not root: network namespaces need it"
    for tool in ("ip", "nft", "tc", "unshare", "nsenter", "etcd", "etcdctl"):
        if not shutil.which(tool):
            return f"no {tool}: tools/deps.sh lists the packages"
    probe = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c",
             "ip link add b0 type bridge && ip link add v0 type veth peer name v1"]
    if subprocess.run(probe, capture_output=True).returncode:
        return "the kernel makes no namespaces, bridge or veth for us"
    return None


def enter():
    """Runs this very program again inside; returns only there."""
    if os.environ.get(INSIDE):
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        run("ip", "link", "set", "lo", "up")
        return
    sweep_cgroups()
    # The name of a cgroup carries our pid as the outside sees it.
    os.environ[INSIDE] = str(os.getpid())
    os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                          sys.executable] + sys.argv)


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{text or ''}")
    return done.stdout


def die_with_parent():
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL


# ---- cgroups


def cgroup_file(controller, group, name):
    """cgroup v1 has a folder per controller, v2 one for all."""
    root = CGROUPS / controller if (CGROUPS / controller).is_dir() else CGROUPS
    return root / f"baton-faults-{os.environ[INSIDE]}-{group}" / name


def sweep_cgroups():
    for root in (CGROUPS, CGROUPS / "cpu", CGROUPS / "memory"):
        for folder in root.glob("baton-faults-*"):
            pid = folder.name.split("-")[2]
            if not pathlib.Path("/proc", pid).exists():
                try:
                    folder.rmdir()
                except OSError:
                    pass


class Cgroup:
    """Limits the CPU or the memory of some processes."""

    def __init__(self, controller, name):
        self.controller = controller
        self.folder = cgroup_file(controller, name, "x").parent
        self.folder.mkdir(exist_ok=True)
        self.is_v1 = (CGROUPS / controller).is_dir()

    def put(self, pid):
        (self.folder / "cgroup.procs").write_text(str(pid))

    def cpu(self, share):
        """A share of one core; None: all of it."""
        if self.is_v1:
            (self.folder / "cpu.cfs_period_us").write_text("50000")
            (self.folder / "cpu.cfs_quota_us").write_text(str(int(50000 * share) if share else -1))
        else:
            (self.folder / "cpu.max").write_text(f"{int(50000 * share) if share else 'max'} 50000")

    def memory(self, size):
        (self.folder / ("memory.limit_in_bytes" if self.is_v1 else "memory.max")).write_text(str(size) if size else "-1")

    def close(self):
        parent = self.folder.parent / "cgroup.procs"
        for pid in (self.folder / "cgroup.procs").read_text().split():
            try:
                parent.write_text(pid)
            except OSError:
                pass
        try:
            self.folder.rmdir()
        except OSError:
            pass


# ---- the network


class Namespace:
    def __init__(self, name, number):
        self.name, self.address = name, SUBNET + str(number)
        run("ip", "netns", "add", name)
        run("ip", "-batch", "-", text=f"""link add v-{name} type veth peer name eth0 netns {name}
link set v-{name} master bridge up
""")
        run("ip", "-n", name, "-batch", "-", text=f"""link set lo up
addr add {self.address}/24 dev eth0
link set eth0 up
""")

    def prefix(self):
        """Before a command line that is to run in here; keeps the process id."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def nft(self, table, chains):
        """Replaces a table of rules: {"input": [...], "nat_output": [...]}; none removes it."""
        text = f"table inet {table}\ndelete table inet {table}\n"
        if chains:
            text += f"table inet {table} {{\n"
            for chain, rules in chains.items():
                kind, _, hook = chain.rpartition("_")
                kind = f"nat hook {hook} priority -100" if kind == "nat" else f"filter hook {hook} priority 0"
                text += f" chain {chain} {{\n  type {kind}\n"
                text += "".join(f"  {rule}\n" for rule in rules) + " }\n"
            text += "}\n"
        run(*self.prefix(), "nft", "-f", "-", text=text)

    def rate(self, bits_per_s):
        """Limits what leaves; None: no limit."""
        tc = self.prefix() + ["tc", "qdisc"]
        if bits_per_s:
            run(*tc, "replace", "dev", "eth0", "root", "tbf", "rate", f"{bits_per_s}bit", "burst", "16kb", "latency", "400ms")
        else:
            subprocess.run(tc + ["del", "dev", "eth0", "root"], capture_output=True)


class World:
    one = None

    @classmethod
    def shared(cls):
        cls.one = cls.one or cls()
        return cls.one

    def __init__(self):
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "addr", "add", CLIENT + "/24", "dev", "bridge")
        run("ip", "link", "set", "bridge", "up")
        self.namespaces = {}

    def namespace(self, name):
        if name not in self.namespaces:
            self.namespaces[name] = Namespace(name, len(self.namespaces) + 1)
        return self.namespaces[name]

    def heal(self):
        for space in self.namespaces.values():
            space.nft("fault", None)
            space.rate(None)

