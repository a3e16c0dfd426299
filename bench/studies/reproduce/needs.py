"""What a recipe needs of a machine, by the estimates of `bench plan`: on GPUs of 80 GB, before anything is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.assets.known_models import KNOWN
from bench.assets.models import canonical
from bench.assets.shapes import Shape, download_bytes, known_shape
from bench.core import registry
from bench.core.compute import MICRO, Way
from bench.runs.estimate import GPU_PEAK, GPU_SHARE, Size
from bench.studies.reproduce.asking import models_of
from bench.studies.reproduce.recipe import ORACLE, TARGET, Panel, Recipe

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
        fit = fitting(recipe, panel, shape)
        way, size = fit.way, fit.size
        gpus, memory = max(gpus, way.world), max(memory, fit.memory)
        disk += size.disk(way, 1)
        fetched |= {name: download_bytes(name) or 2 * shape.parameters for name in models_of(panel)}
        hours += (
            way.operations * shape.parameters * sum(trainings(panel)) / (GPU_SHARE["bfloat16"] * GPU_PEAK[GPU]) / 3600
        )
    return Needs(gpus, memory, disk + sum(fetched.values()), hours)


@dataclass(frozen=True)
class Fit:
    """The way to compute with the fewest GPUs that hold a panel."""

    way: Way
    size: Size
    memory: int
    """Bytes of each GPU."""


def fitting(recipe: Recipe, panel: Panel, shape: Shape) -> Fit:
    """The fewest GPUs that hold it, else the most that are tried; adapters are trained by one alone."""
    methods = list(methods_of(panel))
    made = 2 - bool(panel.target) - bool(panel.oracles or panel.params.get("oracle") == "clean")
    made += sum(method.checkpoints() for method in methods)
    size = Size(shape, panel.forget_tokens / panel.forget_rows, STREAMS, 1, made)
    known = KNOWN.get(canonical(panel.model.partition("@")[0]))
    compute = {"micro": known.micro if known else MICRO, **recipe.compute}
    adapters = recipe.task == "restor" and panel.params.get("recipe") == "official"
    exact = any(arm.params.get("recipe") == "official" for arm in panel.arms)
    fits = list[Fit]()
    for world in WORLDS[: 1 if adapters else None]:
        way = replace(Way(device="cuda"), **compute, world=world)
        # MSA's official recipe also trains a vector in float32, to say what rounding did
        ways = [way, *([replace(way, dtype="float32")] if exact else [])]
        fits.append(Fit(way, size, max(map(size.worker, ways))))
    return next((fit for fit in fits if fit.memory <= GPU_BYTES), fits[-1])


def methods_of(panel: Panel) -> Iterator[Any]:
    """The methods of its rows, with their settings."""
    for arm in panel.arms:
        if arm.method not in ("", TARGET, ORACLE):
            method = registry.load("methods", arm.method)
            yield method(**{name: registry.convert(method, name, str(value)) for name, value in arm.params.items()})


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
    found += [method.rows(panel.forget_rows, 10 * panel.forget_rows) * row for method in methods_of(panel)]
    return found
