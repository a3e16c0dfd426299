"""How long, how much memory and how much disk: estimates from a model's shape and the rates that this store has seen.

A rate is floating-point operations per second of one worker, 6 per parameter and token for training. The first run
of a store uses a stated default; later ones the median of what its own training nodes measured. Nothing here loads a
model: parameters are counted in the headers of its files, and models that aren't fetched are known by name.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.assets.shapes import Shape, count_weights, known_shape, parameters_in_folder, read_shape
from bench.core import machine as memory
from bench.core import registry
from bench.core.compute import Compute
from bench.core.contracts import Outline, Recipe, Stream
from bench.core.machine import MEASURE_BYTES, MODELS, Machine, batch_factor, format_bytes
from bench.core.places import nearest_existing
from bench.core.record import RunSpec, Step
from bench.core.types import Checkpoint
from bench.engines.loaders import LOADERS
from bench.runs.store import Store

DEFAULT_RATE = {5_000_000: 25e9, 10**15: 55e9}
"""Training operations per second of one AVX2 core, up to so many parameters, when nothing has been measured yet: small
matrices are slower."""
GPU_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 362e12, "A6000": 155e12, "4090": 165e12}
"""Dense bfloat16 operations per second, as the vendor states them."""
OTHER_PEAK = 100e12
"""Bfloat16 operations per second of a GPU that isn't in the table."""
GPU_SHARE = {"bfloat16": 0.35, "float32": 0.03}
"""Share of `GPU_PEAK` that training reaches, a guess: float32 without tensor cores peaks at a sixteenth of bfloat16."""
RATE_FACTOR = 8
"""Rates are taken from models whose size is within this factor."""
SAME_FACTOR = 2
"""A node holds a checkpoint of the plan's model when its size is within this factor of it."""
BYTES_PER_PARAMETER = 16
"""Float32 weights, gradients and AdamW's two moments."""
PROCESS_BYTES = 700_000_000
"""Resident memory of a worker before it holds a model: Python, torch, transformers; on a GPU the context and kernels."""
LOGITS = 3
"""Float32 arrays of rows x tokens x vocabulary that a step holds: logits, their log-softmax, and a gradient."""
RESUMABLE = 3
"""States of an interrupted training on disk: the Trainer keeps two, and writes the next before it drops the oldest."""


def training_bytes(shape: Shape, compute: Compute, machine: Machine, tokens: float, streams: int = 1) -> int:
    """Memory of a process that trains, at its largest: the first backward pass after gradients exist.

    Weights, gradients and AdamW's two moments in the weights' dtype; autocast's bfloat16 copies of the weights, which the
    backward pass needs; gradients of embedding and head before they are added to those that are there; `Shape.kept` of
    every layer, or with checkpointing each layer's input and one layer's `kept`; `LOGITS`. ``tokens``: of a row, as
    padded; ``streams``: those whose losses are added up before the backward pass. Adapters are float32 whatever the
    weights are, and were measured to take each adapted layer's output once more. A process of several holds its part of
    the weights and of what is trained, and whole adapters, what is outside the blocks, and a block as it is gathered, as it is
    computed with, and its gradient as it is made and as it is sent. It reads its part of the files alone, and the way out
    gathers a tensor at a time, so that nothing else is ever whole.
    """
    positions = (compute.micro or 1) * tokens * streams
    weights = shape.parameters * compute.width
    ends = 0 if compute.lora else 2 * shape.vocabulary * shape.hidden * compute.width
    trained = (
        shape.adapters(compute.lora) * BYTES_PER_PARAMETER if compute.lora else shape.parameters * compute.width * 3
    )
    copies = 2 * shape.parameters if compute.autocast else 0
    if machine.world > 1:
        outside = shape.parameters - shape.layers * shape.block
        undivided = (outside + (2 if compute.lora else 4) * shape.block) * compute.width
        weights = weights // machine.world + undivided
        trained = trained if compute.lora else trained // machine.world
    layer = (shape.kept + (shape.outputs if compute.lora else 0)) * (2 if compute.precision == "bfloat16" else 4)
    if compute.autocast:  # the norms are computed in float32
        layer += 2 * 4 * shape.hidden
    stream = shape.hidden * (2 if compute.dtype == "bfloat16" else 4)
    layers = shape.layers * stream + layer if machine.checkpointing else shape.layers * layer
    logits = LOGITS * 4 * shape.vocabulary
    return int(PROCESS_BYTES + weights + trained + ends + copies + positions * (layers + logits))


def measuring_bytes(shape: Shape, compute: Compute, oracles: int, gpu: int = 0) -> int:
    """Memory of a process that measures: the model, and the oracles that it is compared with two at a time.

    The next one is loaded before the last one has gone. A gradient's norm needs as much as one more model. A GPU of so
    many bytes takes larger batches.
    """
    weights = shape.parameters * compute.width
    beside = MEASURE_BYTES * (batch_factor(gpu, weights) if gpu else 1)
    return PROCESS_BYTES + beside + min(MODELS, 1 + max(1, oracles)) * weights


def merging_bytes(shape: Shape) -> int:
    """Memory of weight arithmetic: of the largest tensor a term, the float32 sum and the result, and not of the model."""
    return PROCESS_BYTES + 3 * 4 * shape.vocabulary * shape.hidden


def state_bytes(shape: Shape, compute: Compute) -> int:
    """Disk of one resumable state: weights and two moments of what is trained."""
    return shape.adapters(compute.lora) * 12 if compute.lora else 3 * compute.width * shape.parameters


@dataclass(frozen=True)
class Size:
    """A plan's work on a real model, as far as memory and disk depend on it."""

    shape: Shape
    tokens: float
    """Tokens of a row, mean; the longest is covered by gradients, which are whole only when most activations have gone."""
    streams: int
    """Streams of rows whose losses are added up before a backward pass, in the largest training."""
    oracles: int
    checkpoints: int
    """Written at most; what the store has already isn't written again."""
    trains: bool = True
    gpu: int = 0
    """Bytes of the GPU's memory; 0 on a CPU, and where nobody says so."""
    target: bool = False
    """Whether that training holds the target beside the model; with adapters the model itself is it."""
    beside: int = 0
    """Other checkpoints that it holds beside the model."""
    twice: bool = False
    """Whether it holds what it trains a second time."""

    def worker(self, compute: Compute, machine: Machine) -> int:
        """Bytes of memory of one worker, at its largest."""
        return max(self.parts(compute, machine).values())

    def parts(self, compute: Compute, machine: Machine) -> dict[str, int]:
        """Bytes of memory of each thing that a worker does."""
        training = training_bytes(self.shape, compute, machine, self.tokens, self.streams)
        held = self.beside + (self.target and not compute.lora)
        training += held * self.shape.parameters * compute.width
        if self.twice:
            trained = self.shape.adapters(compute.lora) * 4 if compute.lora else self.shape.parameters * compute.width
            training += trained // machine.world
        return {
            **({"training": training} if self.trains else {}),
            "measuring": measuring_bytes(self.shape, compute, self.oracles, self.gpu),
            "merging": merging_bytes(self.shape),
        }

    def memory(self, compute: Compute, machine: Machine) -> int:
        """Bytes that share one memory: on a CPU those of all processes, on GPUs one's."""
        processes = machine.workers * machine.world if machine.device == "cpu" else 1
        return self.worker(compute, machine) * processes

    def disk(self, compute: Compute, machine: Machine) -> int:
        """Bytes that the store grows by, with the resumable states of as many trainings as there are workers."""
        states = RESUMABLE * state_bytes(self.shape, compute) * machine.workers if self.trains else 0
        return self.checkpoints * self.shape.parameters * compute.width + states


# Time


def operations(compute: Compute, machine: Machine) -> int:
    """For each parameter and token: 2 forward and 4 backward; frozen weights need no gradient, and checkpointing goes
    forward twice.
    """
    return 6 - 2 * bool(compute.lora) + 2 * machine.checkpointing


def seen_rates(store: Store, parameters: int, device: str = "cpu") -> list[float]:
    """Operations per second of this store's training nodes of models of about this size on such a device."""
    return [
        6 * entry["tokens"] * entry["parameters"] / entry["train_seconds"]
        for entry in store.index()
        if entry.get("train_seconds", 0) > 1
        and not entry.get("resumed")
        and entry["device"].split(":")[0] == device.split(":")[0]
        and parameters / RATE_FACTOR < entry.get("parameters", 0) < parameters * RATE_FACTOR
        and entry.get("tokens")
    ]


def default_rate(parameters: int, device: str = "cpu", precision: str = "float32", gpu: str = "") -> float:
    """Operations per second where nothing like it has been trained; a GPU's by its name."""
    if device == "cpu":
        return next(rate for size, rate in DEFAULT_RATE.items() if parameters <= size)
    return GPU_SHARE[precision] * next((peak for name, peak in GPU_PEAK.items() if name in gpu), OTHER_PEAK)


def known_rate(store: Store, parameters: int) -> float:
    """Operations per second of one core, by this store's nodes of models of about this size, or the default."""
    return median(seen_rates(store, parameters) or [default_rate(parameters)])


def train_seconds(store: Store, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe) -> float:
    """Expected seconds of a training run, by the loader's rough size of an example."""
    size, tokens = LOADERS[start.loader].size, 0.0
    for stream in streams:
        sizes = [size(example.payload) for example in stream.examples]
        tokens += recipe.steps * min(stream.batch, len(sizes)) * sum(sizes) / max(1, len(sizes))
    parameters = count_weights(start)
    return 6 * tokens * parameters / known_rate(store, parameters)


def round_seconds(seconds: float) -> float:
    """Seconds with one digit after the point; none but 0, which is a time that nobody knows, becomes 0."""
    return max(round(seconds, 1), 0.1) if seconds else 0.0


def seconds_for(outline: Outline, rows: float, rate: float) -> float:
    """Seconds to train on ``rows`` of the outline's model."""
    return 6 * outline.parameters * outline.row_tokens * rows / rate


def method_of(step: Step) -> Any:
    """The method of a step, with its parameters."""
    return registry.load_component("methods", step.method)(**step.params)


def run_seconds(spec: RunSpec, outline: Outline, rate: float, trace: int = 0) -> float:
    """Seconds that a run takes beside the stages that it shares with others; each point of a ``trace`` is measured too."""
    rows = sum(method_of(step).rows(outline.forget, outline.retain) for step in spec.steps)
    return seconds_for(outline, rows + asked_rows(spec, outline) * (1 + points_between(spec, trace)), rate)


def asked_rows(spec: RunSpec, outline: Outline) -> float:
    """The rows of training that measuring a checkpoint is worth."""
    return 0.4 * min(outline.probe_rows, (spec.limit or 10**9) * 10)


def run_hours(specs: Sequence[RunSpec], outline: Outline, store: Store) -> float:
    """Hours of one core that runs take by themselves, by the rate that the store has seen."""
    rate = known_rate(store, outline.parameters)
    return sum(run_seconds(spec, outline, rate) for spec in specs) / 3600


def checkpoints_of(spec: RunSpec, trace: int = 0) -> int:
    """Checkpoints that a run's own steps leave in the store, and those on the way of its ``trace``."""
    return sum(method_of(step).checkpoints() for step in spec.steps) + points_between(spec, trace)


def points_between(spec: RunSpec, trace: int) -> int:
    """Checkpoints that a trace of so many points measures beside target and result; none where nothing is made."""
    if not trace or not any(method_of(step).checkpoints() for step in spec.steps):
        return 0
    return len(shares_of_sum(trace)) if method_of(spec.steps[-1]).is_sum else trace - 1


BEYOND = 1.5
"""How far beyond its chosen coefficients a sum of weights is traced."""


def shares_of_sum(trace: int) -> list[float]:
    """The shares of a sum that a trace of so many points measures, without those of target and result."""
    return [k / trace for k in range(1, int(BEYOND * trace) + 1) if k != trace]


# A plan's work


@dataclass(frozen=True)
class Estimate:
    """Time, memory and disk that the runs of a command take."""

    stages: Mapping[str, float] = field(default_factory=dict)
    """Expected seconds of ``history``, ``target``, ``oracle-0`` ... for one seed."""
    runs: Mapping[str, float] = field(default_factory=dict)
    """Expected seconds of each run alone, by its key."""
    memory: int = 0
    """Expected bytes of one worker; on a GPU of the GPU's."""
    size: Size | None = None
    """Memory and disk of a real model's work; None for the lab, and where nobody knows the model's shape."""
    compute: Compute = field(default_factory=Compute)
    """How training computes that takes the most memory."""
    measuring: float = 0.0
    """Expected seconds of measuring the oracles of a seed that no run of their own measures."""
    guessed: bool = True
    """Whether nothing like it has been trained in this store, so that times come from a stated rate."""


def estimate(
    todo: Sequence[RunSpec],
    outline: Outline,
    compute: Compute,
    machine: Machine,
    store: Store,
    given: Sequence[str] = (),
    shape: Shape | None = None,
) -> Estimate:
    """Time, memory and disk of the runs that are left to do; ``given``: target and oracles that were trained elsewhere.

    ``outline`` counts the model's parameters, and ``shape`` is a real model's, where it is known.
    """
    rates = seen_rates(store, outline.parameters, machine.device) if todo else []
    gpu = memory.ask_gpu(machine.device) if todo and machine.device != "cpu" else None
    if rates:
        rate = median(rates)
    else:
        rate = default_rate(outline.parameters, machine.device, compute.precision, gpu.name if gpu else "")
    rate *= machine.world * 6 / operations(compute, machine)
    elsewhere = {name.partition("-")[0] for name in given}
    left = {name: rows for name, rows in outline.stages.items() if name.partition("-")[0] not in elsewhere}
    stages = {name: seconds_for(outline, rows, rate) for name, rows in left.items()}
    trainings = list_trainings(compute, outline, bool(stages), todo)
    size = None
    worker = PROCESS_BYTES + BYTES_PER_PARAMETER * outline.parameters
    if shape:
        size = replace(size_of(shape, outline, todo, stages, given, machine.trace), gpu=gpu.bytes if gpu else 0)
        sizes = [(replace(size, **held), each) for each, held in trainings]
        size, compute = max(sizes, key=lambda pair: pair[0].parts(pair[1], machine).get("training", 0))
        worker = size.worker(compute, machine)
    seconds = {spec.key: run_seconds(spec, outline, rate, machine.trace) for spec in todo}
    further = max(0, sum(name.startswith("oracle-") for name in (*given, *outline.stages)) - 1)
    measuring = seconds_for(outline, further * asked_rows(todo[0], outline), rate) if todo else 0.0
    return Estimate(stages, seconds, worker, size, compute, measuring, not rates)


def list_trainings(
    compute: Compute, outline: Outline, stages: bool, todo: Sequence[RunSpec]
) -> list[tuple[Compute, dict[str, Any]]]:
    """How each thing that is left is trained, and what `Size` has of what lies beside it: the stages by their own recipe,
    with nothing beside them, a method's with its own adapters.
    """
    found: list[tuple[Compute, dict[str, Any]]] = []
    if stages:
        own = outline.recipe
        made = replace(compute, dtype=own.dtype or compute.dtype, lora=own.lora or compute.lora) if own else compute
        found.append((made, {}))
    for method in (method_of(step) for spec in todo for step in spec.steps):
        if method.rows(outline.forget, outline.retain):
            held = {
                "streams": method.together,
                "target": method.holds_target(),
                "beside": method.holds_beside(),
                "twice": method.holds_twice(),
            }
            found.append((replace(compute, lora=method.adapters() or compute.lora), held))
    return found or [(compute, {})]


def size_of(
    shape: Shape,
    outline: Outline,
    todo: Sequence[RunSpec],
    stages: Mapping[str, float],
    given: Sequence[str],
    trace: int = 0,
) -> Size:
    """Shape and amounts of the runs that are left to do, for a training of one stream with nothing beside it."""
    shared = len(stages) * len({spec.seed for spec in todo})
    return Size(
        shape,
        outline.row_tokens,
        streams=1,
        oracles=sum(name.startswith("oracle-") for name in (*given, *stages)),
        checkpoints=sum(checkpoints_of(spec, trace) for spec in todo) + shared,
        trains=bool(todo),
    )


def model_shape(folder: str, name: str) -> tuple[Shape | None, int]:
    """A real model's shape and number of parameters, from its files or by its name; None and 0 where nobody knows."""
    shape = read_shape(Path(folder)) if folder else known_shape(name)
    if shape:
        return shape, shape.parameters
    return None, parameters_in_folder(Path(folder)) if folder else 0


# Whether it fits

MARGIN = 1.2
"""Factor by which a proposal must fit with room to spare; a refusal is of what doesn't fit without any."""
WORLDS = (2, 4, 8)
"""GPUs under torchrun that are tried."""


@dataclass(frozen=True)
class Room:
    """Memory and disk that are available to a command, in bytes."""

    memory: int
    """In all, of the machine or of one GPU; 0: nothing says so."""
    disk: int
    """Free where the store is."""
    held: int = 0
    """Bytes of the checkpoints of such a size that the store has: they may be the plan's own."""
    where: str = "this machine"


def room_of(compute: Compute, machine: Machine, size: Size | None, store: Store) -> Room:
    """Memory and disk of this machine for a plan's work; nothing is loaded."""
    disk = shutil.disk_usage(nearest_existing(store.root)).free
    held = 0
    if size:
        one = size.shape.parameters * compute.width
        held = sum(e["bytes"] for e in store.index() if one / SAME_FACTOR <= e["bytes"] <= one * SAME_FACTOR)
    if machine.device == "cpu":
        return Room(memory.total_memory(), disk, held)
    gpu = memory.ask_gpu(machine.device)
    return Room(gpu.bytes, disk, held, f"the {gpu.name}") if gpu else Room(0, disk, held, "the GPU")


def list_refusals(size: Size | None, compute: Compute, machine: Machine, room: Room) -> list[str]:
    """A sentence for memory and one for disk, where there isn't enough; none where nothing is known or the lab runs."""
    if size is None:
        return []
    found = []
    needed, disk = size.memory(compute, machine), size.disk(compute, machine)
    if room.memory and needed > room.memory:
        what = max(size.parts(compute, machine).items(), key=lambda part: part[1])[0].capitalize()
        workers = machine.workers
        several = f" with {workers} workers" if workers > 1 and machine.device == "cpu" else ""
        found.append(
            f"{what}{several} needs about {format_bytes(needed)}, and {room.where} has {format_bytes(room.memory)}: "
            + (remedy(compute, machine, size.memory, room.memory) or "take a smaller model or a larger machine.")
        )
    if disk > room.disk + room.held:
        found.append(
            f"The checkpoints need about {format_bytes(disk)} of disk, and {format_bytes(room.disk)} are free where the store "
            "is: choose another place with --store or MSA_BENCH_STORE, make room, or "
            + (remedy(compute, machine, size.disk, room.disk + room.held) or "run fewer methods and seeds.")
        )
    return found


@dataclass(frozen=True)
class Change:
    """Flags that a user may add, and the fields that they change."""

    text: str
    compute: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    lossy: int = 0
    """How many of them train other weights, or train them less exactly."""

    def applied(self, compute: Compute, machine: Machine) -> tuple[Compute, Machine]:
        """How training computes with the flags, and where."""
        return replace(compute, **self.compute), replace(machine, **self.machine)


def flags(compute: Compute, machine: Machine) -> Iterator[Change]:
    """Single flags that aren't in use yet, in the order in which they are tried."""
    if machine.workers > 1 and machine.device == "cpu":
        yield Change("--jobs 1", machine={"jobs": 1})
    if not machine.checkpointing:
        yield Change("--checkpointing", machine={"checkpointing": True})
    if (compute.micro or 0) > 1:
        yield Change("--micro 1", compute={"micro": 1})
    if not compute.lora:
        yield Change("--lora 8", compute={"lora": 8}, lossy=1)
    if compute.dtype == "float32":
        text = "--dtype bfloat16" + (" in the place of --autocast" if compute.autocast else "")
        yield Change(text, compute={"dtype": "bfloat16", "autocast": False}, lossy=1)


def join_changes(changes: Sequence[Change]) -> Change:
    """Several changes as one."""
    compute: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    for change in changes:
        compute |= change.compute
        machine |= change.machine
    text = " ".join(change.text for change in changes)
    return Change(text, compute, machine, sum(change.lossy for change in changes))


def proposals(compute: Compute, machine: Machine) -> Iterator[Change]:
    """Flags that may be added: the least change first, and what changes the weights after more GPUs."""
    offered = list(flags(compute, machine))
    sets = [join_changes(few) for n in range(1, len(offered) + 1) for few in itertools.combinations(offered, n)]
    yield from (change for change in sets if not change.lossy)
    if machine.device != "cpu" and machine.world == 1:
        for gpus in WORLDS:
            text = (
                f"--checkpointing and start it on {gpus} such GPUs, `torchrun --nproc-per-node {gpus} -m bench run ...`"
            )
            yield Change(text, machine={"checkpointing": True, "world": gpus})
    yield from sorted((change for change in sets if change.lossy), key=lambda change: change.lossy)


def fewest_gpus(size: Size, computes: Sequence[Compute], machine: Machine, there: float) -> Machine:
    """The machine with as few processes under torchrun as hold everything in ``there`` bytes each, else with the most."""
    for world in (1, *WORLDS):
        machine = replace(machine, world=world)
        if max(size.worker(compute, machine) for compute in computes) <= there:
            break
    return machine


def remedy(compute: Compute, machine: Machine, amount: Callable[[Compute, Machine], int], there: int) -> str:
    """The least change with which the amount is there; empty where no change does it."""
    for change in proposals(compute, machine):
        needed = amount(*change.applied(compute, machine))
        if MARGIN * needed <= there:
            return f"add {change.text} ({format_bytes(needed)})."
    return ""
