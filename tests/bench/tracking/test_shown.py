"""Names, settings, summaries and examples of runs, as every tracker shows them."""

from __future__ import annotations

import math

from bench.core.record import RunSpec, Step
from bench.core.types import Responses
from bench.tracking.shown import examples_of, flat, group_of, name_of, numbers_of, settings_of, summary_of
from tests.tracked import SCORES, made


def test_groups_by_name() -> None:
    assert {name: group_of(name) for name in SCORES} == {name: group for name, (_, _, group) in SCORES.items()}
    # The first beginning that fits: a KL on forget answers is a distance.
    assert group_of("kl_forget_floors") == "distance"
    assert group_of("wf_Q_A_Prob_normalised") == "world"


def test_settings_are_named_as_set_names_them_and_a_second_step_of_a_method_by_its_number() -> None:
    steps = tuple(Step(method, {"lr": lr}) for method, lr in (("npo", 0.1), ("msa", 0.2), ("npo", 0.3)))
    settings = flat("", settings_of(RunSpec("tofu", {"authors": 20}, "lab", "lab", steps, 3)), ".")
    params = {name: value for name, value in settings.items() if name.startswith("params.")}
    assert params == {"params.npo.lr": 0.1, "params.msa.lr": 0.2, "params.npo-2.lr": 0.3, "params.tofu.authors": 20}
    assert (settings["seed"], settings["method"]) == (3, "npo+msa+npo")


def test_a_stage_is_named_as_one() -> None:
    spec = made("npo", seed=2).spec
    assert (name_of(spec), name_of(spec, "oracle-1")) == ("npo-tofu-2", "stage-oracle-1-tofu-2")


def test_rows_of_the_table_are_shared_among_the_probes() -> None:
    # Three probes with texts: ceil(50 / 3) = 17 rows each, 51 in all, cut to 50.
    rows = {probe: {str(i): {"text": probe} for i in range(60)} for probe in ("a", "b", "c")}
    counted = [row[0] for row in examples_of({"method": Responses("hash", rows)})]
    assert [counted.count(probe) for probe in ("a", "b", "c")] == [17, 17, 16]
    assert examples_of({"method": Responses("hash", rows).publishable()}) == examples_of({}) == []


def test_what_was_no_number_is_left_out() -> None:
    row = {"step": 2, "loss": None, "lr": math.nan, "grad_norm": math.inf, "loss_npo": 0.5}
    assert numbers_of("train/ga", row) == {"train/ga/step": 2, "train/ga/loss_npo": 0.5}  # type: ignore[arg-type]


def test_without_an_oracle_there_is_no_gap() -> None:
    summary = summary_of(made("npo"))
    assert "gap/kl_forget" in summary and "gap/retain_accuracy" not in summary
    assert summary["retain/retain_accuracy"] == 0.96
