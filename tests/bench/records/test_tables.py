"""What may stand in one table, and who ranks above whom."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence

import pytest

from bench.core.record import Record
from bench.records.tables import Section, TableCell, beats, build_sections, loss_against_goal, rank_cells
from tests.factories import lineage, record, study


def _cell(*values: float, seeds: Sequence[int] = (0, 1, 2)) -> TableCell:
    """A cell of a score whose loss is the value itself (goal: down)."""
    by_seed = dict(zip(seeds, values, strict=False))
    return TableCell(by_seed, by_seed)


def _section(
    values: Mapping[str, Sequence[float]], goal: str | float, floor: float | None, oracle: Sequence[float] = ()
) -> Section:
    """A section with one score, ``x``: per method its value on seeds 0, 1, ..."""
    rows = {**values, **({"retrain": oracle} if oracle else {})}
    floors = {} if floor is None else {"x": floor}
    made = [
        dataclasses.replace(record(method, seed, {"x": value}, goals={"x": goal}), floors=floors)
        for method, by_seed in rows.items()
        for seed, value in enumerate(by_seed)
    ]
    (section,) = build_sections(made)
    return section


def _ranks(section: Section) -> dict[str, int | None]:
    return {row.name: row.ranks.get("x") for row in section.rows if row.is_method}


def test_a_cell_is_the_mean_over_seeds_with_the_extremes() -> None:
    section = _section({"npo": (0.25, 0.5, 0.9)}, "up", 0.02)
    cell = section.rows[0].cells["x"]
    # (.25 + .5 + .9) / 3 = 1.65 / 3 = .55
    assert cell.mean == pytest.approx(0.55)
    assert (cell.low, cell.high, cell.n) == (0.25, 0.9, 3)
    assert cell.by_seed == {0: 0.25, 1: 0.5, 2: 0.9}


def test_ranks_worked_by_hand_where_up_is_better() -> None:
    section = _section({"msa": (0.90, 0.92, 0.95), "npo": (0.85, 0.88, 0.90), "ga": (0.89, 0.93, 0.94)}, "up", 0.02)
    # msa - npo: .05 .04 .05, one sign, mean .0467 > .02: msa beats npo.
    # msa - ga: .01 -.01 .01, both signs: neither beats the other.
    # ga - npo: .04 .05 .04, one sign, mean .0433 > .02: ga beats npo. So npo is beaten by two.
    assert _ranks(section) == {"ga": 1, "msa": 1, "npo": 3}


def test_a_difference_inside_the_noise_floor_ranks_nobody() -> None:
    values = {"msa": (0.90, 0.92, 0.95), "npo": (0.85, 0.88, 0.90)}
    # The mean difference is .14 / 3 = .04667.
    assert _ranks(_section(values, "up", 0.0466)) == {"msa": 1, "npo": 2}
    assert _ranks(_section(values, "up", 0.0467)) == {"msa": 1, "npo": 1}


def test_the_floor_is_the_mean_over_seeds_of_the_oracles_records() -> None:
    floors = (0.01, 0.02, 0.06)
    made = [record("retrain", seed, {"x": 1.0}, goals={"x": "up"}, floors={"x": floors[seed]}) for seed in range(3)]
    # Another record's floors count only where the oracle's has none.
    stray = [
        dataclasses.replace(record("npo", seed, {"x": 0.9}, goals={"x": "up"}), floors={"x": 9.0}) for seed in (0, 3)
    ]
    (section,) = build_sections(made + stray)
    assert section.floors["x"].by_seed == {0: 0.01, 1: 0.02, 2: 0.06, 3: 9.0}
    (section,) = build_sections(made)
    assert section.floors["x"].mean == pytest.approx(0.03)  # (.01 + .02 + .06) / 3


def test_where_the_oracle_is_the_goal_overshooting_counts_as_falling_short() -> None:
    # Distances to the oracle of the same seed, .40 .60 .30:
    #   msa .50 .70 .40 -> .10 .10 .10;  npo .20 .40 .10 -> .20 .20 .20, below it;  ga .45 .55 .60 -> .05 .05 .30
    values = {"msa": (0.5, 0.7, 0.4), "npo": (0.2, 0.4, 0.1), "ga": (0.45, 0.55, 0.6)}
    section = _section(values, "oracle", 0.05, oracle=(0.4, 0.6, 0.3))
    assert [row.cells["x"].loss[2] for row in section.rows] == pytest.approx([0.0, 0.3, 0.1, 0.2])  # retrain ga msa npo
    # msa beats npo: .10 on each seed. ga against msa: +.05 +.05 -.20, no. ga against npo: .15 .15 -.10, no.
    assert _ranks(section) == {"ga": 1, "msa": 1, "npo": 2}
    assert "x" not in section.rows[0].ranks  # the oracle itself is not ranked


def test_without_the_oracles_row_nothing_is_ranked_toward_it() -> None:
    assert _ranks(_section({"msa": (0.5, 0.7, 0.4), "npo": (0.2, 0.4, 0.1)}, "oracle", 0.0)) == {
        "msa": None,
        "npo": None,
    }


def test_a_number_as_goal_is_approached_from_both_sides() -> None:
    # |x - 0|: msa 10 5 8, npo 30 40 20. Differences 20 35 12, mean 22.3 > 6.
    assert _ranks(_section({"msa": (-10, 5, 8), "npo": (30, -40, 20)}, 0.0, 6.0)) == {"msa": 1, "npo": 2}
    assert loss_against_goal(3.0, 5, None) == 2.0
    assert loss_against_goal(3.0, "", None) is None
    assert loss_against_goal(3.0, "oracle", None) is None


def test_fewer_than_three_common_seeds_make_no_ranks() -> None:
    assert _ranks(_section({"msa": (0.1, 0.1), "npo": (0.9, 0.9)}, "down", 0.0)) == {"msa": None, "npo": None}
    # A third row with two seeds stays out, the others are ranked.
    mixed = {"msa": (0.1, 0.1, 0.1), "npo": (0.9, 0.9, 0.9), "ga": (0.5, 0.5)}
    assert _ranks(_section(mixed, "down", 0.0)) == {"msa": 1, "npo": 2, "ga": None}
    # Three seeds each, of which two in common.
    apart = [_cell(0.1, 0.1, 0.1), _cell(0.9, 0.9, 0.9, seeds=(1, 2, 3))]
    assert not beats(apart[0], apart[1], 0.0)
    assert rank_cells(apart, 0.0) == [None, None]


def test_no_ranks_without_a_floor_or_without_a_rival() -> None:
    assert rank_cells([_cell(0.1, 0.1, 0.1), _cell(0.9, 0.9, 0.9)], None) == [None, None]
    assert rank_cells([_cell(0.1, 0.1, 0.1), None], 0.0) == [None, None]
    assert rank_cells([_cell(0.1, 0.1, 0.1), None, _cell(0.9, 0.9, 0.9)], 0.0) == [1, None, 2]


def test_a_tie_on_one_seed_is_no_win() -> None:
    assert not beats(_cell(0.1, 0.5, 0.1), _cell(0.9, 0.5, 0.9), 0.0)
    assert beats(_cell(0.1, 0.4, 0.1), _cell(0.9, 0.5, 0.9), 0.0)


def test_the_floor_of_a_score_counted_in_floors_is_one() -> None:
    (section,) = build_sections(study(methods=("retrain", "npo")))
    assert section.floors["kl_forget_floors"].by_seed == {0: 1.0, 1: 1.0, 2: 1.0}
    assert section.floors["kl_forget"].mean == pytest.approx(0.2)


def _refused(made: Sequence[Record]) -> str:
    (section,) = build_sections(made)
    assert section.rows == ()
    return " ".join(section.statements)


def test_seeds_that_share_a_target_are_refused() -> None:
    made = [record("npo", seed, lineage=lineage("npo", 0, "tofu")) for seed in (0, 1)]
    assert "seeds 0 and 1 have the same target" in _refused(made)


def test_one_seed_with_two_targets_is_refused() -> None:
    made = [record("npo", 0), record("msa", 0, lineage={"target": "another one altogether"})]
    assert "seed 0 start from different targets" in _refused(made)


def test_records_without_a_target_are_refused() -> None:
    assert "name no target" in _refused([record("npo", 0, lineage={})])


def test_the_same_run_by_two_versions_is_refused() -> None:
    made = [record("npo", 0, versions={"npo": 1}), record("npo", 0, versions={"npo": 2})]
    assert "the same run by different versions" in _refused(made)


def test_versions_of_a_metric_never_mix() -> None:
    old, new = (
        record("npo", 0, {"x": 1.0, "y": 1.0}, goals={"x": "up", "y": "up"}),
        record("msa", 0, {"x": 2.0}, goals={"x": "up"}),
    )
    newer = dataclasses.replace(new, metrics={"x": {"version": 2, "goal": "up"}})
    (section,) = build_sections([old, newer])
    assert [column.name for column in section.columns] == ["y"]
    assert all("x" not in row.cells for row in section.rows)
    assert "x is left out: version 1 (goal up) and version 2 (goal up)" in section.statements[0]


def test_rows_are_target_oracle_then_methods_and_names_tell_only_the_difference() -> None:
    more = [record("npo", seed, params={"beta": 0.1, "lr": 0.0002, "steps": 60}) for seed in range(3)]
    (section,) = build_sections(more + study())
    names = ["target", "retrain", "ga", "graddiff", "msa", "npo (beta=0.1)", "npo (beta=1.0)", "task-arithmetic"]
    assert [row.name for row in section.rows] == names
    assert section.rows[6].params == "beta=1.0, lr=0.0002, steps=60"
    assert section.rows[6].seeds == (0, 1, 2)


def test_columns_are_the_headline_then_the_rest_by_name() -> None:
    (section,) = build_sections(study())
    names = [column.name for column in section.columns]
    assert names[:6] == ["forget_accuracy", "retain_accuracy", "world_accuracy", "kl_forget", "mia_min_k", "privleak"]
    assert names[6:] == sorted(names[6:])
    assert len(section.headline) == 6


def test_a_table_per_setting_and_the_order_of_records_does_not_matter() -> None:
    made = [
        *study(methods=("npo",)),
        record("npo", 0, task_params={"gap": 5}),
        record("npo", 0, limit=4),
        record("npo", 0, lm_eval=("piqa", "boolq")),
        record("npo", 0, tier="real", model="some/model", label="TOFU subset: 20 authors"),
        record("npo", 0, task="restor"),
    ]
    sections = build_sections(made)
    assert [(s.tier, s.label, s.model, s.setting) for s in sections] == [
        ("lab", "restor (lab)", "lab", ""),
        ("lab", "tofu (lab)", "lab", "gap=0"),
        ("lab", "tofu (lab)", "lab", "gap=0, lm-eval=piqa boolq"),
        ("lab", "tofu (lab)", "lab", "gap=0, limit=4"),
        ("lab", "tofu (lab)", "lab", "gap=5"),
        ("real", "TOFU subset: 20 authors", "some/model", ""),
    ]
    assert len({section.slug for section in sections}) == len(sections)
    assert sections[5].slug == "real-tofu-some-model"
    assert build_sections(list(reversed(made))) == sections


def test_what_has_no_scores_is_listed_with_its_reason() -> None:
    made = [
        *study(methods=("target",)),
        *[record("msa", seed, status="skipped", reason="no history", scores={}, label="") for seed in (0, 1)],
        record("npo", 1, status="failed", reason="out of memory", scores={}),
    ]
    (section,) = build_sections(made)
    listed = [(run.name, run.status, run.seeds, run.reason) for run in section.unfinished]
    assert listed == [("msa", "skipped", (0, 1), "no history"), ("npo", "failed", (1,), "out of memory")]
    assert [row.name for row in section.rows] == ["target"]


def test_facts_costs_and_collapse_of_a_row() -> None:
    (section,) = build_sections(study(methods=("ga", "msa")))
    ga, msa = section.rows
    assert ga.collapsed == (0, 1, 2)
    assert msa.collapsed == ()
    assert msa.fact("retain_rows") == "150"
    assert msa.fact("history_used") == "yes"
    assert ga.fact("history_used") == "no"
    assert msa.fact("source") == "lab-tofu: tuned on seed 100"
    assert msa.fact("unheard of") == ""
    assert msa.costs["tokens trained"].mean == 48000
    assert msa.costs["seconds"].by_seed == {0: 12.5, 1: 13.5, 2: 14.5}


def test_a_single_seed_brings_its_own_interval() -> None:
    (section,) = build_sections([record("npo", 0, {"mia_loss": 0.5})])
    assert section.rows[0].cells["mia_loss"].interval == (0.48, 0.52)
    (section,) = build_sections(study(methods=("npo",)))
    assert section.rows[0].cells["mia_loss"].interval is None


def test_other_rows_or_another_model_stand_in_another_table() -> None:
    """Seed 0 on one folder of rows and seed 1 on another are no two seeds of one table."""
    rows = {letter: {"data": letter * 16, "model": "m" * 16} for letter in "ab"}
    sections = build_sections([record("msa", seed, hashes=rows[letter]) for seed, letter in enumerate("ab")])
    assert [[row.seeds for row in section.rows] for section in sections] == [[(0,)], [(1,)]]
    assert sections[0].setting != sections[1].setting and "data=" in sections[0].setting
    (section,) = build_sections([record("msa", seed, hashes=rows["a"]) for seed in (0, 1)])
    assert section.rows[0].seeds == (0, 1)


def test_rows_of_two_histories_are_two_rows_and_the_target_is_one() -> None:
    pasts = [{"history": letter * 16} for letter in "ab"]
    made = [record(method, 0, hashes=past) for past in pasts for method in ("target", "msa")]
    made = [dataclasses.replace(r, facts={**r.facts, "history_used": r.spec.method == "msa"}) for r in made]
    (section,) = build_sections(made)
    assert [row.name for row in section.rows] == ["target", "msa (history=aaaaaaaa)", "msa (history=bbbbbbbb)"]
    assert not section.statements


def test_of_a_run_asked_twice_the_fuller_record_stands() -> None:
    whole, part = record("npo", 0), record("npo", 0, {"forget_accuracy": 0.5}, kinds=("logprob",))
    (section,) = build_sections([part, whole])
    assert section.rows[0].records == (whole,)
    other = dataclasses.replace(part, lineage={**part.lineage, "result": "another"})
    (section,) = build_sections([other, whole])
    assert section.rows == () and "delete the older" in section.statements[0]


@pytest.mark.parametrize("case", range(60))
def test_ranks_are_what_comparing_every_pair_gives(case: int) -> None:
    """Ties, floors that are met to the last bit, and cells of other seeds among them."""
    rng = random.Random(case)
    step = rng.choice([0.1, 1 / 3, 1e-3, 1.0])
    seeds = [(0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 5)][: rng.choice([1, 1, 3])]
    cells: list[TableCell | None] = [None]
    for _ in range(rng.randrange(2, 40)):
        loss = {seed: step * rng.randrange(-3, 4) for seed in rng.choice(seeds)}
        cells.append(TableCell(loss, loss))
    floor = step * rng.choice([0, 1, 2, 0.5])
    fit = {i: cell for i, cell in enumerate(cells) if cell}
    expected = {i: 1 + sum(beats(other, cell, floor) for other in fit.values()) for i, cell in fit.items()}
    assert rank_cells(cells, floor) == [expected.get(i) for i in range(len(cells))]
