"""What a recipe needs of a machine, by the estimates of `bench plan`: on GPUs of 80 GB, before anything is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench import names
from bench.estimate import GPU_PEAK, GPU_SHARE, Shape, Size, Way, download_bytes, known_shape
from bench.executor import MICRO
from bench.models import KNOWN, canonical
from bench.reproduce.asking import models_of
from bench.reproduce.recipe import ORACLE, TARGET, Panel, Recipe

GPU, GPU_BYTES = "H100", 80e9
WORLDS = (1, 2, 4, 8)
"""GPUs under torchrun that are tried."""
STREAMS = 2
"""Forget and retain rows, whose losses are added up."""
PASSES = 10
"""Of the target's training over the forget set, where the oracle's is that much shorter."""


@dataclass(frozen=True)
class Needs:
    """Sizes of one recipe; time is that of the training, without measuring."""

    gpus: int
    memory: float
    """Bytes of each GPU."""
    disk: float
    """Bytes of what is fetched and of every checkpoint that is trained or merged, for one seed."""
    hours: float
    """Of one H100, for one seed."""

    def __str__(self) -> str:
        """For people."""
        several = "one GPU" if self.gpus == 1 else f"{self.gpus} GPUs (torchrun), each"
        time = f"{self.hours:.0f} hours" if self.hours >= 2 else f"{max(1, round(60 * self.hours))} minutes"
        return (
            f"{several} with {self.memory / 1e9:.0f} GB, {self.disk / 1e9:.0f} GB of disk, about {time} of "
            f"one {GPU} for the training of one seed (a guess; measuring comes on top)"
        )


def needs(recipe: Recipe) -> Needs:
    """The needs of all its scenarios: the largest memory, the sum of the rest."""
    gpus, memory, disk, hours = 1, 0.0, 0.0, 0.0
    fetched = dict[str, int]()
    for panel in recipe.panels:
        shape = shape_of(panel)
        way, size = fitting(recipe, panel, shape)
        gpus, memory = max(gpus, way.world), max(memory, size.worker(way))
        disk += size.disk(way, 1)
        fetched |= {name: download_bytes(name) or 2 * shape.parameters for name in models_of(panel)}
        hours += (
            way.operations * shape.parameters * sum(trainings(panel)) / (GPU_SHARE["bfloat16"] * GPU_PEAK[GPU]) / 3600
        )
    return Needs(gpus, memory, disk + sum(fetched.values()), hours)


def fitting(recipe: Recipe, panel: Panel, shape: Shape) -> tuple[Way, Size]:
    """The way to compute with the fewest GPUs that hold it, else with the most that are tried."""
    made = len(trainings(panel)) + sum(arm.method in ("msa", "task-arithmetic") for arm in panel.arms)
    size = Size(shape, panel.forget_tokens / panel.forget_rows, STREAMS, 1, made)
    known = KNOWN.get(canonical(panel.model.partition("@")[0]))
    compute = {"micro": known.micro if known else MICRO, **recipe.compute}
    ways = [replace(Way(device="cuda"), **compute, world=world) for world in WORLDS]
    return next((way for way in ways if size.worker(way) <= GPU_BYTES), ways[-1]), size


def shape_of(panel: Panel) -> Shape:
    """The shape of a panel's model; every recipe's model has one, as a test sees to."""
    shape = known_shape(panel.model)
    assert shape is not None, panel.model
    return shape


def trainings(panel: Panel) -> Sequence[float]:
    """Tokens of every training run of a panel: target, oracle, and what each row trains."""
    row = panel.forget_tokens / panel.forget_rows
    found = [] if panel.target else [panel.target_tokens]
    if not panel.oracles and panel.params.get("oracle") != "clean":
        found.append(max(0.0, panel.target_tokens - PASSES * panel.forget_tokens))
    for arm in panel.arms:
        if arm.method not in ("", TARGET, ORACLE):
            method = names.load("methods", arm.method)
            given = {name: names.convert(method, name, str(value)) for name, value in arm.params.items()}
            found.append(method(**given).rows(panel.forget_rows, 10 * panel.forget_rows) * row)
    return found
