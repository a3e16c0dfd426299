"""What a recipe needs of a machine, by the estimates of `bench plan`: on GPUs of 80 GB, before anything is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.assets.known_models import KNOWN
from bench.assets.models import canonical_name
from bench.assets.shapes import Shape, download_bytes, known_shape
from bench.core import registry
from bench.core.compute import USUAL, Compute
from bench.core.machine import Machine
from bench.runs.estimate import Size, default_rate, fewest_gpus, operations
from bench.studies.reproduce.asking import models_of
from bench.studies.reproduce.recipe import ORACLE, TARGET, Recipe, RecipePanel

GPU, GPU_BYTES = "H100", 80e9
STREAMS = 2
"""Forget and retain rows, whose losses are added up."""
PASSES = 10
"""Of the target's training over the forget set, where the oracle's is that much shorter."""


@dataclass(frozen=True)
class Needs:
    """Sizes of one recipe; time is that of the training, without measuring."""

    gpus: int
    memory: int
    """Bytes of each GPU."""
    disk: float
    """Bytes of what is fetched and of every checkpoint that is trained or merged, for one seed."""
    hours: float
    """Of one H100, for one seed."""

    def __str__(self) -> str:
        """The needs in one sentence."""
        several = "one GPU" if self.gpus == 1 else f"{self.gpus} GPUs (torchrun), each"
        time = f"{self.hours:.0f} hours" if self.hours >= 2 else f"{max(1, round(60 * self.hours))} minutes"
        return (
            f"{several} with {self.memory / 1e9:.0f} GB, {self.disk / 1e9:.0f} GB of disk, about {time} of "
            f"one {GPU} for the training of one seed (a guess; measuring comes on top)"
        )


def estimate_needs(recipe: Recipe) -> Needs:
    """The needs of all its scenarios: the largest memory, the sum of the rest."""
    gpus, memory, disk, hours = 1, 0, 0.0, 0.0
    fetched = dict[str, int]()
    for panel in recipe.panels:
        shape, size = shape_of(panel), size_of(panel)
        compute, machine = computing(recipe, panel)
        # MSA's official recipe also trains a vector in float32, to say what rounding did
        exact = any(arm.params.get("recipe") == "official" for arm in panel.arms)
        used = [compute, *([replace(compute, dtype="float32")] if exact else [])]
        adapters = recipe.task == "restor" and panel.params.get("recipe") == "official"
        machine = machine if adapters else fewest_gpus(size, used, machine, GPU_BYTES)
        gpus = max(gpus, machine.world)
        memory = max(memory, *(size.worker(each, machine) for each in used))
        disk += size.disk(compute, machine)
        fetched |= {name: download_bytes(name) or 2 * shape.parameters for name in models_of(panel)}
        trained = operations(compute, machine) * shape.parameters * sum(trainings(panel))
        hours += trained / default_rate(shape.parameters, "cuda", "bfloat16", GPU) / 3600
    return Needs(gpus, memory, disk + sum(fetched.values()), hours)


def computing(recipe: Recipe, panel: RecipePanel) -> tuple[Compute, Machine]:
    """How a panel's training computes, and one GPU for it."""
    known = KNOWN.get(canonical_name(panel.model.partition("@")[0]))
    told = {"micro": known.micro if known else USUAL.micro, **recipe.compute}
    machine = Machine(device="cuda", checkpointing=bool(told.pop("checkpointing", False)), world=1)
    return Compute(**told), machine


def size_of(panel: RecipePanel) -> Size:
    """A panel's work on one seed."""
    made = 2 - bool(panel.target) - bool(panel.oracles or panel.params.get("oracle") == "clean")
    made += sum(method.checkpoints() for method in _methods_of(panel))
    return Size(shape_of(panel), panel.forget_tokens / panel.forget_rows, STREAMS, 1, made)


def _methods_of(panel: RecipePanel) -> Iterator[Any]:
    for arm in panel.arms:
        if arm.method not in ("", TARGET, ORACLE):
            method = registry.load_component("methods", arm.method)
            params = {name: registry.convert_param(method, name, str(value)) for name, value in arm.params.items()}
            yield method(**params)


def shape_of(panel: RecipePanel) -> Shape:
    """The shape of a panel's model; every recipe's model has one, as a test sees to."""
    shape = known_shape(panel.model)
    assert shape is not None, panel.model
    return shape


def trainings(panel: RecipePanel) -> Sequence[float]:
    """Tokens of every training run of a panel: target, oracle, and what each row trains."""
    row = panel.forget_tokens / panel.forget_rows
    found = [] if panel.target else [panel.target_tokens]
    if not panel.oracles and panel.params.get("oracle") != "clean":
        found.append(max(0.0, panel.target_tokens - PASSES * panel.forget_tokens))
    found += [method.rows(panel.forget_rows, 10 * panel.forget_rows) * row for method in _methods_of(panel)]
    return found
