"""A real SLURM cluster of several virtual nodes on this one Debian machine, for tests that submit through sbatch.

    python -m tests.cluster.slurm start | stop | status | crash NODE | revive NODE | purge

Must run as root. Every node is a slurmd in namespaces of its own (processes, mounts, host name), so that ending its
first process ends its jobs too, as a power cut does. CPUs, memory and GPUs are what the nodes say that they have; the
GPUs are copies of the null device. Nodes c1, c2, … are in the partition `cpu` (the default), d1, … in `spare`, whose
jobs those of `urgent` preempt, and g1, … in `gpu`. Everything listens on loopback only. Numbers can be changed by
environment variables: see `Layout`.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

HOME = Path("/var/lib/ontogeny-test-cluster")
ETC = Path("/etc/slurm")
CONFIGURATION = ("slurm.conf", "gres.conf", "cgroup.conf", "slurmdbd.conf")
MARK = "# written by ontogeny's test cluster"
MUNGE_SOCKET = Path("/run/munge/munge.socket.2")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
DATABASE_SOCKET = HOME / "mariadb.sock"
CHILDREN: list[subprocess.Popen[bytes]] = []  # daemons outlive this process on purpose; forgotten ones raise a warning


class ClusterError(Exception):
    """The cluster cannot be had on this machine, or did not come up."""


@dataclass(frozen=True)
class Layout:
    """What the cluster consists of; each field is read from the environment as CLUSTER_<NAME> if it is there."""

    cpu_nodes: int = 2
    spare_nodes: int = 2
    gpu_nodes: int = 1
    cpus: int = 8  # of each node; need not exist
    memory: int = 16000  # MB of each node; need not exist
    gpus: int = 2  # of each GPU node
    accounting: int = 0  # 1: slurmdbd and MariaDB, so that sacct works
    node_timeout: int = 15  # seconds until a silent node is down
    requeue_delay: int = 10  # seconds until a requeued job may start; SLURM's own is 120
    kill_wait: int = 5  # seconds between SIGTERM and SIGKILL at the end of a job's time

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Layout:
        """The defaults, changed by what the environment says."""
        names = {field.name: f"CLUSTER_{field.name.upper()}" for field in fields(cls)}
        return cls(**{name: int(environment[key]) for name, key in names.items() if key in environment})

    @property
    def nodes(self) -> list[str]:
        """Names of all nodes."""
        kinds = {"c": self.cpu_nodes, "d": self.spare_nodes, "g": self.gpu_nodes}
        return [f"{kind}{index + 1}" for kind, count in kinds.items() for index in range(count)]

    def port(self, node: str) -> int:
        """Where the slurmd of a node listens."""
        return 17000 + self.nodes.index(node)


class Daemon:
    """A process of the cluster that outlives this one; known by its number and its birth, which no other has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._record = HOME / "pid" / name

    def process(self) -> psutil.Process | None:
        """The process, if it is alive."""
        try:
            number, born = self._record.read_text().split()
            process = psutil.Process(int(number))
            same = abs(process.create_time() - float(born)) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.Error):
            return None
        return process if same else None

    def start(self, command: Sequence[str], **environment: str) -> None:
        """Start it in a session of its own, unless it is alive."""
        if self.process():
            return
        with (HOME / "log" / f"{self.name}.out").open("ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "LC_ALL": "C", **environment},
            )  # fmt: skip
        CHILDREN.append(child)
        self._record.write_text(f"{child.pid} {psutil.Process(child.pid).create_time()}")

    def end(self, patience: float, kill: bool = False) -> None:
        """Ask it to end, and kill it after `patience` seconds; or kill it at once."""
        process = self.process()
        if process is not None:
            process.kill() if kill else process.terminate()
            _, alive = psutil.wait_procs([process], timeout=patience)
            for stubborn in alive:
                stubborn.kill()
            psutil.wait_procs(alive, timeout=5)
        self._record.unlink(missing_ok=True)


class Cluster:
    """The cluster. Commands may be repeated: each does what is still missing."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or Layout.from_environment()

    def start(self) -> float:
        """Install, configure, bring up, wait until every node is idle; return the seconds that it took.

        Raises ClusterError where that is impossible.
        """
        began = time.monotonic()
        require_root_and_namespaces()
        install([*PACKAGES, *(ACCOUNTING_PACKAGES if self.layout.accounting else ())])
        configure(self.layout)
        start_munge()
        if self.layout.accounting:
            start_database()
        self.start_controller()
        for node in self.layout.nodes:
            self.revive(node)
        wait_until(self.idle, 60, "the nodes to be idle")
        return time.monotonic() - began

    def start_controller(self) -> None:
        """Start slurmctld; it goes on from its saved state (-i: also from one that a kill left half written)."""
        Daemon("slurmctld").start(["slurmctld", "-D", "-i"])
        wait_until(lambda: succeeds("scontrol", "ping"), 30, "slurmctld")

    def stop_controller(self, kill: bool = False) -> None:
        """End slurmctld; jobs run on without it."""
        Daemon("slurmctld").end(15, kill)

    def forget(self) -> None:
        """Lose the state of the controller, which must not be running: every job is gone when it starts."""
        shutil.rmtree(HOME / "state")
        (HOME / "state").mkdir()

    def start_accounting(self) -> None:
        """Start slurmdbd."""
        start_accounting_daemon()

    def stop_accounting(self) -> None:
        """End slurmdbd; the database stays."""
        Daemon("slurmdbd").end(15)

    def revive(self, node: str) -> None:
        """Start a node, and take it out of a drain that a hard stop of slurmctld may have left."""
        spool = HOME / "spool" / node
        spool.mkdir(parents=True, exist_ok=True)
        # The shell stays the first process of the namespace: it reaps orphans, and its end is the end of all
        script = 'mount --bind "$2" /etc/hosts; hostname "$1"; slurmd -D -N "$1" & wait $!'
        isolate = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--uts"]
        Daemon(f"node.{node}").start([*isolate, "bash", "-c", script, "node", node, str(HOME / "hosts")])

    def crash(self, node: str) -> None:
        """The node and all that runs on it vanish."""
        Daemon(f"node.{node}").end(5, kill=True)

    def idle(self) -> bool:
        """Whether every node answers and takes jobs."""
        lines = output("sinfo", "-hN", "-o", "%N %T").splitlines()
        states = {line.split()[0]: line.split()[1] for line in lines if len(line.split()) == 2}
        for node, state in states.items():
            if state.startswith(("drain", "down", "fail")):
                run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return all(states.get(node) in ("idle", "mixed", "allocated", "completing") for node in self.layout.nodes)

    def stop(self) -> None:
        """End every job and daemon."""
        for record in sorted((HOME / "pid").glob("node.*")):
            Daemon(record.name).end(5, kill=True)
        for name, patience in (("slurmctld", 15), ("slurmdbd", 15), ("mariadbd", 30), ("munged", 5)):
            Daemon(name).end(patience)
        MUNGE_SOCKET.unlink(missing_ok=True)

    def purge(self) -> None:
        """Stop, and remove state and configuration. A configuration without a controller slows every Snakemake."""
        self.stop()
        for path in (ETC / name for name in CONFIGURATION):
            if path.exists() and is_ours(path):
                path.unlink()
        shutil.rmtree(HOME, ignore_errors=True)


def configure(layout: Layout) -> None:
    """Write the files that the daemons read. Raises ClusterError if a real SLURM has its own."""
    foreign = [str(ETC / name) for name in CONFIGURATION if (ETC / name).exists() and not is_ours(ETC / name)]
    if foreign:
        raise ClusterError(f"{', '.join(foreign)}: is not the test cluster's; move it away first")
    for folder in (ETC, *(HOME / name for name in ("pid", "log", "state", "spool", "dev", "munge"))):
        folder.mkdir(parents=True, exist_ok=True)
    HOME.chmod(0o711)
    (HOME / "munge").chmod(0o700)
    for index in range(layout.gpus):  # a plain file gets no CUDA_VISIBLE_DEVICES; a copy of the null device does
        device = HOME / "dev" / f"gpu{index}"
        if not device.exists():
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (ETC / "slurm.conf").write_text("\n".join([MARK, *slurm_conf(layout), ""]))
    (ETC / "gres.conf").write_text("\n".join([MARK, "AutoDetect=off", *gres_conf(layout), ""]))
    (ETC / "cgroup.conf").write_text(f"{MARK}\nCgroupAutomount=no\n")
    hosts = [Path("/etc/hosts").read_text(), *(f"127.0.0.1 {node}" for node in layout.nodes), ""]
    (HOME / "hosts").write_text("\n".join(hosts))  # a slurmd that is bound to loopback must resolve its own name
    if layout.accounting:
        path = ETC / "slurmdbd.conf"
        path.write_text("\n".join([MARK, *slurmdbd_conf(), ""]))
        path.chmod(0o600)


def slurm_conf(layout: Layout) -> Iterator[str]:
    """The lines of slurm.conf."""
    yield from (
        "ClusterName=testcluster",
        f"SlurmctldHost={host()}(127.0.0.1)",
        "SlurmctldPort=6817",
        "SlurmUser=root",
        "SlurmdUser=root",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={MUNGE_SOCKET},cred_expire={layout.requeue_delay}",  # also the delay of a requeued job
        f"StateSaveLocation={HOME}/state",
        f"SlurmdSpoolDir={HOME}/spool/%n",
        f"SlurmctldPidFile={HOME}/pid/slurmctld.own",
        f"SlurmdPidFile={HOME}/pid/slurmd.%n.own",
        f"SlurmctldLogFile={HOME}/log/slurmctld.log",
        f"SlurmdLogFile={HOME}/log/slurmd.%n.log",
        "MpiDefault=none",
        "SlurmdParameters=config_overrides",  # the nodes need not have what they say
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "DefMemPerCPU=700",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0",
        "GresTypes=gpu",
        "ReturnToService=2",
        f"SlurmdTimeout={layout.node_timeout}",
        "SlurmctldTimeout=20",
        f"KillWait={layout.kill_wait}",
        "MinJobAge=300",
        "JobRequeue=1",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=task=2",
        "JobAcctGatherParams=OverMemoryKill",  # memory limits by looking every two seconds: works on every kernel
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
    )
    if layout.accounting:
        yield from ("AccountingStorageType=accounting_storage/slurmdbd", "AccountingStorageHost=127.0.0.1")
        yield from ("AccountingStoragePort=6819", "AccountingStorageTRES=gres/gpu")
    else:
        yield "AccountingStorageType=accounting_storage/none"
    for node in layout.nodes:
        gres = f"Gres=gpu:fake:{layout.gpus} " if node.startswith("g") else ""
        address = f"NodeHostname={node} NodeAddr=127.0.0.1 Port={layout.port(node)}"
        yield f"NodeName={node} {address} CPUs={layout.cpus} RealMemory={layout.memory} {gres}State=UNKNOWN"
    for partition, kind, priority in (("cpu", "c", 1), ("spare", "d", 1), ("urgent", "d", 10), ("gpu", "g", 1)):
        members = ",".join(node for node in layout.nodes if node.startswith(kind))
        if members:
            default = "YES" if partition == "cpu" else "NO"
            limits = f"MaxTime=INFINITE PriorityTier={priority} State=UP"
            yield f"PartitionName={partition} Nodes={members} Default={default} {limits}"


def gres_conf(layout: Layout) -> Iterator[str]:
    """The lines of gres.conf: the fake GPUs."""
    devices = f"{HOME}/dev/gpu[0-{layout.gpus - 1}]"
    for node in layout.nodes:
        if node.startswith("g"):
            yield f"NodeName={node} Name=gpu Type=fake Flags=nvidia_gpu_env File={devices}"


def slurmdbd_conf() -> list[str]:
    """The lines of slurmdbd.conf."""
    return [
        *("AuthType=auth/munge", f"DbdHost={host()}", "DbdAddr=127.0.0.1", "DbdPort=6819", "SlurmUser=root"),
        *(f"LogFile={HOME}/log/slurmdbd.log", f"PidFile={HOME}/pid/slurmdbd.own"),
        *("StorageType=accounting_storage/mysql", "StorageHost=localhost", "StorageUser=root"),
        "StorageLoc=slurm_acct_db",
    ]


def start_munge() -> None:
    """Start munged, by which the daemons trust each other."""
    key = HOME / "munge" / "key"
    if not key.exists():
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
    MUNGE_SOCKET.parent.mkdir(mode=0o755, exist_ok=True)
    if Daemon("munged").process() is None:
        MUNGE_SOCKET.unlink(missing_ok=True)
    files = {"socket": MUNGE_SOCKET, "key-file": key, "pid-file": HOME / "munge/pid", "seed-file": HOME / "munge/seed"}
    options = [f"--{name}={path}" for name, path in {**files, "log-file": HOME / "log/munged.log"}.items()]
    Daemon("munged").start(["munged", "--foreground", "--force", *options])
    wait_until(lambda: succeeds("munge", "-n", "-S", str(MUNGE_SOCKET)), 10, "munged")


def start_database() -> None:
    """Start MariaDB without a network, and slurmdbd on it."""
    data = HOME / "mariadb"
    if not (data / "mysql").is_dir():
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        shutil.chown(data, "mysql", "mysql")
        auth = ["--auth-root-authentication-method=socket", "--auth-root-socket-user=root", "--skip-test-db"]
        run("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", *auth, check=True)
    HOME.chmod(0o777)  # the server makes its socket here before it gives up root
    small = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900"]
    server = ["mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={DATABASE_SOCKET}"]
    Daemon("mariadbd").start([*server, "--skip-networking", f"--pid-file={data}/pid", *small])
    ping = ("mariadb-admin", "--no-defaults", f"--socket={DATABASE_SOCKET}", "ping")
    wait_until(lambda: succeeds(*ping), 60, "MariaDB")
    HOME.chmod(0o711)
    start_accounting_daemon()
    if "testcluster" not in output("sacctmgr", "-nP", "show", "cluster", "format=cluster"):
        run("sacctmgr", "-i", "add", "cluster", "testcluster", check=True)


def start_accounting_daemon() -> None:
    """Start slurmdbd."""
    Daemon("slurmdbd").start(["slurmdbd", "-D"], MYSQL_UNIX_PORT=str(DATABASE_SOCKET))
    wait_until(lambda: succeeds("sacctmgr", "-n", "show", "cluster"), 60, "slurmdbd")


def require_root_and_namespaces() -> None:
    """Raise ClusterError where the cluster cannot run."""
    if os.geteuid() != 0:
        raise ClusterError("the test cluster needs root")
    if shutil.which("apt-get") is None:
        raise ClusterError("the test cluster installs SLURM with apt-get, which this machine does not have")
    if not succeeds("unshare", "--pid", "--fork", "--mount-proc", "--uts", "true"):
        raise ClusterError("this machine does not allow the namespaces (unshare) that the nodes are made of")


def install(packages: Sequence[str]) -> None:
    """Install Debian packages that are missing, without starting their own services."""
    query = ("dpkg-query", "-W", "-f", "${db:Status-Status}")
    missing = [name for name in packages if output(*query, name) != "installed"]
    if not missing:
        return
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        run("apt-get", "update", "-qq", check=True)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, check=True)
    finally:
        if ours:
            policy.unlink()


def is_ours(path: Path) -> bool:
    """Whether a file of /etc/slurm was written here."""
    text = path.read_text()
    return not text or text.startswith(MARK)  # Debian's packages leave empty ones


def host() -> str:
    """This machine's short name."""
    return socket.gethostname().split(".")[0]


def run(*command: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it says. Raises ClusterError if `check` and it fails."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    if check and done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done


def succeeds(*command: str) -> bool:
    """Whether a command succeeds."""
    return run(*command).returncode == 0


def output(*command: str) -> str:
    """What a command prints."""
    return run(*command).stdout.strip()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something that must happen. Raises ClusterError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:.0f} s for {what} in vain; the logs are in {HOME}/log")
        time.sleep(0.1)


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    cluster = Cluster()
    actions: dict[str, Callable[..., object]] = {
        "start": lambda: print(f"up in {cluster.start():.0f} s: {', '.join(cluster.layout.nodes)}"),
        "stop": cluster.stop,
        "purge": cluster.purge,
        "crash": cluster.crash,
        "revive": cluster.revive,
        "status": lambda: print(output("sinfo", "-N"), output("squeue"), sep="\n"),
    }
    if not arguments or arguments[0] not in actions:
        print(__doc__)
        return 2
    try:
        actions[arguments[0]](*arguments[1:])
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
