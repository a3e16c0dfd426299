"""The page is a pure function of the records and says what its numbers mean."""

from __future__ import annotations

import dataclasses
import random
import re
from pathlib import Path

import pytest

from bench.cli.options import write_or_check
from bench.core.record import Record
from bench.records import files
from bench.records.files import BrokenFile
from bench.records.leaderboard import goal_arrow, render_leaderboard
from bench.records.markdown import format_number
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


PRIMARY = {"forgetting": "x", "kept": "y"}


def _compared(seeds: int = 5) -> list[Record]:
    """Records whose gaps in y are msa's .1, npo's .2 and ga's .05, each a little otherwise on every seed; in x alike."""
    found = []
    for method, kept, takes in (("retrain", 1.0, 100), ("msa", 0.9, 20), ("npo", 0.8, 60), ("ga", 0.95, 10)):
        for seed in range(seeds):
            y = kept + (0 if method == "retrain" else seed / 1000)
            scores = {"x": 0.5 + 0.01 * seed, "y": y, "collapsed": float(method == "ga")}
            one = record(method, seed, scores, goals={"x": "oracle", "y": "up", "collapsed": "down"})
            cost = {"tokens_trained": takes, "oracle_tokens": {"from_theta_0": 100, "from_nothing": 1000}}
            facts = {
                "headline": ["x", "y"],
                "primary": PRIMARY,
                "oracle_values": {"x": [0.5, 0.52, 0.54], "y": [1.0] * 3},
            }
            found.append(dataclasses.replace(one, facts=facts, cost=cost))
    return found


def test_cells_noise_intervals_and_bold_as_computed_by_hand() -> None:
    page = render_leaderboard(_compared(), [])
    # x: mean .52, sd .0158, half of the interval 2.776 * .0158 / sqrt(5) = .0196; noise: sd of .5 .52 .54
    x = "0.520 [0.500, 0.540]"
    assert _table(page, "tofu (lab)") == [
        ["", "seeds", "x →oracle", "y ↑"],
        ["*retrain*", "5", x, "1.000"],
        ["*noise*", "", "0.020", "0"],
        ["msa", "5", x, "**0.902** [0.900, 0.904]"],
        ["npo ▲", "5", x, "0.802 [0.800, 0.804]"],
        ["ga ⚠", "5", x, "0.952 [0.950, 0.954]"],  # a wreck stands last, and is never bold
    ]
    assert "Contrasts: 1 of 2 differences are supported. The best other method by its mean gap is npo" in page


def test_each_contrast_is_a_line_with_its_interval() -> None:
    table = _table(render_leaderboard(_compared(), []), "tofu (lab)", "score")
    assert table == [
        ["", "score", "difference of gaps", "95% interval", "p (Holm)", "supported"],
        ["msa – npo", "forgetting: x", "0", "[0, 0]", "1.000", "no"],
        ["msa – npo", "kept: y", "-0.100", "[-0.100, -0.100]", table[2][4], "msa is better"],
    ]
    assert "Nothing is ranked: that takes 5 seeds that both rows have in common." in render_leaderboard(
        _compared(4), []
    )
    assert "**" not in render_leaderboard(_compared(4), []).split("### tofu (lab)")[1]


def test_what_is_kept_at_the_oracles_forgetting_is_a_column() -> None:
    trace = [{"share": 0.0, "scores": {"x": 1.0, "y": 1.0}}, {"share": 0.5, "scores": {"x": 0.52, "y": 0.7}}]
    made = [
        dataclasses.replace(one, facts={**one.facts, "trace": trace}) if one.spec.method == "npo" else one
        for one in _compared()
    ]
    used = _table(render_leaderboard(made, []), "tofu (lab)", "retain rows seen")
    assert used[0][-1] == "kept at the oracle's forgetting"
    # the oracles' mean is .52, the edge .54: (1 - .54) / (1 - .52) = .9583 of the way from 1 to .7: .7125
    assert {line[0]: line[-1] for line in used[1:]} == {"*retrain*": "–", "msa": "–", "npo ▲": "0.712", "ga ⚠": "–"}


def test_a_collapsed_model_is_marked() -> None:
    page = render_leaderboard(study(), [])
    assert "| ga ⚠ | 3 |" in page
    assert "- ga on seeds 0, 1, 2\n" in page


def test_without_primary_scores_there_are_only_cells() -> None:
    page = render_leaderboard(study(seeds=(0, 1)), [])
    assert "**" not in page.split("### tofu (lab)")[1] and "Contrasts:" not in page and "Nothing is ranked" not in page
    single = render_leaderboard(study(methods=("target", "npo"), seeds=(0,)), [])
    assert "retrain is missing. There is no noise: it takes 3 oracles of a seed, or second runs" in single
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
    shares = ["of one retraining", "of one from nothing"]
    assert used[0] == ["", "retain rows seen", "history used", "tokens trained", *shares, "seconds"]
    assert ["msa", "150", "yes", "48,000", "–", "–", "13.5 (12.5–14.5)"] in used
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
    assert head == "|  | *target* | *retrain* | graddiff | msa | npo | task-arithmetic | ga ⚠ |"
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
