"""What every lab task can vary: the points of its history, later training, and a mislabelled forget set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from bench.core.contracts import Recipe, steps_kept
from bench.core.types import Example
from bench.lab.build import BATCH, LabOptions, in_passes, points_kept, steps_in
from tests.tiny import qa

FORGET = tuple(qa(i, f"w{i} ?", "w1") for i in range(10))
RETAIN = tuple(qa(i, f"w{i % 30} w2 ?", "w3") for i in range(10, 50))


@dataclass(frozen=True)
class T(LabOptions):
    """A task of the lab."""

    name: ClassVar[str] = "t"


def ids(rows: Sequence[Example]) -> list[str]:
    return [row.id for row in rows]


def test_nothing_is_mislabelled_unless_asked() -> None:
    assert T().told(FORGET, RETAIN, 0) is None
    assert T().problems() == []


def test_retain_rows_inside_are_a_share_of_the_forget_set() -> None:
    """.3 of 10: three of the 40 retain rows are given as forget rows, and not as retain rows."""
    told = T(noise_inside=0.3).told(FORGET, RETAIN, 0)
    assert told is not None
    stray = [row for row in told.forget if row in RETAIN]
    assert len(stray) == 3 and told.forget == (*FORGET, *stray)
    assert told.retain == tuple(row for row in RETAIN if row not in stray) and len(told.retain) == 37


def test_forget_rows_missing_are_given_as_retain_rows() -> None:
    """.3 of 10: three forget rows."""
    told = T(noise_missing=0.3).told(FORGET, RETAIN, 0)
    assert told is not None
    lost = [row for row in FORGET if row not in told.forget]
    assert len(lost) == 3 and told.retain == (*RETAIN, *lost)
    assert told.forget == tuple(row for row in FORGET if row not in lost)


def test_both_mistakes_at_once() -> None:
    told = T(noise_inside=0.2, noise_missing=0.5).told(FORGET, RETAIN, 0)
    assert told is not None
    assert len(set(ids(told.forget)) & set(ids(FORGET))) == 5 and len(set(ids(told.forget)) & set(ids(RETAIN))) == 2
    assert len(set(ids(told.retain)) & set(ids(FORGET))) == 5 and len(set(ids(told.retain)) & set(ids(RETAIN))) == 38
    assert sorted(ids(told.forget + told.retain)) == sorted(ids(FORGET + RETAIN)), "no row is lost or doubled"


def test_mistakes_follow_from_the_seed() -> None:
    options = T(noise_inside=0.3, noise_missing=0.3)
    assert options.told(FORGET, RETAIN, 0) == options.told(FORGET, RETAIN, 0) != options.told(FORGET, RETAIN, 1)


def test_a_side_keeps_at_least_one_row() -> None:
    told = T(noise_inside=0.9, noise_missing=0.9).told(FORGET[:2], RETAIN[:2], 0)
    assert told is not None
    assert set(ids(told.forget)) & set(ids(FORGET)) and set(ids(told.retain)) & set(ids(RETAIN))


@pytest.mark.parametrize(
    ("steps", "points", "kept"),
    [(20, 10, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]), (10, 4, [2, 5, 8, 10]), (3, 10, [1, 2, 3]), (7, 1, [7])],
)
def test_checkpoints_lie_at_equal_distances_and_the_last_at_the_end(steps: int, points: int, kept: list[int]) -> None:
    """Of 10 in 4 parts: 2.5, 5, 7.5 and 10, to the nearest even."""
    assert steps_kept(steps, points) == kept


def test_a_falling_rate_keeps_checkpoints_before_its_fall_and_the_last() -> None:
    """Of 20 steps the last fifth falls: five of six points lie on 16 steps, at 3.2, 6.4, 9.6, 12.8 and 16."""
    falling = Recipe(20, 1e-3, schedule="wsd", decay=0.2)
    assert falling.stable_steps == 16 and Recipe(20, 1e-3, decay=0.2).stable_steps == 20
    assert points_kept(falling, 6) == [3, 6, 10, 13, 16, 20]
    assert points_kept(falling, 1) == [20] and points_kept(Recipe(20, 1e-3), 2) == [10, 20]


@pytest.mark.parametrize("fall", [0.0, 0.2])
def test_what_is_kept_is_told_before_it_is_trained(fall: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose pretraining has no fall of its own keeps checkpoints at equal distances to the end: 20 steps."""
    monkeypatch.setattr(T, "pass_rows", (64, 64))
    monkeypatch.setattr(T, "fall", fall)
    kept = {0.0: [3, 7, 10, 13, 17, 20], 0.2: [3, 6, 10, 13, 16, 20]}[fall]
    assert T(history_passes=20.0, history_points=6).history_kept == kept


def test_a_schedule_in_passes_has_at_least_one_step() -> None:
    """2 passes over 40 rows at 64 a step: 1.25 steps."""
    made = in_passes(RETAIN, 2.0, 1e-3, beta2=0.95)
    [stream] = made.streams
    assert (stream.examples, stream.batch) == (RETAIN, BATCH) and made.recipe == Recipe(1, 1e-3, beta2=0.95)
    assert steps_in(0.001, 40, 64) == 1 and steps_in(10, 1333, 64) == 208


def test_bad_options_are_refused_in_a_sentence() -> None:
    assert T(history_points=0, exposed=-1, later=-1, noise_inside=1.0, noise_missing=-0.1).problems() == [
        "t.history_points must be at least 1.",
        "t.exposed must not be negative, as -1 is.",
        "t.later must not be negative, as -1 is.",
        "t.noise_inside is a share from 0 to below 1, not 1.0.",
        "t.noise_missing is a share from 0 to below 1, not -0.1.",
    ]
    assert T(gap_steps=5).problems() == ["t.gap_steps needs something to train on: set t.later to at least 1."]
    assert T(gap_steps=5, later=1).problems() == T(later=1).problems() == []
