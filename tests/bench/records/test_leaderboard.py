"""The page is a pure function of the records and says what its numbers mean."""

from __future__ import annotations

import dataclasses
import random
import re
from pathlib import Path

import pytest

from bench.cli.options import write_or_check
from bench.records import files
from bench.records.files import BrokenFile
from bench.records.leaderboard import goal_arrow, methods_in_bold, render_leaderboard
from bench.records.markdown import format_number
from bench.records.tables import build_sections
from tests.factories import record, study


def _table(page: str, title: str, first: str = "seeds") -> list[list[str]]:
    """Cells of the first table below a title whose second column is ``first``, head first, without the rule."""
    lines = page.split(f"### {title}\n")[1].split("\n### ")[0].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|") and line.split(" | ")[1] == first)
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for i, line in enumerate(lines[start:end]) if i != 1]


def test_the_same_records_make_the_same_page_in_any_order() -> None:
    made = [*study(), *study(task="restor"), *study(task="muse-books", seeds=(0,))]
    page = render_leaderboard(made, [])
    for seed in range(3):
        random.Random(seed).shuffle(made)
        assert render_leaderboard(made, []) == page


def test_an_empty_page_says_how_to_fill_it() -> None:
    assert "There are no records yet: `python -m bench run --methods msa,npo --task muse-books`" in render_leaderboard(
        [], []
    )


def test_sections_by_tier_and_task_and_what_a_lab_row_is_not() -> None:
    real = [record(m, 0, tier="real", model="smol", label="TOFU subset: 20 authors") for m in ("target", "npo")]
    page = render_leaderboard([*study(), *study(task="restor"), *real], [])
    titles = [line for line in page.splitlines() if line.startswith("##")]
    assert titles == [
        "## Lab tier",
        "### restor (lab)",
        "### tofu (lab)",
        "## Real tier",
        "### TOFU subset: 20 authors on smol",
    ]
    lab, real_part = page.split("## Real tier")
    assert "A lab row is not TOFU, RESTOR or MUSE-Books" in lab
    assert "named a subset" in real_part


def test_cells_floor_ranks_and_bold_as_computed_by_hand() -> None:
    values = {
        "target": (0.9, 0.9, 0.9),
        "retrain": (0.1, 0.2, 0.3),
        "msa": (0.15, 0.25, 0.35),  # .05 from the oracle on each seed
        "npo": (0.0, 0.0, 0.0),  # .1 .2 .3 from it
        "ga": (0.15, 0.25, 0.35),  # as msa
    }
    made = [
        dataclasses.replace(
            record(m, seed, {"x": v}, goals={"x": "oracle"}, floors={"x": 0.02}), facts={"headline": ["x"]}
        )
        for m, by_seed in values.items()
        for seed, v in enumerate(by_seed)
    ]
    assert _table(render_leaderboard(made, []), "tofu (lab)") == [
        ["", "seeds", "x →oracle", "ranks"],
        ["*target*", "3", "0.900", ""],
        ["*retrain*", "3", "0.200 (0.100–0.300)", ""],
        ["*noise floor*", "3", "0.020", ""],
        # Both differ from npo by .05 .15 .25 on the seeds, mean .15 > .02; a tie makes both bold.
        ["ga", "3", "**0.250** (0.150–0.350)", "1"],
        ["msa", "3", "**0.250** (0.150–0.350)", "1"],
        ["npo", "3", "0", "3"],
    ]


def test_a_collapsed_model_is_marked_and_never_bold() -> None:
    made = [
        *[
            record("ga", seed, {"x": 0.0, "collapsed": float(seed == 1)}, goals={"x": "down", "collapsed": "down"})
            for seed in range(3)
        ],
        *[
            record("npo", seed, {"x": 0.5, "collapsed": 0.0}, goals={"x": "down", "collapsed": "down"})
            for seed in range(3)
        ],
        *[record("retrain", seed, {"x": 0.1}, goals={"x": "down"}, floors={"x": 0.1}) for seed in range(3)],
    ]
    (section,) = build_sections(made)
    x = next(column for column in section.columns if column.name == "x")
    assert {row.name: row.ranks["x"] for row in section.rows if row.is_method} == {"ga": 1, "npo": 2}
    assert methods_in_bold(section.rows, x) == set()
    page = render_leaderboard(made, [])
    assert "| ga ⚠ | 3 |" in page
    assert "- ga on seed 1\n" in page


def test_with_fewer_than_three_seeds_there_is_neither_rank_nor_bold() -> None:
    page = render_leaderboard(study(seeds=(0, 1)), [])
    assert "ranks" not in _table(page, "tofu (lab)")[0]
    assert "**" not in page.split("### tofu (lab)")[1]
    assert "Nothing is ranked: that takes 3 seeds" in page
    single = render_leaderboard(study(methods=("target", "npo"), seeds=(0,)), [])
    assert "retrain is missing. There is no noise floor, which takes two oracles" in single
    assert re.search(r"\| npo \| 1 \| 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \|", single)  # the bootstrap interval


def test_a_cell_with_fewer_seeds_than_its_row_says_so() -> None:
    made = study(methods=("target", "npo"))
    less = {name: one for name, one in made[-1].scores.items() if name != "world_accuracy"}
    made[-1] = dataclasses.replace(made[-1], scores=less, absent={"world_accuracy": "the probe 'world' was not asked"})
    row = next(row for row in _table(render_leaderboard(made, []), "tofu (lab)") if row[0] == "npo")
    assert row[1] == "3"
    assert row[4].endswith(" n=2")
    assert "- world_accuracy of npo: the probe 'world' was not asked" in render_leaderboard(made, [])


def test_what_each_method_saw_and_cost_stands_beside_the_scores() -> None:
    page = render_leaderboard(study(), [])
    assert "msa used checkpoints from before the forget set, which the others lack." in page
    used = _table(page, "tofu (lab)", "retain rows seen")
    assert used[0] == ["", "retain rows seen", "history used", "tokens trained", "seconds"]
    assert ["msa", "150", "yes", "48,000", "13.5 (12.5–14.5)"] in used
    assert "- msa: alpha=0.75, beta=0.25, steps=120 (from lab-tofu: tuned on seed 100)" in page
    assert "forget_accuracy v1" in page
    assert "Measured by 0123456789ab (21 records)." in page


def test_failures_refusals_and_broken_files_are_told_without_a_path_of_this_machine() -> None:
    trace = 'Traceback:\n  File "/home/someone/bench/x.py", line 3\nOSError: no file /home/someone/store/a.json | <b>'
    made = [
        *study(methods=("target", "npo")),
        record("msa", 0, status="failed", reason=trace, scores={}),
        record("msa", 1, status="skipped", reason="it needs history", scores={}),
        *[record("npo", seed, task="restor", lineage={"target": "same"}) for seed in range(2)],
    ]
    page = render_leaderboard(made, [BrokenFile("lab/tofu/x.json", "it lacks 'spec'")])
    assert "- msa failed on seed 0: OSError: no file …/a.json \\| &lt;b>" in page
    assert "- msa skipped on seed 1: it needs history" in page
    assert "> This section is refused: seeds 0 and 1 have the same target" in page
    assert "- `lab/tofu/x.json`: it lacks 'spec'" in page
    assert "/home" not in page
    assert "/tmp" not in page


def test_wide_tables_are_split() -> None:
    many = [f"score_{i:02}" for i in range(20)]
    made = [
        dataclasses.replace(
            record(method, seed, {name: 0.5 for name in many}, goals=dict.fromkeys(many, "up"), params={"lr": lr}),
            facts={"headline": many},
        )
        for method, lr in [("retrain", 0), *(("npo", lr) for lr in range(12))]
        for seed in range(3)
    ]
    page = render_leaderboard(made, [])
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert max(line.count(" | ") for line in rows) + 1 <= 9
    for name in many:
        assert f"| {name} ↑ |" in page


def test_a_whole_page_holds_every_row_in_every_table() -> None:
    page = render_leaderboard(study(), [])
    details = page.split("<summary>All scores</summary>")[1]
    head = next(line for line in details.splitlines() if line.startswith("|"))
    assert head == "|  | *target* | *retrain* | ga ⚠ | graddiff | msa | npo | task-arithmetic | *noise floor* |"
    assert page.count("<details>") == page.count("</details>") == 2


def test_check_tells_a_stale_page(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "leaderboard.md"
    for one in study(methods=("target", "npo")):
        files.write_record(one, results)

    def is_current() -> bool:
        text = render_leaderboard(files.load_records(results).records, [])
        return write_or_check(page, text, True, "leaderboard")

    assert not is_current()
    page.write_text(render_leaderboard(files.load_records(results).records, []), encoding="utf-8")
    assert is_current()
    files.write_record(record("npo", 0, scores={"mia_loss": 0.5}), results)
    assert not is_current()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (0.12345, "0.123"), (1.5, "1.500"), (9.9996, "10.0"), (-45.25, "-45.2"), (-99.98, "-100"),
     (1234.5, "1234"), (0.0009, "9e-4"), (1.94e-119, "2e-119")],
)  # fmt: skip
def test_numbers_are_short_and_keep_their_size(value: float, text: str) -> None:
    assert format_number(value) == text


def test_arrows() -> None:
    assert [goal_arrow(goal) for goal in ("up", "down", "oracle", 0, 0.0, 0.5, "")] == [
        "↑",
        "↓",
        "→oracle",
        "→0",
        "→0",
        "→0.5",
        "",
    ]
