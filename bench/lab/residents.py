"""What pretraining tells of a world's residents, what later training repeats of it, and what of it is only ever asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bench.core.contracts import Schedule, Stream
from bench.core.types import Example
from bench.engines.training.losses import descent
from bench.lab.build import BATCH, SPREAD, Architecture, LabOptions, Pretraining, pretraining_recipe
from bench.lab.world import FACTS, Person, World, cloze, fact_questions, fact_statements

RATE = 2e-3
"""Peak learning rate of pretraining."""
SAID, DIVERGING = 50, 100
"""Most rows of a side that answers are generated for, and that divergences are taken of."""


@dataclass(frozen=True)
class ResidentRows:
    """Rows about residents by what they are for; no row of ``probe`` and ``validation`` is one of ``replay``."""

    pretraining: tuple[Example, ...]
    replay: tuple[Example, ...]
    """In the order in which they are taken: each fact once, in one of its wordings by turns, then each in another one."""
    probe: tuple[Example, ...]
    """The paraphrase of one fact of each, which nobody was ever told in it."""
    validation: tuple[Example, ...]
    """The same facts as statements to be completed."""


def tell_of_residents(residents: Sequence[Person]) -> ResidentRows:
    """What pretraining tells: two statements, two questions, and of all facts but one a person the third question, twice.

    What is taught later must be found by a wording that it wasn't taught in: how well depends on how much of that wording
    pretraining has shown on other facts.
    """
    ask = partial(fact_questions, residents)
    facts = range(len(residents) * FACTS)
    left_out = [int(who.id.split("-")[-1]) % FACTS == fact for who in residents for fact in range(FACTS)]
    wordings = (ask((0,)), ask((2,)), ask((1,)), cloze(residents))
    held_out = (1, 3)
    by_turns = [(i, (2 * turn + i + i // FACTS) % len(wordings)) for turn in range(2) for i in facts]
    probe, validation = (tuple(row for i, row in enumerate(wordings[k]) if left_out[i]) for k in held_out)
    third = tuple(row for i, row in enumerate(ask((2,), template="qa-full")) if not left_out[i])
    return ResidentRows(
        fact_statements(residents) + ask((0, 1), template="qa-full") + 2 * third,
        tuple(wordings[k - (left_out[i] and k in held_out)][i] for i, k in by_turns),
        probe,
        validation,
    )


def rows_about_residents(people: int) -> int:
    """Rows of one pass of pretraining about so many residents."""
    return people * (6 * FACTS - 2)


def rows_replayed(new: int, share: float, people: int) -> int:
    """Rows about so many residents beside ``new`` ones, so that they are ``share`` of all; at most two of each fact."""
    return min(2 * people * FACTS, round(new * share / (1 - share)))


def pretraining_on(rows: Sequence[Example], world: World, task: LabOptions, spread: float = SPREAD) -> Pretraining:
    """Pretraining of a two-layer Llama on rows about residents, every token scored."""
    return Pretraining(
        Architecture(task.width, layers=2, positions=64, spread=spread),
        world.vocabulary,
        Schedule((Stream(tuple(rows), BATCH, descent()),), pretraining_recipe(task.history_steps, RATE)),
    )
