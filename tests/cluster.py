"""A real SLURM on this machine: a controller and virtual nodes, with their state in one folder and nothing elsewhere.

Debian's packages munge, slurmctld, slurmd and slurm-client, and root, are all that it needs; `.ci/run` installs them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.warm import name_of_fork

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
REQUIRED = "MSA_BENCH_REQUIRE_SLURM"
"""Environment variable: set, an absent SLURM fails a test instead of skipping it."""
NODES = ("n1", "n2")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MinJobAge=300
SlurmdTimeout=5
SlurmctldTimeout=10
ReturnToService=2
GresTypes=gpu
SlurmdParameters=config_overrides
{nodes}
PartitionName=work Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 State=UP
PartitionName=urgent Nodes=ALL MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP
"""


def missing_slurm() -> str:
    """Why no SLURM can run here; empty where one can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no SLURM here: {', '.join(absent)} missing (apt-get install munge slurmctld slurmd slurm-client)"
    return "" if os.geteuid() == 0 else "SLURM's daemons need root"


def need_slurm() -> None:
    """Skip the test where no SLURM can run, with the reason; fail it where one is required."""
    if why := missing_slurm():
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(why)


class Cluster:
    """Daemons with their configuration in ``folder``; use `running`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        ports = free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=8000 "
            "Gres=gpu:2 State=UNKNOWN"
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        text = CONFIG.format(folder=folder, host=socket.gethostname(), controller=ports[0], nodes="\n".join(nodes))
        folder.mkdir(parents=True)
        (folder / "state").mkdir()
        self.config = folder / "slurm.conf"
        self.config.write_text(text)
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which SLURM's commands reach this cluster."""
        return {"SLURM_CONF": str(self.config)}

    def start(self) -> None:
        """Start all daemons and wait until the nodes are idle."""
        files = [f"--{name}-file={self.folder / 'munge'}.{name}" for name in ("key", "log", "pid", "seed")]
        self.launch("munge", "munged", "--foreground", "--force", f"--socket={self.folder / 'munge.socket'}", *files)
        wait_for(lambda: (self.folder / "munge.socket").exists(), "munged")
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        wait_for(lambda: self.node_states() == {name: "idle" for name in NODES}, "the nodes")

    def start_controller(self) -> None:
        """Start the controller, which knows what it knew before."""
        self.launch("slurmctld", "slurmctld", "-D", "-f", str(self.config))

    def start_node(self, name: str) -> None:
        """Start a node's daemon."""
        self.launch(name, "slurmd", "-D", "-N", name, "-f", str(self.config))

    def launch(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground, its output in a file."""
        program = shutil.which(command[0])
        assert program
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                [program, *command[1:]],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def stop_controller(self) -> None:
        """End the controller as for an update: it saves what it knows. Killed, it may forget jobs that it has just started."""
        self.daemons["slurmctld"].terminate()
        self.daemons["slurmctld"].wait(60)

    def kill_node(self, name: str) -> None:
        """End a node as a power cut would: its daemon and every process of its jobs, at once."""
        doomed = [self.daemons[name].pid, *self.steps(name)]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # held first, so that none reports the end of another
            for pid in doomed:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.daemons[name].wait()

    def steps(self, name: str) -> list[int]:
        """Processes of jobs on a node, and SLURM's own above them."""
        found: set[int] = set()
        forks = {process.info["name"]: process.pid for process in psutil.process_iter(["name"])}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = process.environ()
                if words.get("SLURM_CONF") == str(self.config) and words.get("SLURMD_NODENAME") == name:
                    above = [parent.pid for parent in process.parents() if parent.name().startswith("slurmstepd")]
                    fork = forks.get(name_of_fork(process.pid))
                    found |= {process.pid, *above, *([fork] if fork else [])}
        return sorted(found)

    def stop(self) -> None:
        """End every job and every daemon."""
        with suppress(subprocess.SubprocessError):
            self.ask("scancel", "--user=root", check=False)
        for name in reversed(self.daemons):
            daemon = self.daemons[name]
            if daemon.poll() is None:
                daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for name in NODES:
            for pid in self.steps(name):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def ask(self, *command: str, check: bool = True) -> str:
        """Output of one of SLURM's commands."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def node_states(self) -> dict[str, str]:
        """State of every node, as sinfo says it."""
        lines = self.ask("sinfo", "-h", "-N", "-p", "work", "-o", "%N %t", check=False).splitlines()
        return dict(line.split() for line in lines)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster for a block; ended with all its jobs."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with_ports = [socket.socket() for _ in range(count)]
    try:
        for each in with_ports:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in with_ports]
    finally:
        for each in with_ports:
            each.close()


def wait_for(is_so: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something is so; an `AssertionError` where it takes too long."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
