"""What stands in a table, with which interval, and in which order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.core.record import Record
from bench.records.tables import Section, TableCell, build_sections
from tests.factories import record, study

PRIMARY = {"forgetting": "forget_accuracy", "kept": "retain_accuracy", "kl_forget": "kl_forget"}


def with_facts(one: Record, **facts: object) -> Record:
    return dataclasses.replace(one, facts={**one.facts, **facts})


def primary_section(values: Mapping[str, Sequence[Sequence[float]]], **fields: Any) -> Section:
    """A section whose rows have on seeds 0, 1, ... these values of forget_accuracy, retain_accuracy and kl_forget."""
    made = [
        with_facts(record(method, seed, dict(zip(PRIMARY.values(), each, strict=True)), **fields), primary=PRIMARY)
        for method, by_seed in values.items()
        for seed, each in enumerate(by_seed)
    ]
    (section,) = build_sections(made)
    return section


def test_a_cell_is_the_mean_over_seeds_with_the_extremes() -> None:
    (section,) = build_sections([record("npo", s, {"x": v}, goals={"x": "up"}) for s, v in enumerate((0.25, 0.5, 0.9))])
    cell = section.rows[0].cells["x"]
    # (.25 + .5 + .9) / 3 = 1.65 / 3 = .55
    assert cell.mean == pytest.approx(0.55)
    assert (cell.low, cell.high, cell.n) == (0.25, 0.9, 3)
    assert cell.by_seed == {0: 0.25, 1: 0.5, 2: 0.9}


def test_an_interval_is_over_five_seeds_or_else_the_mean_of_the_bootstraps() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.6]
    assert TableCell(dict(enumerate(values))).interval == pytest.approx(
        stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    )
    (section,) = build_sections([record("npo", seed, {"mia_loss": 0.5 + seed / 10}) for seed in (0, 1)])
    # each seed's own is .02 to both sides: (.48 + .58) / 2 and (.52 + .62) / 2
    assert section.rows[0].cells["mia_loss"].interval == pytest.approx((0.53, 0.57))
    assert TableCell({0: 0.1, 1: 0.2}).interval is None


def test_a_gap_is_the_distance_from_the_oracles_mean_and_of_a_divergence_the_value() -> None:
    made = [
        record(m, 0, {"forget_accuracy": v, "kl_forget": k}) for m, v, k in (("msa", 0.5, 1.5), ("retrain", 0.1, 0.2))
    ]
    values = {"forget_accuracy": [0.1, 0.2, 0.3], "kl_forget": [0.2, 0.2, 0.3]}
    (section,) = build_sections([with_facts(one, primary=PRIMARY, oracle_values=values) for one in made])
    assert section.primary == {"forgetting": "forget_accuracy", "kl_forget": "kl_forget"}, "what some record has"
    assert section.statements == (
        "No record has the score retain_accuracy, which was fixed beforehand to compare by: mean gaps and contrasts are "
        "without it.",
    )
    # |.5 - (.1 + .2 + .3) / 3| = .3; the oracle's own row is one of the three: |.1 - .2|
    assert {row.name: row.gaps["forgetting"][0] for row in section.rows} == pytest.approx({"retrain": 0.1, "msa": 0.3})
    assert section.row("msa").gaps["kl_forget"] == {0: 1.5}  # type: ignore[union-attr]
    # three oracles: sd of .1 .2 .3
    assert section.noise["forget_accuracy"].sd == pytest.approx(0.1)


def test_without_an_oracle_there_is_no_gap_from_it() -> None:
    section = primary_section({"msa": [(0.5, 0.9, 1.0)]})
    assert section.rows[0].gaps == {"kl_forget": {0: 1.0}} and section.rows[0].distance is None


def test_methods_stand_by_their_mean_gap_in_units_of_its_spread() -> None:
    """Oracle at 0 forgotten, all kept. Gaps of msa .1 .3, of npo .4 .6: both sd .1414, pooled .1414; of kept msa .2 .2,
    npo .1 .1: no spread and no noise, so it counts for nothing; KL 1 2 and 3 4: .7071.
    """
    retrain = [(0.0, 1.0, 0.1), (0.0, 1.0, 0.1)]
    section = primary_section(
        {
            "retrain": retrain,
            "npo": [(0.4, 0.9, 3.0), (0.6, 0.9, 4.0)],
            "msa": [(0.1, 0.8, 1.0), (0.3, 0.8, 2.0)],
            "rewind": retrain,
            "before": retrain,
            "target": [(1.0, 1.0, 9.0)] * 2,
        }
    )
    assert [row.name for row in section.rows] == ["target", "retrain", "before", "rewind", "msa", "npo"]
    sd = 0.1 * 2**0.5, 0.5 * 2**0.5
    assert section.row("msa").distance == pytest.approx((0.2 / sd[0] + 1.5 / sd[1]) / 2)  # type: ignore[union-attr]
    assert section.row("npo").distance == pytest.approx((0.5 / sd[0] + 3.5 / sd[1]) / 2)  # type: ignore[union-attr]


def test_wrecks_stand_last_whatever_their_gaps() -> None:
    made = [record(m, s) for m in ("retrain", "msa", "ga") for s in range(2)]
    made = [with_facts(one, primary=PRIMARY) for one in made]
    best = dict(made[0].scores)  # ga as near as can be, and collapsed
    made = [
        dataclasses.replace(one, scores={**best, "collapsed": one.scores["collapsed"]})
        if one.spec.method == "ga"
        else one
        for one in made
    ]
    (section,) = build_sections(made)
    assert [row.name for row in section.rows] == ["retrain", "msa", "ga"] and section.rows[2].wrecked


def test_costs_over_one_retraining_and_the_mark_above_half() -> None:
    whole = {"oracle_tokens": {"from_theta_0": 1000, "from_nothing": 5000}}
    made = [
        record(m, 0, cost={"tokens_trained": n, **whole}) for m, n in (("msa", 400), ("npo", 501), ("retrain", 1000))
    ]
    (section,) = build_sections(made)
    msa, npo = section.row("msa"), section.row("npo")
    assert msa and npo and msa.costs["of one retraining"].mean == 0.4 and msa.costs["of one from nothing"].mean == 0.08
    assert [row.name for row in section.rows if row.costly] == ["npo"]


def test_second_runs_are_no_rows_and_tell_the_noise() -> None:
    made = [record("npo", seed, {"x": value}, goals={"x": "up"}) for seed, value in ((0, 0.5), (1, 0.7))]
    again = record("npo", 0, {"x": 0.8}, goals={"x": "up"}, order=1)
    (section,) = build_sections([*made, again])
    assert [row.seeds for row in section.rows] == [(0, 1)] and section.rows[0].cells["x"].by_seed == {0: 0.5, 1: 0.7}
    # one pair: .5 and .8, around .65: sqrt(2 * .0225) = .2121
    assert section.noise["x"].sd == pytest.approx(0.045**0.5) and section.noise["x"].df == 1


def test_versions_of_a_metric_never_mix() -> None:
    old, new = (
        record("npo", 0, {"x": 1.0, "y": 1.0}, goals={"x": "up", "y": "up"}),
        record("msa", 0, {"x": 2.0}, goals={"x": "up"}),
    )
    newer = dataclasses.replace(new, metrics={"x": {"version": 2, "goal": "up"}})
    (section,) = build_sections([old, newer])
    assert [column.name for column in section.columns] == ["y"]
    assert all("x" not in row.cells for row in section.rows)
    assert "x is left out: version 1 (goal up) and version 2 (goal up)" in section.statements[0]


def test_rows_are_target_oracle_then_methods_and_names_tell_only_the_difference() -> None:
    more = [record("npo", seed, params={"beta": 0.1, "lr": 0.0002, "steps": 60}) for seed in range(3)]
    (section,) = build_sections(more + study())
    names = ["target", "retrain", "graddiff", "msa", "npo (beta=0.1)", "npo (beta=1.0)", "task-arithmetic", "ga"]
    assert [row.name for row in section.rows] == names, "without primary scores by name, and wrecks last"
    assert section.rows[5].params == "beta=1.0, lr=0.0002, steps=60"
    assert section.rows[5].seeds == (0, 1, 2)


def test_columns_are_the_headline_then_the_rest_by_name() -> None:
    (section,) = build_sections(study())
    names = [column.name for column in section.columns]
    assert names[:6] == ["forget_accuracy", "retain_accuracy", "world_accuracy", "kl_forget", "mia_min_k", "privleak"]
    assert names[6:] == sorted(names[6:])
    assert len(section.headline) == 6


def test_a_table_per_setting_and_the_order_of_records_does_not_matter() -> None:
    made = [
        *study(methods=("npo",)),
        record("npo", 0, task_params={"gap": 5}),
        record("npo", 0, limit=4),
        record("npo", 0, lm_eval=("piqa", "boolq")),
        record("npo", 0, tier="real", model="some/model", label="TOFU subset: 20 authors"),
        record("npo", 0, task="restor"),
    ]
    sections = build_sections(made)
    assert [(s.tier, s.label, s.model, s.setting) for s in sections] == [
        ("lab", "restor (lab)", "lab", ""),
        ("lab", "tofu (lab)", "lab", "gap=0"),
        ("lab", "tofu (lab)", "lab", "gap=0, lm-eval=piqa boolq"),
        ("lab", "tofu (lab)", "lab", "gap=0, limit=4"),
        ("lab", "tofu (lab)", "lab", "gap=5"),
        ("real", "TOFU subset: 20 authors", "some/model", ""),
    ]
    assert len({section.slug for section in sections}) == len(sections)
    assert sections[5].slug == "real-tofu-some-model"
    assert build_sections(list(reversed(made))) == sections


def test_what_has_no_scores_is_listed_with_its_reason() -> None:
    made = [
        *study(methods=("target",)),
        *[record("msa", seed, status="skipped", reason="no history", scores={}, label="") for seed in (0, 1)],
        record("npo", 1, status="failed", reason="out of memory", scores={}),
    ]
    (section,) = build_sections(made)
    listed = [(run.name, run.status, run.seeds, run.reason) for run in section.unfinished]
    assert listed == [("msa", "skipped", (0, 1), "no history"), ("npo", "failed", (1,), "out of memory")]
    assert [row.name for row in section.rows] == ["target"]


def test_facts_costs_and_collapse_of_a_row() -> None:
    (section,) = build_sections(study(methods=("ga", "msa")))
    msa, ga = section.rows
    assert ga.collapsed == (0, 1, 2)
    assert msa.collapsed == ()
    assert msa.fact("retain_rows") == "150"
    assert msa.fact("history_used") == "yes"
    assert ga.fact("history_used") == "no"
    assert msa.fact("source") == "lab-tofu: tuned on seed 100"
    assert msa.fact("unheard of") == ""
    assert msa.costs["tokens trained"].mean == 48000
    assert msa.costs["seconds"].by_seed == {0: 12.5, 1: 13.5, 2: 14.5}


def test_other_rows_or_another_model_stand_in_another_table() -> None:
    """Seed 0 on one folder of rows and seed 1 on another are no two seeds of one table."""
    rows = {letter: {"data": letter * 16, "model": "m" * 16} for letter in "ab"}
    sections = build_sections([record("msa", seed, hashes=rows[letter]) for seed, letter in enumerate("ab")])
    assert [[row.seeds for row in section.rows] for section in sections] == [[(0,)], [(1,)]]
    assert sections[0].setting != sections[1].setting and "data=" in sections[0].setting
    (section,) = build_sections([record("msa", seed, hashes=rows["a"]) for seed in (0, 1)])
    assert section.rows[0].seeds == (0, 1)


def test_a_mean_that_cancels_is_0() -> None:
    assert sum([0.06, -0.04, -0.02]) != 0
    assert TableCell({0: 0.06, 1: -0.04, 2: -0.02}).mean == 0
    assert TableCell({0: 1e-19, 1: 3e-19}).mean == pytest.approx(2e-19) and TableCell({0: 0.0, 1: 0.0}).mean == 0
