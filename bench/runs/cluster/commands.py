"""SLURM's own commands, asked and understood: which jobs there are, what the nodes have, what is refused and why."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.errors import UserError

PATIENCE_SECONDS = 60
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
UNDER_WAY = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"})


SINCE = "--starttime=now-60days"
"""How far accounting looks back for a submission, by itself only to midnight."""


class Silent(Exception):
    """SLURM doesn't answer; its jobs go on all the same."""


@dataclass(frozen=True)
class State:
    """A job as SLURM sees it."""

    slurm: str
    """Its number, ``12_3`` in an array."""
    word: str
    """SLURM's word for its state."""
    reason: str = ""
    node: str = ""

    @property
    def is_waiting(self) -> bool:
        """Whether it is still to begin, or to begin again."""
        return self.word in WAITING

    @property
    def is_held(self) -> bool:
        """Whether it waits until somebody releases it."""
        return self.is_waiting and "held" in self.reason.lower()

    @property
    def is_live(self) -> bool:
        """Whether it is waiting or under way."""
        return self.is_waiting or self.word in UNDER_WAY


def held_sentence(state: State) -> str:
    """What to do about a job that SLURM holds."""
    return (
        f"SLURM holds job {state.slurm} ({state.reason}): mend the cause, then `scontrol release {state.slurm}`, or end the "
        "jobs with `python -m bench status --cancel`."
    )


@dataclass(frozen=True)
class NodeInfo:
    """What a node has."""

    host: str
    megabytes: int
    cpus: int
    gpus: int


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Ask one of SLURM's commands; `Silent` where there is none or it takes too long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Silent(str(error)) from None


def ask(*command: str) -> str:
    """What a command prints; `Silent` where it fails."""
    done = call(*command)
    if done.returncode:
        raise Silent(last_line(done.stderr) or f"{command[0]} ended with code {done.returncode}")
    return done.stdout


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def find_states(names: Sequence[str]) -> dict[tuple[str, int], State]:
    """The jobs of these arrays that SLURM still knows of, by array and number in it."""
    if not names:
        return {}
    form = "--format=%j|%K|%F|%T|%r|%N"
    return read_states(ask("squeue", "--noheader", "--array", "--states=all", f"--name={','.join(names)}", form))


def read_states(text: str) -> dict[tuple[str, int], State]:
    """The lines of `squeue`; a job outside an array has number 0."""
    found = {}
    for line in text.splitlines():
        name, number, slurm, word, reason, node = (part.strip() for part in line.split("|"))
        if number.isdigit():
            slurm = f"{slurm}_{number}"
        found[name, int(number) if number.isdigit() else 0] = State(slurm, word, reason, node)
    return found


def find_ended(names: Sequence[str]) -> dict[tuple[str, int], State]:
    """What accounting remembers of jobs that SLURM has forgotten; empty where there is no accounting."""
    try:
        text = ask("sacct", "-X", "-n", "-P", SINCE, f"--name={','.join(names)}", "-o", "JobName,JobID,State")
    except Silent:
        return {}
    found = {}
    for line in text.splitlines():
        if line.count("|") < 2:
            continue
        name, slurm, word = line.split("|")[:3]
        number = slurm.partition("_")[2]
        found[name, int(number) if number.isdigit() else 0] = State(slurm, word.split()[0] if word else "")
    return found


def cancel(names: Sequence[str]) -> None:
    """End every job of these arrays."""
    for name in names:
        call("scancel", f"--name={name}")


def cancel_jobs(numbers: Sequence[str]) -> None:
    """End these jobs, by SLURM's numbers."""
    if numbers:
        call("scancel", *numbers)


def find_node_names() -> list[str]:
    """Every name that a node goes by; none where SLURM doesn't answer."""
    try:
        return ask("sinfo", "--noheader", "--Node", "--format=%N %n %o").split()
    except Silent:
        return []


def find_nodes() -> list[NodeInfo]:
    """Every node of the cluster."""
    return read_nodes(ask("scontrol", "--oneliner", "show", "nodes"))


def read_nodes(text: str) -> list[NodeInfo]:
    """The lines of `scontrol show nodes`."""

    def number(line: str, pattern: str) -> int:
        found = re.search(pattern, line)
        return int(found[1]) if found else 0

    def word(line: str, name: str) -> str:
        found = re.search(rf"\b{name}=(\S+)", line)
        return found[1] if found else ""

    return [
        NodeInfo(
            word(line, "NodeHostName"),
            number(line, r"\bRealMemory=(\d+)"),
            number(line, r"\bCPUTot=(\d+)"),
            sum(int(count) for count in re.findall(r"\bgpu(?::[\w.-]+)?:(\d+)", word(line, "Gres"))),
        )
        for line in text.splitlines()
        if line.startswith("NodeName=")
    ]


def find_partitions() -> list[str]:
    """Names of the cluster's partitions."""
    return sorted(set(ask("sinfo", "--noheader", "--format=%R").split()))


def find_limits(partitions: str) -> list[str]:
    """The time limits of some partitions (``a,b``), or of the default one, as SLURM writes them."""
    return read_limits(ask("scontrol", "--all", "--oneliner", "show", "partition"), partitions)


def read_limits(text: str, partitions: str) -> list[str]:
    """The same, from the lines of `scontrol show partition`."""
    wanted = {name.strip() for name in partitions.split(",")} - {""}
    found = []
    for line in text.splitlines():
        name, limit = re.search(r"\bPartitionName=(\S+)", line), re.search(r"\bMaxTime=(\S+)", line)
        if name and limit and (name[1] in wanted if wanted else "Default=YES" in line):
            found.append(limit[1])
    return found


def private_tmp() -> bool:
    """Whether every job has a ``/tmp`` of its own."""
    return bool(re.search(r"^JobContainerType\s*=\s*job_container/tmpfs", ask("scontrol", "show", "config"), re.M))


def check_there() -> None:
    """`UserError` where there is no SLURM, or its controller doesn't answer."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "--executor slurm: there is no sbatch on the PATH; run this on a login node of the cluster, load its SLURM "
            "module, or leave out --executor."
        )
    try:
        ask("squeue", "--noheader", "--me")
    except Silent as silence:
        raise UserError(
            f"--executor slurm: SLURM's controller doesn't answer ({silence}); see `scontrol ping`, and try again later."
        ) from None


def find_refusal(flags: Sequence[str]) -> str:
    """Why SLURM would refuse a job with these flags; empty where it wouldn't."""
    done = call("sbatch", "--test-only", *flags, "--wrap=true")
    return read_refusal(done.stderr) if done.returncode else ""


def read_refusal(said: str) -> str:
    """What `sbatch --test-only` objects to: its first complaint, without its own names before it."""
    lines = [re.sub(r"^(sbatch|allocation failure|error|fatal|:|\s)+", "", line).strip() for line in said.splitlines()]
    return next((line.rstrip(".") for line in lines if line and "Try" not in line), "no reason")
