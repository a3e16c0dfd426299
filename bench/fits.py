"""Whether a plan fits this machine; where it doesn't, a sentence with the flags that would make it fit."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench.core import machine as memory
from bench.core.compute import Way
from bench.core.machine import existing, gigabytes
from bench.estimate import Size, made
from bench.store import Store

MARGIN = 1.2
"""What is proposed must fit with so much to spare; what is refused doesn't fit without any."""
ALIKE = 0.5
"""A node holds a checkpoint of the plan's model when its size is within this share of it."""


@dataclass(frozen=True)
class Room:
    """What there is."""

    memory: int
    """Bytes in all, of the machine or of one GPU; 0: nothing says so."""
    disk: int
    """Bytes free where the store is."""
    held: int = 0
    """Bytes of the checkpoints of such a size that the store has: they may be the plan's own."""
    where: str = "this machine"


def load(size: Size, way: Way, workers: int) -> int:
    """Bytes that share one memory: on a CPU those of all processes, on GPUs one's."""
    return size.worker(way) * (workers * way.world if way.device == "cpu" else 1)


def room_of(way: Way, size: Size | None, store: Store) -> Room:
    """What this machine has for a plan's work; nothing is loaded."""
    disk = shutil.disk_usage(existing(store.root)).free
    one = size.shape.parameters * way.width if size else 0
    weights = [info.get("bytes", 0) for info in made(store.root, None)] if one else []
    held = sum(n for n in weights if ALIKE * one <= n <= one / ALIKE)
    if way.device == "cpu":
        return Room(memory.total(), disk, held)
    gpu = memory.gpu(way.device)
    return Room(gpu.bytes, disk, held, f"the {gpu.name}") if gpu else Room(0, disk, held, "the GPU")


def refusals(size: Size | None, way: Way, workers: int, room: Room) -> list[str]:
    """A sentence for memory and one for disk, where there isn't enough; none where nothing is known or the lab runs."""
    if size is None:
        return []
    found = []
    needed, disk = load(size, way, workers), size.disk(way, workers)
    if room.memory and needed > room.memory:
        what = max(size.parts(way).items(), key=lambda part: part[1])[0].capitalize()
        several = f" with {workers} workers" if workers > 1 and way.device == "cpu" else ""
        found.append(
            f"{what}{several} needs about {gigabytes(needed)}, and {room.where} has {gigabytes(room.memory)}: "
            + (remedy(way, workers, partial(load, size), room.memory) or "take a smaller model or a larger machine.")
        )
    if disk > room.disk + room.held:
        found.append(
            f"The checkpoints need about {gigabytes(disk)} of disk, and {gigabytes(room.disk)} are free where the store "
            "is: choose another place with --store or MSA_BENCH_STORE, make room, or "
            + (remedy(way, workers, size.disk, room.disk + room.held) or "run fewer methods and seeds.")
        )
    return found


@dataclass(frozen=True)
class Flag:
    """One thing that a user may add."""

    text: str
    change: Callable[[Way, int], tuple[Way, int]]
    lossy: bool = False
    """Whether other weights are trained, or trained less exactly."""


def flags(way: Way, workers: int) -> Iterator[Flag]:
    """What isn't in use yet, in the order in which it is tried."""
    if workers > 1 and way.device == "cpu":
        yield Flag("--jobs 1", lambda way, _: (way, 1))
    if not way.checkpointing:
        yield Flag("--checkpointing", lambda way, n: (replace(way, checkpointing=True), n))
    if way.micro > 1:
        yield Flag("--micro 1", lambda way, n: (replace(way, micro=1), n))
    if not way.lora and way.world == 1:
        yield Flag("--lora 8", lambda way, n: (replace(way, lora=8), n), lossy=True)
    if way.dtype == "float32":
        text = "--dtype bfloat16" + (" in the place of --autocast" if way.autocast else "")
        yield Flag(text, lambda way, n: (replace(way, dtype="bfloat16", autocast=False), n), lossy=True)


def remedy(way: Way, workers: int, amount: Callable[[Way, int], int], there: int) -> str:
    """The least change with which the amount is there; empty where no change does it."""
    for added, other, jobs in proposals(way, workers):
        if MARGIN * amount(other, jobs) <= there:
            return f"add {added} ({gigabytes(amount(other, jobs))})."
    return ""


def proposals(way: Way, workers: int) -> Iterator[tuple[str, Way, int]]:
    """What may be added, what it makes of the run, and of its workers: the least change first."""
    offered = list(flags(way, workers))
    sets = [chosen for n in range(1, len(offered) + 1) for chosen in itertools.combinations(offered, n)]
    lossless = [chosen for chosen in sets if not any(flag.lossy for flag in chosen)]
    lossy = [chosen for chosen in sets if any(flag.lossy for flag in chosen)]
    yield from (made_of(way, workers, chosen) for chosen in lossless)
    yield from on_more_gpus(way)
    yield from (made_of(way, workers, chosen) for chosen in sorted(lossy, key=lossiness))


def lossiness(chosen: Sequence[Flag]) -> int:
    """How many of them change what is trained."""
    return sum(flag.lossy for flag in chosen)


def made_of(way: Way, workers: int, chosen: Sequence[Flag]) -> tuple[str, Way, int]:
    """A run with these flags as well."""
    for flag in chosen:
        way, workers = flag.change(way, workers)
    return " ".join(flag.text for flag in chosen), way, workers


def on_more_gpus(way: Way) -> Iterator[tuple[str, Way, int]]:
    """The model in parts, one with each of several GPUs; adapters are trained by one process alone."""
    if way.device == "cpu" or way.world > 1 or way.lora:
        return
    for gpus in (2, 4, 8):
        text = f"--checkpointing and start it on {gpus} such GPUs, `torchrun --nproc-per-node {gpus} -m bench run ...`"
        yield text, replace(way, checkpointing=True, world=gpus), 1
