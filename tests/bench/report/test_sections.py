"""The report's numbers are the leaderboard's: the same text in every cell, the same order, marks and verdicts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from bench.core.record import Record
from bench.records.contrasts import build_contrasts
from bench.records.markdown import format_cell, plain
from bench.records.tables import Section, TableCell, build_sections
from bench.report.sections import build_section, roles_of
from tests.factories import record, study
from tests.pages import all_pages
from tests.published import published_sections

PRIMARY = {
    "forgetting": "forget_accuracy",
    "kept": "retain_accuracy",
    "kl_forget": "kl_forget",
    "membership": "mia_min_k",
}


def drawn(section: Section) -> dict[str, Any]:
    return build_section(section, [], lambda one: None, lambda one: {})


def ranked(seeds: int = 6) -> list[Record]:
    """A made-up study whose task has fixed its primary scores, with three oracles."""
    found = []
    for one in study(seeds=range(seeds)):
        oracles = {name: [score.value, score.value + 0.01, score.value - 0.01] for name, score in one.scores.items()}
        more = {"primary": PRIMARY} | ({"oracle_values": oracles} if one.spec.method == "retrain" else {})
        found.append(dataclasses.replace(one, facts={**one.facts, **more}))
    return found


@pytest.mark.parametrize("section", published_sections(), ids=lambda section: section.slug)
def test_every_published_cell_says_what_the_leaderboard_says(section: Section) -> None:
    page = all_pages([r for row in section.rows for r in row.records] + list(section.attacked))
    shown = drawn(section)
    assert [row["name"] for row in shown["rows"]] == [row.name for row in section.rows], "in its order of display"
    for row, ours in zip(section.rows, shown["rows"], strict=True):
        assert bool(ours["collapsed"] or ours["diverged"]) == row.wrecked
        for name, cell in ours["cells"].items():
            assert cell["text"] == format_cell(row.cells[name], len(row.seeds))
            assert cell["text"] in page.replace("**", ""), (row.name, name)
    for line in shown["contrasts"]:
        assert f"{line['difference']} | {line['interval']} | {line['p']} | {plain(line['verdict'])}" in page
    json.dumps(shown, allow_nan=False)


def test_distances_are_the_tables_gaps_in_units_of_the_noise() -> None:
    (section,) = build_sections(ranked())
    shown = drawn(section)
    for row, ours in zip(section.rows, shown["rows"], strict=True):
        for role, score in PRIMARY.items():
            gap, found = TableCell(row.gaps[role]), ours["gaps"][role]
            assert found["mean"] == gap.mean and found["whole"] == format_cell(gap, 6)
            wanted = row.cells["kl_forget_floors"].mean if role == "kl_forget" else gap.mean / section.noise[score].sd
            assert found["times"] == pytest.approx(wanted, rel=1e-5)
    contrasts = build_contrasts(section)
    assert [line["supported"] for line in shown["contrasts"]] == [c.supported for c in contrasts.fixed + contrasts.best]
    assert shown["better"] == {score: sorted(rows) for score, rows in contrasts.better_rows().items()} != {}


def test_where_nothing_is_fixed_the_first_of_each_kind_stand_in_the_glance() -> None:
    (section,) = build_sections(study())
    assert not section.primary
    assert roles_of(section) == {
        "forgetting": "forget_accuracy",
        "kept": "retain_accuracy",
        "kl_forget": "kl_forget",
        "kl_retain": "kl_retain",
    }
    assert all(row["gaps"] for row in drawn(section)["rows"])


def test_a_wreck_a_skip_and_a_missing_score_are_said() -> None:
    failed = record(
        "npo", 3, {}, status="failed", reason="Traceback ...\n  File '/home/me/x.py'\nValueError: <b>no</b>\n"
    )
    absent = {"privleak": "there is no oracle"}
    few = [dataclasses.replace(one, absent=absent) for one in study(methods=("target", "retrain", "ga"), seeds=(0, 1))]
    (section,) = build_sections([*few, failed])
    shown = drawn(section)
    assert next(row for row in shown["rows"] if row["name"] == "ga")["collapsed"] == "seeds 0, 1"
    assert shown["unfinished"] == ["npo failed on seed 3: ValueError: <b>no</b>"]
    assert shown["absent"] == ["privleak of target, retrain, ga: there is no oracle"]


def test_losses_and_ways_are_curves() -> None:
    trace = [{"share": share, "scores": {"forget_accuracy": 1 - share}} for share in (0.0, 0.5)]
    traced = dataclasses.replace(record("npo"), facts={**record("npo").facts, "trace": trace})
    (section,) = build_sections([traced])
    losses = {"npo": [{"step": float(i), "loss": 1.0 / i} for i in range(1, 1000)], "flat": [{"step": 1.0}]}
    shown = build_section(section, [], lambda one: None, lambda one: losses)
    end = traced.scores["forget_accuracy"].value
    assert shown["ways"]["npo"]["forget_accuracy"] == [[0.0, 1.0], [0.5, 0.5], [1.0, pytest.approx(end, rel=1e-5)]]
    assert len(shown["losses"]["npo"]["npo"]) == 120 and "flat" not in shown["losses"]["npo"]
