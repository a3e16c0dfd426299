"""What a method gets of the harness, and the ledger of what it used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.contracts import Recipe, Stream, Term
from bench.core.types import Checkpoint, Example, Json
from bench.runs.context import Work


@dataclass
class Ledger:
    """What a method made use of: said beside its scores."""

    retain: set[str]
    """Ids of all retain rows."""
    past: set[str]
    """Content hashes of the history's checkpoints."""
    retain_seen: set[str] = field(default_factory=set)
    past_used: set[str] = field(default_factory=set)
    notes: Json = field(default_factory=dict)
    """What the method said of itself."""


@dataclass(frozen=True)
class MethodContext:
    """What a method gets: the engines and the seed, and no way to the task, its probes or its oracles."""

    seed: int
    train: Callable[[Checkpoint, Sequence[Stream], Recipe, str], Checkpoint]
    combine: Callable[..., Checkpoint]
    """(terms, label, weights=None)."""
    cast: Callable[[Checkpoint, str], Checkpoint]
    scrambled: Callable[[Checkpoint, Checkpoint, str], Checkpoint]
    influence: Callable[[Checkpoint, Sequence[Example], Sequence[Example], str], Checkpoint]
    cached: Callable[[Json, Callable[[Path], Json | None], str], Path]
    note: Callable[..., None]


def for_method(work: Work, ledger: Ledger) -> MethodContext:
    """A method's context over ``work``; ``ledger`` is written while the method works."""
    own = work.on_behalf_of("method")

    def train(start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str) -> Checkpoint:
        drawn = [stream.examples[: recipe.steps * stream.batch] for stream in streams]  # no more can have been seen
        rows = {example.id for examples in drawn for example in examples}
        ledger.retain_seen |= rows & ledger.retain
        ledger.past_used |= {start.hash} & ledger.past
        return own.train(start, streams, recipe, label)

    def saw(*checkpoints: Checkpoint) -> None:
        ledger.past_used |= {checkpoint.hash for checkpoint in checkpoints} & ledger.past

    def combine(terms: Sequence[Any], label: str, weights: Checkpoint | None = None) -> Checkpoint:
        saw(*(Term(*term).checkpoint for term in terms))
        return own.combine(terms, label, weights)

    def cast(checkpoint: Checkpoint, dtype: str) -> Checkpoint:
        saw(checkpoint)
        return own.cast(checkpoint, dtype)

    def scrambled(before: Checkpoint, tuned: Checkpoint, kind: str) -> Checkpoint:
        saw(before, tuned)
        return own.scrambled(before, tuned, kind)

    def influence(
        checkpoint: Checkpoint, forget: Sequence[Example], retain: Sequence[Example], kind: str
    ) -> Checkpoint:
        saw(checkpoint)
        ledger.retain_seen |= {row.id for row in retain} & ledger.retain
        return own.influence(checkpoint, forget, retain, kind)

    def cached(fields: Json, build: Callable[[Path], Json | None], label: str) -> Path:
        return own.cached(fields, build, label)  # not the bound method: its object knows every node, the oracle's too

    return MethodContext(work.seed, train, combine, cast, scrambled, influence, cached, ledger.notes.update)
