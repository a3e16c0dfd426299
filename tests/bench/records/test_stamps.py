"""A picture is drawn again when what it shows or the code has changed, or a file isn't as it was left; else it stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.records import plots
from bench.records.figures import CODE
from bench.records.files import write_record
from bench.records.plots import draw_plots
from bench.records.stamps import FILE, Stamps, remove_stale
from tests.factories import record, study
from tests.processes import environment


class Pen:
    """Draws texts, and counts."""

    def __init__(self) -> None:
        self.drawn = 0

    def draw(self, stem: Path) -> list[Path]:
        self.drawn += 1
        files = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".png", ".svg")]
        for file in files:
            file.write_text("a picture")
        return files


def drawn(folder: Path, shows: object = 1, code: Path = Path(__file__)) -> int:
    """How many of two pictures are drawn, one of them empty; the same files are named each time."""
    pen = Pen()
    with Stamps(folder, code) as stamps:
        paths = stamps.files("one", shows, pen.draw)
        assert stamps.files("none", shows, lambda _: []) == []
    assert paths == [folder / "one.png", folder / "one.svg"] and all(path.is_file() for path in paths)
    return pen.drawn


def test_a_picture_is_drawn_once(tmp_path: Path) -> None:
    assert [drawn(tmp_path) for _ in range(3)] == [1, 0, 0]
    assert drawn(tmp_path, shows=2) == 1 and drawn(tmp_path, shows=2) == 0
    other = tmp_path / "code.py"
    other.write_text("another code")
    assert drawn(tmp_path, shows=2, code=other) == 1


def test_a_published_folder_has_svg_alone_and_only_what_is_drawn(tmp_path: Path) -> None:
    """PNGs of before go, and so do pictures that nothing draws any more; one's own folder keeps what nobody drew."""
    own, published = tmp_path / "runs" / "plots", tmp_path / "results" / "plots"
    (tmp_path / "results" / "responses").mkdir(parents=True)
    for folder, kinds in ((own, [".png", ".svg"]), (published, [".svg"])):
        folder.mkdir(parents=True)
        for name in ("lab-tofu-membership.png", "gone.svg", "notes.txt"):
            (folder / name).write_text("of before")
        for _ in range(2):
            paths = draw_plots(study(methods=("target", "retrain", "msa")), folder)
            assert {path.suffix for path in paths} == set(kinds) and len(paths) == 3 * len(kinds)
        removed = [path.name for path in remove_stale(folder, paths)]
        assert removed == ([] if folder == own else ["gone.svg"])
        there = {path.name for path in folder.iterdir() if path.name != FILE}
        assert there == {path.name for path in paths} | {"notes.txt"} | ({"gone.svg"} if folder == own else set())


def test_what_was_drawn_and_no_longer_is_is_removed_unless_somebody_changed_it(tmp_path: Path) -> None:
    tofu, restor = study(methods=("target", "retrain", "msa")), study(("target", "retrain", "msa"), task="restor")
    draw_plots([*tofu, *restor], tmp_path)
    mine = tmp_path / "lab-restor-membership.svg"
    mine.write_text("coloured by hand")
    paths = draw_plots(tofu, tmp_path)
    removed = [path.name for path in remove_stale(tmp_path, paths)]
    kinds = ("distance-to-oracle", "forget-keep", "membership")
    stems = ["overview", *(f"lab-restor-{kind}" for kind in kinds)]
    gone = {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".svg")} - {mine.name}
    assert set(removed) == gone and mine.read_text() == "coloured by hand"
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths} | {mine.name, FILE}


@pytest.mark.parametrize(
    "stamps",
    [
        "",
        "[]",
        "{}",
        "{half",
        "[" * 3000,
        '{"one": null}',
        '{"one": {"of": 1, "files": {}}}',
        "\x00",
        "a folder",
        "gone",
    ],
)
def test_damaged_stamps_are_those_of_no_picture(tmp_path: Path, stamps: str) -> None:
    drawn(tmp_path)
    (tmp_path / FILE).unlink()
    if stamps == "a folder":
        (tmp_path / FILE).symlink_to("/dev/zero")
    elif stamps != "gone":
        (tmp_path / FILE).write_text(stamps)
    assert [drawn(tmp_path), drawn(tmp_path)] == [1, 0]


def test_a_picture_that_was_changed_or_removed_is_drawn_again(tmp_path: Path) -> None:
    drawn(tmp_path)
    (tmp_path / "one.png").write_text("another picture")
    assert [drawn(tmp_path), drawn(tmp_path)] == [1, 0]
    (tmp_path / "one.svg").unlink()
    assert [drawn(tmp_path), drawn(tmp_path)] == [1, 0]


def test_stamps_name_no_file_of_another_place(tmp_path: Path) -> None:
    drawn(tmp_path)
    told = json.loads((tmp_path / FILE).read_text())
    told["one"]["files"] = {"/../../x": told["one"]["files"][".png"]}
    (tmp_path / FILE).write_text(json.dumps(told))
    assert drawn(tmp_path) == 1


def test_pictures_that_are_there_load_no_matplotlib_and_keep_their_bytes(tmp_path: Path) -> None:
    some = study(("target", "retrain", "msa"))
    paths = plots.draw_plots(some, tmp_path / "plots")
    before = [path.stat().st_mtime_ns for path in paths]
    for one in some:
        write_record(one, tmp_path / "runs")
    code = (
        "import sys; from pathlib import Path; from bench.records import files, plots;"
        "paths = plots.draw_plots(files.load_records(Path('runs')).records, Path('plots'));"
        "print(len(paths), 'matplotlib' in sys.modules)"
    )
    words, env = [sys.executable, "-c", code], environment()
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(paths)), "False"]
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_pictures_are_of_all_the_code_that_makes_tables_and_names() -> None:
    ours = {file.name for file in CODE}
    assert {"names.py", "names.toml", "texts.py", "tables.py", "contrasts.py", "fronts.py", "plots.py"} <= ours
    assert {"attack_plots.py", "search_plots.py", "strips.py", "forget_keep.py", "looks.py", "figures.py"} <= ours


def test_a_number_that_changes_draws_its_section_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = [*study(("target", "msa")), *study(("target", "msa"), task="restor")]
    plots.draw_plots(some, tmp_path)
    stems: list[str] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, stem: stems.append(stem.name) or [])
    changed = record("msa", 0, {**{name: s.value for name, s in some[3].scores.items()}, "mia_min_k": 0.123})
    plots.draw_plots([changed if one.name == changed.name else one for one in some], tmp_path)
    assert stems and all(name.startswith("lab-tofu-") for name in stems)
