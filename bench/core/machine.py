"""Where a command works, and what this machine has: memory, GPUs, folders (Linux)."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.core import distributed
from bench.core.places import default_root, file_problems, folder_problems, readable_problems
from bench.core.types import Json


def reset_peak() -> None:
    """Forget the peak so far; where the kernel doesn't let us, the peak stays the process's own."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The largest resident memory of this process since `reset_peak`, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


CGROUPS = Path("/sys/fs/cgroup")
LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Of a container, in the second and the first version of control groups; ``max`` or an absurd number is no limit."""


def total_memory() -> int:
    """Bytes of memory that this machine or its container has; 0 where nothing says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        there = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal"))
    except (OSError, StopIteration):
        return 0
    limits = [text for name in LIMITS if (text := text_of(CGROUPS / name)).isdigit()]
    return min([there, *map(int, limits)])


def text_of(file: Path) -> str:
    """A small file's text; empty where there is none."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Gpu:
    """A GPU's name and memory in bytes, as its driver states them."""

    name: str
    bytes: int


def ask_gpu(device: str) -> Gpu | None:
    """The GPU of ``cuda`` or ``cuda:N``, asked of its driver and not of torch; None where nobody answers."""
    number = device.partition(":")[2] or "0"
    asking = ["nvidia-smi", f"--id={number}", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asking, capture_output=True, text=True, timeout=20)
        name, _, mebibytes = said.stdout.strip().splitlines()[0].rpartition(",")
        return Gpu(name.strip(), int(mebibytes) * 2**20)
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None


MEASURE_BYTES = 1_000_000_000
"""Bytes that a measurement holds beside models at a CPU's bounds on a batch: several arrays the size of
`bench.engines.measuring.scoring`'s bound on its logits, and the activations of its positions."""
MODELS = 3
"""Models that a measurement holds at most: one, and two that it is compared with."""
MOST_TIMES = 16
"""Beyond so many times a CPU's bounds a GPU gains nothing."""


def batch_factor(memory: int, weights: int) -> int:
    """How many times a CPU's bounds a batch has on a GPU of so many bytes: a third of what `MODELS` of such weights leave."""
    return max(1, min(MOST_TIMES, (memory - MODELS * weights) // (3 * MEASURE_BYTES)))


def default_jobs(device: str) -> int:
    """One worker per core this process may use; one on a GPU."""
    return len(os.sched_getaffinity(0)) if device == "cpu" else 1


GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""What the drivers of a GPU make: NVIDIA's, AMD's, and Windows' for Linux."""


def cores_and_load() -> tuple[int, float]:
    """How many cores this process may use, and how many would be busy with what runs on the machine."""
    return len(os.sched_getaffinity(0)), os.getloadavg()[0]


def tell_load() -> str:
    """That other work is on this machine's cores, so that everything takes longer; empty where there is little."""
    cores, load = cores_and_load()
    return f"this machine is busy now (load {load:.0f} on {cores} cores): expect longer" if load > cores / 2 else ""


def device_problems(device: str) -> list[str]:
    """Sentences about ``--device``, found without torch."""
    if device == "cpu":
        return []
    if not re.fullmatch(r"cuda(:\d+)?", device):
        return [f"--device {device}: there are cpu, cuda and cuda:N."]
    if not any(map(os.path.exists, GPUS)):
        return [f"--device {device}: this machine shows no GPU; use cpu, and see `python -m bench doctor`."]
    return []


OUT_FOLDERS, PAGE = (
    ("lab", "real", "logs", "plots", "tables", "tune", "ablations", "wandb", "tensorboard", "trackers", "cluster"),
    "leaderboard.md",
)
"""What commands make in the folder of records."""


@dataclass(frozen=True)
class Machine:
    """Where a command works: folders, processes, device. Part of no key, as it changes no number but for rounding."""

    out: Path = Path("runs")
    """Where records go."""
    store: Path = field(default_factory=default_root)
    jobs: int | None = None
    """Worker processes; None: one per core, on a GPU one."""
    device: str = "cpu"
    """``cpu``, ``cuda`` or ``cuda:N``."""
    threads: int = 1
    """Of each worker."""
    checkpointing: bool = False
    """Whether training computes activations again in the backward pass, to save memory."""
    track: str = "none"
    """Name of the tracker."""
    trace: int = 0
    """Points on the way to each method's result that are measured too."""
    world: int = field(default_factory=distributed.count_launched)
    """Processes under torchrun: each holds its part of weights, gradients and moments."""
    executor: str = "local"
    """Who carries out the jobs, by the name that `bench.runs.executors` has for it."""
    slurm: tuple[str, ...] = ()
    """Flags of sbatch, ``key=value``."""

    @property
    def is_watched(self) -> bool:
        """Whether a tracker is told of what workers measure on the way; a cluster's jobs have no way to tell it."""
        return self.track != "none" and self.executor == "local"

    @property
    def workers(self) -> int:
        """Jobs at a time, on a cluster those that were asked for; the processes of torchrun do one together."""
        if self.executor != "local":
            return self.jobs or 1
        return 1 if self.world > 1 else self.jobs or default_jobs(self.device)

    def problems(self) -> list[str]:
        """Mistakes about the machine, before anything is loaded or written."""
        found = device_problems(self.device) if self.executor == "local" else []
        if (self.jobs is not None and self.jobs < 1) or self.threads < 1:
            found.append("--jobs and --threads are at least 1.")
        if self.trace and self.trace < 2:
            found.append(f"--trace {self.trace}: a way has two points or more; 0 or nothing measures none.")
        found += self.place_problems()
        return found + (distributed.torchrun_problems(self.device, self.jobs) if self.executor == "local" else [])

    def place_problems(self, only: bool = False) -> list[str]:
        """Mistakes about the folders of records and of checkpoints, and about what a command makes among the records.

        A store that is there needs to be written only where something is built (`store_problems`). ``only``: nothing is
        to be written yet, so that records need no place that can be now.
        """
        is_there = os.path.isdir(self.store / "nodes")
        found = folder_problems("--out", self.out, later=only)
        found += readable_problems("--store", self.store) if is_there else self.store_problems()
        if found:
            return found
        inner = [readable_problems("--out", self.out / name) for name in OUT_FOLDERS]
        page = [] if only else file_problems("--out", self.out / PAGE)
        return [problem for problems in inner for problem in problems] + page

    def places(self) -> dict[str, Path]:
        """The option of each folder that a command writes to."""
        return {"--out": self.out, "--store": self.store}

    def store_problems(self) -> list[str]:
        """What is in the way of building something in the store."""
        return folder_problems("--store", self.store)

    def to_json(self) -> Json:
        """The object as plain JSON."""
        return {**vars(self), "out": str(self.out), "store": str(self.store)}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`."""
        return cls(**{**data, "out": Path(data["out"]), "store": Path(data["store"]), "slurm": tuple(data["slurm"])})


def format_duration(seconds: float) -> str:
    """A time in days, hours, minutes or seconds; ``?`` for 0, which is a time that isn't known."""
    if not seconds:
        return "?"
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= (10 if unit == "min" else 2) * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def format_bytes(size: float) -> str:
    """Bytes in GB, small amounts with one digit after the point."""
    return f"{size / 1e9:.0f} GB" if size >= 10e9 else f"{size / 1e9:.1f} GB"
