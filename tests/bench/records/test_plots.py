"""Pictures: which there are, and that they repeat."""

from __future__ import annotations

import dataclasses
import re
import struct
from pathlib import Path

from bench.records import stamps
from bench.records.figures import new_figure, plot_style, save_figure
from bench.records.plots import MOST_PANELS, draw_plots, kinds_of, sections_at_a_glance
from bench.records.tables import build_sections
from tests.factories import METHODS, record, study

KINDS = ("forget-keep", "distance-to-oracle", "membership")


def test_every_section_gets_its_pictures_and_each_names_its_tier(tmp_path: Path) -> None:
    real = [record(m, 0, tier="real", model="smol", label="TOFU subset: 20 authors") for m in METHODS]
    paths = draw_plots([*study(), *real], tmp_path)
    stems = [f"{slug}-{kind}" for slug in ("lab-tofu", "real-tofu-smol") for kind in KINDS] + ["overview"]
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
            lab, real_too = path.name.startswith(("lab", "overview")), path.name.startswith(("real", "overview"))
            assert ("lab tier: not the benchmark itself" in text) == lab
            assert ("real tier" in text) == real_too
            assert ("tofu (lab)" in text) == lab
            assert ("TOFU subset on smol" in text) == real_too
            assert str(tmp_path) not in text
            for name in ("retrain (oracle)", "msa", "ga (collapsed)"):
                assert f">{name}</text>" in text


def test_equal_records_make_equal_pictures(tmp_path: Path) -> None:
    made = study(methods=("target", "retrain", "msa", "npo"))
    first, second = draw_plots(made, tmp_path / "a"), draw_plots(list(reversed(made)), tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_places_in_a_picture_are_in_hundredths_and_its_texts_stay(tmp_path: Path) -> None:
    with plot_style():
        figure = new_figure(3, 2)
        figure.subplots().plot([0, 1 / 3, 1], [0, 2 / 3, 1], label="0.123456")
        figure.axes[0].legend()
        svg = next(path for path in save_figure(figure, tmp_path / "a") if path.suffix == ".svg").read_text()
    assert ">0.123456</text>" in svg and "line2d_" not in svg
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= set(re.findall(r' id="([^"]+)"', svg))
    places = [float(x) for x in re.findall(r"-?\d+\.\d+", " ".join(re.findall(r'd="([^"]*)"', svg)))]
    assert len(places) > 20 and all(round(place, 2) == place for place in places)


def test_pictures_without_their_scores_are_left_out(tmp_path: Path) -> None:
    made = [record("npo", seed, {"mia_loss": 0.5}) for seed in range(3)]
    assert [path.name for path in draw_plots(made, tmp_path)] == ["lab-tofu-membership.png", "lab-tofu-membership.svg"]


def test_a_refused_section_is_not_drawn(tmp_path: Path) -> None:
    assert draw_plots([record("npo", seed, lineage={"target": "same"}) for seed in range(3)], tmp_path) == []


def test_what_is_drawn_is_what_the_pages_link_to(tmp_path: Path) -> None:
    """Also where the numbers of records that nobody drew yet are asked."""
    for made in (
        study(),
        study(("target", "npo")),
        [record("npo", 0, {"forget_accuracy": 0.5, "retain_accuracy": 1.0})],
    ):
        (section,) = build_sections(made)
        drawn = {path.name for path in draw_plots(made, tmp_path / str(len(made))) if path.suffix == ".svg"}
        names = {f"{section.slug}-{kind}.svg" for kind in kinds_of(section)}
        assert drawn == names and sections_at_a_glance([section]) == []


def test_an_overview_holds_so_many_panels() -> None:
    made = [record(m, 0, task=f"task-{i:02}") for i in range(MOST_PANELS + 3) for m in ("target", "retrain", "npo")]
    assert len(sections_at_a_glance(build_sections(made))) == MOST_PANELS


def test_a_records_texts_are_no_formulas(tmp_path: Path) -> None:
    """Nor lines, nor wider than a picture; numbers near the largest that a record may hold are drawn."""
    odd = r"$\frac{1}{0$ $x^2$ \alpha" + "\n\x1b[31m" + "x" * 9000
    some = [dataclasses.replace(one, label=odd) for one in study(("target", "retrain", "msa"), (0,))]
    huge = {
        name: dataclasses.replace(score, value=9e149, low=None, high=None) for name, score in some[2].scores.items()
    }
    paths = draw_plots([*some[:2], dataclasses.replace(some[2], scores=huge)], tmp_path)
    assert len(paths) == 6
