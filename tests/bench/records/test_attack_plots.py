"""Pictures of attacks: what they show, that equal records give equal pictures, and that there are none without attacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.record import Record, Score, Step
from bench.records.attack_plots import draw_attack_plots, draw_leak, draw_relearning, draw_rounding
from bench.records.attacked import build_attacks
from bench.records.figures import plot_style
from bench.records.tables import build_sections
from tests.bench.records.test_attacked import attacked, curve
from tests.factories import record, study

METHODS = ("target", "retrain", "msa", "npo")


def taught(seed: int) -> list[Record]:
    return [attacked(m, 0.1 * i, seed, curve=curve(0.0, 0.05 * i, 0.1 * i)) for i, m in enumerate(METHODS)]


def rounded(seed: int) -> list[Record]:
    note = {"rounding": {"differs": {"values": 1.0, "codes": 0.3}}}
    found = [attacked(m, 0.2 * i, seed, notes=note) for i, m in enumerate(METHODS)]
    return [
        replace(r, spec=replace(r.spec, steps=(*r.spec.steps[:-1], Step("quantise", {"kind": "int4"}, "int4"))))
        for r in found
    ]


def sampled(seed: int) -> list[Record]:
    found = []
    for i, method in enumerate(METHODS):
        plain = record(method, seed)
        scores = {f"leak@{k}": Score(min(1.0, 0.05 * i * (k + 1)), 9) for k in (16, 0, 1, 2, 4)}
        about = {**plain.facts, "forgetting": ["leak@16"]}
        metrics = {name: {"version": 1, "goal": "oracle", "unit": "", "needs_oracle": False} for name in scores}
        spec = replace(plain.spec, attack="leak")
        found.append(replace(plain, spec=spec, scores=scores, metrics=metrics, facts=about, floors={}))
    return found


HIT = [made for seed in (0, 1, 2) for each in (taught, rounded, sampled) for made in each(seed)]


def test_every_kind_of_attack_has_its_picture_and_equal_records_equal_ones(tmp_path: Path) -> None:
    first = draw_attack_plots(build_sections([*study(), *HIT]), tmp_path / "a")
    again = draw_attack_plots(build_sections([*reversed(HIT), *study()]), tmp_path / "b")
    assert [path.name for path in first if path.suffix == ".svg"] == [
        "lab-tofu-relearning.svg",
        "lab-tofu-rounding.svg",
        "lab-tofu-leak.svg",
    ]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in first}
    assert draw_attack_plots(build_sections([*study(), *HIT]), tmp_path / "a") == first
    assert {path: path.stat().st_mtime_ns for path in first} == stamps, "what is unchanged isn't drawn again"


def test_questions_stand_beside_the_rows_own_score_before() -> None:
    (section,) = build_sections([*study(), *HIT])
    table = next(table for table in build_attacks(section) if table.attack == "leak")
    assert (table.before, table.score, table.kept) == ("forget_accuracy", "leak@16", "")
    npo, own = next(row for row in table.rows if row.name == "npo"), section.row("npo")
    assert own and npo.before == own.cells["forget_accuracy"] and npo.gap and npo.gap.mean > 0


def test_without_attacks_there_is_nothing_to_draw(tmp_path: Path) -> None:
    assert draw_attack_plots(build_sections(study()), tmp_path) == []


@pytest.mark.parametrize(("picture", "curves"), [(draw_relearning, 4), (draw_leak, 4), (draw_rounding, 0)])
def test_what_is_drawn_is_what_was_measured(picture: object, curves: int) -> None:
    (section,) = build_sections([*study(), *HIT])
    attacks = build_attacks(section)
    with plot_style():
        figure = picture(section, attacks)  # type: ignore[operator]
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert len(lines) == curves
    if picture is draw_relearning:
        assert list(lines["msa"].get_xdata()) == [0, 1, 4]
        assert list(lines["msa"].get_ydata()) == pytest.approx([0.0, 0.1, 0.2])
    if picture is draw_leak:
        assert list(lines["npo"].get_xdata()) == [0, 1, 2, 3, 4]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["greedy", "1", "2", "4", "16"]
    if picture is draw_rounding:
        after = [bar.get_width() for bar in axes.patches]
        assert {round(width, 6) for width in after} >= {0.0, 0.2, 0.4, 0.6}
