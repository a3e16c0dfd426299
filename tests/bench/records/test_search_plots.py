"""The picture of all searches of a place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from bench.records.figures import plot_style
from bench.records.search_plots import draw_search_plots, draw_searches, load_searches, spread
from bench.runs.selection import expected_best
from tests.shell import Shell


def search(method: str, variant: str = "", place: str = "lab-tofu", best: float = 0.1, **more: Any) -> dict[str, Any]:
    curve = expected_best([best * (i + 1) for i in range(16)])
    made = {"place": place, "method": method, "variant": variant, "rule": "r", "budget": 16, "seeds": [100, 101]}
    return {**made, "expected_best": curve, **more}


def write(folder: Path, *searches: dict[str, Any]) -> None:
    (folder / "tune").mkdir(parents=True, exist_ok=True)
    for each in searches:
        name = f"{each['place']}-{each['method']}{'@' * bool(each['variant'])}{each['variant']}.json"
        (folder / "tune" / name).write_text(json.dumps(each))


def test_each_place_has_a_picture_that_is_drawn_once(tmp_path: Path) -> None:
    write(tmp_path, search("npo"), search("npo", "small-retain"), search("ga", place="lab-digits"))
    paths = draw_search_plots(tmp_path, tmp_path / "plots")
    names = [f"tune-{place}{suffix}" for place in ("lab-digits", "lab-tofu") for suffix in (".png", ".svg")]
    assert [path.name for path in paths] == names
    before = [path.stat().st_mtime_ns for path in paths]
    assert draw_search_plots(tmp_path, tmp_path / "plots") == paths
    assert [path.stat().st_mtime_ns for path in paths] == before, "equal records: what is there stays"
    write(tmp_path, search("npo", best=0.2))
    draw_search_plots(tmp_path, tmp_path / "plots")
    now = [path.stat().st_mtime_ns for path in paths]
    assert now[:2] == before[:2] and now[2:] != before[2:]


def test_bench_plot_draws_them_with_the_others(shell: Shell) -> None:
    write(shell.folder / "results", search("npo"))
    said = shell("plot")
    assert said.code == 0 and "results/plots/tune-lab-tofu.png" in said.out, said.err
    assert (shell.folder / "results" / "plots" / "tune-lab-tofu.svg").is_file()


def test_what_is_no_search_by_todays_rule_is_counted_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An old one has no curve; one in which nothing worked has an empty one, and no line."""
    old = search("msa")
    del old["expected_best"]
    write(tmp_path, old, search("ga", expected_best=[]), search("npo"))
    (tmp_path / "tune" / "notes.json").write_text("[]")
    assert [each["method"] for each in load_searches(tmp_path / "tune")] == ["npo"]
    assert f"left out: 2 files in {tmp_path / 'tune'} aren't searches by today's rule" in capsys.readouterr().err
    assert load_searches(tmp_path / "nowhere") == []


def test_twenty_curves_are_named_at_their_ends_and_no_name_covers_another() -> None:
    """All end within a hundredth of another, so that every name has to move."""
    methods = [f"method-{i:02}" for i in range(20)]
    searches: list[Any] = [search(name, best=0.1 + i * 1e-4) for i, name in enumerate(methods)]
    with plot_style():
        figure = draw_searches(searches)
        figure.canvas.draw()
        [axes] = figure.axes
        names = [text for text in axes.texts if text.get_text() in methods]
        # Of an annotation the extent of the text alone, before it is put at its place.
        sizes = [Text.get_window_extent(text) for text in names]
        places = [axes.transAxes.transform(text.xyann) for text in names]  # type: ignore[attr-defined]
    ends = sorted((y - size.height / 2, y + size.height / 2) for size, (_, y) in zip(sizes, places, strict=True))
    assert len(ends) == 20
    assert all(low[1] <= high[0] for low, high in zip(ends, ends[1:], strict=False))
    assert ends[0][0] >= 0 and ends[-1][1] <= figure.bbox.height
    assert all(x + size.width <= figure.bbox.width for size, (x, _) in zip(sizes, places, strict=True))


def test_names_move_as_far_as_they_must() -> None:
    """.5 and .5 with a gap of .2: .4 and .6 around their middle; .1 is far enough from them. At the ends they stay inside."""
    assert spread([0.5, 0.1, 0.5], 0.2) == pytest.approx([0.4, 0.1, 0.6])
    assert spread([0.0, 0.0], 0.5) == pytest.approx([0.0, 0.5])
    assert spread([0.99, 1.0], 0.5) == pytest.approx([0.5, 1.0])
    assert spread([0.3, 0.3, 0.3], 0.9) == pytest.approx([0.0, 0.5, 1.0]), "there is no room for more"
    assert spread([0.7], 0.1) == [0.7]
