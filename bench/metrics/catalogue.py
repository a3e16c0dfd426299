"""The catalogue of scores that `bench ls metrics` prints: what the factories of `bench.metrics` say of themselves."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import wraps
from inspect import isfunction
from typing import ParamSpec

import bench.metrics
from bench.core import registry
from bench.core.contracts import Metric
from bench.core.errors import UserError

P = ParamSpec("P")
Factory = Callable[P, Metric]


@dataclass(frozen=True)
class CatalogueEntry:
    """One kind of score in the catalogue."""

    name: str
    """Name or pattern of names, as tasks use it: ``*_Q_A_Prob``."""
    meaning: str
    """One line."""
    goal: str
    """``up``, ``down``, ``oracle``, or the value to approach."""
    source: str
    """Where the definition comes from, and where ours differs."""
    version: int = 1

    def fits(self, name: str) -> bool:
        """Whether a metric of this name is meant: ``a_corrupted, _clean (in brackets what kind)`` are two endings."""
        patterns = self.name.partition(" (")[0].split(", ")
        return any(fnmatchcase(name, f"*{pattern}" if pattern[0] == "_" else pattern) for pattern in patterns)


def listed(name: str, meaning: str, goal: str, source: str) -> Callable[[Factory[P]], Factory[P]]:
    """Enter a factory of metrics in the catalogue, once for each name or pattern of names that tasks use it under.

    The metrics that it makes carry the meaning and source of the entry that fits their name.
    """
    entry = CatalogueEntry(name, meaning, goal, source)

    def enter(factory: Factory[P]) -> Factory[P]:
        @wraps(factory)
        def make(*args: P.args, **kwargs: P.kwargs) -> Metric:
            metric = factory(*args, **kwargs)
            if metric.description and not entry.fits(metric.name):
                return metric
            return replace(metric, description=meaning, source=source)

        vars(make)["entries"] = (entry, *vars(factory).get("entries", ()))
        return make

    return enter


def metric_factories() -> Iterator[Callable[..., Metric]]:
    """Every factory of the families of `bench.metrics` that is in the catalogue, family by family."""
    for module in sorted(module.name for module in pkgutil.iter_modules(bench.metrics.__path__)):
        family = importlib.import_module(f"bench.metrics.{module}")
        for value in vars(family).values():
            if isfunction(value) and value.__module__ == family.__name__ and "entries" in vars(value):
                yield value


def metric_entries() -> Iterator[CatalogueEntry]:
    """Every kind of score, those of installed plug-ins last."""
    for factory in metric_factories():
        yield from vars(factory)["entries"]
    for metric in plugged_metrics():
        yield CatalogueEntry(metric.name, metric.description, str(metric.goal), metric.source, metric.version)


def plugged_metrics(task: str = "", own: Collection[str] = ()) -> tuple[Metric, ...]:
    """The metrics of installed plug-ins (entry points ``msa_bench.metrics``) that are for ``task``, or all of them.

    A metric bears the name of its entry point; one that would take a name of ``own`` is left out, as is a broken one, and
    stderr says so.
    """
    found = []
    for name in registry.components("metrics"):
        with registry.leaving_out("metrics", name):
            metric = registry.load_component("metrics", name)
            if task and metric.tasks and task not in metric.tasks:
                continue
            if name in own:
                place = registry.components("metrics")[name]
                raise UserError(
                    f"The plug-in for '{name}' ({place}) can't score {task}, where '{name}' is the name of one of ours."
                    + registry.package_of("metrics", place)
                )
            found.append(replace(metric, name=name))
    return tuple(found)
