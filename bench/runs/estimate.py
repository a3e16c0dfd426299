"""How long, how much memory and how much disk: estimates from a model's shape and the rates that this store has seen.

A rate is floating-point operations per second of one worker, 6 per parameter and token for training. The first run
of a store uses a stated default; later ones the median of what its own training nodes measured. Nothing here loads a
model: parameters are counted in the headers of its files, and models that aren't fetched are known by name.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from bench.assets.shapes import Shape, weight_count
from bench.core import machine as memory
from bench.core.compute import Way
from bench.core.contracts import Recipe, Stream
from bench.core.machine import existing, gigabytes
from bench.core.types import Checkpoint, Json
from bench.engines.loaders import LOADERS
from bench.runs.store import Store

DEFAULT_RATE = {5_000_000: 25e9, 10**15: 55e9}
"""Training operations per second of one AVX2 core, up to so many parameters, when nothing has been measured yet: small
matrices are slower."""
GPU_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 362e12, "A6000": 155e12, "4090": 165e12}
"""Dense bfloat16 operations per second, as the vendor states them."""
OTHER_PEAK = 100e12
"""Of a GPU that isn't in the table."""
GPU_SHARE = {"bfloat16": 0.35, "float32": 0.03}
"""Share of `GPU_PEAK` that training reaches, a guess: float32 without tensor cores peaks at a sixteenth of bfloat16."""
RATE_FACTOR = 8
"""Rates are taken from models whose size is within this factor."""
BYTES_PER_PARAMETER = 16
"""Float32 weights, gradients and AdamW's two moments."""
PROCESS_BYTES = 700_000_000
"""Resident memory of a worker before it holds a model: Python, torch, transformers; on a GPU the context and kernels."""
MEASURE_BYTES = 1_000_000_000
"""What a measurement holds beside models: several arrays the size of `bench.engines.measuring.scoring`'s bound on a
batch's logits, and
the activations of its positions."""
LOGITS = 3
"""Float32 arrays of rows x tokens x vocabulary that a step holds: logits, their log-softmax, and a gradient."""
RESUMABLE = 3
"""States of an interrupted training on disk: the Trainer keeps two, and writes the next before it drops the oldest."""


def training_bytes(shape: Shape, way: Way, tokens: float, streams: int = 1) -> int:
    """Memory of a process that trains, at its largest: the first backward pass after gradients exist.

    Weights, gradients and AdamW's two moments in the weights' dtype; autocast's bfloat16 copies of the weights, which the
    backward pass needs; gradients of embedding and head before they are added to those that are there; `Shape.kept` of
    every layer, or with checkpointing each layer's input and one layer's `kept`; `LOGITS`. ``tokens``: of a row, as
    padded; ``streams``: those whose losses are added up before the backward pass. Adapters are float32 whatever the
    weights are, and were measured to take each adapted layer's output once more. A process of several holds its part of
    what is trained, and one block and what is outside the blocks whole.
    """
    positions = way.micro * tokens * streams
    weights = shape.parameters * way.width
    ends = 0 if way.lora else 2 * shape.vocabulary * shape.hidden * way.width
    trained = shape.adapters(way.lora) * BYTES_PER_PARAMETER if way.lora else shape.parameters * way.width * 3
    copies = 2 * shape.parameters if way.autocast else 0
    if way.world > 1:
        outside = shape.parameters - shape.layers * shape.block
        whole = (outside + shape.block) * way.width
        weights, trained = weights // way.world + whole, trained // way.world
    half = way.autocast or way.dtype == "bfloat16"
    layer = (shape.kept + (shape.outputs if way.lora else 0)) * (2 if half else 4)
    if way.autocast:  # the norms are computed in float32
        layer += 2 * 4 * shape.hidden
    stream = shape.hidden * (2 if way.dtype == "bfloat16" else 4)
    layers = shape.layers * stream + layer if way.checkpointing else shape.layers * layer
    logits = LOGITS * 4 * shape.vocabulary
    return int(PROCESS_BYTES + weights + trained + ends + copies + positions * (layers + logits))


def measuring_bytes(shape: Shape, way: Way, oracles: int) -> int:
    """Memory of a process that measures: the model, and the oracles that it is compared with two at a time.

    The next one is loaded before the last one has gone. A gradient's norm needs as much as one more model.
    """
    models = 1 + min(2, max(1, oracles))
    return PROCESS_BYTES + MEASURE_BYTES + models * shape.parameters * way.width


def merging_bytes(shape: Shape) -> int:
    """Memory of weight arithmetic: of the largest tensor a term, the float32 sum and the result, and not of the model."""
    return PROCESS_BYTES + 3 * 4 * shape.vocabulary * shape.hidden


def state_bytes(shape: Shape, way: Way) -> int:
    """Disk of one resumable state: weights and two moments of what is trained."""
    return shape.adapters(way.lora) * 12 if way.lora else 3 * way.width * shape.parameters


@dataclass(frozen=True)
class Size:
    """A plan's work on a real model, as far as memory and disk depend on it."""

    shape: Shape
    tokens: float
    """Of a row, mean; the longest is covered by gradients, which are whole only when most activations have gone."""
    streams: int
    """Most streams of rows whose losses are added up before a backward pass."""
    oracles: int
    checkpoints: int
    """Written at most; what the store has already isn't written again."""
    trains: bool = True

    def worker(self, way: Way) -> int:
        """Bytes of memory of one worker, at its largest."""
        return max(self.parts(way).values())

    def parts(self, way: Way) -> dict[str, int]:
        """The same for each thing that a worker does."""
        training = training_bytes(self.shape, way, self.tokens, self.streams)
        return {
            **({"training": training} if self.trains else {}),
            "measuring": measuring_bytes(self.shape, way, self.oracles),
            "merging": merging_bytes(self.shape),
        }

    def disk(self, way: Way, workers: int) -> int:
        """Bytes that the store grows by, with the resumable states of ``workers`` trainings at a time."""
        states = RESUMABLE * state_bytes(self.shape, way) * workers if self.trains else 0
        return self.checkpoints * self.shape.parameters * way.width + states


# Time


def known_rate(root: Path, parameters: int, device: str = "cpu", dtype: str = "float32", gpu: str = "") -> float:
    """Training rate of this store's nodes of models of about this size on such a device, or the default."""
    rates = seen_rates(root, parameters, device)
    if rates:
        return median(rates)
    if device == "cpu":
        return next(rate for size, rate in DEFAULT_RATE.items() if parameters <= size)
    return GPU_SHARE[dtype] * next((peak for name, peak in GPU_PEAK.items() if name in gpu), OTHER_PEAK)


def seen_rates(root: Path, parameters: int, device: str = "cpu") -> list[float]:
    """Operations per second of this store's training nodes of models of about this size."""
    rates = []
    for info in made(root):
        meta, where = info["meta"], (info.get("provenance") or {}).get("device", "cpu")
        size = meta.get("parameters", 0)
        if (
            meta.get("train_seconds", 0) > 1
            and not meta.get("resumed")
            and str(where).split(":")[0] == device.split(":")[0]
            and parameters / RATE_FACTOR < size < parameters * RATE_FACTOR
        ):
            rates.append(6 * meta["tokens"] * size / meta["train_seconds"])
    return rates


def made(root: Path, most: int | None = 500) -> Iterator[Json]:
    """What the files of a store's nodes say; those that are damaged or have just gone are passed over."""
    for file in sorted((root / "nodes").glob("*/*/node.json"))[:most]:
        try:
            info = json.loads(file.read_text())
            info["meta"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        yield info


def train_seconds(root: Path, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe) -> float:
    """Expected seconds of a training run, by the loader's rough size of an example."""
    size, tokens = LOADERS[start.loader].size, 0.0
    for stream in streams:
        sizes = [size(example.payload) for example in stream.examples]
        tokens += recipe.steps * min(stream.batch, len(sizes)) * sum(sizes) / max(1, len(sizes))
    parameters = weight_count(start)
    return 6 * tokens * parameters / known_rate(root, parameters)


MARGIN = 1.2
"""What is proposed must fit with so much to spare; what is refused doesn't fit without any."""

SAME_SIZE = 0.5
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
    held = sum(n for n in weights if SAME_SIZE * one <= n <= one / SAME_SIZE)
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
