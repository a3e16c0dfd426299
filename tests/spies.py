"""Methods that are found by name and look where they shouldn't."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from bench.core.contracts import Method, Recipe, Stream
from bench.core.types import Checkpoint, Request
from bench.engines.training.losses import descent


@dataclass(frozen=True)
class Spy(Method):
    """Keeps what it was given, and returns the target."""

    summary: ClassVar[str] = "keeps what it was given"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "retain"})
    caught: ClassVar[list[tuple[Request, Any]]] = []

    def unlearn(self, request: Request, ctx: Any) -> Checkpoint:
        self.caught.append((request, ctx))
        return request.target


@dataclass(frozen=True)
class Plain(Spy):
    """A spy without any need."""

    needs: ClassVar[frozenset[str]] = frozenset()


def opened(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    from bench.engines.loaders import open_checkpoint

    open_checkpoint(loot)
    return loot


def trained(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    made: Checkpoint = ctx.train(loot, [Stream(request.forget, 8, descent())], Recipe(1, 1e-9), "stolen")
    return made


def combined(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    made: Checkpoint = ctx.combine([(0.0, request.target), (1.0, loot)], "stolen")
    return made


def cast(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    made: Checkpoint = ctx.cast(loot, "bfloat16")
    return made


def scrambled(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    made: Checkpoint = ctx.scrambled(request.target, loot, "shuffled")
    return made


def weighed(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    made: Checkpoint = ctx.influence(loot, request.forget, request.forget, "fisher")
    return made


def sampled(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    ctx.sample(loot, request.forget[:1], 1, 1)
    return loot


def as_weights(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    made: Checkpoint = ctx.combine([(1.0, request.target)], "stolen", loot)
    return made


def read(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    ctx.open(loot)
    return loot


def beside(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    stream = Stream(request.forget, 8, descent(), beside=loot)
    made: Checkpoint = ctx.train(request.target, [stream], Recipe(1, 1e-9), "stolen")
    return made


def rounded(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    made: Checkpoint = ctx.quantise(loot, "int8")
    return made


def compared(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    ctx.compare_rounded(request.target, loot, "int8")
    return loot


def described(loot: Checkpoint, request: Request, ctx: Any) -> Checkpoint:
    ctx.describe_update(request.target, loot)
    return loot


WAYS: dict[str, Callable[[Checkpoint, Request, Any], Checkpoint]] = {
    "opened": opened,
    "trained": trained,
    "combined": combined,
    "cast": cast,
    "scrambled": scrambled,
    "weighed": weighed,
    "sampled": sampled,
    "as-weights": as_weights,
    "read": read,
    "beside": beside,
    "rounded": rounded,
    "compared": compared,
    "described": described,
}
"""Ways of getting at the oracle, with its checkpoint in hand."""


@dataclass(frozen=True)
class Thief(Spy):
    """Knows where the oracle lies, and takes it."""

    way: str = "opened"
    """A name of `WAYS`."""
    forged: bool = False
    """Whether it states another hash than the oracle's."""
    loot: ClassVar[list[Checkpoint]] = []

    def unlearn(self, request: Request, ctx: Any) -> Checkpoint:
        oracle = self.loot[-1]
        return WAYS[self.way](replace(oracle, hash="0" * 64) if self.forged else oracle, request, ctx)
