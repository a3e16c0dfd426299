"""Understanding what was typed, a step at a time; all of it together is in test_plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.core import registry
from bench.core.compute import UNSAID, USUAL, Compute
from bench.core.errors import UserError, collecting
from bench.core.record import Step
from bench.runs.asked import Asked, build_rows, build_steps, parse_methods, parse_sets, resolve_compute, understand


def test_the_oracle_comes_first_and_nothing_twice() -> None:
    assert parse_methods(["msa", "target", "msa", "npo@small-retain"]) == [
        ("retrain", ""),
        ("msa", ""),
        ("npo", "small-retain"),
    ]


def test_unknown_names_are_reported_and_the_others_kept() -> None:
    with pytest.raises(UserError, match="Unknown method 'gaa'"), collecting() as problems:
        assert parse_methods(["gaa", "ga"]) == [("retrain", ""), ("ga", "")]
        assert len(problems) == 1


def test_settings_are_sorted_by_their_owner() -> None:
    wanted = [("msa", "")]
    assert parse_sets(["msa.alpha = 1", "tofu.authors=3", "msa.beta=0"], "tofu", wanted) == {
        "msa": {"alpha": "1", "beta": "0"},
        "tofu": {"authors": "3"},
    }
    with pytest.raises(UserError, match=r"msa\.alpha is set twice"):
        parse_sets(["msa.alpha=1", "msa.alpha=2"], "tofu", wanted)


def test_what_goes_on_follows_every_method_but_the_oracle() -> None:
    rows = build_rows([("retrain", ""), ("ga", "")], {"repair": {"batch": "3"}}, "lab-tofu", ["repair"])
    assert [[step.method for step in row] for row in rows] == [[], ["repair"], ["retrain"], ["ga", "repair"]]
    assert rows[1][0].params["batch"] == 3


def test_attacks_follow_the_oracle_too_and_leave_its_own_row() -> None:
    rows = build_rows([("retrain", ""), ("ga", "")], {}, "lab-tofu", ["repair", "quantise@nf4"])
    assert [[step.name for step in row] for row in rows] == [
        [],
        ["repair", "quantise@nf4"],
        ["retrain"],
        ["retrain", "quantise@nf4"],
        ["ga", "repair", "quantise@nf4"],
    ]
    assert rows[-1][-1].params == {"kind": "nf4", "group": 0}


def test_an_unknown_variant_of_what_goes_on_is_a_mistake_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"Unknown variant of quantise 'nf5'\. Did you mean 'nf4'\?"):
        build_rows([("ga", "")], {}, "lab-tofu", ["quantise@nf5"])


def test_a_step_has_all_its_parameters() -> None:
    [step] = build_steps([("ga", "")], {"ga": {"lr": "0.5"}}, "lab-nowhere")
    from methods.ga import GradientAscent

    assert step == Step("ga", registry.said_params(GradientAscent, vars(GradientAscent()) | {"lr": 0.5}))


def test_how_training_computes_is_the_users_word_then_the_models() -> None:
    asked = Asked("tofu", ("ga",), model="olmo-2-7b")
    assert resolve_compute(Asked("tofu", ("ga",))) == USUAL
    assert resolve_compute(replace(asked, model="owner/name")) == USUAL
    from bench.assets.known_models import KNOWN

    assert resolve_compute(asked) == Compute(micro=KNOWN["olmo-2-7b"].micro)
    assert resolve_compute(replace(asked, compute=replace(UNSAID, lora=2, micro=3))) == Compute(lora=2, micro=3)


def test_the_lab_takes_no_word_of_how_it_computes() -> None:
    with pytest.raises(UserError, match="--dtype, --micro goes with --model"):
        resolve_compute(Asked("tofu", ("ga",), compute=Compute("float32", micro=2)))


def test_second_runs_are_those_of_methods_alone() -> None:
    found = understand(Asked("tofu", ("msa", "retrain", "npo"), order=1))
    assert [[step.method for step in row] for row in found.rows] == [["msa"], ["npo"]]


def test_understanding_needs_nothing_from_outside() -> None:
    found = understand(Asked("tofu", ("msa",), ("tofu.authors=32",), model="never/fetched", data="/nowhere"))
    assert found.params["authors"] == 32 and [len(row) for row in found.rows] == [0, 1, 1]
    with collecting() as problems:
        assert understand(Asked("nosuch", ("msa",))).task is None
        assert problems.pop().startswith("Unknown task 'nosuch'")
