"""A real SLURM cluster on this machine: a controller, three virtual nodes, four fake L40S each.

    python tests/slurm/cluster.py [--accounting]     starts it, and stops it at the end of input (Ctrl-D)

With accounting it also has slurmdbd on a MariaDB of its own: jobs need an account, which may use one quality of
service, a second partition has a time limit, and the last node is drained. There memory limits are the kernel's where
it has cgroups of the first version; without accounting, and elsewhere, SLURM looks every two seconds.

Debian's packages and root are needed, systemd is not (`make test-slurm` installs what is missing). The GPUs are
character devices that lead nowhere, so jobs are scheduled as on GPU nodes and compute on the CPU. `/etc/slurm` is used
because a job step finds its configuration nowhere else: Snakemake's jobstep plugin strips SLURM_CONF.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ETC = Path("/etc/slurm")
MARK = "# Written by tests/slurm/cluster.py of hps-replica, and removed by it.\n"
NODES = ("node1", "node2", "node3")
FILES = ("slurm.conf", "gres.conf", "slurmdbd.conf", "cgroup.conf")
GPUS, CPUS, MEMORY = 4, 16, 256_000  # of a node, which does not have them; MEMORY in MiB

CONFIG = """\
ClusterName=hps-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n.spool
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
{limits}
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
{accounting}
JobCompType=jobcomp/none
MinJobAge=3600
KillWait=5
MessageTimeout=30
ReturnToService=0
SlurmctldDebug=info
SlurmdDebug=info
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=12:00:00 State=UP
"""
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
EnforcePartLimits=ALL"""
DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
POLLED = """\
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill"""
CONSTRAINED = "TaskPlugin=task/cgroup"
CGROUPS = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainRAMSpace=yes
"""
ACCOUNT, QOS = "lab", "trainings"


def can_constrain_memory() -> bool:
    """Whether the kernel holds jobs to their memory here: with the cgroups that SLURM 22.05 needs no systemd for."""
    return os.access("/sys/fs/cgroup/memory/cgroup.procs", os.W_OK)


class ClusterError(Exception):
    """The cluster could not be started; one line says why."""


class Cluster:
    """Starts in `with`, and stops every process that it started (and the jobs that they started) when it ends."""

    def __init__(self, accounting: bool = False) -> None:
        self.accounting = accounting
        self.processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        if os.getuid() != 0:
            raise ClusterError("the test cluster is started as root")
        for path in (ETC / name for name in FILES):
            if path.exists() and not path.read_text().startswith(MARK):
                raise ClusterError(f"{path} belongs to another cluster, so none is started here")
        if (ETC / "slurm.conf").exists() and self.answers():
            raise ClusterError("a SLURM controller answers on this machine already")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that being ended ends the cluster too
        self.temporary = tempfile.TemporaryDirectory(prefix="hps-slurm-")
        self.folder = Path(self.temporary.name)
        try:
            self.configure()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def configure(self) -> None:
        """Write SLURM's files, and make the GPUs' device files."""
        ETC.mkdir(exist_ok=True)
        port, self.database, accountant, *ports = free_ports(3 + len(NODES))
        nodes = "".join(
            f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
            f"RealMemory={MEMORY} Gres=gpu:l40s:{GPUS} State=UNKNOWN\n"
            for name, port in zip(NODES, ports, strict=True)
        )
        accounting = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            accounting = ACCOUNTING.format(port=accountant, folder=self.folder)
            text = DATABASE.format(port=accountant, database=self.database, folder=self.folder)
            (ETC / "slurmdbd.conf").write_text(MARK + text)
            (ETC / "slurmdbd.conf").chmod(0o600)  # it holds a password, so slurmdbd wants no more
        limits = POLLED
        if self.accounting and can_constrain_memory():
            limits = CONSTRAINED
            (ETC / "cgroup.conf").write_text(MARK + CGROUPS)
        host = socket.gethostname()
        config = CONFIG.format(host=host, port=port, folder=self.folder, accounting=accounting, limits=limits)
        gres = "AutoDetect=off\n"
        for name in NODES:
            for number in range(GPUS):
                device = self.folder / f"{name}.gpu{number}"
                os.mknod(device, 0o600 | 0o020000, os.makedev(1, 3))  # a character device: another /dev/null
                gres += f"NodeName={name} Name=gpu Type=l40s File={device}\n"
        (self.folder / "state").mkdir()
        (ETC / "slurm.conf").write_text(MARK + nodes + config)
        (ETC / "gres.conf").write_text(MARK + gres)

    def start(self) -> None:
        """Start munged, slurmctld and a slurmd a node, and wait until all nodes are idle."""
        key = self.folder / "munge.key"
        run("mungekey", "--create", f"--keyfile={key}")
        self.daemon(
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket"),
            *(f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log"),
            f"--seed-file={self.folder}/munged.seed",
        )
        self.wait(lambda: (self.folder / "munge.socket").exists(), "munged did not start")
        if self.accounting:
            self.start_accounting()
        self.daemon("slurmctld", "-D", "-c")
        for name in NODES:
            self.daemon("slurmd", "-D", "-N", name)
        self.wait(self.answers, "slurmctld did not start")
        idle = f"{len(NODES)} idle\n"
        self.wait(lambda: run("sinfo", "--noheader", "--format=%D %T") == idle, "nodes did not come up")
        if self.accounting:
            run("scontrol", "update", f"nodename={NODES[-1]}", "state=drain", "reason=test")

    def start_accounting(self) -> None:
        """Start MariaDB and slurmdbd, and register cluster, account, quality of service and user."""
        data, door = self.folder / "data", self.folder / "mariadb.socket"
        own = ("--no-defaults", f"--datadir={data}", "--user=root")
        run("mariadb-install-db", *own, "--auth-root-authentication-method=socket", "--skip-test-db")
        where = ("--bind-address=127.0.0.1", f"--port={self.database}", f"--socket={door}")
        self.daemon("mariadbd", *own, *where, f"--log-error={self.folder}/mariadb.log")
        grant = "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm@'127.0.0.1'"
        client = ("mariadb", "--no-defaults", f"--socket={door}", "--execute")
        self.wait(lambda: door.exists() and works(*client, "SELECT 1"), "mariadbd did not start")
        run(*client, grant)
        self.daemon("slurmdbd", "-D")
        self.wait(lambda: works("sacctmgr", "--noheader", "show", "cluster"), "slurmdbd did not start")
        for words in (
            ("cluster", "hps-test"),
            ("qos", QOS),
            ("account", ACCOUNT, f"qos={QOS}", f"defaultqos={QOS}"),
            ("user", "root", f"account={ACCOUNT}"),
        ):
            run("sacctmgr", "--immediate", "add", *words)

    def answers(self) -> bool:
        """Whether a controller does; without one, other commands would wait for it for minutes."""
        try:
            return subprocess.run(["scontrol", "ping"], capture_output=True, timeout=10).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def daemon(self, *words: str) -> None:
        with (self.folder / "output.log").open("a") as output:
            self.processes.append(subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True))

    def wait(self, ready, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            ended = [process.args[0] for process in self.processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                said = "".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log")))
                raise ClusterError(f"{what}; ended: {ended}\n{said}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Cancel all jobs, end the daemons by their ids (controller last but munged), and remove the configuration."""
        if self.answers():
            run("scancel", "--signal=KILL", "--full", "--user=root", check=False)
            run("scancel", "--user=root", check=False)
            deadline = time.monotonic() + 30
            while run("squeue", "--noheader", check=False) and time.monotonic() < deadline:
                time.sleep(0.2)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in FILES:
            (ETC / name).unlink(missing_ok=True)
        self.temporary.cleanup()


def free_ports(number: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def works(*words: str) -> bool:
    """Whether a command succeeds."""
    return subprocess.run(words, capture_output=True).returncode == 0


def run(*words: str, check: bool = True) -> str:
    """A command's output; ClusterError with what it said if it fails."""
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode:
        raise ClusterError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    started = time.monotonic()
    with Cluster(accounting=sys.argv[1:] == ["--accounting"]) as cluster:
        print(f"{len(NODES)} nodes after {time.monotonic() - started:.1f} s; logs in {cluster.folder}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    try:
        main()
    except ClusterError as error:
        sys.exit(f"error: {error}")
