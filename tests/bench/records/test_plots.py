"""Pictures: what is in them, that they repeat, and that no name lies on another."""

from __future__ import annotations

import dataclasses
import struct
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from bench.records import stamps
from bench.records.plots import (
    _overlap,
    draw_distance_to_oracle,
    draw_forgetting_against_utility,
    draw_front,
    draw_membership,
    draw_plots,
    method_style,
)
from bench.records.tables import Section, build_sections
from tests.factories import METHODS, record, study

KINDS = ("forgetting-utility", "distance-to-oracle", "membership")


def _one_section(**changes: object) -> Section:
    (section,) = build_sections([dataclasses.replace(one, **changes) for one in study()])  # type: ignore[arg-type]
    return section


def test_every_section_gets_its_pictures_and_each_names_its_tier(tmp_path: Path) -> None:
    real = [record(m, 0, tier="real", model="smol", label="TOFU subset: 20 authors") for m in METHODS]
    paths = draw_plots([*study(), *real], tmp_path)
    stems = [f"{slug}-{kind}" for slug in ("lab-tofu", "real-tofu-smol") for kind in KINDS]
    assert [path.name for path in paths] == [f"{stem}{suffix}" for stem in stems for suffix in (".png", ".svg")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([stamps.FILE, *(path.name for path in paths)])
    for path in paths:
        if path.suffix == ".png":
            data = path.read_bytes()
            assert data[:8] == b"\x89PNG\r\n\x1a\n"
            width, height = struct.unpack(">II", data[16:24])
            assert width > 800
            assert height > 300
        else:
            text = path.read_text()
            lab = path.name.startswith("lab")
            assert ("lab tier: not the benchmark itself" in text) == lab
            assert ("real tier; seed 0" in text) != lab
            assert ("tofu (lab)" in text) == lab
            assert str(tmp_path) not in text
            for name in ("target", "retrain (oracle)", "msa", "ga (collapsed)"):
                assert f">{name}</text>" in text


def test_equal_records_make_equal_pictures(tmp_path: Path) -> None:
    made = study(methods=("target", "retrain", "msa", "npo"))
    first, second = draw_plots(made, tmp_path / "a"), draw_plots(list(reversed(made)), tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_no_name_covers_another_nor_leaves_the_panel() -> None:
    section = _one_section()
    figure = draw_forgetting_against_utility(section, method_style({row.method for row in section.rows}))
    assert figure is not None
    figure.draw_without_rendering()
    from matplotlib.text import Text

    assert len(figure.axes) == 4  # two forgetting scores across, two utility scores up
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text).extents for text in axes.texts]
        assert len(boxes) == len(section.rows)
        assert all(_overlap(one, other) == 0 for one, other in combinations(boxes, 2))
        left, bottom, right, top = axes.get_window_extent().extents
        assert all(left <= x0 and bottom <= y0 and x1 <= right and y1 <= top for x0, y0, x1, y1 in boxes)


def test_the_means_and_the_seeds_stand_where_the_table_says() -> None:
    section = _one_section()
    figure = draw_distance_to_oracle(section, method_style(set(METHODS)))
    assert figure is not None
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][::-1][:3] == [
        "target",
        "retrain (oracle)",
        "graddiff",
    ]
    drawn = {tuple(map(float, point)) for points in axes.collections for point in np.asarray(points.get_offsets())}
    for place, row in enumerate(reversed(section.rows)):
        cell = row.cells["kl_forget_floors"]
        assert (cell.mean, float(place)) in drawn
        assert all((value, place - 0.28) in drawn for value in cell.by_seed.values())
    assert [line.get_xdata()[0] for line in axes.lines if line.get_label() == "noise floor (two oracles)"] == [1]  # type: ignore[index]
    assert axes.get_xscale() == "log"


def test_membership_marks_target_oracle_and_noise() -> None:
    values = {"oracle_values": {"mia_min_k": [0.4, 0.45, 0.5]}}
    (section,) = build_sections([dataclasses.replace(one, facts={**one.facts, **values}) for one in study()])
    figure = draw_membership(section, method_style(set(METHODS)))
    assert figure is not None
    axes = figure.axes[1]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["noise", "target", "retrain (oracle)"]
    band = next(patch for patch in axes.patches if patch.get_label() == "noise")
    oracle = section.rows[1].cells["mia_min_k"].mean
    x0, x1 = band.get_window_extent().transformed(axes.transData.inverted()).intervalx
    assert (x0, x1) == pytest.approx((oracle - 0.05, oracle + 0.05))


def test_pictures_without_their_scores_are_left_out(tmp_path: Path) -> None:
    made = [record("npo", seed, {"mia_loss": 0.5}) for seed in range(3)]
    assert [path.name for path in draw_plots(made, tmp_path)] == ["lab-tofu-membership.png", "lab-tofu-membership.svg"]


def test_a_refused_section_is_not_drawn(tmp_path: Path) -> None:
    assert draw_plots([record("npo", seed, lineage={"target": "same"}) for seed in range(3)], tmp_path) == []


def test_a_method_looks_the_same_in_every_picture_and_unlike_the_others() -> None:
    names = {f"method-{i:02}" for i in range(40)} | {"target", "retrain"}
    style = method_style(names)
    assert style == method_style(set(sorted(names, reverse=True)))
    assert len(set(style.values())) == len(names)


def test_a_records_texts_are_no_formulas(tmp_path: Path) -> None:
    """Nor lines, nor wider than a picture; numbers near the largest that a record may hold are drawn."""
    odd = r"$\frac{1}{0$ $x^2$ \alpha" + "\n\x1b[31m" + "x" * 9000
    some = [dataclasses.replace(one, label=odd) for one in study(("target", "retrain", "msa"), (0,))]
    huge = {
        name: dataclasses.replace(score, value=9e149, low=None, high=None) for name, score in some[2].scores.items()
    }
    paths = draw_plots([*some[:2], dataclasses.replace(some[2], scores=huge)], tmp_path)
    assert len(paths) == 6


def test_a_front_is_a_line_for_each_seed_and_one_for_their_mean() -> None:
    """Forget scores stand as what they are beyond the oracle's; the row's own result is at share 1 of the trace."""
    style = method_style({"target", "retrain", "npo"})
    primary = {"forgetting": "forget_accuracy", "kept": "retain_accuracy"}
    made = []
    for method, forget, kept in (("target", 1.0, 1.0), ("retrain", 0.1, 1.0), ("npo", 0.3, 0.8)):
        for seed in (0, 1):
            one = record(method, seed, {"forget_accuracy": forget + seed / 10, "retain_accuracy": kept})
            made.append(dataclasses.replace(one, facts={**one.facts, "primary": primary}))
    assert draw_front(build_sections(made)[0], style) is None, "nothing was traced"
    way = [
        {"share": share, "scores": {"forget_accuracy": 1 - share, "retain_accuracy": 1 - share / 2}}
        for share in (0, 1.5)
    ]
    traced = [
        dataclasses.replace(one, facts={**one.facts, "trace": way}) if one.spec.method == "npo" else one for one in made
    ]
    figure = draw_front(build_sections(traced)[0], style)
    assert figure is not None
    seeds = [[(0.9, 1.0), (0.2, 0.8), (-0.6, 0.25)], [(0.8, 1.0), (0.2, 0.8), (-0.7, 0.25)]]
    mean = [(0.85, 1.0), (0.2, 0.8), (-0.65, 0.25)]
    lines = [np.asarray(line.get_xydata()) for line in figure.axes[0].lines if len(line.get_xydata())]  # type: ignore[arg-type]
    assert [line.tolist() for line in lines] == [[pytest.approx(point) for point in want] for want in (*seeds, mean)]
    places = {tuple(map(float, at)) for drawn in figure.axes[0].collections for at in np.asarray(drawn.get_offsets())}
    assert {(round(x, 6), y) for x, y in places} == {(0.9, 1.0), (0.0, 1.0), (0.2, 0.8)}, "target, oracle, the result"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["target", "retrain (oracle)", "npo", "within 0.02 of the oracle"]
