"""The context that a method works in, and the ledger of what it used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.contracts import Context, Opened, Recipe, Stream, Term
from bench.core.types import Checkpoint, Example, Json
from bench.runs.context import Work


@dataclass
class Ledger:
    """Rows and checkpoints that a method made use of, for the record."""

    retain: set[str]
    """Ids of all retain rows."""
    past: set[str]
    """Content hashes of the history's checkpoints."""
    retain_seen: set[str] = field(default_factory=set)
    forget: set[str] = field(default_factory=set)
    """Ids of all forget rows."""
    forget_seen: set[str] = field(default_factory=set)
    """Of the last step."""
    past_used: set[str] = field(default_factory=set)
    attacked: Checkpoint | None = None
    """What an attack was made on."""
    notes: Json = field(default_factory=dict)
    """Facts that the method noted about itself."""
    snapshots: dict[str, list[tuple[float, Checkpoint]]] = field(default_factory=dict)
    """Of trainings that are traced, by the hash of their result: shares of the steps and the checkpoints there."""
    combined: set[str] = field(default_factory=set)
    """Hashes of the sums that were made."""

    def read(self, *checkpoints: Checkpoint) -> None:
        """Enter checkpoints that the method has used."""
        self.past_used |= {checkpoint.hash for checkpoint in checkpoints} & self.past

    def see(self, *examples: Example) -> None:
        """Enter rows that the method has used."""
        ids = {example.id for example in examples}
        self.retain_seen |= ids & self.retain
        self.forget_seen |= ids & self.forget


class MethodContext(Context):
    """The engines and the seed, and no way to the task, its probes or its oracles."""

    def __init__(self, work: Work, ledger: Ledger, target: str = "") -> None:
        """A context over ``work``; ``ledger`` is written while the method works.

        ``target``: hash of the checkpoint that the method starts from, whose trainings are traced where the work asks for it.
        """
        own = work.on_behalf_of("method")
        self.seed = work.seed
        self._target = target
        # In closures, as no attribute of what a method holds may lead to ``work``, which knows the oracle's nodes.
        self._engines: Callable[[], Work] = lambda: own
        self._ledger: Callable[[], Ledger] = lambda: ledger

    def train(
        self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str, keep: Sequence[int] = ()
    ) -> Checkpoint:
        """Fine-tune from ``start`` (`Context.train`), and note the rows and checkpoint that were used."""
        for stream in streams:
            self._ledger().see(*stream.examples[: recipe.steps * stream.batch])  # no more can have been seen
        self._ledger().read(start, *(stream.beside for stream in streams if stream.beside))
        at = keep or (self._engines().points(recipe) if start.hash == self._target else ())
        result, way = self._engines().train_traced(start, streams, recipe, label, at)
        if at:
            self._ledger().snapshots[result.hash] = way
        return result

    def combine(self, terms: Sequence[Any], label: str, weights: Checkpoint | None = None) -> Checkpoint:
        """Add up checkpoints (`Context.combine`), and note those of the past."""
        given = [Term(*term) for term in terms]
        self._ledger().read(*(term.checkpoint for term in given))
        result = self._engines().combine(given, label, weights)
        self._ledger().combined.add(result.hash)
        return result

    def cast(self, checkpoint: Checkpoint, dtype: str) -> Checkpoint:
        """Convert a checkpoint's weights."""
        self._ledger().read(checkpoint)
        return self._engines().cast(checkpoint, dtype)

    def scrambled(self, before: Checkpoint, tuned: Checkpoint, kind: str) -> Checkpoint:
        """Put a control in the place of ``tuned - before``."""
        self._ledger().read(before, tuned)
        return self._engines().scrambled(before, tuned, kind)

    def quantise(self, checkpoint: Checkpoint, kind: str, group: int = 0) -> Checkpoint:
        """Round a checkpoint's weights."""
        self._ledger().read(checkpoint)
        return self._engines().quantise(checkpoint, kind, group)

    def compare_rounded(self, one: Checkpoint, other: Checkpoint, kind: str, group: int = 0) -> Json:
        """Compare two checkpoints after rounding."""
        self._ledger().read(one, other)
        return self._engines().compare_rounded(one, other, kind, group)

    def describe_update(self, before: Checkpoint, after: Checkpoint) -> Json:
        """Measure how the weights have moved."""
        self._ledger().read(before, after)
        return self._engines().describe_update(before, after)

    def influence(
        self, checkpoint: Checkpoint, forget: Sequence[Example], retain: Sequence[Example], kind: str
    ) -> Checkpoint:
        """Estimate influence weights (`Context.influence`), and note the rows and checkpoint that were used."""
        self._ledger().read(checkpoint)
        self._ledger().see(*retain)
        return self._engines().influence(checkpoint, forget, retain, kind)

    def open(self, checkpoint: Checkpoint) -> Opened:
        """Open a checkpoint, and note it if it is of the past."""
        self._ledger().read(checkpoint)
        return self._engines().open(checkpoint)

    def sample(
        self,
        checkpoint: Checkpoint,
        rows: Sequence[Example],
        count: int,
        tokens: int,
        stops: Sequence[str] = (),
        temperature: float = 1.0,
    ) -> list[list[str]]:
        """Let a checkpoint answer (`Context.sample`), and note the rows and checkpoint that were used."""
        self._ledger().read(checkpoint)
        self._ledger().see(*rows)
        return self._engines().sample(checkpoint, rows, count, tokens, stops, temperature)

    def note(self, **facts: Any) -> None:
        """Keep facts for the record."""
        self._ledger().notes.update(facts)

    def cached(
        self, fields: Json, build: Callable[[Path], Json | None], label: str, rows: Sequence[Example] = ()
    ) -> Path:
        """Build a folder once, and note the rows that it is made of."""
        self._ledger().see(*rows)
        return self._engines().cached(fields, build, label, rows)
