"""What the commands over records take from their options."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

from bench.records.files import write_record
from tests.factories import METHODS, study
from tests.processes import Place, bench
from tests.published import RESULTS
from tests.shell import Shell


def test_rescore_passes_over_what_is_unchanged_when_asked(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    words = ["rescore", "--from", str(place.out), "--store", str(place.store), "--jobs", "1"]
    said = [bench([*words, *more], tmp_path) for more in ((), ("--quick",))]
    assert [done.returncode for done in said] == [0, 0], said
    assert [done.stdout.strip() for done in said] == [
        "3 records computed again: all numbers the same",
        "0 records computed again, 3 unchanged since the last check: all numbers the same",
    ]


def test_the_leaderboard_and_all_behind_it_are_written_and_checked(shell: Shell) -> None:
    for one in study():
        write_record(one, shell.folder / "results")
    said = shell("leaderboard")
    assert said.code == 0 and "leaderboard.md: 21 records; all scores in results/tables (4 files)." in said.out, (
        said.err
    )
    missing = shell("leaderboard", "--check")
    assert (
        missing.code == 1
        and "results/plots/lab-tofu-forget-keep.svg is missing: run `python -m bench plot`." in missing.out
    )
    assert shell("plot").code == 0
    good = shell("leaderboard", "--check")
    assert good.code == 0 and good.out == "leaderboard.md and 4 files in results/tables are up to date.\n", good.out
    (shell.folder / "results" / "tables" / "lab-tofu.csv").write_text("by hand")
    stale = shell("leaderboard", "--check")
    assert stale.code == 1 and stale.out == "results/tables/lab-tofu.csv is stale: run `python -m bench leaderboard`.\n"


def test_pages_of_ablations_are_drawn_beside_the_pictures_and_after_them(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "ablations"
    folder.mkdir(parents=True)
    for name in ("lab-sgd-influence.json", "lab-tofu-controls.json", "lab-tofu-controls.jsonl.xz"):
        shutil.copy(RESULTS / "ablations" / name, folder)
    (folder / "lab-tofu-noise.json").write_text("{")
    for one in study(METHODS[:3], (0,)):
        write_record(one, tmp_path / "results")
    files = [f"lab-{name}{suffix}" for name in ("sgd-influence", "tofu-controls") for suffix in (".md", ".png", ".svg")]
    for more, pages, pictures in (
        ((), Path("results/ablations"), Path("results/plots")),
        (("--to", "drawn"), Path("drawn"), Path("drawn")),
    ):
        done = bench(["plot", *more], tmp_path)
        assert done.returncode == 0 and "left out: lab-tofu-noise.json is not readable" in done.stderr, done.stderr
        said = done.stdout.splitlines()
        assert said[-6:] == [str(pages / name) for name in files] and all((tmp_path / line).is_file() for line in said)
        assert said[0].startswith(str(pictures / "lab-")), said
    assert all((tmp_path / "drawn" / name).read_bytes() == (folder / name).read_bytes() for name in files)
    for damaged in (True, False):  # a page that was drawn there stays, whether or not its study can be read
        again = bench(["plot", "--to", "drawn"], tmp_path)
        assert again.stdout.splitlines() == said and again.returncode == 0, again.stdout + again.stderr
        if damaged:
            (folder / "lab-tofu-noise.json").unlink()


def test_plot_removes_nobodys_pictures_but_its_own(tmp_path: Path) -> None:
    """Neither beside the pages of ablations, published or not, nor in a folder beside one called responses."""
    folder, elsewhere = tmp_path / "results" / "ablations", tmp_path / "drawn"
    folder.mkdir(parents=True)
    shutil.copy(RESULTS / "ablations" / "lab-sgd-influence.json", folder)
    for place in (tmp_path, tmp_path / "results"):
        (place / "responses").mkdir()
    for place in (folder, elsewhere):
        more = ["--to", "drawn"] if place == elsewhere else []
        assert bench(["plot", *more], tmp_path).returncode == 0
        for name in ("mine.md", "mine.svg", "mine.png"):
            (place / name).write_text("of the user")
    (folder / "lab-sgd-influence.json").unlink()
    for place in (folder, elsewhere):
        more = ["--to", "drawn"] if place == elsewhere else []
        gone = [] if place == folder else ["removed drawn/lab-sgd-influence.svg: nothing draws it any more"]
        assert bench(["plot", *more], tmp_path).stdout.splitlines() == gone
        assert {"mine.md", "mine.svg", "mine.png"} <= {path.name for path in place.iterdir()}


def test_a_table_for_a_paper(shell: Shell) -> None:
    for one in study():
        write_record(one, shell.folder / "results")
    as_csv = shell("table", "-t", "tofu", "--format", "csv", "--columns", "forget_accuracy,seconds")
    lines = list(csv.DictReader(io.StringIO(as_csv.out)))
    assert as_csv.code == 0 and [line["row"] for line in lines][:2] == ["target", "retrain"] and lines[2]["seconds"]
    latex = shell("table", "-t", "tofu", "--format", "latex")
    assert latex.code == 0 and latex.out.rstrip().endswith("\\end{table}")
    for words, sentence in (
        (("-t", "tofuu"), "Unknown table 'tofuu'. Did you mean 'tofu'?"),
        (("-t", "tofu", "--format", "pdf"), "Unknown format 'pdf'. Known: csv, latex, md."),
        (("-t", "tofu", "--columns", "nonsense"), "Unknown column of lab-tofu 'nonsense'."),
        (("-t", "tofu", "--from", "nowhere"), "There is no folder 'nowhere'"),
    ):
        refused = shell("table", *words)
        assert refused.code == 2 and sentence in refused.err
