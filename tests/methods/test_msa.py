"""MSA: the four terms on real files, the choice of theta_0, and how few retain rows theta_2 sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.conformance import Place, tiny_place
from bench.context import Ledger, for_method
from bench.contracts import Recipe, Stream
from bench.errors import Unmet
from bench.types import Checkpoint, Example, History, Moment
from methods.msa import MSA, pick
from methods.task_arithmetic import TaskArithmetic


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return tiny_place(tmp_path_factory.mktemp("msa"))


@dataclass
class Watched:
    """A method's own context that remembers what was trained and summed."""

    inner: Any
    trained: dict[str, tuple[Checkpoint, list[Example], Checkpoint]] = field(default_factory=dict)
    """Label -> start, rows, result."""
    terms: list[tuple[float, Checkpoint]] = field(default_factory=list)

    @property
    def seed(self) -> int:
        return int(self.inner.seed)

    def train(self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str) -> Checkpoint:
        made: Checkpoint = self.inner.train(start, streams, recipe, label)
        self.trained[label] = (start, [row for stream in streams for row in stream.examples], made)
        return made

    def combine(self, terms: Sequence[tuple[float, Checkpoint]], label: str) -> Checkpoint:
        self.terms = list(terms)
        made: Checkpoint = self.inner.combine(terms, label)
        return made


def watched(place: Place, store: str) -> Any:
    return Watched(for_method(place.work(store), Ledger(set(), set())))


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(checkpoint.path) / "model.safetensors"))


def test_the_result_is_the_papers_formula(place: Place) -> None:
    """theta_D - alpha (theta_1 - theta_0) + beta (theta_2 - theta_0), in float64 from the files, to float32 rounding."""
    ctx = watched(place, "formula")
    result = MSA(alpha=0.75, beta=0.25, steps=4, lr=5e-3).unlearn(place.request, ctx)
    assert place.request.history is not None
    before = place.request.history.last.checkpoint
    (start_1, rows_1, one), (start_2, _, two) = ctx.trained["theta_1"], ctx.trained["theta_2"]
    assert start_1 == start_2 == before, "both vectors begin at theta_0"
    assert sorted(row.id for row in rows_1) == sorted(row.id for row in place.request.forget)
    made = weights(result)
    for name, zero in weights(before).items():
        d, a, b = (weights(each)[name].double() for each in (place.request.target, one, two))
        expected = d - 0.75 * (a - zero.double()) + 0.25 * (b - zero.double())
        torch.testing.assert_close(made[name].double(), expected, rtol=1e-6, atol=1e-6)
    assert not torch.equal(made["model.norm.weight"], weights(place.request.target)["model.norm.weight"])


def test_theta_2_never_sees_more_rows_than_there_are_to_forget(place: Place) -> None:
    """8 rows to forget, 12 questions and 2 passages to retain: 8 * 12 / 14 = 6.9, so 7 and 1. On all it were the oracle."""
    ctx = watched(place, "few")
    MSA(beta=0.5, steps=2).unlearn(place.request, ctx)
    rows = ctx.trained["theta_2"][1]
    assert Counter(row.payload["template"] for row in rows) == {"qa": 7, "text": 1}
    assert len(rows) == len(place.request.forget)
    assert {row.id for row in rows} <= {row.id for row in place.request.retain}
    assert len({row.id for row in rows}) == len(rows)


def test_without_beta_no_retain_row_is_touched(place: Place) -> None:
    ctx = watched(place, "none")
    MSA(beta=0.0, steps=2).unlearn(replace(place.request, retain=()), ctx)
    assert set(ctx.trained) == {"theta_1"}
    assert [coefficient for coefficient, _ in ctx.terms] == [1.0, -0.9, 0.9]


def test_with_the_target_as_theta_0_it_is_task_arithmetic(place: Place) -> None:
    itself = History((Moment(place.request.target, 6, 0, "pretraining"),))
    shared = {"alpha": 0.8, "steps": 3, "lr": 5e-3}
    ctx = watched(place, "limit")
    msa = MSA(**shared).unlearn(replace(place.request, history=itself), ctx)
    negated = TaskArithmetic(**shared).unlearn(place.request, ctx)
    assert ctx.trained["theta_1"][2].hash == ctx.trained["theta_F"][2].hash, "the same vector"
    theirs = weights(negated)
    for name, tensor in weights(msa).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-6)


def test_alpha_0_gives_the_target_back(place: Place) -> None:
    result = MSA(alpha=0.0, steps=2).unlearn(place.request, watched(place, "zero"))
    target = weights(place.request.target)
    assert all(torch.equal(tensor, target[name]) for name, tensor in weights(result).items())


@pytest.mark.parametrize(("age", "step"), [(1.0, 100), (0.0, 0), (0.5, 40), (0.6, 70), (0.9, 100)])
def test_age_is_a_share_of_the_steps_before_exposure(age: float, step: int) -> None:
    """Moments at 0, 40, 70, 100: .5 lies .1 from .4 and .2 from .7; .6 lies .2 from .4 and .1 from .7."""
    moments = [Moment(Checkpoint(f"at-{at}", f"{at}"), at, 0, "pretraining") for at in (0, 40, 70, 100)]
    assert pick(History(tuple(moments)), age).hash == str(step)


def test_a_history_of_one_released_model(place: Place) -> None:
    released = Moment(Checkpoint("m", "m"), 0, 0, "released")
    assert pick(History((released,)), 1.0).hash == "m"


def test_without_a_history_the_need_is_unmet(place: Place) -> None:
    with pytest.raises(Unmet, match="before the forget set was seen"):
        MSA().unlearn(replace(place.request, history=None), watched(place, "unmet"))


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert MSA().problems() == []
    assert MSA(alpha=-1.0, age=2.0).problems() == [
        "msa.alpha must not be negative.",
        "msa.age is a share between 0 and 1, not 2.0.",
    ]
