"""What makes an experiment void is said: each on a section that has just this fault, and none on a sound one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bench.core.record import Record
from bench.core.types import BROKEN_DOWN
from bench.records.tables import build_sections
from bench.records.warnings import describe_wreck, find_warnings, is_borrowed
from tests.factories import study

TUNED = "lab-tofu: bench tune, results/tune/lab-tofu-msa.json"


def sound(methods: Sequence[str] = ("target", "retrain", "msa", "npo"), seeds: Sequence[int] = (0, 1)) -> list[Record]:
    """Records of a section in which nothing is wrong: two oracles a seed, searched settings."""
    made = study(methods, seeds)
    values = {
        r.spec.seed: {name: [score.value, score.value] for name, score in r.scores.items()}
        for r in made
        if r.spec.method == "retrain"
    }
    return [with_facts(r, source=[TUNED], oracle_values=values.get(r.spec.seed, {})) for r in made]


def with_facts(record: Record, **facts: Any) -> Record:
    return replace(record, facts={**record.facts, **facts})


def with_score(record: Record, name: str, value: float) -> Record:
    return replace(
        record, scores={**record.scores, name: replace(record.scores[name], value=value, low=None, high=None)}
    )


def warned(records: Sequence[Record]) -> list[str]:
    [section] = build_sections(records)
    return find_warnings(section)


def test_a_sound_section_has_no_warning() -> None:
    assert warned(sound()) == []


def test_a_target_that_hasnt_learnt_is_said_with_its_seed() -> None:
    made = [
        with_score(r, "forget_accuracy", 0.3) if (r.spec.method, r.spec.seed) == ("target", 1) else r for r in sound()
    ]
    [line] = warned(made)
    assert line.startswith(
        "VOID on seed 1: the target has hardly learnt what is to be forgotten (forget_accuracy 0.300,"
    )


def test_an_oracle_that_knows_is_said() -> None:
    """It scores .6 where the target scores .98: more than half of it."""
    knows = {"forget_accuracy": [0.6, 0.6]}
    made = [with_facts(r, oracle_values={**r.facts["oracle_values"], **knows}) for r in sound()]
    [line] = warned(made)
    assert line.startswith(
        "VOID on seeds 0, 1: the oracle knows what it never saw (forget_accuracy 0.600, the target 0.9"
    )


def test_one_oracle_and_none_are_said() -> None:
    one = [with_facts(r, oracle_values={n: v[:1] for n, v in r.facts["oracle_values"].items()}) for r in sound()]
    assert [line.partition(":")[0] for line in warned(one)] == ["one oracle on seeds 0, 1"]
    none = [with_facts(r, oracle_values={}) for r in sound(("target", "msa"))]
    assert [line.partition(":")[0] for line in warned(none)] == ["no oracle on seeds 0, 1"]
    imported = [replace(r, provenance={"imported": {"from": "elsewhere"}}) for r in none]
    assert warned(imported) == [], "its table says that it is from elsewhere"


def test_borrowed_settings_are_named_with_their_source() -> None:
    made = [with_facts(r, source=["defaults"]) if r.spec.method == "npo" else r for r in sound()]
    assert warned(made) == [
        "borrowed settings, not searched on this task: npo (defaults); `python -m bench tune` searches them"
    ]


@pytest.mark.parametrize(
    ("source", "borrowed"),
    [
        (TUNED, False),
        ("lab-tofu-small-retain: bench tune, results/tune/lab-tofu-npo@small-retain.json", False),
        ("set by the user", False),
        ("defaults", True),
        ("lab-tofu: stated, not searched: half way", True),
        ("official: arXiv 2506.20941, table 2", True),
        ("real-tofu: bench tune, results/tune/real-tofu-msa.json", True),
        ("bench tune, results/tune/lab-tofu-npo.json; with sam, not searched for itself: arXiv 1", True),
    ],
)
def test_what_is_borrowed(source: str, borrowed: bool) -> None:
    assert is_borrowed(source, "lab-tofu") is borrowed


def test_a_row_whose_model_broke_down_is_named_with_its_seeds() -> None:
    records = [
        replace(r, scores={}, absent={"forget_accuracy": BROKEN_DOWN}) if r.spec.method == "ga" and r.spec.seed else r
        for r in study(("ga", "npo"))
    ]
    [section] = build_sections(records)
    said = {row.name: describe_wreck(row) for row in section.rows}
    wreck = "on seed 0: it has collapsed, and its scores are those of a wreck"
    assert said.pop("ga") == f"ga on seeds 1, 2: {BROKEN_DOWN}; {wreck}"
    assert said and not any(said.values())
    assert f"ga on seeds 1, 2: {BROKEN_DOWN}; {wreck}" in warned(records)
