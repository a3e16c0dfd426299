"""What `bench ls metrics` prints. Each family of metrics says it of its own, in ``ABOUT``; loads no torch."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import bench.metrics


@dataclass(frozen=True)
class About:
    """One kind of score, for people."""

    name: str
    """Name or pattern of names, as tasks use it: ``*_Q_A_Prob``."""
    meaning: str
    """One line."""
    goal: str
    """``up``, ``down``, ``oracle``, or the value to approach."""
    source: str
    """Where the definition comes from, and where ours differs."""
    version: int = 1


def families() -> list[ModuleType]:
    """The modules of `bench.metrics` that describe their metrics, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(bench.metrics.__path__))
    modules = [importlib.import_module(f"bench.metrics.{name}") for name in names]
    return [module for module in modules if hasattr(module, "ABOUT")]


def describe() -> list[dict[str, Any]]:
    """Every kind of score: ``name``, ``meaning``, ``goal``, ``source``, ``version``."""
    return [asdict(about) for family in families() for about in family.ABOUT]
