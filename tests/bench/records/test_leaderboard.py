"""The leaderboard is a pure function of the records, short, and says who is better only where that is supported."""

from __future__ import annotations

import dataclasses
import random
import re
from pathlib import Path

import pytest

from bench.core.record import Record
from bench.records import files
from bench.records.files import BrokenFile, load_records
from bench.records.leaderboard import (
    MOST_BYTES,
    MOST_LINES,
    files_of,
    missing_pictures,
    render_leaderboard,
    render_pages,
    stale_tables,
    write_pages,
)
from bench.records.plots import draw_plots
from tests.factories import METHODS, record, study
from tests.pages import all_pages, compared
from tests.published import published_records

HOSTILE = "<script>alert(1)</script> | [click](https://evil.example) `x` **b** наука " + "long" * 60


def glance(page: str) -> list[list[str]]:
    """The first table of the leaderboard, head first, without the rule."""
    lines = [line for line in page.split("\n\n")[3].splitlines() if not line.startswith("| ---")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]


def rows_of(page: str, slug: str = "lab-tofu") -> list[str]:
    """The names of the rows of a section's table."""
    part = page.split(f'<a id="{slug}"></a>')[1].split("\n### ")[0].split("\n## ")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in part.splitlines() if line.startswith("| ")][2:]


def many(count: int, sections: int = 1, name: str = "method") -> list[Record]:
    """Records of so many methods beside those that are compared, on so many tasks."""
    found = []
    goals: dict[str, str | float] = {"x": "oracle", "y": "up"}
    others = [record(f"{name}-{i:02}", 0, {"x": 0.4, "y": 0.1 * (i % 9)}, goals=goals) for i in range(count)]
    for place in range(sections):
        for one in [*compared(), *others]:
            facts = {**one.facts, "headline": ["x", "y"], "primary": {"forgetting": "x", "kept": "y"}}
            spec = dataclasses.replace(one.spec, task=f"task-{place}") if sections > 1 else one.spec
            found.append(dataclasses.replace(one, spec=spec, label=f"{spec.task} (lab)", facts=facts))
    return found


def test_the_same_records_make_the_same_pages_in_any_order() -> None:
    made = [*study(), *study(task="restor"), *study(task="muse-books", seeds=(0,))]
    pages = render_pages(made, [])
    for seed in range(3):
        random.Random(seed).shuffle(made)
        assert render_pages(made, []) == pages


def test_an_empty_page_says_how_to_fill_it() -> None:
    page = render_leaderboard([], [])
    assert "There are no records yet: `python -m bench run --methods msa,npo --task muse-books`" in page


def test_sections_by_tier_and_task_and_what_a_lab_row_is_not() -> None:
    real = [record(m, 0, tier="real", model="smol", label="TOFU subset: 20 authors") for m in ("target", "npo")]
    pages = render_pages([*study(), *study(task="restor"), *real], [])
    titles = [line for line in pages.board.splitlines() if line.startswith("##")]
    assert titles == [
        "## Lab tier",
        '### <a id="lab-restor"></a>restor (lab)',
        '### <a id="lab-tofu"></a>tofu (lab)',
        "## Real tier",
        '### <a id="real-tofu-smol"></a>TOFU subset',
    ]
    assert "\nTOFU subset: 20 authors on smol; 1 seed; " in pages.board
    assert "never the benchmark itself" in pages.board.split("## Real tier")[0]
    assert "A lab row is not TOFU, RESTOR or MUSE-Books" in pages.tables["lab-tofu.md"]
    assert "named a subset" in pages.tables["real-tofu-smol.md"]
    stems = ("lab-restor", "lab-tofu", "real-tofu-smol")
    assert set(pages.tables) == {"README.md", *(f"{s}{e}" for s in stems for e in (".md", ".csv", ".tex"))}


def test_the_glance_says_who_beats_whom_only_where_a_contrast_is_supported() -> None:
    """In y msa's gap is .1 and npo's .2 on each of five seeds; in x they are alike; ga's is smallest, and a wreck."""
    page = render_leaderboard(compared(), [])
    assert glance(page) == [
        ["", "forgetting", "kept knowledge"],
        ["tofu (lab), 5 seeds", "no difference shown", "**msa** beats npo"],
    ]
    assert page.splitlines().index("|  | forgetting | kept knowledge |") < 10
    assert "1 of 2 contrasts supported" in page
    few = render_leaderboard(compared(4), [])
    assert "Nothing is ranked: that takes 5 seeds" in few and "beats" not in few.split("## Lab tier")[1]
    assert "**" not in few


def test_the_rows_stand_in_the_order_of_display_wrecks_last() -> None:
    page = render_leaderboard(compared(), [])
    assert rows_of(page) == ["*retrain*", "msa", "npo ▲", "ga ⚠"]
    assert "| msa | 0.520 ± 0.020 | **0.902** ± 0.002 | 0.200 |" in page


def test_a_page_of_many_sections_and_rows_stays_short_and_drops_no_frame() -> None:
    for made in (many(30), many(30, 7), many(4, 40), many(1, 150), many(3, 7, "n" * 70)):
        pages = render_pages(made, [BrokenFile(f"lab/{i}/x.json", "it lacks 'spec'") for i in range(50)])
        assert len(pages.board.splitlines()) <= MOST_LINES and len(pages.board.encode()) <= MOST_BYTES
    page = render_leaderboard(many(30, 7), [])
    shown = rows_of(page, "lab-task-3")
    assert shown[:3] == ["*retrain*", "msa", "npo ▲"], "what the contrasts are about is there"
    assert 4 <= len(shown) < 12 and page.count("### ") == 7
    assert re.search(r"not here: .* and \d\d more\. \[all 34 rows, 3 scores\]\(results/tables/lab-task-3\.md\)", page)
    assert len(rows_of(render_leaderboard(many(30), []))) == 34, "alone a section has room for all"


def test_the_published_leaderboard_is_short_and_answers_first() -> None:
    loaded = published_records()
    page = render_leaderboard(loaded.records, loaded.broken)
    assert len(page.splitlines()) <= MOST_LINES and len(page.encode()) <= MOST_BYTES
    [head, *lines] = glance(page)
    assert {line[0].split(" (")[0] for line in lines} >= {"tofu", "restor", "muse-books", "digits", "graph"}
    last = page.splitlines().index(next(line for line in page.splitlines() if line.startswith(f"| {lines[-1][0]}")))
    assert head[1:3] == ["forgetting", "kept knowledge"] and last < 15
    columns = [line.count(" | ") for line in page.splitlines() if line.startswith("|  |")]
    assert all(4 <= count <= 6 for count in columns)


def test_every_link_leads_to_something_that_is_written(tmp_path: Path) -> None:
    made = [*study(), *study(task="restor", seeds=(0,))]
    for one in made:
        files.write_record(one, tmp_path / "runs")
    loaded = load_records(tmp_path / "runs")
    drawn = draw_plots(loaded.records, tmp_path / "runs" / "plots")
    for page in (tmp_path / "runs" / "leaderboard.md", tmp_path / "elsewhere" / "page.md"):
        page.parent.mkdir(exist_ok=True)
        written = write_pages(loaded, tmp_path / "runs", page)
        assert written[0] == page and not missing_pictures(loaded, tmp_path / "runs", page)
        for path in written:
            if path.suffix == ".md":
                links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if "://" not in link]
                assert len(links) > 3 and all((path.parent / link).is_file() for link in links), path
        anchors = set(re.findall(r'<a id="([^"]+)">', page.read_text()))
        assert anchors >= set(re.findall(r"\(#([^)]+)\)", page.read_text())) != set()
    drawn[1].unlink()
    assert missing_pictures(loaded, tmp_path / "runs", page) == [drawn[1]]


def test_failures_refusals_and_broken_files_are_told_without_a_path_of_this_machine() -> None:
    trace = 'Traceback:\n  File "/home/someone/bench/x.py", line 3\nOSError: no file /home/someone/store/a.json | <b>'
    made = [
        *study(methods=("target", "npo")),
        record("msa", 0, status="failed", reason=trace, scores={}),
        record("msa", 1, status="skipped", reason="it needs history", scores={}),
        *[record("npo", seed, task="restor", lineage={"target": "same"}) for seed in range(2)],
    ]
    broken = [BrokenFile("lab/tofu/x.json", "it lacks 'spec'")]
    pages = render_pages(made, broken)
    assert "- msa failed on seed 0: OSError: no file …/a.json \\| &lt;b>" in pages.tables["lab-tofu.md"]
    assert "- msa skipped on seed 1: it needs history" in pages.tables["lab-tofu.md"]
    assert "2 runs without scores" in pages.board
    assert "> This section is refused: seeds 0 and 1 have the same target" in pages.tables["lab-restor.md"]
    assert "This section is refused: seeds 0 and 1 have the same target" in pages.board
    assert "lab-restor.csv" not in pages.tables
    assert "- `lab/tofu/x.json`: it lacks 'spec'" in pages.board
    assert "- `lab/tofu/x.json`: it lacks 'spec'" in pages.tables["README.md"]
    told = all_pages(made, broken)
    assert "/home" not in told and "/tmp" not in told


def test_hostile_names_stay_text_in_every_page() -> None:
    """Of a method, a task, a score and a file that cannot be read."""
    scores = {HOSTILE: 0.5, "forget_accuracy": 0.1}
    made = [
        dataclasses.replace(record(method, 0, scores, goals=dict.fromkeys(scores, "oracle")), label=HOSTILE)
        for method in ("target", "retrain", "npo", HOSTILE.replace("/", "")[:150])
    ]
    made = [dataclasses.replace(one, facts={**one.facts, "headline": list(scores)}) for one in made]
    pages = render_pages(made, [BrokenFile(HOSTILE, HOSTILE)])
    for name, text in {"leaderboard.md": pages.board, **pages.tables}.items():
        if name.endswith(".md"):
            assert (
                "<script" not in text and "](https" not in text and "**b**" not in re.sub(r"\\`|`[^`]*`", "", text)
            ), name
            tables = [line for line in text.splitlines() if line.startswith("|")]
            assert all(len(line) < 9000 for line in tables)
    assert len(pages.board.encode()) <= MOST_BYTES


def test_what_is_stale_is_told_and_what_nothing_writes_any_more_goes(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "leaderboard.md"
    for one in [*study(methods=("target", "npo")), *study(("target", "npo"), task="restor")]:
        files.write_record(one, results)
    write_pages(load_records(results), results, page)
    (results / "tables" / "notes.md").write_text("my own")
    (results / "tables" / "notes.csv").write_text("1,2")

    def stale() -> set[str]:
        found = files_of(load_records(results), results, page)
        other = {path.name for path, text in found.items() if not path.is_file() or path.read_text() != text}
        return other | {path.name for path in stale_tables(results, found)}

    assert stale() == set()
    files.write_record(record("npo", 0, scores={"mia_loss": 0.5}), results)
    assert {"lab-tofu.md", "lab-tofu.csv"} <= stale()
    for path in (results / "lab" / "restor").rglob("*.json"):
        path.unlink()
    assert {"lab-restor.md", "lab-restor.csv", "lab-restor.tex"} <= stale()
    write_pages(load_records(results), results, page)
    assert stale() == set()
    assert {path.name for path in (results / "tables").iterdir()} == {
        "README.md", "lab-tofu.md", "lab-tofu.csv", "lab-tofu.tex", "notes.md", "notes.csv"
    }  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_row_is_on_its_sections_page(method: str) -> None:
    assert method in render_pages(study(), []).tables["lab-tofu.md"]
