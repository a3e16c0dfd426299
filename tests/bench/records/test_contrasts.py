"""Paired differences, Holm's adjustment, and what may be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bench.core import registry
from bench.core.record import Step
from bench.metrics import rounded_score
from bench.records.contrasts import (
    Contrasts,
    adjust_holm,
    build_contrasts,
    compare_paired,
    compare_rows,
    find_best_other,
    find_row,
)
from bench.records.leaderboard import render_leaderboard
from bench.records.tables import Section, TableCell, build_sections, find_gaps
from tests.factories import record

ROLES = {"forgetting": "forget_accuracy", "kept": "retain_accuracy", "kl_forget": "kl_forget", "kl_retain": "kl_retain"}
ORACLE = {"forget_accuracy": 0.0, "retain_accuracy": 1.0, "kl_forget": 0.1, "kl_retain": 0.1}
MSA = {"forget_accuracy": 0.1, "retain_accuracy": 0.9, "kl_forget": 1.0, "kl_retain": 0.5}
SHAKE = (0.00, 0.02, -0.01, 0.01, -0.02, 0.005)
"""Of each seed, so that differences have a spread."""


def section_of(rows: Mapping[str, Mapping[str, float]], seeds: Sequence[int] = range(6)) -> Section:
    """A section of MSA, the oracle and others, whose scores are shaken by the seed, each row's otherwise."""
    made = []
    for turn, (method, scores) in enumerate({"retrain": ORACLE, "msa": MSA, **rows}.items()):
        for seed in seeds:
            shaken = {
                name: value + (SHAKE[(seed + turn) % 6] if method != "retrain" else 0) for name, value in scores.items()
            }
            one = record(method, seed, shaken)
            made.append(type(one)(**{**vars(one), "facts": {**one.facts, "primary": ROLES}}))
    (section,) = build_sections(made)
    return section


def held(found: Contrasts) -> set[tuple[str, str, str]]:
    return {(contrast.other, contrast.role, contrast.better) for contrast in found.supported}


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04 of four: 4 * .01 = .04; 3 * .02 = .06; 2 * .03 = .06; 1 * .04 = .04, but no less than .06
    assert adjust_holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert adjust_holm([0.6, 0.7]) == [1.0, 1.0] and adjust_holm([]) == []


def test_a_paired_difference_is_scipys_paired_t_test() -> None:
    one, other = (
        dict(enumerate(values)) for values in ((0.1, 0.3, 0.2, 0.5, 0.1, 0.2), (0.4, 0.4, 0.7, 0.6, 0.2, 0.9))
    )
    found = compare_paired(one, other)
    assert found is not None and found.seeds == (0, 1, 2, 3, 4, 5)
    a, b = list(one.values()), list(other.values())
    theirs = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(theirs.pvalue) and found.mean == pytest.approx(float(np.mean(a) - np.mean(b)))
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_equal_gaps_are_no_difference_whatever_rounding_leaves_of_them() -> None:
    """.7 - .5 and .5 - .3 differ by 6e-17, which is no evidence."""
    one, other = dict.fromkeys(range(5), 0.7 - 0.5), dict.fromkeys(range(5), 0.5 - 0.3)
    found = compare_paired(one, other)
    assert one[0] != other[0] and found is not None and (found.mean, found.p) == (0.0, 1.0)


def test_gaps_are_equal_to_the_digits_that_scores_have() -> None:
    """1/3 and 1 lie as far from 2/3; of 12 digits each, .333333333334 and .333333333333."""
    third, two = rounded_score(1 / 3), rounded_score(2 / 3)
    oracles = {seed: {"acc": [two]} for seed in range(6)}
    one, other = (
        find_gaps("forgetting", "acc", TableCell(dict.fromkeys(range(6), value)), oracles) for value in (third, 1.0)
    )
    found = compare_paired(one, other)
    assert two - third != 1 - two and found is not None and (found.mean, found.p) == (0.0, 1.0)


def test_only_common_seeds_count_and_four_are_too_few() -> None:
    one, other = dict.fromkeys(range(6), 0.5), dict.fromkeys(range(2, 9), 0.1)
    assert compare_paired(one, other) is None
    found = compare_paired(one, other | {1: 0.1})
    assert found is not None and found.seeds == (1, 2, 3, 4, 5)
    assert (found.mean, found.low, found.high, found.p) == pytest.approx((0.4, 0.4, 0.4, 0.0))
    assert compare_paired(one, one).p == 1.0  # type: ignore[union-attr]


def test_a_supported_contrast_names_the_better_row_and_nothing_else_is_said() -> None:
    section = section_of({"npo": {**MSA, "kl_forget": 3.0, "kl_retain": 0.9}})
    found = build_contrasts(section)
    assert [(c.other, c.role) for c in found.fixed] == [("npo", role) for role in ROLES]
    assert held(found) == {("npo", "kl_forget", "msa"), ("npo", "kl_retain", "msa")}
    assert found.better_rows() == {"kl_forget": {"msa"}, "kl_retain": {"msa"}}
    assert "npo, which is among the contrasts" in found.said and found.best == ()


def test_a_divergence_is_supported_only_where_the_other_does_not_point_the_other_way() -> None:
    mixed = build_contrasts(section_of({"npo": {**MSA, "kl_forget": 3.0, "kl_retain": 0.2}}))
    by_role = {contrast.role: contrast for contrast in mixed.fixed}
    assert by_role["kl_forget"].holm < 0.05 and by_role["kl_retain"].holm < 0.05  # type: ignore[operator]
    assert held(mixed) == set(), "better on forget and worse on retain is no difference of a kind"


def test_p_is_adjusted_over_contrasts_times_scores() -> None:
    section = section_of({"npo": {**MSA, "kl_forget": 3.0}, "task-arithmetic": MSA, "rewind@25": MSA})
    found = build_contrasts(section)
    assert len(found.fixed) == 3 * len(ROLES)
    assert [contrast.holm for contrast in found.fixed] == adjust_holm([contrast.paired.p for contrast in found.fixed])
    msa, npo = section.row("msa"), section.row("npo")
    assert msa and npo
    alone = compare_rows(section, msa, npo)
    assert [c.holm for c in alone] == adjust_holm([c.paired.p for c in alone]) and len(alone) == len(ROLES)


def test_a_wreck_is_never_the_better_one() -> None:
    near = {**MSA, "kl_forget": 0.2, "kl_retain": 0.2}
    sound, wrecked = section_of({"npo": near}), section_of({"npo": {**near, "collapsed": 1.0}})
    row, msa = wrecked.row("npo"), wrecked.row("msa")
    assert row is not None and msa is not None and row.wrecked, "the shaken flag is 1 on a seed"
    assert held(build_contrasts(sound)) == {("npo", "kl_forget", "npo"), ("npo", "kl_retain", "npo")}
    assert held(build_contrasts(wrecked)) == set() and find_best_other(wrecked, msa) is None


def test_the_best_other_is_chosen_after_looking_and_not_tested() -> None:
    section = section_of({"npo": {**MSA, "kl_forget": 5.0}, "simnpo": ORACLE, "before": ORACLE})
    found = build_contrasts(section)
    assert {contrast.other for contrast in found.best} == {"simnpo"}, "a control is no method"
    assert all(contrast.holm is None and not contrast.supported for contrast in found.best)
    assert "simnpo: it was chosen after looking" in found.said
    fewer = [r for row in section.rows for r in row.records if r.spec.method != "simnpo" or r.spec.seed]
    left = build_contrasts(build_sections(fewer)[0])
    assert "other method by its mean gap is npo" in left.said, "it has not all of MSA's seeds"
    board = render_leaderboard([one for row in section.rows for one in row.records], [])
    assert "nearest by the mean gap (described, not tested): simnpo" in board


def test_nothing_is_ranked_below_five_seeds_without_msa_or_without_primary_scores() -> None:
    few = build_contrasts(section_of({"npo": ORACLE}, seeds=range(4)))
    assert few.fixed == few.best == () and few.said.startswith("Nothing is ranked: that takes 5 seeds")
    alone = build_contrasts(
        build_sections([r for row in section_of({}).rows if row.name != "msa" for r in row.records])[0]
    )
    assert alone.said.startswith("Nothing is ranked: there is no row msa")
    for count, why in ((6, "no scores were fixed beforehand to compare by"), (2, "that takes 5 seeds")):
        bare = build_contrasts(build_sections([record("msa", seed) for seed in range(count)])[0])
        assert bare == Contrasts(said=f"Nothing is ranked: {why}.")


def test_a_method_is_found_by_its_place_and_not_by_what_its_parameters_add_to_its_name() -> None:
    books = {"beta": 1.0, "per_token": True}
    made = [record("npo", s, MSA, task="muse-books", params=books) for s in range(2)]
    step = Step("npo", books, "per-token")
    own = [replace(one, spec=replace(one.spec, steps=(step,))) for one in made]
    small = [
        replace(one, spec=replace(one.spec, steps=(replace(step, variant="small-retain+per-token"),))) for one in made
    ]
    (section,) = build_sections(own)
    assert find_row(section, "npo") is section.rows[0] and section.rows[0].method == "npo@per-token"
    assert find_row(section, "npo@small-retain") is None and find_row(section, "ga") is None
    (other,) = build_sections(small)
    assert find_row(other, "npo") is None and find_row(other, "npo@small-retain") is other.rows[0]


def test_of_several_settings_the_places_own_preset_is_the_row_then_the_fullest() -> None:
    kind = registry.load_component("methods", "npo")
    preset = registry.said_params(kind, registry.preset_params(kind, "lab-tofu") or {})
    odd, more = {**preset, "beta": 7.5}, {**preset, "beta": 8.5}
    rows = [record("npo", s, MSA, params=odd) for s in range(2)] + [
        record("npo", s, MSA, params=more) for s in range(3)
    ]
    (without,) = build_sections(rows)
    found = find_row(without, "npo")
    assert found is not None and len(found.seeds) == 3
    (section,) = build_sections([*rows, record("npo", 0, MSA, params=preset)])
    found = find_row(section, "npo")
    assert found is not None and dict(found.records[0].spec.steps[0].params) == preset
