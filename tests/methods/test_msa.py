"""MSA: the formula of each variant on real files, the choice of theta_0, and how few retain rows theta_2 sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.conformance import TinyScenario, tiny_place
from bench.core.contracts import Recipe, Stream, Term
from bench.core.errors import Unmet, UserError
from bench.core.types import Checkpoint, Example, History, Moment
from bench.runs.method_context import Ledger, MethodContext
from methods.msa import MSA
from methods.task_arithmetic import TaskArithmetic

MOVED: dict[str, Any] = {"steps": 4, "lr": 5e-3}
"""Enough training for vectors that no rounding hides."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("msa"))


@dataclass(frozen=True)
class Training:
    """A training run that was asked for."""

    start: Checkpoint
    rows: list[Example]
    recipe: Recipe
    batches: list[int]
    made: Checkpoint


@dataclass
class Watched:
    """A method's own context that remembers what was trained, estimated and summed."""

    inner: Any
    trained: dict[str, Training] = field(default_factory=dict)
    """By label."""
    estimates: dict[str, Checkpoint] = field(default_factory=dict)
    """Hash of the checkpoint that influence was estimated at -> the weights."""
    seen: set[str] = field(default_factory=set)
    """Retain rows that an estimate saw."""
    control: Checkpoint | None = None
    terms: list[float] = field(default_factory=list)
    weights: Checkpoint | None = None
    """Of the last sum."""
    notes: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def train(self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str) -> Checkpoint:
        made: Checkpoint = self.inner.train(start, streams, recipe, label)
        rows = [row for stream in streams for row in stream.examples]
        self.trained[label] = Training(start, rows, recipe, [stream.batch for stream in streams], made)
        return made

    def combine(self, terms: Sequence[Any], label: str, weights: Checkpoint | None = None) -> Checkpoint:
        self.terms, self.weights = [Term(*term).coefficient for term in terms], weights
        made: Checkpoint = self.inner.combine(terms, label, weights)
        return made

    def scrambled(self, before: Checkpoint, tuned: Checkpoint, kind: str) -> Checkpoint:
        self.control = self.inner.scrambled(before, tuned, kind)
        assert self.control is not None
        return self.control

    def influence(
        self, checkpoint: Checkpoint, forget: Sequence[Example], retain: Sequence[Example], kind: str
    ) -> Checkpoint:
        made: Checkpoint = self.inner.influence(checkpoint, forget, retain, kind)
        self.estimates[checkpoint.hash] = made
        self.seen |= {row.id for row in retain}
        return made

    def note(self, **facts: Any) -> None:
        self.notes |= facts


def watched(place: TinyScenario, store: str) -> Any:
    return Watched(MethodContext(place.work(store), Ledger(set(), set())))


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(checkpoint.path) / "model.safetensors"))


def theta_0(place: TinyScenario) -> Checkpoint:
    assert place.request.history is not None
    return place.request.history.last.checkpoint


def check_sum(
    result: Checkpoint,
    target: Checkpoint,
    before: Checkpoint,
    one: Checkpoint,
    alpha: float,
    *,
    two: Checkpoint | None = None,
    beta: float = 0.0,
    scale: Checkpoint | None = None,
) -> None:
    """theta_D - alpha w (theta_1 - theta_0) + beta (theta_2 - theta_0), in float64 from the files, to float32 rounding."""
    made, w = weights(result), weights(scale) if scale else {}
    for name, tensor in weights(before).items():
        zero, d, a = tensor.double(), weights(target)[name].double(), weights(one)[name].double()
        vector = (a - zero) * (w[name].double() if scale else 1.0)
        retain = beta * (weights(two)[name].double() - zero) if two else 0.0
        torch.testing.assert_close(made[name].double(), d - alpha * vector + retain, rtol=1e-6, atol=1e-6)
    assert not torch.equal(made["model.norm.weight"], weights(target)["model.norm.weight"])


def test_the_result_is_the_papers_formula(place: TinyScenario) -> None:
    ctx = watched(place, "formula")
    result = MSA(alpha=0.75, beta=0.25, **MOVED).unlearn(place.request, ctx)
    one, two = ctx.trained["theta_1"], ctx.trained["theta_2"]
    assert one.start == two.start == theta_0(place), "both vectors begin at theta_0"
    assert sorted(row.id for row in one.rows) == sorted(row.id for row in place.request.forget)
    check_sum(result, place.request.target, theta_0(place), one.made, 0.75, two=two.made, beta=0.25)
    assert ctx.notes == {}, "there is nothing to say of the paper's own recipe"


def test_theta_2_never_sees_more_rows_than_there_are_to_forget(place: TinyScenario) -> None:
    """8 rows to forget, 12 questions and 2 passages to retain: 8 * 12 / 14 = 6.9, so 7 and 1. On all it were the oracle."""
    ctx = watched(place, "few")
    MSA(beta=0.5, steps=2).unlearn(place.request, ctx)
    rows = ctx.trained["theta_2"].rows
    assert Counter(row.payload["template"] for row in rows) == {"qa": 7, "text": 1}
    assert len(rows) == len(place.request.forget)
    assert {row.id for row in rows} <= {row.id for row in place.request.retain}
    assert len({row.id for row in rows}) == len(rows)


def test_without_beta_no_retain_row_is_touched(place: TinyScenario) -> None:
    ctx = watched(place, "none")
    MSA(beta=0.0, steps=2).unlearn(replace(place.request, retain=()), ctx)
    assert set(ctx.trained) == {"theta_1"}
    assert ctx.terms == [1.0, -0.9, 0.9]


def test_with_the_target_as_theta_0_it_is_task_arithmetic(place: TinyScenario) -> None:
    itself = History((Moment(place.request.target, 6, 0, "pretraining"),))
    ctx = watched(place, "limit")
    msa = MSA(alpha=0.8, **MOVED).unlearn(replace(place.request, history=itself), ctx)
    negated = TaskArithmetic(alpha=0.8, **MOVED).unlearn(place.request, ctx)
    assert ctx.trained["theta_1"].made.hash == ctx.trained["theta_F"].made.hash, "the same vector"
    theirs = weights(negated)
    for name, tensor in weights(msa).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-6)


def test_alpha_0_gives_the_target_back(place: TinyScenario) -> None:
    result = MSA(alpha=0.0, steps=2).unlearn(place.request, watched(place, "zero"))
    target = weights(place.request.target)
    assert all(torch.equal(tensor, target[name]) for name, tensor in weights(result).items())


# --- theta_0


@pytest.mark.parametrize(
    ("before", "which"),
    [("last-before-exposure", 1), ("age=1", 1), ("age=0", 0), ("age=0.5", 1), ("step=0", 0), ("history-0", 0)],
)
def test_theta_0_is_the_checkpoint_that_the_rule_names(place: TinyScenario, before: str, which: int) -> None:
    """Moments at step 0 and 6: half of the way lies as near to either, and the later one is taken."""
    ctx = watched(place, "before")
    result = MSA(alpha=0.5, before=before, steps=1, lr=5e-3).unlearn(place.request, ctx)
    assert place.request.history is not None
    chosen = place.request.history.moments[which].checkpoint
    assert ctx.trained["theta_1"].start == chosen
    check_sum(result, place.request.target, chosen, ctx.trained["theta_1"].made, 0.5)


def test_a_checkpoint_that_is_not_there_is_a_sentence(place: TinyScenario) -> None:
    with pytest.raises(UserError, match="step=5: the history has no such checkpoint"):
        MSA(before="step=5", steps=1).unlearn(place.request, watched(place, "gone"))


def test_without_a_history_the_need_is_unmet(place: TinyScenario) -> None:
    with pytest.raises(Unmet, match="before the forget set was seen"):
        MSA().unlearn(replace(place.request, history=None), watched(place, "unmet"))


# --- how the vectors are trained


def test_until_is_a_bound_on_theta_1_at_one_rate(place: TinyScenario) -> None:
    """A pass over the questions is a step of at least all 8; a loss of 100 nats is low enough after the first."""
    ctx = watched(place, "until")
    questions = tuple(row for row in place.request.forget if row.payload["template"] == "qa")
    request = replace(place.request, forget=questions)
    MSA(until=100.0, steps=5, lr=5e-3).unlearn(request, ctx)
    assert ctx.trained["theta_1"].recipe == Recipe(5, 5e-3, schedule="constant", until=100.0)
    MSA(steps=5, lr=5e-3).unlearn(request, ctx)
    assert ctx.trained["theta_1"].recipe == Recipe(5, 5e-3), "without a bound it is the recipe that it was"
    work = place.work("until")
    made = [
        work.train_node(theta_0(place), [Stream(questions, 32, stream_loss())], recipe, "theta_1").info["meta"]["steps"]
        for recipe in (Recipe(5, 5e-3, schedule="constant", until=100.0), Recipe(5, 5e-3))
    ]
    assert made == [1, 5]


def stream_loss() -> Any:
    from bench.engines.training.losses import descent

    return descent()


def test_low_rank_vectors_are_merged(place: TinyScenario) -> None:
    ctx = watched(place, "lora")
    result = MSA(alpha=0.75, beta=0.5, lora=2, **MOVED).unlearn(place.request, ctx)
    one, two = ctx.trained["theta_1"], ctx.trained["theta_2"]
    assert (one.recipe.lora, two.recipe.lora) == (2, 2)
    made, target = weights(result), weights(place.request.target)
    norm = "model.norm.weight"
    torch.testing.assert_close(made[norm], target[norm], rtol=0, atol=1e-6)  # no adapter, so no vector
    before = weights(theta_0(place))
    for name in (name for name in made if "_proj." in name):
        vector = 0.75 * (weights(one.made)[name] - before[name]) - 0.5 * (weights(two.made)[name] - before[name])
        torch.testing.assert_close(made[name], target[name] - vector, rtol=1e-6, atol=1e-6)
        assert torch.linalg.matrix_rank(target[name] - made[name], atol=1e-6) <= 4, "two ranks of two"


def test_the_official_recipe_is_the_scripts(place: TinyScenario) -> None:
    """6 questions: ceil(6 / 4) = 2 steps a pass, 20 in ten; the first pass warms up. Rate 2e-5, linear, decay .01."""
    ctx = watched(place, "official")
    questions = tuple(row for row in place.request.forget if row.payload["template"] == "qa")
    MSA(recipe="official", lr=2e-5, beta=0.5).unlearn(replace(place.request, forget=questions), ctx)
    official = Recipe(20, 2e-5, 0.1, "linear", 0.01, 0.999, "bfloat16")
    assert ctx.trained["theta_1"].recipe == ctx.trained["theta_2"].recipe == official
    assert ctx.trained["theta_1 in float32"].recipe == replace(official, dtype="float32")
    assert ctx.trained["theta_1"].batches == [4]
    assert ctx.trained["theta_1"].rows == ctx.trained["theta_1 in float32"].rows


def test_the_official_recipes_sum_is_of_the_rounded_weights(place: TinyScenario) -> None:
    """theta_D - alpha (theta_1 - bf16(theta_0)) + beta (theta_2 - bf16(theta_0)): both vectors begin at what was rounded."""
    ctx = watched(place, "official")
    result = MSA(recipe="official", alpha=0.75, beta=0.25, lr=5e-3).unlearn(place.request, ctx)
    rounded = ctx.inner.cast(theta_0(place), "bfloat16")
    for name, tensor in weights(theta_0(place)).items():
        assert torch.equal(weights(rounded)[name], tensor.bfloat16())
    one, two = ctx.trained["theta_1"].made, ctx.trained["theta_2"].made
    assert {tensor.dtype for tensor in weights(one).values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in weights(result).values()} == {torch.float32}
    check_sum(result, place.request.target, rounded, one, 0.75, two=two, beta=0.25)
    said = ctx.notes["rounding"]
    assert 0 < said["unchanged"] < 1 and 0 < said["relative_error"] < 1 and 0.5 < said["cosine"] < 1


def test_theta_0s_own_rounding_cancels(place: TinyScenario) -> None:
    """At a rate that bfloat16 can't follow, theta_1 is theta_0 rounded, and the vector is nothing: not the rounding."""
    ctx = watched(place, "cancels")
    result = MSA(recipe="official", alpha=1.0, lr=1e-8).unlearn(place.request, ctx)
    target, exact = weights(place.request.target), weights(theta_0(place))
    lost = max(float((tensor - tensor.bfloat16().float()).abs().max()) for tensor in exact.values())
    moved = max(float((tensor - target[name]).abs().max()) for name, tensor in weights(result).items())
    assert moved < 1e-6 < 1e-4 < lost
    assert ctx.notes["rounding"]["unchanged"] > 0.99 > ctx.notes["rounding"]["unchanged_in_float32"]


def test_the_estimate_of_rows_knows_the_recipe() -> None:
    """100 rows: 120 steps of 32; official 10 * 25 steps of 4, of theta_1 twice; weights add a pass at 4 places."""
    assert MSA().rows(100, 400) == 120 * 32
    assert MSA(beta=0.5).rows(100, 400) == 2 * 120 * 32
    assert MSA(recipe="official").rows(100, 400) == 2 * 250 * 4
    assert MSA(recipe="official", beta=0.5).rows(100, 400) == 3 * 250 * 4
    assert MSA(weights="fisher").rows(100, 400) == 120 * 32 + 400


# --- influence weights


@pytest.mark.parametrize("kind", ["fisher", "gradient"])
@pytest.mark.parametrize("beta", [0.0, 0.25])
def test_the_forget_vector_is_weighted_entry_by_entry(place: TinyScenario, kind: str, beta: float) -> None:
    """The weights are the mean of the estimates at theta_0 and at theta_D; the retain vector has none."""
    ctx = watched(place, f"weighted-{kind}-{beta}")
    result = MSA(alpha=0.75, beta=beta, weights=kind, **MOVED).unlearn(place.request, ctx)
    first, last = (weights(ctx.estimates[c.hash]) for c in (theta_0(place), place.request.target))
    used = weights(ctx.weights)
    for name, tensor in used.items():
        torch.testing.assert_close(tensor, 0.5 * first[name] + 0.5 * last[name])
    assert used["model.norm.weight"].std() > 0.01, "they do differ"
    two = ctx.trained["theta_2"].made if beta else None
    one = ctx.trained["theta_1"].made
    check_sum(result, place.request.target, theta_0(place), one, 0.75, two=two, beta=beta, scale=ctx.weights)


def test_the_estimates_see_no_more_retain_rows_than_theta_2(place: TinyScenario) -> None:
    ctx = watched(place, "sample")
    MSA(beta=0.25, weights="fisher", steps=1).unlearn(place.request, ctx)
    assert ctx.seen == {row.id for row in ctx.trained["theta_2"].rows}
    assert len(ctx.seen) == len(place.request.forget)


def test_what_the_weights_are_is_noted(place: TinyScenario) -> None:
    ctx = watched(place, "noted")
    MSA(before="age=0", weights="fisher", steps=1).unlearn(place.request, ctx)
    said = ctx.notes["influence"]
    assert 0 < said["mean"] < 2 and 0 <= said["quantiles"]["0.01"] < said["quantiles"]["0.99"] <= 2
    for name in ("rank_correlation_with_target", "rank_correlation_with_last"):
        assert 0 < said[name] < 1, "of the estimate at an early theta_0 with a later one"
    ctx = watched(place, "noted")
    MSA(weights="fisher", steps=1).unlearn(place.request, ctx)
    assert ctx.notes["influence"]["rank_correlation_with_last"] == 1, "theta_0 is the last checkpoint itself"


def test_shuffled_weights_are_the_same_ones_elsewhere(place: TinyScenario) -> None:
    ctx = watched(place, "shuffled-weights")
    MSA(weights="fisher", **MOVED).unlearn(place.request, ctx)
    own = weights(ctx.weights)
    result = MSA(alpha=0.75, weights="shuffled-fisher", **MOVED).unlearn(place.request, ctx)
    used = weights(ctx.weights)
    for name, tensor in used.items():
        assert torch.equal(tensor.flatten().sort().values, own[name].flatten().sort().values)
    assert sum(not torch.equal(tensor, own[name]) for name, tensor in used.items()) == len(own)
    one = ctx.trained["theta_1"].made
    check_sum(result, place.request.target, theta_0(place), one, 0.75, scale=ctx.weights)


# --- controls of the vector


@pytest.mark.parametrize("kind", ["random", "shuffled"])
def test_a_control_keeps_each_tensors_length(place: TinyScenario, kind: str) -> None:
    ctx = watched(place, f"control-{kind}")
    result = MSA(alpha=0.75, beta=0.25, vector=kind, **MOVED).unlearn(place.request, ctx)
    before, one, two = weights(theta_0(place)), ctx.trained["theta_1"].made, ctx.trained["theta_2"].made
    for name, tensor in weights(ctx.control).items():
        control, vector = (tensor - before[name]).double(), (weights(one)[name] - before[name]).double()
        assert float(control.norm()) == pytest.approx(float(vector.norm()), rel=1e-3)
        same = [part.flatten().sort().values for part in (control, vector)]
        gap = float((same[0] - same[1]).abs().max())
        assert (gap < 1e-6) == (kind == "shuffled"), "shuffled entries are the vector's own, random ones are not"
        assert abs(float(torch.cosine_similarity(control.flatten(), vector.flatten(), dim=0))) < 0.9
    check_sum(result, place.request.target, theta_0(place), ctx.control, 0.75, two=two, beta=0.25)


@pytest.mark.parametrize("recipe", ["gentle", "official"])
def test_others_are_learnt_from_as_many_retain_rows(place: TinyScenario, recipe: str) -> None:
    ctx = watched(place, f"others-{recipe}")
    MSA(vector="others", recipe=recipe, **MOVED).unlearn(place.request, ctx)
    for label in ctx.trained:
        rows = {row.id for row in ctx.trained[label].rows}
        assert rows <= {row.id for row in place.request.retain} and len(rows) == len(place.request.forget)
    assert set(ctx.trained) == {"theta_1"} | ({"theta_1 in float32"} if recipe == "official" else set())
    if recipe == "official":
        assert ctx.notes["rounding"]["cosine"] > 0.5, "the same vector in float32, not another one"


def test_others_follow_the_formula(place: TinyScenario) -> None:
    ctx = watched(place, "others")
    result = MSA(alpha=0.75, vector="others", **MOVED).unlearn(place.request, ctx)
    check_sum(result, place.request.target, theta_0(place), ctx.trained["theta_1"].made, 0.75)


# --- the difference of two vectors


@pytest.mark.parametrize("recipe", ["gentle", "official"])
def test_the_difference_is_of_forget_set_and_sample_to_the_sample_alone(place: TinyScenario, recipe: str) -> None:
    """theta_D - alpha (theta_1 - theta_2), from the files; both models are trained alike, on the same sample."""
    ctx = watched(place, f"difference-{recipe}")
    result = MSA(alpha=0.75, vector="difference", recipe=recipe, **MOVED).unlearn(place.request, ctx)
    one, two = ctx.trained["theta_1"], ctx.trained["theta_2"]
    assert one.recipe == two.recipe and one.batches[: len(two.batches)] == two.batches
    sample = [row.id for row in two.rows]
    assert [row.id for row in one.rows[: len(sample)]] == sample and len(sample) == len(place.request.forget)
    assert {row.id for row in one.rows[len(sample) :]} == {row.id for row in place.request.forget}
    check_sum(result, place.request.target, two.made, one.made, 0.75)


def test_a_difference_without_forget_rows_of_its_own_changes_little(place: TinyScenario) -> None:
    """Where the forget set is the sample itself, theta_1 learns what theta_2 learns, and less is subtracted than by MSA."""
    questions = tuple(row for row in place.request.retain if row.payload["template"] == "qa")
    request = replace(place.request, forget=questions, retain=questions)
    moved = []
    for vector in ("difference", "forget"):
        made = MSA(vector=vector, steps=20, lr=5e-3).unlearn(request, watched(place, f"itself-{vector}"))
        target = weights(request.target)
        moved.append(sum(float((tensor - target[name]).square().sum()) for name, tensor in weights(made).items()))
    assert moved[0] < 0.25 * moved[1]


def test_a_difference_is_weighted_entry_by_entry(place: TinyScenario) -> None:
    ctx = watched(place, "difference-weighted")
    result = MSA(alpha=0.75, vector="difference", weights="fisher", **MOVED).unlearn(place.request, ctx)
    one, two = ctx.trained["theta_1"].made, ctx.trained["theta_2"].made
    check_sum(result, place.request.target, two, one, 0.75, scale=ctx.weights)


def test_a_difference_has_one_coefficient() -> None:
    assert MSA(vector="difference", beta=0.25, until=1.0).problems() == [
        "msa.vector=difference has one coefficient, alpha: leave msa.beta at 0.",
        "msa.vector=difference trains both models for equal steps: leave msa.until at 0.",
    ]


def test_a_difference_is_estimated_as_three_vectors() -> None:
    """theta_1 on 32 rows of each side a step, theta_2 on 32: 3 * 120 * 32. The official one trains theta_1 twice."""
    assert MSA(vector="difference").rows(100, 400) == 3 * 120 * 32
    assert MSA(vector="difference", recipe="official").rows(100, 400) == 5 * 250 * 4


# --- settings


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert MSA().problems() == []
    assert MSA(alpha=-1.0, until=-0.1, lora=-2).problems() == [
        "msa.alpha must not be negative.",
        "msa.until must not be negative.",
        "msa.lora must not be negative.",
    ]
    assert MSA(weights="fischer", vector="randm", recipe="offical").problems() == [
        "Unknown value of msa.recipe 'offical'. Did you mean 'official'? Known: gentle, official.",
        "Unknown value of msa.weights 'fischer'. Did you mean 'fisher'? Known: fisher, gradient, shuffled-fisher, uniform.",
        "Unknown value of msa.vector 'randm'. Did you mean 'random'? Known: difference, forget, others,"
        " random, shuffled.",
    ]


@pytest.mark.parametrize("rule", ["age=2", "age", "age=-1", "tokens=many", "step=1.5", "foo=1", "", "a b"])
def test_a_rule_that_chooses_nothing_is_refused(rule: str) -> None:
    [sentence] = MSA(before=rule).problems()
    assert sentence.startswith(f"msa.before: '{rule}' chooses no checkpoint; write last-before-exposure, tokens=500B, ")


@pytest.mark.parametrize("rule", ["age=0.5", "tokens=500B", "step=300", "stage1-step119000-tokens500B", "checkpoint-9"])
def test_a_rule_that_can_choose_is_no_mistake(rule: str) -> None:
    assert MSA(before=rule).problems() == []
