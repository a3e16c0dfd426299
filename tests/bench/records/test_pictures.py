"""Every published picture: no text on another or beyond the edge, two lines of title at most, and labels that can be read."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from bench.core.record import Record
from bench.records import attack_plots, plots, search_plots
from bench.records.attack_plots import draw_attack_plots
from bench.records.figures import DPI, new_figure, save_figure
from bench.records.plots import draw_plots
from bench.records.search_plots import draw_search_plots
from bench.records.tables import build_sections
from bench.studies.ablations import experiment
from bench.studies.ablations.study import redraw_page
from tests.bench.records.test_attack_plots import HIT
from tests.factories import record, typical
from tests.factories import study as made_study
from tests.published import RESULTS, published_records

ASIDE = 1e6
"""Pixels by which slanting texts are moved out of the way of the others."""
TOUCH = 1.0
"""Pixels by which the boxes of two texts, which have some room around their letters, may lie on one another."""


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[str]]]:
    """What is wrong with each picture that is drawn from here on, by its name."""
    found: dict[str, list[str]] = {}

    def look(figure: Figure, stem: Path) -> list[Path]:
        paths = save_figure(figure, stem)
        found[stem.name] = faults_of(figure)
        return paths

    for module in (plots, attack_plots, search_plots, experiment):
        monkeypatch.setattr(module, "save_figure", look)
    yield found


def texts_of(figure: Figure) -> list[tuple[str, Any]]:
    """Every text that is drawn, with the box of its letters in pixels."""
    drawn: list[tuple[str, Any]] = []
    draw = Text.draw

    def noting(self: Text, renderer: Any) -> None:
        draw(self, renderer)
        if self.get_visible() and self.get_text().strip():
            drawn.append((self.get_text(), turned_back(self, Text.get_window_extent(self, renderer).frozen())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noting)
        FigureCanvasAgg(figure).draw()
    return drawn


def turned_back(text: Text, box: Any) -> Any:
    """The box of a text's letters; of a slanting one turned around the origin, so that it lies beside those that slant alike.

    A slanting text of w by h has a box of w cos + h sin by w sin + h cos around the same middle.
    """
    if text.get_rotation() % 90 == 0:
        return box
    angle = math.radians(text.get_rotation())
    c, s = math.cos(angle), math.sin(angle)
    width = (box.width * c - box.height * s) / (c * c - s * s)
    height = (box.height * c - box.width * s) / (c * c - s * s)
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    x, y = x * c + y * s + ASIDE, y * c - x * s + ASIDE
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def faults_of(figure: Figure) -> list[str]:
    """Sentences on texts that lie on one another or beyond the edge, and on titles of more than two lines."""
    figure.set_dpi(DPI)  # writing SVG leaves another, at which letters are rounded to whole pixels
    texts = texts_of(figure)
    found = []
    for (one, a), (other, b) in combinations(texts, 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if width > TOUCH and height > TOUCH:
            found.append(f"{one!r} lies on {other!r}")
    for text, box in texts:
        if box.x0 > ASIDE / 2:  # a slanting one
            continue
        if (
            box.x0 < -TOUCH
            or box.y0 < -TOUCH
            or box.x1 > figure.bbox.width + TOUCH
            or box.y1 > figure.bbox.height + TOUCH
        ):
            found.append(f"{text!r} is beyond the edge")
        if re.search(r"10\^|\de[+-]?\d", text):
            found.append(f"{text!r} is no plain number")
    titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    return found + [f"a title of {title.count(chr(10)) + 1} lines" for title in titles if title.count("\n") > 1]


def test_a_fault_is_found() -> None:
    """Two texts at one place, one beyond the edge, three lines of title; of what isn't drawn nothing is said."""
    figure = new_figure(3, 2, layout=None)
    figure.text(0.5, 0.5, "here")
    figure.text(0.5, 0.5, "there")
    figure.text(0.9, 0.1, "far too long for it")
    figure.text(0.5, 0.5, "unseen").set_visible(False)
    figure.suptitle("1\n2\n3")
    assert faults_of(figure) == [
        "'here' lies on 'there'",
        "'far too long for it' is beyond the edge",
        "a title of 3 lines",
    ]


def test_slanting_texts_are_compared_as_they_slant() -> None:
    """Beside one another at 35 degrees their upright boxes overlap and they don't; in one place they do."""
    figure = new_figure(4, 3, layout=None)
    for x, text in ((0.4, "a long name"), (0.5, "another name"), (0.5, "a third one")):
        figure.text(x, 0.8, text, rotation=35, ha="right", va="top")
    assert faults_of(figure) == ["'another name' lies on 'a third one'"]


@pytest.mark.slow(60)
def test_the_published_pictures_of_records_and_searches(faults: dict[str, list[str]], tmp_path: Path) -> None:
    records = published_records().records
    draw_plots(records, tmp_path)
    draw_search_plots(RESULTS, tmp_path)
    assert len(faults) > 20 and {name: wrong for name, wrong in faults.items() if wrong} == {}
    published = {path.stem for path in (RESULTS / "plots").glob("*.svg")}
    assert published == set(faults), "run `python -m bench plot`"


@pytest.mark.slow(60)
def test_the_published_pictures_of_studies(faults: dict[str, list[str]], tmp_path: Path) -> None:
    for file in (RESULTS / "ablations").glob("[!.]*.json"):
        assert redraw_page(file, tmp_path)
    assert faults and {name: wrong for name, wrong in faults.items() if wrong} == {}


def crowd(count: int, name: str = "method") -> list[Record]:
    """Records of so many methods that end at nearly one place, beside those of a study."""
    primary = {"forgetting": "forget_accuracy", "kept": "retain_accuracy"}
    found = made_study(seeds=(0, 1))
    for place in range(count):
        for seed in (0, 1):
            one = record(f"{name}-{place:02}", seed, typical("npo", seed))
            moved = {
                key: dataclasses.replace(score, value=score.value * (1 + place / 1000))
                for key, score in one.scores.items()
            }
            found.append(dataclasses.replace(one, scores=moved))
    return [dataclasses.replace(one, facts={**one.facts, "primary": primary}) for one in found]


@pytest.mark.parametrize(("count", "name"), [(23, "method"), (40, "a-method-whose-name-is-rather-long-" * 2)])
def test_pictures_of_thirty_rows(faults: dict[str, list[str]], tmp_path: Path, count: int, name: str) -> None:
    draw_plots([*crowd(count, name), *made_study(task="restor")], tmp_path)
    draw_attack_plots(build_sections([*made_study(), *HIT]), tmp_path)
    assert len(faults) == 10 and {picture: wrong for picture, wrong in faults.items() if wrong} == {}
