"""Strips: means and seeds stand where the table says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bench.records.strips import draw_distance_to_oracle, draw_membership, section_title
from bench.records.tables import build_sections
from tests.factories import record, study


def test_the_means_and_the_seeds_stand_where_the_table_says() -> None:
    (section,) = build_sections(study())
    axes = draw_distance_to_oracle(section).axes[0]
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
    assert [line.get_xdata()[0] for line in axes.lines if line.get_label() == "two oracles of a seed"] == [1]  # type: ignore[index]
    assert axes.get_xscale() == "log"


def test_membership_marks_target_oracle_and_noise() -> None:
    values = {"oracle_values": {"mia_min_k": [0.4, 0.45, 0.5]}}
    (section,) = build_sections([dataclasses.replace(one, facts={**one.facts, **values}) for one in study()])
    axes = draw_membership(section).axes[1]
    assert axes.get_xlabel() == "Min-K% attack, AUC"
    assert axes.get_legend_handles_labels()[1] == ["noise", "target", "retrain (oracle)"]
    band = next(patch for patch in axes.patches if patch.get_label() == "noise")
    oracle = section.rows[1].cells["mia_min_k"].mean
    x0, x1 = band.get_window_extent().transformed(axes.transData.inverted()).intervalx
    assert (x0, x1) == pytest.approx((oracle - 0.05, oracle + 0.05))


def test_the_title_of_a_subset_leaves_its_sizes_to_the_page() -> None:
    one = record("npo", 0, tier="real", model="smol", label="TOFU subset: 20 authors x 8 questions")
    (section,) = build_sections([one])
    assert section_title(section) == "TOFU subset on smol"
