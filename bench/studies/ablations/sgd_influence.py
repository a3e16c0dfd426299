"""How near MSA comes to what removing the forget set would have done, beside the exact SGD-influence.

A transformer of at most 50,000 parameters, in float64, learns the lab's residents (theta_0) and then its authors
(theta_D) by plain SGD: ``theta <- theta - lr/|S| sum of grad l_i over S``, nothing else. The oracle takes the same steps
with the forget rows dropped from every sum and the divisor ``|S|`` as it was (Hara et al. 2019, "Data Cleansing for Models
Trained with SGD"), so that the true difference ``d = theta_oracle - theta_D`` has no noise of another data order in it.
Every estimate is a vector meant to equal d: theta_D + estimate is the model it would hand out.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from bench.core.errors import UserError
from bench.core.types import Json
from bench.engines.training.influence import influence_ratio
from bench.engines.training.trainer import plan_rows
from bench.lab.world import World, fact_questions, make_world
from bench.studies.ablations.sgd_influence_results import BY_SHARE, IDENTITY, INFLUENCE, NOISE_FLOOR, RETAIN_HESSIAN

MOST_PARAMETERS = 50_000
FORMS = (0, 1)
"""Both have equally many tokens, so that a batch needs no padding."""

Losses = Callable[[Tensor, Sequence[int]], Tensor]
"""(theta (P,), rows) -> (B,): the loss of each row in nats, twice differentiable in theta."""
StepPlan = Sequence[Sequence[int]]
"""The rows of every step."""


@dataclass(frozen=True)
class SgdInfluenceOptions:
    """The experiment's settings; the defaults are those of the reported numbers."""

    residents: int = 60
    authors: int = 50
    forget: int = 5
    """Authors, the first ones, whose rows are removed."""
    facts: int = 3
    width: int = 32
    layers: int = 1
    """With two, or with larger steps, the path is chaotic sooner: first order then fails at ever smaller removals."""
    heads: int = 4
    pretraining_steps: int = 150
    pretraining_lr: float = 0.3
    steps: int = 300
    """Steps of stage two."""
    lr: float = 0.05
    """Of stage two and of theta_1; constant."""
    batch: int = 64
    removals: tuple[float, ...] = (0.01, 0.1, 0.3, 1.0)
    """Shares of the forget rows' weight that are taken away; 1 is the oracle."""


# Plain SGD and what a removal does to its end point.


def descend(
    losses: Losses, theta: Tensor, plan: StepPlan, lr: float, weight: Mapping[int, float] | None = None
) -> Tensor:
    """The end of plain SGD from ``theta``; ``weight`` of a row (1 where it isn't named) leaves the divisor |S| alone."""
    weight = weight or {}
    for step in plan:
        rows = [row for row in step if weight.get(row, 1.0)]
        if not rows:
            continue
        theta = theta.detach().requires_grad_()
        weights = theta.new_tensor([weight.get(row, 1.0) for row in rows])  # (B,)
        (gradient,) = torch.autograd.grad(losses(theta, rows) @ weights, theta)
        theta = theta.detach() - lr / len(step) * gradient
    return theta.detach()


def sgd_influence(
    losses: Losses, theta: Tensor, plan: StepPlan, lr: float, forget: frozenset[int], curvature: float | None = 1.0
) -> Tensor:
    """The first-order change of `descend`'s end point when the ``forget`` rows are removed, linearised along the
    path with them, (P,).

    With the forget rows weighted 1 - e, write theta_t(e) for the path, H_r and H_f for the Hessians of the summed losses
    of the step's retain and forget rows and g_f for the forget rows' summed gradient, all at theta_t(0), the target's
    path. Differentiating ``theta_{t+1} = theta_t - lr/|S| (sum_r + (1 - e) sum_f)`` at e = 0 gives for u = dtheta/de

        u_{t+1} = (I - lr/|S| (H_r + H_f)) u_t + lr/|S| g_f,    u_0 = 0.

    So the exact first order in the removal needs the Hessian of the WHOLE batch, forget rows included (``curvature`` 1,
    the default and Hara's Z_t): that the forget rows lose their curvature too is the product e u, of second order. The
    full removal takes e = 1, though, where the difference of the paths obeys, to first order in u alone, the same
    recursion with ``H_r + (1 - e) H_f = H_r``: ``curvature`` 0, exact at e = 1 on quadratic losses. Intermediate values
    are that recursion at e = 1 - ``curvature``. None puts the identity in the place of I - lr H: the forget gradients
    summed along the target's path, which is what MSA is but for the path.

    One replay of the training, with a Hessian-vector product (backward through backward) in each step from the first
    forget row on. Nothing of the path is stored.
    """
    moved = torch.zeros_like(theta)
    for step in plan:
        theta = theta.detach().requires_grad_()
        loss = losses(theta, step)  # (B,)
        gone = theta.new_tensor([float(row in forget) for row in step])  # (B,)
        bends = curvature is not None and bool(moved.any())
        (of_forget,) = torch.autograd.grad(loss @ gone, theta, create_graph=bends, retain_graph=True)
        (of_rest,) = torch.autograd.grad(loss @ (1 - gone), theta, create_graph=bends)
        rate = lr / len(step)
        bent = torch.zeros_like(moved)
        if curvature is not None and bends:
            (bent,) = torch.autograd.grad((of_rest + curvature * of_forget) @ moved, theta)
        moved = moved - rate * bent + rate * of_forget.detach()
        theta = theta.detach() - rate * (of_rest + of_forget).detach()
    return moved


def squared_gradients(losses: Losses, theta: Tensor, rows: Sequence[int]) -> Tensor:
    """Mean over the rows of the squared gradient of each row's loss, (P,)."""
    total = torch.zeros_like(theta)
    theta = theta.detach().requires_grad_()
    for row in rows:
        (gradient,) = torch.autograd.grad(losses(theta, [row]).sum(), theta)
        total += gradient.square()
    return total / len(rows)


def projection(onto: Tensor, vector: Tensor) -> float:
    """The alpha for which ``alpha onto`` is nearest to ``vector``; 0 for a zero vector."""
    length = float(onto @ onto)
    return float(onto @ vector) / length if length else 0.0


# The model and its rows.


@dataclass(frozen=True)
class TransformerShape:
    """A pre-norm transformer with learnt positions and tied embeddings, all of it one flat vector."""

    vocabulary: int
    positions: int
    width: int
    layers: int
    heads: int

    def parts(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each parameter, in the vector's order."""
        w = self.width
        block = {"qkv": (3 * w, w), "out": (w, w), "up": (3 * w, w), "down": (w, 3 * w), "before": (w,), "after": (w,)}
        blocks = {f"{i}.{name}": shape for i in range(self.layers) for name, shape in block.items()}
        return {"token": (self.vocabulary, w), "position": (self.positions, w)} | blocks | {"norm": (w,)}

    def parameters(self) -> int:
        """The number of parameters, the length P of the vector."""
        return sum(math.prod(shape) for shape in self.parts().values())


def untrained_weights(shape: TransformerShape, seed: int) -> Tensor:
    """Untrained weights, (P,) float64: normal with variance 1/fan-in, the norms' gains 1.

    The lab's own 0.02 suits Adam; plain SGD would spend its steps on leaving the origin.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for size in shape.parts().values():
        drawn = torch.randn(size, generator=generator, dtype=torch.float64) / math.sqrt(size[-1])
        parts.append(drawn.flatten() if len(size) == 2 else torch.ones(size, dtype=torch.float64))
    return torch.cat(parts)


def next_token_logits(theta: Tensor, shape: TransformerShape, ids: Tensor) -> Tensor:
    """Logits behind the last of ``ids`` (B, T), (B, V)."""
    sizes = shape.parts()
    chunks = theta.split([math.prod(size) for size in sizes.values()])
    p = {name: chunk.view(size) for (name, size), chunk in zip(sizes.items(), chunks, strict=True)}
    rows, length = ids.shape
    x = p["token"][ids] + p["position"][:length]  # (B, T, W)
    mask = torch.full((length, length), -torch.inf, dtype=theta.dtype).triu(1)
    for i in range(shape.layers):
        heads = (_norm(x, p[f"{i}.before"]) @ p[f"{i}.qkv"].T).view(rows, length, 3, shape.heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, heads, T, W/heads) each
        if i == shape.layers - 1:  # of the last block only the last position is looked at
            q, x, mask = q[:, :, -1:], x[:, -1:], mask[-1:]
        attention = (q @ k.mT / math.sqrt(k.shape[-1]) + mask).softmax(-1) @ v
        x = x + attention.transpose(1, 2).flatten(2) @ p[f"{i}.out"].T
        x = x + functional.gelu(_norm(x, p[f"{i}.after"]) @ p[f"{i}.up"].T) @ p[f"{i}.down"].T
    return _norm(x[:, -1], p["norm"]) @ p["token"].T


def _norm(x: Tensor, gain: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * gain


@dataclass(frozen=True)
class QuestionRows:
    """Questions as token ids; the loss of a row is that of its one value word, the last token."""

    shape: TransformerShape
    ids: Tensor  # (N, T + 1)

    def log_probs(self, theta: Tensor, rows: Sequence[int]) -> Tensor:
        """Over the vocabulary at the value's place, (B, V)."""
        return next_token_logits(theta, self.shape, self.ids[list(rows), :-1]).log_softmax(-1)

    def losses(self, theta: Tensor, rows: Sequence[int]) -> Tensor:
        """The loss of each example, (B,), in nats."""
        return -self.log_probs(theta, rows).gather(1, self.ids[list(rows), -1:])[:, 0]


@dataclass(frozen=True)
class SeedRows:
    """A seed's rows; of the authors' rows the first ones are the forget set."""

    resident: QuestionRows
    author: QuestionRows
    forget: tuple[int, ...]
    retain: tuple[int, ...]


def make_setup(seed: int, options: SgdInfluenceOptions) -> SeedRows:
    """The lab's people of this seed, asked for each fact in two forms."""
    world = make_world(seed, {"resident": options.residents, "author": options.authors}, options.facts, collisions=True)
    texts = {group: _texts(world, group) for group in ("resident", "author")}
    words = sorted({word for rows in texts.values() for row in rows for word in row})
    number = {word: i for i, word in enumerate(words)}
    length = len(texts["author"][0]) - 1
    shape = TransformerShape(len(words), length, options.width, options.layers, options.heads)
    assert shape.parameters() <= MOST_PARAMETERS, f"{shape.parameters()} parameters"
    resident, author = (
        QuestionRows(shape, torch.tensor([[number[w] for w in row] for row in rows])) for rows in texts.values()
    )
    split, end = options.forget * options.facts * len(FORMS), len(texts["author"])
    return SeedRows(resident, author, tuple(range(split)), tuple(range(split, end)))


def _texts(world: World, group: str) -> list[list[str]]:
    rows = fact_questions(world.groups[group], FORMS)
    return [["<bos>", "Q:", *row.payload["prompt"].split(), "A:", row.payload["answer"]] for row in rows]


# The experiment.


@dataclass(frozen=True)
class StageTwo:
    """The ground of every estimate: where the target's training began and ended, and its steps."""

    setup: SeedRows
    theta_0: Tensor
    target: Tensor
    steps: StepPlan
    lr: float

    def train(self, weight: Mapping[int, float]) -> Tensor:
        """The end of the same steps with some rows weighted otherwise."""
        return descend(self.setup.author.losses, self.theta_0, self.steps, self.lr, weight)

    def without(self, share: float) -> Tensor:
        """The end of the same steps with ``share`` of the forget rows' weight gone; 1 is the oracle."""
        return self.train(dict.fromkeys(self.setup.forget, 1 - share))

    def influence(self, curvature: float | None) -> Tensor:
        """`sgd_influence` of the forget rows."""
        forget = frozenset(self.setup.forget)
        return sgd_influence(self.setup.author.losses, self.theta_0, self.steps, self.lr, forget, curvature)


Kind = Literal["estimate", "upper bound", "reference"]


@dataclass(frozen=True)
class Estimate:
    """A vector that should equal theta_oracle - theta_D, and what it cost."""

    name: str
    kind: Kind
    """An upper bound took its alpha from the oracle; a reference is no estimate, but says what the numbers mean."""
    vector: Tensor
    seconds: float
    """On top of the target's training; what estimates share is counted for each that needs it."""
    bytes: int
    """Vectors and batch plan held beside theta_D; the autograd graph of a step isn't counted."""
    alpha: float | None = None


def run(seed: int, options: SgdInfluenceOptions = SgdInfluenceOptions()) -> Json:
    """The whole experiment for one seed, as plain JSON."""
    began = time.perf_counter()
    setup = make_setup(seed, options)
    shape, rows, losses = setup.author.shape, len(setup.author.ids), setup.author.losses
    first = plan_steps(len(setup.resident.ids), options.pretraining_steps, options.batch, f"{seed}/pretraining")
    theta_0 = descend(setup.resident.losses, untrained_weights(shape, seed), first, options.pretraining_lr)
    steps = plan_steps(rows, options.steps, options.batch, f"{seed}/stage two")
    target, target_seconds = _timed(lambda: descend(losses, theta_0, steps, options.lr))
    stage = StageTwo(setup, theta_0, target, steps, options.lr)
    oracles = {share: stage.without(share) for share in dict.fromkeys((*options.removals, 1.0))}
    oracle = oracles[1.0]
    reordered = replace(stage, steps=plan_steps(rows, options.steps, options.batch, f"{seed}/stage two, another order"))
    second, seconds = _timed(lambda: reordered.without(1.0))
    estimates = [
        *propagated_estimates(stage),
        *arithmetic_estimates(stage, oracle),
        Estimate(NOISE_FLOOR, "reference", second - target, seconds, 2 * target.nbytes + _plan_bytes(steps)),
        Estimate("nothing removed", "reference", target - target, 0.0, 0),
    ]
    models = {"theta_0": theta_0, "target": target, "oracle": oracle, "second oracle": second}
    return {
        "experiment": "sgd-influence",
        "tier": "lab",
        "seed": seed,
        "settings": asdict(options) | {"removals": list(options.removals)},
        "parameters": shape.parameters(),
        "rows": {"resident": len(setup.resident.ids), "forget": len(setup.forget), "retain": len(setup.retain)},
        "models": {name: accuracies(setup, theta) for name, theta in models.items()},
        "norms": {"difference": float((oracle - target).norm()), "stage two": float((target - theta_0).norm())},
        "estimates": [score_estimate(stage, oracle, one) for one in estimates],
        "removals": scores_by_removed_share(stage, oracles, {one.name: one.vector for one in estimates}),
        "target_seconds": target_seconds,
        "seconds": time.perf_counter() - began,
    }


def plan_steps(rows: int, steps: int, batch: int, key: str) -> list[list[int]]:
    """The rows of every step, decided by ``key`` alone."""
    return plan_rows(rows, batch, steps, random.Random(key))


def propagated_estimates(stage: StageTwo) -> list[Estimate]:
    """The forget gradients along the target's path, propagated by I - lr H of either kind, and by the identity."""
    held = 3 * stage.target.nbytes + _plan_bytes(stage.steps)  # theta_0, the replay's theta, u
    made = []
    for name, curvature in ((INFLUENCE, 1.0), (RETAIN_HESSIAN, 0.0), (IDENTITY, None)):
        vector, seconds = _timed(partial(stage.influence, curvature))
        made.append(Estimate(name, "estimate", vector, seconds, held))
    return made


def arithmetic_estimates(stage: StageTwo, oracle: Tensor) -> list[Estimate]:
    """MSA, plain and weighted elementwise, each with three alphas.

    theta_1 takes the target's own steps with the retain rows dropped and |S| as it was: the same forget rows as often, at
    the same rate, so alpha = 1 is the natural value by visits. Another that needs no validation is the projection of
    stage two's travel, theta_D - theta_0, on the forget vector: all of it that lies along that vector is taken back.
    """
    theta_0, target, size = stage.theta_0, stage.target, stage.target.nbytes
    tau, seconds = _timed(lambda: stage.train(dict.fromkeys(stage.setup.retain, 0.0)) - theta_0)
    weights, weighing = _timed(lambda: _weights(stage))
    made = []
    for name, vector, spent, held in (
        ("MSA", tau, seconds, 2 * size),  # theta_0, theta_1
        ("weighted MSA", weights * tau, seconds + weighing, 4 * size),  # and the two squared gradients
    ):
        natural, best = projection(vector, target - theta_0), projection(-vector, oracle - target)
        alphas: tuple[tuple[str, float, Kind], ...] = (
            ("1", 1.0, "estimate"),
            ("projected", natural, "estimate"),
            ("least squares", best, "upper bound"),
        )
        for how, alpha, kind in alphas:
            made.append(Estimate(f"{name}, alpha {how}", kind, -alpha * vector, spent, held, alpha))
    return made


def _weights(stage: StageTwo) -> Tensor:
    """Squared gradients averaged over both ends of stage two."""
    losses, ends = stage.setup.author.losses, (stage.theta_0, stage.target)
    forget, retain = (
        sum(squared_gradients(losses, theta, rows) for theta in ends) / len(ends)
        for rows in (stage.setup.forget, stage.setup.retain)
    )
    return influence_ratio(forget, retain)


def score_estimate(stage: StageTwo, oracle: Tensor, one: Estimate) -> Json:
    """One row: how near the estimate is as a vector and, added to the target, as a model."""
    model, setup = stage.target + one.vector, stage.setup
    return {
        "name": one.name,
        "kind": one.kind,
        "alpha": one.alpha,
        **nearness_to_difference(one.vector, oracle - stage.target),
        **{f"{group}_accuracy": value for group, value in accuracies(setup, model).items()},
        "kl_forget": divergence(setup.author, oracle, model, setup.forget),
        "kl_retain": divergence(setup.author, oracle, model, setup.retain),
        "seconds": one.seconds,
        "bytes": one.bytes,
    }


def nearness_to_difference(vector: Tensor, difference: Tensor) -> Json:
    """Cosine (None for a zero vector), relative error |vector - d|/|d| and norm ratio |vector|/|d|."""
    length, norm = float(difference.norm()), float(vector.norm())
    return {
        "cosine": float(vector @ difference) / (length * norm) if norm else None,
        "relative_error": float((vector - difference).norm()) / length,
        "norm_ratio": norm / length,
    }


def scores_by_removed_share(
    stage: StageTwo, oracles: Mapping[float, Tensor], vectors: Mapping[str, Tensor]
) -> list[Json]:
    """Each share e against the oracle with forget rows weighted 1 - e: the estimates of the full removal times e.

    With the retain Hessian it is the recursion at its own e: ``H_r + (1 - e) H_f``.
    """
    rows = []
    for share, oracle in oracles.items():
        own = vectors[RETAIN_HESSIAN] if share == 1 else stage.influence(1 - share)
        chosen = {name: vectors[name] for name in BY_SHARE} | {RETAIN_HESSIAN: own}
        difference = oracle - stage.target
        scores = {name: nearness_to_difference(share * vector, difference) for name, vector in chosen.items()}
        rows.append({"share": share, "norm": float(difference.norm()), "estimates": scores})
    return rows


def accuracies(setup: SeedRows, theta: Tensor) -> dict[str, float]:
    """Share of questions whose value is the likeliest word, on forget, retain and resident rows."""
    groups = {
        "forget": (setup.author, setup.forget),
        "retain": (setup.author, setup.retain),
        "resident": (setup.resident, range(len(setup.resident.ids))),
    }
    return {name: _accuracy(rows, theta, at) for name, (rows, at) in groups.items()}


def _accuracy(rows: QuestionRows, theta: Tensor, at: Sequence[int]) -> float:
    found = rows.log_probs(theta, at)
    if not found.isfinite().all():  # the argmax would be the first word's
        raise UserError("The training of the study has diverged: its weights are no finite numbers; lower its rate.")
    return float((found.argmax(-1) == rows.ids[list(at), -1]).double().mean())


def divergence(rows: QuestionRows, reference: Tensor, theta: Tensor, at: Sequence[int]) -> float:
    """Mean KL(reference || theta) over the vocabulary at the value's place, nats."""
    p, q = rows.log_probs(reference, at), rows.log_probs(theta, at)
    return float((p.exp() * (p - q)).sum(-1).mean())


def _plan_bytes(steps: StepPlan) -> int:
    return sum(8 * len(step) for step in steps)


def _timed(make: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    made = make()
    return made, time.perf_counter() - began
