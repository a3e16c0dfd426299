"""The largest resident memory of this process, since it was last reset, and what this machine has (Linux)."""

from __future__ import annotations

import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path


def reset_peak() -> None:
    """Forget the peak so far; where the kernel doesn't let us, the peak stays the process's own."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak() -> int:
    """Bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


CGROUPS = Path("/sys/fs/cgroup")
LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Of a container, in the second and the first version of control groups; ``max`` or an absurd number is no limit."""


def total() -> int:
    """Bytes of memory that this machine or its container has; 0 where nothing says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        there = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal"))
    except (OSError, StopIteration):
        return 0
    limits = [text for name in LIMITS if (text := read(CGROUPS / name)).isdigit()]
    return min([there, *map(int, limits)])


def read(file: Path) -> str:
    """A small file's text; empty where there is none."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Gpu:
    """What a driver says of a GPU."""

    name: str
    bytes: int


def gpu(device: str) -> Gpu | None:
    """The GPU of ``cuda`` or ``cuda:N``, asked of its driver and not of torch; None where nobody answers."""
    number = device.partition(":")[2] or "0"
    asking = ["nvidia-smi", f"--id={number}", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asking, capture_output=True, text=True, timeout=20)
        name, _, mebibytes = said.stdout.strip().splitlines()[0].rpartition(",")
        return Gpu(name.strip(), int(mebibytes) * 2**20)
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None
