"""What would make jobs fail on the cluster, said before any is submitted."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.core.errors import UserError, report_mistake
from bench.core.machine import Machine
from bench.runs.cluster import commands
from bench.runs.cluster.asking import Flags, as_words, asked_seconds, limit_seconds
from bench.runs.cluster.commands import NodeInfo

LOCAL_DISKS = frozenset(
    [
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "jfs",
        "reiserfs",
        "f2fs",
        "ntfs",
        "vfat",
        "exfat",
        "overlay",
        "aufs",
        "tmpfs",
        "ramfs",
        "devtmpfs",
        "squashfs",
    ]
)
"""File systems that one machine alone has, unless it exports them."""
PRIVATE = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders that ``job_container/tmpfs`` gives each job anew."""
EXPORTS = (Path("/etc/exports"), Path("/var/lib/nfs/etab"))


def check_cluster(machine: Machine) -> None:
    """`UserError` for what is missing here, or a place that the nodes don't share; nothing is submitted."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError("--executor slurm needs submitit: pip install 'msa-bench[slurm]'.")
    Flags.of(machine.slurm)
    commands.check_there()
    try:
        nodes, private = commands.find_nodes(), commands.private_tmp()
    except commands.Silent as silence:
        raise UserError(
            f"--executor slurm: SLURM doesn't say which nodes it has ({silence}); try again later."
        ) from None
    places = {"--store": machine.store, "--out": machine.out}
    for option, place in places.items():
        report_mistake(*unshared(option, place.absolute(), {node.host for node in nodes}, private))


def check_flags(flags: dict[str, str | bool]) -> None:
    """`UserError` where SLURM wouldn't take a job with these flags."""
    try:
        why = commands.find_refusal(as_words(flags))
        if why and not is_about_now(why, flags, commands.find_nodes()):
            raise UserError(explain_refusal(why, flags))
        longest = max(commands.find_limits(str(flags.get("partition", ""))), key=limit_seconds, default="")
    except commands.Silent as silence:
        raise UserError(f"--executor slurm: SLURM doesn't answer ({silence}); try again later.") from None
    asked = str(flags.get("time", ""))
    if longest and asked_seconds(asked) > limit_seconds(longest):  # SLURM takes it, and never starts it
        raise UserError(
            f"A time of {asked} a job is more than the partition allows ({longest}): take --slurm time={longest} (a job that "
            "meets it goes on in the queue), or another partition."
        )


def is_about_now(why: str, flags: dict[str, str | bool], nodes: Sequence[NodeInfo]) -> bool:
    """Whether SLURM means nodes that are down, drained or reserved for now: the job would wait for them."""
    if "drained" in why.lower():
        return True
    memory, gpus, cpus = (str(flags.get(key, "")) for key in SIZES)
    return "node configuration" in why.lower() and any(
        megabytes_of(memory) <= node.megabytes
        and (int(gpus) if gpus.isdigit() else 0) <= node.gpus
        and (int(cpus) if cpus.isdigit() else 0) <= node.cpus
        for node in nodes
    )


def megabytes_of(text: str) -> float:
    """An amount of memory as sbatch reads it; 0 where it is none."""
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.upper())
    return int(found[1]) * {"K": 2**-10, "": 1, "M": 1, "G": 2**10, "T": 2**20}[found[2]] if found else 0


def explain_refusal(why: str, flags: dict[str, str | bool]) -> str:
    """A sentence about what SLURM refuses, with the remedy."""
    small = why.lower()
    if "partition" in small and not ("node" in small or "account" in small):
        return f"SLURM knows no partition {flags.get('partition', '')}: name one of {', '.join(commands.find_partitions())}."
    if "account" in small or "qos" in small:
        return f"SLURM refuses these jobs ({why}): name yours with --slurm account=NAME (and qos=NAME)."
    if "time limit" in small:
        time = flags.get("time")
        return (
            f"SLURM refuses a time of {time} a job ({why}): take less with --slurm time=MINUTES, or another partition."
        )
    if "node configuration" in small or "memory" in small:
        return refused_size(flags, commands.find_nodes())
    return f"SLURM refuses these jobs ({why}): see `man sbatch` for what --slurm may say."


SIZES = {"mem": "of memory", "gpus-per-node": "GPUs", "cpus-per-task": "CPUs"}
"""Flags that say how large a node must be, in words."""


def refused_size(flags: dict[str, str | bool], nodes: Sequence[NodeInfo]) -> str:
    """A sentence about more than any node has."""
    asked = [f"{flags[key]} {what}" for key, what in SIZES.items() if key in flags]
    most = max(nodes, key=lambda node: (node.gpus, node.megabytes), default=NodeInfo("", 0, 0, 0))
    return (
        f"No node has what a job asks for ({', '.join(asked)}): the largest has "
        f"{most.megabytes}M of memory, {most.gpus} GPUs, {most.cpus} CPUs; ask less with --slurm mem=..., --gpus-per-job or "
        "--threads, or name another partition."
    )


def unshared(option: str, place: Path, hosts: Iterable[str], private: bool) -> list[str]:
    """A sentence about a place that jobs on other nodes, or with a ``/tmp`` of their own, wouldn't see."""
    real = place.resolve()
    if private and any(real.is_relative_to(folder) for folder in PRIVATE):
        return [
            f"{option} {place}: each job has a {real.parts[1]} of its own here; choose a place that all nodes share."
        ]
    here = {"localhost", socket.gethostname(), socket.gethostname().partition(".")[0]}
    kind = disk_of(real)
    if set(hosts) <= here or kind not in LOCAL_DISKS or is_exported(real):
        return []
    return [
        f"{option} {place} lies on a disk of this machine alone ({kind}), and jobs run on {len(set(hosts))} hosts: choose a "
        "place that all of them share."
    ]


def disk_of(place: Path, mounts: str | None = None) -> str:
    """The type of the file system that a place lies on, or would."""
    if mounts is None:
        mounts = Path("/proc/self/mounts").read_text()
    found = {}
    for line in mounts.splitlines():
        _, where, kind = line.split()[:3]
        found[where.replace("\\040", " ")] = kind  # a later mount covers an earlier one
    above = [where for where in found if place.is_relative_to(where)]
    return found[max(above, key=len)] if above else ""


def is_exported(place: Path, files: Iterable[Path] = EXPORTS) -> bool:
    """Whether this machine serves the place to others by NFS."""
    for file in files:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        folders = [line.split()[0].strip('"') for line in lines if line.strip() and not line.startswith("#")]
        if any(place.is_relative_to(os.path.realpath(folder)) for folder in folders):
            return True
    return False
