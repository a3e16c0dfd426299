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
    draw_membership,
    draw_plots,
    draw_trace,
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
        "ga (collapsed)",
    ]
    drawn = {tuple(map(float, point)) for points in axes.collections for point in np.asarray(points.get_offsets())}
    for place, row in enumerate(reversed(section.rows)):
        cell = row.cells["kl_forget_floors"]
        assert (cell.mean, float(place)) in drawn
        assert all((value, place - 0.28) in drawn for value in cell.by_seed.values())
    assert [line.get_xdata()[0] for line in axes.lines if line.get_label() == "noise floor (two oracles)"] == [1]  # type: ignore[index]
    assert axes.get_xscale() == "log"


def test_membership_marks_target_oracle_and_floor() -> None:
    section = _one_section()
    figure = draw_membership(section, method_style(set(METHODS)))
    assert figure is not None
    axes = figure.axes[1]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["noise floor", "target", "retrain (oracle)"]
    band = next(patch for patch in axes.patches if patch.get_label() == "noise floor")
    oracle = section.rows[1].cells["mia_min_k"].mean
    x0, x1 = band.get_window_extent().transformed(axes.transData.inverted()).intervalx
    assert (x0, x1) == pytest.approx((oracle - 0.02, oracle + 0.02))


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


def test_a_trace_is_a_line_from_the_target_to_each_result() -> None:
    """Two panels a row, one for each forgetting score; the line's last point is the record's own scores."""
    made = study(methods=("target", "retrain", "npo"))
    assert draw_trace(build_sections(made)[0], method_style({"target", "retrain", "npo"})) is None
    scores = {name: score.value for name, score in made[0].scores.items()}
    way = [
        {"share": share, "scores": {name: value * (1 - share) for name, value in scores.items()}} for share in (0, 0.5)
    ]
    traced = [
        dataclasses.replace(one, facts={**one.facts, "trace": way}) if one.spec.method == "npo" else one for one in made
    ]
    (section,) = build_sections(traced)
    figure = draw_trace(section, method_style({"target", "retrain", "npo"}))
    assert figure is not None
    x, y = section.forgetting[0], section.utility[0]
    own = next(one for one in traced if one.spec.method == "npo")
    line = figure.axes[0].lines[0].get_xydata()
    wanted = [*((point["scores"][x], point["scores"][y]) for point in way), (own.scores[x].value, own.scores[y].value)]
    assert np.asarray(line).tolist() == [pytest.approx(point) for point in wanted]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["npo", "retrain (oracle)"]
