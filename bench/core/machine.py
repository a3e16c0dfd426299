"""The largest resident memory of this process, since it was last reset, and what this machine has (Linux)."""

from __future__ import annotations

import os
import re
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


def default_jobs(device: str) -> int:
    """One worker per core this process may use; one on a GPU."""
    return len(os.sched_getaffinity(0)) if device == "cpu" else 1


def machine_problems(device: str, jobs: int | None, threads: int, out: Path, store: Path) -> tuple[str, ...]:
    """Mistakes about the machine, before anything is loaded or written."""
    found = device_problems(device)
    if (jobs is not None and jobs < 1) or threads < 1:
        found.append("--jobs and --threads are at least 1.")
    for option, folder in (("--out", out), ("--store", store)):
        if not can_write(folder):
            found.append(f"{option} {folder}: this is not a folder that you may write to; choose another.")
    return tuple(found)


GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""What the drivers of a GPU make: NVIDIA's, AMD's, and Windows' for Linux."""


def device_problems(device: str) -> list[str]:
    """What is wrong with ``--device``, found without torch."""
    if device == "cpu":
        return []
    if not re.fullmatch(r"cuda(:\d+)?", device):
        return [f"--device {device}: there are cpu, cuda and cuda:N."]
    if not any(map(os.path.exists, GPUS)):
        return [f"--device {device}: this machine shows no GPU; use cpu, and see `python -m bench doctor`."]
    return []


def can_write(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or the folder itself be made."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def duration(seconds: float) -> str:
    """As people say it; nothing at all is a time that isn't known."""
    if not seconds:
        return "?"
    for unit, size in (("days", 172_800.0), ("h", 7200.0), ("min", 600.0)):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:.1f} {unit}"
    return f"{seconds:.0f} s"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def gigabytes(size: float) -> str:
    """As people say it."""
    return f"{size / 1e9:.0f} GB" if size >= 10e9 else f"{size / 1e9:.1f} GB"


def default_root() -> Path:
    """``MSA_BENCH_STORE``, or a folder in the user's cache."""
    if given := os.environ.get("MSA_BENCH_STORE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "msa-bench"
