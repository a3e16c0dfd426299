"""What attacks bring back, beside the oracle under the same attack: worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.core.record import Record, Step
from bench.records.attacked import area_between, build_attacks, steps_until_half
from bench.records.tables import build_sections
from tests.factories import record, study
from tests.pages import page_of

RELEARN = Step("relearn", {"steps": 4})


def attacked(method: str, value: float, seed: int = 0, **facts: Any) -> Record:
    """A record of the method, taught again."""
    plain = record(method, seed)
    scores = {
        **plain.scores,
        "forget_accuracy": replace(plain.scores["forget_accuracy"], value=value, low=None, high=None),
    }
    spec = replace(plain.spec, steps=(*plain.spec.steps, RELEARN))
    return replace(plain, spec=spec, scores=scores, facts={**plain.facts, **facts})


def curve(*values: float) -> list[dict[str, Any]]:
    return [
        {"step": step, "scores": {"forget_accuracy": value}} for step, value in zip((0, 1, 4), values, strict=False)
    ]


def test_the_area_is_the_mean_gap_over_the_steps() -> None:
    """Gaps .2, .4, .1 at steps 0, 1, 4: (.3 + 3 * .25) / 4."""
    row, oracle = [(0, 0.2), (1, 0.5), (4, 0.5)], [(0, 0.0), (1, 0.1), (4, 0.4)]
    assert area_between(row, oracle) == pytest.approx(1.05 / 4)
    assert area_between(oracle, row) == pytest.approx(-1.05 / 4) and area_between(row, row) == 0


def test_half_of_the_way_back_is_found_between_snapshots_or_never() -> None:
    """Half-way between 0 and 1 lies between .2 at step 1 and .8 at step 4: at 1 + 3 * .3 / .6."""
    assert steps_until_half([(0, 0.0), (1, 0.2), (4, 0.8)], oracle=0.0, target=1.0) == pytest.approx(2.5)
    assert steps_until_half([(0, 0.0), (1, 0.2), (4, 0.4)], oracle=0.0, target=1.0) is None
    assert steps_until_half([(0, 0.6), (1, 0.2)], oracle=0.0, target=1.0) == 0
    assert steps_until_half([(0, 0.6), (1, 0.2)], oracle=0.5, target=0.5) is None, "there is no half-way"
    assert steps_until_half([(0, 3.0), (2, 1.0)], oracle=3.0, target=1.0) == pytest.approx(1), (
        "where knowledge is small"
    )


def test_a_row_stands_beside_the_oracle_after_the_same_attack() -> None:
    hit = [
        attacked("target", 1.0, curve=curve(1.0, 1.0, 1.0)),
        attacked("retrain", 0.2, curve=curve(0.0, 0.1, 0.2)),
        attacked(
            "msa", 0.9, curve=curve(0.1, 0.5, 0.9), notes={"rounding": {"differs": {"values": 0.5, "codes": 0.25}}}
        ),
    ]
    (section,) = build_sections([*study(seeds=(0,)), *hit])
    assert {row.name for row in section.rows} == {
        "target",
        "retrain",
        "msa",
        "npo",
        "ga",
        "graddiff",
        "task-arithmetic",
    }
    (table,) = build_attacks(section)
    assert (table.attack, table.score, table.kept) == ("relearn", "forget_accuracy", "retain_accuracy")
    rows = {row.name: row for row in table.rows}
    assert list(rows) == ["target", "retrain", "msa"]
    msa = rows["msa"]
    own = section.row("msa")
    assert own and msa.before and msa.before.by_seed == {0: 0.1}, "of the questions that are asked after it"
    assert msa.after.mean == 0.9 and msa.gap and msa.gap.mean == pytest.approx(0.7)
    assert msa.more["area"].mean == pytest.approx(((0.1 + 0.4) / 2 + 3 * (0.4 + 0.7) / 2) / 4)
    assert msa.more["steps until half"].mean == 1 and msa.more["to another code"].mean == 0.25
    assert "steps until half" not in rows["retrain"].more and rows["retrain"].gap.mean == 0  # type: ignore[union-attr]
    page = page_of([*study(seeds=(0,)), *hit])
    assert "Attack: relearn" in page and "| msa | 1 | " in page.split("Attack: relearn")[1]


def test_before_is_of_the_seeds_that_were_attacked() -> None:
    """A row has six seeds, an attack on it two: what stands before it is the mean of those two."""
    values = [0.9, 0.1, 0.3, 0.9, 0.9, 0.9]
    plain = [record("msa", seed, {"forget_accuracy": value}) for seed, value in enumerate(values)]
    hit = [attacked(name, 0.5, seed) for name in ("retrain", "msa") for seed in (1, 2)]
    (section,) = build_sections([*(record(name, s) for name in ("target", "retrain") for s in range(6)), *plain, *hit])
    msa = {row.name: row for row in build_attacks(section)[0].rows}["msa"]
    assert msa.before and msa.before.by_seed == {1: 0.1, 2: 0.3} and set(msa.after.by_seed) == {1, 2}


def test_one_attack_in_two_settings_is_two_attacks() -> None:
    """Each beside the oracle under the same; curves without two steps in common have no area between them."""
    some = [attacked("retrain", 0.2, curve=curve(0.0, 0.2)), attacked("msa", 0.9, curve=curve(0.1, 0.9))]
    other = Step("relearn", {"steps": 4, "teach": "all"})
    more = [
        replace(hit, spec=replace(hit.spec, steps=(*hit.spec.steps[:-1], other)))
        for hit in (attacked("retrain", 0.8), attacked("msa", 0.9))
    ]
    (section,) = build_sections([*study(seeds=(0,)), *some, *more])
    tables = {table.attack: {row.name: row for row in table.rows} for table in build_attacks(section)}
    assert list(tables) == ["relearn (teach=all)", "relearn"]
    gaps = {name: rows["msa"].gap.mean for name, rows in tables.items() if rows["msa"].gap}
    assert gaps == pytest.approx({"relearn (teach=all)": 0.1, "relearn": 0.7})
    assert area_between([(0, 0.1), (4, 0.2)], [(0, 0.0), (3, 0.1)]) is None


def test_states_are_told_block_by_block() -> None:
    asked = []
    for seed in (0, 1):
        plain = record("retrain", seed, {"uds": 0.9}, goals={"uds": 1.0}, attack="uds")
        asked.append(replace(plain, facts={**plain.facts, "forgetting": ["uds"], "blocks": [4.0, 6.0 + seed]}))
    (section,) = build_sections([*study(seeds=(0, 1)), *asked])
    (table,) = build_attacks(section)
    assert table.rows[0].blocks == (4.0, 6.5)
    assert "| 4.000 · 6.500 |" in page_of([*study(seeds=(0, 1)), *asked])


def test_a_wreck_is_named_for_what_became_of_it() -> None:
    plain = study(seeds=(0,))
    blown = [replace(r, facts={**r.facts, "diverged": ["npo"]}) if r.spec.method == "npo" else r for r in plain]
    (section,) = build_sections([*blown, *(attacked(name, 0.5) for name in ("ga", "npo", "msa"))])
    titles = {row.title for row in build_attacks(section)[0].rows}
    assert titles == {"ga (collapsed)", "npo (diverged)", "msa"}


def test_without_the_oracle_under_attack_there_is_no_difference() -> None:
    (section,) = build_sections([*study(seeds=(0,)), attacked("msa", 0.9, curve=curve(0.1, 0.9))])
    (table,) = build_attacks(section)
    assert table.rows[0].gap is None and "area" not in table.rows[0].more


def test_attacked_runs_change_no_row_and_no_noise() -> None:
    plain = build_sections(study())[0]
    both = build_sections([*study(), *(attacked(m, 0.9, s) for m in ("retrain", "msa") for s in (0, 1, 2))])[0]
    assert (both.rows, both.noise, both.columns) == (plain.rows, plain.noise, plain.columns)
    assert len(both.attacked) == 6
