"""The contracts: what a component has without writing it, and the small types that carry numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from bench.core.contracts import AnswerLogProbs, Method, Metric, Task, TaskInputs, steps_kept, too_small
from bench.core.errors import UserError
from bench.core.record import Score
from bench.core.types import Checkpoint


@dataclass(frozen=True)
class Least(Method):
    """A method that writes nothing but its parameters."""

    steps: int = 3
    batch: int = 0


def test_answers_are_summed_and_averaged_over_their_own_tokens() -> None:
    """-1 and -2 of two tokens, -4 of one; a row without an answer has the sum and the mean 0, and no NaN."""
    mask = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    found = AnswerLogProbs(torch.tensor([[-1.0, -2, 0], [0, 0, -4], [0, 0, 0]]), mask)
    assert (found.sums.tolist(), found.means.tolist()) == ([-3, -4, 0], [-1.5, -4, 0])


@pytest.mark.parametrize(
    ("steps", "points", "kept"),
    [(10, 2, [5, 10]), (10, 1, [10]), (7, 3, [2, 5, 7]), (2, 5, [1, 2]), (1, 3, [1]), (280, 10, [*range(28, 281, 28)])],
)
def test_checkpoints_are_kept_at_equal_distances_and_the_last_one_always(
    steps: int, points: int, kept: list[int]
) -> None:
    """7 / 3 = 2.33 and 4.67 are rounded; more points than steps are as many as there are steps."""
    assert steps_kept(steps, points) == kept


def test_each_parameter_below_its_least_value_is_a_sentence() -> None:
    assert too_small("least", Least(), {"steps": 3, "batch": 0}) == []
    assert too_small("least", Least(), {"batch": 1, "steps": 4}) == [
        "least.batch must be at least 1, not 0.",
        "least.steps must be at least 4, not 3.",
    ]


def test_a_method_has_a_default_for_all_but_its_own_work() -> None:
    """One checkpoint, no training, no adapters, nothing needed, no presets where there is no settings file."""
    made = Least()
    assert (made.checkpoints(), made.rows(5, 5), made.adapters(), made.problems(), made.named()) == (1, 0, 0, [], "")
    assert (Least.needs, Least.version, Least.variants, Least.in_all, Least.together) == (frozenset(), 1, (), True, 1)
    assert Least.presets == {} and Least.space == {}
    with pytest.raises(NotImplementedError):
        made.unlearn(None, None)  # type: ignore[arg-type]


def test_a_task_offers_history_and_retain_rows_and_has_no_suite_unless_it_says_so() -> None:
    setting = TaskInputs("lab")
    assert Task().offers(setting) == {"history", "retain"} and Task().check(setting) == [] == Task().problems()
    with pytest.raises(UserError, match="no suite to evaluate a model on"):
        Task().suite("data")


def test_the_model_as_it_was_given_is_the_first_checkpoint() -> None:
    given = TaskInputs("real", "/m", "hash", dtype="bfloat16").before
    assert given == Checkpoint("/m", "hash", dtype="bfloat16", label="history-0")


def test_a_metrics_entry_in_a_record_is_what_decides_how_it_is_read() -> None:
    metric = Metric("m", lambda own, others: Score(0, 1), 0.0, 3, True, "nats", description="left out")
    assert metric.to_json() == {"version": 3, "goal": 0.0, "unit": "nats", "needs_oracle": True}
