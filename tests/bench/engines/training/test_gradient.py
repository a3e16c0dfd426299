"""What gradient methods share: both sides' weights, KL on retain rows, sharpness-aware minimisation, what a run's key says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from bench.assets.shapes import Shape
from bench.cli.listing import describe_method
from bench.conformance import TinyScenario, tiny_place
from bench.core import registry
from bench.core.compute import Compute
from bench.core.contracts import Loss, Method, Recipe, Stream, TaskInputs
from bench.core.machine import Machine
from bench.core.record import RunSpec, Step
from bench.core.types import Checkpoint
from bench.engines.coding import Texts
from bench.engines.training.describe import describe_training
from bench.engines.training.gradient import GradientMethod
from bench.engines.training.losses import KeepDistribution, NextToken
from bench.engines.training.trainer import last_checkpoint, train
from bench.lab.model import small_llama
from bench.runs.asked import build_steps
from bench.runs.estimate import estimate
from bench.runs.method_context import Ledger, MethodContext
from bench.runs.store import Store
from methods.ga import GradientAscent
from methods.npo import NPO
from methods.tnpo import TNPO
from tests.tiny import bits, llama, qa, tokenizer

SHAPE = Shape(hidden=4, layers=2, inner=8, vocabulary=10, heads=2, groups=1, parameters=1000)
LATER = {"forget_weight": 2.0, "retain_loss": "kl", "sharpness": 0.05}
"""Parameters that came later, each at another value than its default."""


@dataclass
class Asked:
    """A context that trains nothing and remembers what it was asked to train."""

    seed: int = 0
    streams: Sequence[Stream] = ()
    trained: list[Recipe] = field(default_factory=list)

    def train(self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str) -> Checkpoint:
        """Remember it."""
        self.streams = streams
        self.trained.append(recipe)
        return start


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("gradient"))


def streams_of(place: TinyScenario, method: Method) -> Sequence[Stream]:
    asked = Asked()
    method.unlearn(place.request, asked)  # type: ignore[arg-type]
    return asked.streams


def curve(place: TinyScenario, name: str, **params: Any) -> list[float]:
    """The losses of NPO's first steps over all rows."""
    work = place.work(name)
    method = NPO(batch=12, text_batch=2, lr=5e-3, **params)
    method.unlearn(place.request, MethodContext(work, Ledger(set(), set())))
    (node,) = [node for node in work.nodes.values() if node.info["fields"]["kind"] == "train"]
    return [point["loss"] for point in node.info["meta"]["curve"]]


# Both sides


def test_the_weights_stand_at_their_sides(place: TinyScenario) -> None:
    """Passages and questions of the forget set, then of the retain set."""
    streams = streams_of(place, NPO(forget_weight=0.125, retain_weight=3.0))
    assert [stream.weight for stream in streams] == [0.125, 0.125, 3.0, 3.0]
    assert [stream.examples[0].id.split("-")[0] for stream in streams] == ["forget", "forget", "retain", "retain"]
    alone = streams_of(place, NPO(retain_weight=0.0))
    assert len(alone) == 2 and all(stream.examples[0].id.startswith("forget") for stream in alone)


def test_the_first_step_is_the_weighted_sum(place: TinyScenario) -> None:
    """F + R, F alone and 3 F + 2 R, of one step over all rows each; F = 2 * 20 ln 2, one stream of passages, one of questions."""
    both, forget = curve(place, "both", steps=1)[0], curve(place, "forget", steps=1, retain_weight=0.0)[0]
    assert forget == pytest.approx(2 * 13.862944, abs=1e-4)
    found = curve(place, "weighted", steps=1, forget_weight=3.0, retain_weight=2.0)[0]
    assert found == pytest.approx(3 * forget + 2 * (both - forget), rel=1e-5)


def test_kl_on_retain_rows_begins_at_zero_with_a_gradient_of_zero(place: TinyScenario) -> None:
    """So the first step is the same at any weight, and behind it the divergence counts by its weight."""
    none = curve(place, "kl-0", steps=2, retain_weight=0.0)
    one, two = (curve(place, f"kl-{w}", steps=2, retain_loss="kl", retain_weight=w) for w in (50.0, 100.0))
    assert [one[0], two[0]] == pytest.approx([none[0]] * 2, abs=1e-5)
    assert one[1] > none[1] + 0.1 and two[1] - none[1] == pytest.approx(2 * (one[1] - none[1]), rel=1e-3)


def test_kl_stands_on_the_retain_side_alone(place: TinyScenario) -> None:
    losses = [stream.loss for stream in streams_of(place, NPO(retain_loss="kl"))]
    assert [loss.reference for loss in losses] == ["sums", "sums", "model", "model"]
    assert losses[2:] == [KeepDistribution()] * 2
    assert [stream.loss for stream in streams_of(place, NPO())][2:] == [NextToken()] * 2


def test_sharpness_is_of_the_forget_rows_alone(place: TinyScenario) -> None:
    assert [stream.sharpness for stream in streams_of(place, NPO(sharpness=0.01))] == [0.01, 0.01, 0, 0]


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert NPO(**LATER).problems() == []
    assert NPO(forget_weight=-1.0, sharpness=-0.1).problems() == [
        "npo.forget_weight must not be below 0, but is -1.0.",
        "npo.sharpness must not be below 0, but is -0.1.",
    ]
    (sentence,) = NPO(retain_loss="lk").problems()
    assert "npo.retain_loss" in sentence and "'lk'" in sentence and "kl" in sentence.replace("'lk'", "")


# What a run's key says, and what `plan` says


def test_a_run_does_not_say_later_parameters_at_their_defaults() -> None:
    """So that what ran before they existed keeps its key."""
    (step,) = build_steps([("npo", "")], {}, "lab-tofu")
    assert not set(LATER) & set(step.params) and "retain_weight" in step.params
    assert (step.name, step.method) == ("npo", "npo")


@pytest.mark.parametrize("name", LATER)
def test_a_run_says_each_of_them_anywhere_else(name: str) -> None:
    (step,) = build_steps([("npo", "")], {"npo": {name: str(LATER[name])}}, "lab-tofu")
    assert step.params[name] == LATER[name] and not (set(LATER) - {name}) & set(step.params)


def test_the_names_of_variants_say_what_the_parameters_make() -> None:
    names = [
        build_steps([("npo", variant)], {"npo": sets}, "lab-tofu")[0].name
        for variant, sets in (("sam", {}), ("", {"sharpness": "0.1"}), ("per-token", {"retain_loss": "kl"}))
    ]
    assert names == ["npo@sam", "npo@sam", "npo@per-token+kl"]


def test_sharpness_is_part_of_the_trainings_key_only_where_there_is_some(place: TinyScenario) -> None:
    def described(sharpness: float) -> list[dict[str, Any]]:
        return describe_training(streams_of(place, NPO(sharpness=sharpness)), Recipe(1, 1.0))["streams"]  # type: ignore[no-any-return]

    assert [stream.get("sharpness") for stream in described(0.01)] == [0.01, 0.01, None, None]
    assert not any("sharpness" in stream for stream in described(0.0))


GRADIENT = sorted(
    name
    for name in registry.components("methods")
    if issubclass(registry.load_component("methods", name), GradientMethod)
)


@pytest.mark.parametrize("name", GRADIENT)
def test_every_method_of_the_frame_takes_them_and_has_its_own_name(name: str) -> None:
    kind = registry.load_component("methods", name)
    assert kind.name == name
    (step,) = build_steps([(name, "")], {name: {key: str(value) for key, value in LATER.items()}}, "lab-tofu")
    assert {key: step.params[key] for key in LATER} == LATER


@pytest.mark.parametrize("name", [*GRADIENT, "ga"])
@pytest.mark.parametrize("variant", ["sam", "kl"])
def test_every_gradient_method_has_the_variants_that_they_share(name: str, variant: str) -> None:
    """Their settings hold something, and the name says so; `ga` sees no retain rows."""
    kind = registry.load_component("methods", name)
    params = registry.preset_params(kind, "lab-tofu", variant)
    if (name, variant) == ("ga", "kl"):
        assert params is None
        return
    assert params is not None and f"    preset {variant}: " in describe_method(name)
    made = kind(**params)
    assert made.sharpness == 0.01 if variant == "sam" else made.retain_loss == "kl" and made.retain_weight > 0
    assert variant in registry.name_variant(kind, params, variant).split("+")


def test_ga_takes_a_sharpness_of_which_its_key_says_nothing_at_0(place: TinyScenario) -> None:
    assert GradientAscent(sharpness=-1.0).problems() == ["ga.sharpness must be at least 0, not -1.0."]
    (plain,), (sharp,) = (build_steps([("ga", variant)], {}, "lab-digits") for variant in ("", "sam"))
    assert (sharp.name, sharp.params["sharpness"]) == ("ga@sam", 0.01) and "sharpness" not in plain.params
    assert [stream.sharpness for stream in streams_of(place, GradientAscent(sharpness=0.01))] == [0.01, 0.01]
    assert GradientAscent(steps=10, batch=4, sharpness=0.01).rows(30, 100) == 80
    assert GradientAscent(sharpness=0.01).holds_twice() and not GradientAscent().holds_twice()


@pytest.mark.parametrize(
    ("params", "beside"),
    [
        ({}, False),
        ({"retain_loss": "kl"}, True),
        ({"retain_loss": "kl", "retain_weight": 0.0}, False),
    ],
)
def test_plan_counts_the_target_where_it_is_held(params: dict[str, Any], beside: bool, tmp_path: Path) -> None:
    """Another copy of the weights, 4 bytes a parameter; with adapters none."""
    assert NPO(**params).holds_target() is beside
    outline = registry.load_task("tofu", "lab")().outline(TaskInputs("lab"))
    spec = RunSpec("tofu", {}, "lab", "lab", (Step("npo", params),), 0)
    size = estimate([spec], outline, Compute(), Machine(jobs=1), Store(tmp_path), shape=SHAPE).size
    assert size and size.target is beside
    without = replace(size, target=False)
    machine = Machine(jobs=1)
    extra = size.parts(Compute(), machine)["training"] - without.parts(Compute(), machine)["training"]
    assert extra == (4000 if beside else 0)
    assert size.parts(Compute(lora=4), machine) == without.parts(Compute(lora=4), machine)


def test_rows_of_a_step_are_counted_with_every_pass() -> None:
    """10 steps of 4 forget and 4 retain rows; a third of a pass over 30 forget rows for NPO's reference; SAM: 4 more each."""
    assert NPO(steps=10, batch=4).rows(30, 100) == 80 + 10
    assert NPO(steps=10, batch=4, sharpness=0.01).rows(30, 100) == 120 + 10


# Sharpness-aware minimisation, in float64


@dataclass(frozen=True)
class Doubled:
    """``sign`` times the mean token loss, from float64 logits: what losses read is rounded to float32."""

    sign: float

    reference: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of each example, (B,)."""
        keep, labels, mask = batch.answer_places()
        logits = model(input_ids=batch.input_ids, logits_to_keep=keep, use_cache=False).logits
        values = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        return -self.sign * (values * mask).sum(-1) / mask.sum(-1)


FORGET = tuple(qa(i, f"w{i} ?", f"w{i + 1} w{i + 3}") for i in range(4))
RETAIN = tuple(qa(10 + i, f"w{i + 9} ?", f"w{i + 2}") for i in range(4))


def double_llama() -> Any:
    """A tiny Llama in float64, its norms and positions too."""
    return small_llama(len(tokenizer()), 16, layers=2, positions=64, seed=7).double().train()


def trained_gradient(folder: Path, sharpness: float) -> list[Tensor]:
    """The gradient that the first step takes, before it is clipped."""
    model = double_llama()
    streams = [Stream(FORGET, 4, Doubled(-1.0), 2.0, None, sharpness), Stream(RETAIN, 4, Doubled(1.0), 3.0)]
    found: dict[int, Tensor] = {}

    def keep(weight: Tensor) -> None:
        assert weight.grad is not None
        found[id(weight)] = weight.grad.clone()

    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(keep)
    train(
        model,
        Texts(tokenizer()),
        streams,
        Recipe(1, 1e-2),
        seed=0,
        out=folder / "out",
        scratch=folder / "scratch",
    )
    return [found[id(weight)] for weight in model.parameters()]


def gradient_by_hand(sharpness: float) -> list[Tensor]:
    """``2 grad F(theta + rho g / |g|) + 3 grad R(theta)``, g = grad F(theta)."""
    model = double_llama()
    coder = Texts(tokenizer())
    forget, retain = (coder.collate([coder.encode(row.payload) for row in rows]) for rows in (FORGET, RETAIN))
    weights = list(model.parameters())

    def slope(sign: float, batch: Any) -> Sequence[Tensor]:
        return torch.autograd.grad(Doubled(sign)(model, batch).mean(), weights)

    kept = slope(1.0, retain)
    uphill = slope(-1.0, forget)
    length = sum(float((part**2).sum()) for part in uphill) ** 0.5
    with torch.no_grad():
        for weight, part in zip(weights, uphill, strict=True):
            weight += sharpness * part / length
    there = slope(-1.0, forget)
    return [2 * one + 3 * other for one, other in zip(there, kept, strict=True)]


def distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The norm of the difference over the norm of the second."""
    apart = sum(float(((a - b) ** 2).sum()) for a, b in zip(one, other, strict=True))
    return (apart / sum(float((b**2).sum()) for b in other)) ** 0.5


def test_sams_step_is_the_one_by_hand(tmp_path: Path) -> None:
    """The stream's weight doesn't count in the direction, and the retain loss is taken where the weights are."""
    assert distance(trained_gradient(tmp_path, 0.05), gradient_by_hand(0.05)) < 1e-7
    assert distance(gradient_by_hand(0.05), gradient_by_hand(0.0)) > 1e-3, "a radius that makes a difference"


def test_without_a_radius_it_is_the_plain_step(tmp_path: Path) -> None:
    plain = trained_gradient(tmp_path / "plain", 0.0)
    assert distance(plain, gradient_by_hand(0.0)) < 1e-7
    apart = [distance(trained_gradient(tmp_path / str(rho), rho), plain) for rho in (1e-2, 1e-3, 1e-4)]
    assert apart[0] > 1e-4
    assert apart[1] == pytest.approx(apart[0] / 10, rel=0.1) and apart[2] == pytest.approx(apart[0] / 100, rel=0.1)


class Killed(Exception):
    pass


def short_run(
    folder: Path, loss: Loss, sharpness: float, scratch: Path | None = None, **options: Any
) -> dict[str, bytes]:
    """The weights after 6 steps of a forget loss and a retain loss, two micro-batches a step."""
    model = llama(seed=7).train()
    streams = [Stream(FORGET, 3, loss, 1.0, None, sharpness), Stream(RETAIN, 3, NextToken())]
    coder, out, scratch = Texts(tokenizer()), folder / "out", scratch or folder / "scratch"
    train(model, coder, streams, Recipe(6, 1e-2), seed=0, out=out, scratch=scratch, micro=2, **options)
    return bits(model)


def killed_at(step: int) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done == step:
            raise Killed

    return report


@pytest.mark.parametrize(("method", "sharpness"), [(NPO(), 0.05), (TNPO(), 0.0)], ids=["sam", "tnpo"])
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path: Path, method: GradientMethod, sharpness: float) -> None:
    """Killed in step 5 with states every 2; the log-probs of every token that TNPO reads stay the start's."""
    loss, scratch = method.loss(), tmp_path / "scratch"
    whole = short_run(tmp_path / "whole", loss, sharpness)
    with pytest.raises(Killed):
        short_run(tmp_path / "killed", loss, sharpness, scratch, save_every=2, report=killed_at(5))
    assert Path(last_checkpoint(scratch) or "").name == "checkpoint-4"
    steps: list[int] = []
    on = {"scratch": scratch, "save_every": 2, "report": lambda done, total: steps.append(done)}
    assert short_run(tmp_path / "on", loss, sharpness, **on) == whole
    assert steps == [5, 6], "it began again instead of going on"
    assert short_run(tmp_path / "plain", NPO().loss(), 0.0) != whole


def test_the_logged_loss_is_where_the_weights_have_moved_to(place: TinyScenario) -> None:
    """Uphill by rho: above the plain loss by about rho |g|, and by about twice as much at twice the radius."""
    plain, near, far = (
        curve(place, f"sharp-{rho}", steps=1, retain_weight=0.0, sharpness=rho)[0] for rho in (0.0, 1e-3, 2e-3)
    )
    assert near > plain and far - plain == pytest.approx(2 * (near - plain), rel=0.05)
