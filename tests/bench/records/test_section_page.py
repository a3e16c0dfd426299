"""The page of a section: every score of every row, contrasts, and what was used."""

from __future__ import annotations

import dataclasses
import re

from tests.factories import record, study
from tests.pages import compared, page_of


def _table(page: str, first: str = "seeds") -> list[list[str]]:
    """Cells of the first table of a page whose second column is ``first``, head first, without the rule."""
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|") and line.split(" | ")[1] == first)
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for i, line in enumerate(lines[start:end]) if i != 1]


def test_cells_noise_intervals_and_bold_as_computed_by_hand() -> None:
    page = page_of(compared())
    # x: mean .52, sd .0158, half of the interval 2.776 * .0158 / sqrt(5) = .0196; noise: sd of .5 .52 .54
    x = "0.520 [0.500, 0.540]"
    assert _table(page) == [
        ["", "seeds", "x →oracle", "y ↑"],
        ["*retrain*", "5", x, "1.000"],
        ["*noise*", "", "0.020", "0"],
        ["msa", "5", x, "**0.902** [0.900, 0.904]"],
        ["npo ▲", "5", x, "0.802 [0.800, 0.804]"],
        ["ga ⚠", "5", x, "0.952 [0.950, 0.954]"],  # a wreck stands last, and is never bold
    ]
    assert "Contrasts: 1 of 2 differences are supported. The best other method by its mean gap is npo" in page


def test_each_contrast_is_a_line_with_its_interval() -> None:
    table = _table(page_of(compared()), "score")
    assert table == [
        ["", "score", "difference of gaps", "95% interval", "p (Holm)", "supported"],
        ["msa – npo", "forgetting: x", "0", "[0, 0]", "1.000", "no"],
        ["msa – npo", "kept: y", "-0.100", "[-0.100, -0.100]", table[2][4], "msa is better"],
    ]
    assert "Nothing is ranked: that takes 5 seeds that both rows have in common." in page_of(compared(4))
    assert "**" not in page_of(compared(4))


def test_what_is_kept_at_the_oracles_forgetting_is_a_column() -> None:
    trace = [{"share": 0.0, "scores": {"x": 1.0, "y": 1.0}}, {"share": 0.5, "scores": {"x": 0.52, "y": 0.7}}]
    made = [
        dataclasses.replace(one, facts={**one.facts, "trace": trace}) if one.spec.method == "npo" else one
        for one in compared()
    ]
    used = _table(page_of(made), "retain rows seen")
    assert used[0][-1] == "kept at the oracle's forgetting"
    # the oracles' mean is .52, the edge .54: (1 - .54) / (1 - .52) = .9583 of the way from 1 to .7: .7125
    assert {line[0]: line[-1] for line in used[1:]} == {"*retrain*": "–", "msa": "–", "npo ▲": "0.712", "ga ⚠": "–"}


def test_a_collapsed_model_is_marked() -> None:
    page = page_of(study())
    assert "| ga ⚠ | 3 |" in page
    assert "- ga on seeds 0, 1, 2\n" in page


def test_without_primary_scores_there_are_only_cells() -> None:
    page = page_of(study(seeds=(0, 1)))
    assert "**" not in page and "Contrasts:" not in page and "Nothing is ranked: that takes 5 seeds." in page
    single = page_of(study(methods=("target", "npo"), seeds=(0,)))
    assert "retrain is missing. There is no noise: it takes 3 oracles of a seed, or second runs" in single
    assert re.search(r"\| npo \| 1 \| 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \|", single)  # the bootstrap interval


def test_a_cell_with_fewer_seeds_than_its_row_says_so() -> None:
    made = study(methods=("target", "npo"))
    less = {name: one for name, one in made[-1].scores.items() if name != "world_accuracy"}
    made[-1] = dataclasses.replace(made[-1], scores=less, absent={"world_accuracy": "the probe 'world' was not asked"})
    row = next(row for row in _table(page_of(made)) if row[0] == "npo")
    assert row[1] == "3"
    assert row[4].endswith(" n=2")
    assert "- world_accuracy of npo: the probe 'world' was not asked" in page_of(made)


def test_what_each_method_saw_and_cost_stands_beside_the_scores() -> None:
    page = page_of(study())
    assert "msa used checkpoints from before the forget set, which the others lack." in page
    used = _table(page, "retain rows seen")
    shares = ["of one retraining", "of one from nothing"]
    assert used[0] == ["", "retain rows seen", "history used", "tokens trained", *shares, "seconds"]
    assert ["msa", "150", "yes", "48,000", "–", "–", "13.5 (12.5–14.5)"] in used
    assert "- msa: alpha=0.75, beta=0.25, steps=120 (from lab-tofu: tuned on seed 100)" in page
    assert "forget_accuracy v1" in page
    assert "Measured by 0123456789ab (21 records)." in page


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
    page = page_of(made)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert max(line.count(" | ") for line in rows) + 1 <= 9
    for name in many:
        assert f"| {name} ↑ |" in page


def test_a_whole_page_holds_every_row_in_every_table() -> None:
    page = page_of(study())
    details = page.split("<summary>All scores</summary>")[1]
    head = next(line for line in details.splitlines() if line.startswith("|"))
    assert head == "|  | *target* | *retrain* | graddiff | msa | npo | task-arithmetic | ga ⚠ |"
    assert page.count("<details>") == page.count("</details>") == 2
