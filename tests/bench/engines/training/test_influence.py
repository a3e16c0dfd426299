"""Influence weights: the formula by hand, the estimates against autograd, and what must hold of any set of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.conformance import TinyScenario, tiny_place
from bench.core.errors import UserError
from bench.core.types import Checkpoint, Example
from bench.engines.loaders import checkpoint_at, open_checkpoint
from bench.engines.templates import encode
from bench.engines.training.influence import (
    compare_rounding,
    describe_weights,
    estimate_influence,
    influence_ratio,
    rank_correlation,
    sample_entries,
    write_shuffled,
)
from bench.runs.context import Work
from bench.runs.method_context import Ledger, MethodContext
from bench.runs.store import Store
from methods.msa import MSA
from tests.tiny import llama, passage, qa, saved, tokenizer, wrecked

ROWS = (qa(0, "w1 w2 ?", "w3 w4"), passage(1, "w5 w6 w7 w8"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return saved(llama(seed=3), tokenizer(), tmp_path_factory.mktemp("influence") / "start", "start")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("place"))


def tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(checkpoint.path) / "model.safetensors"))


def holding(folder: Path, **named: list[float]) -> Checkpoint:
    """A folder with these tensors and no model."""
    folder.mkdir(parents=True)
    save_file({name: torch.tensor(values) for name, values in named.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return checkpoint_at(folder, folder.name)


def test_the_weight_is_twice_the_forget_sides_share() -> None:
    """2 f / (f + r): 2*1/(1+1) = 1, 2*3/(3+1) = 1.5, 2*0/(0+4) = 0, 2*2/(2+0) = 2; without any influence 1."""
    forget, retain = torch.tensor([1.0, 3.0, 0.0, 2.0, 0.0]), torch.tensor([1.0, 1.0, 4.0, 0.0, 0.0])
    assert influence_ratio(forget, retain).tolist() == [1.0, 1.5, 0.0, 2.0, 1.0]


def gradients(checkpoint: Checkpoint, row: Example) -> dict[str, torch.Tensor]:
    """Of the mean negative log-likelihood of the row's answer tokens, taken apart from the harness's losses."""
    opened = open_checkpoint(checkpoint)
    coded = encode(opened.tokenizer, row.payload)
    ids = torch.tensor([[*coded.prompt, *coded.answer]])
    log_probs = opened.model(input_ids=ids).logits[0].log_softmax(-1)
    first = len(coded.prompt)
    loss = -sum(log_probs[at - 1, ids[0, at]] for at in range(first, ids.shape[1])) / len(coded.answer)
    named = dict(opened.model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("fisher", lambda a, b: (a.square() + b.square()) / 2),
        ("gradient", lambda a, b: ((a + b) / 2).abs()),
    ],
)
def test_estimates_are_those_of_autograd(
    start: Checkpoint, kind: str, formula: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> None:
    """Two rows: the mean of their squared gradients, and the size of their mean gradient."""
    found = estimate_influence(open_checkpoint(start), ROWS, kind)
    one, other = (gradients(start, row) for row in ROWS)
    assert set(found) == set(one)
    for name, value in found.items():
        torch.testing.assert_close(value, formula(one[name], other[name]), rtol=1e-4, atol=1e-9)
    assert sum(float(value.sum()) for value in found.values()) > 0


def test_the_estimate_leaves_the_model_as_it_was(start: Checkpoint) -> None:
    opened = open_checkpoint(start)
    estimate_influence(opened, ROWS, "fisher")
    assert all(parameter.grad is None for parameter in opened.model.parameters())
    for name, parameter in opened.model.named_parameters():
        if name in tensors(start):
            assert torch.equal(parameter, tensors(start)[name])


@pytest.mark.parametrize("kind", ["fisher", "gradient"])
def test_a_node_holds_a_weight_for_each_entry(start: Checkpoint, tmp_path: Path, kind: str) -> None:
    work = Work(Store(tmp_path), seed=0, provenance={})
    made = work.influence(start, ROWS[:1], ROWS[1:], kind)
    forget, retain = (estimate_influence(open_checkpoint(start), rows, kind) for rows in (ROWS[:1], ROWS[1:]))
    assert {name: tensor.shape for name, tensor in tensors(made).items()} == {
        name: tensor.shape for name, tensor in tensors(start).items()
    }
    for name, tensor in tensors(made).items():
        assert tensor.dtype == torch.float32 and tensor.min() >= 0 and tensor.max() <= 2
        torch.testing.assert_close(tensor, influence_ratio(forget[name], retain[name]))
    assert tensors(made)["model.norm.weight"].std() > 0
    again = Work(Store(tmp_path), seed=5, provenance={})
    assert again.influence(start, ROWS[:1], ROWS[1:], kind).hash == made.hash and not again.built
    for other in (
        again.influence(start, ROWS[1:], ROWS[:1], kind),
        again.influence(start, ROWS[:1], ROWS[1:], {"fisher": "gradient", "gradient": "fisher"}[kind]),
    ):
        assert other.hash != made.hash


def test_weights_are_1_where_both_sides_have_the_same_rows(start: Checkpoint, tmp_path: Path) -> None:
    work = Work(Store(tmp_path), seed=0, provenance={})
    for kind in ("fisher", "gradient"):
        assert all(bool((tensor == 1).all()) for tensor in tensors(work.influence(start, ROWS, ROWS, kind)).values())


@pytest.mark.parametrize("beta", [0.0, 0.25])
def test_msa_with_weights_that_are_all_1_is_plain_msa_to_the_bit(place: TinyScenario, beta: float) -> None:
    """One row to forget, and the same to retain: the weighted sum must not differ in a single bit."""
    row = place.request.forget[:1]
    request = replace(place.request, forget=row, retain=row)
    results = []
    for weights in ("uniform", "fisher", "gradient"):
        ctx = MethodContext(place.work(f"ones-{beta}"), Ledger(set(), set()))
        results.append(MSA(alpha=0.7, beta=beta, steps=2, lr=5e-3, weights=weights).unlearn(request, ctx))
    assert len({result.hash for result in results}) == 1
    assert results[0].hash != request.target.hash


def test_shuffled_weights_keep_each_tensors_entries(start: Checkpoint, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_shuffled(start, seed, tmp_path / name)
    made = {name: tensors(checkpoint_at(tmp_path / name, name)) for name in "abc"}
    own = tensors(start)
    for name, tensor in own.items():
        assert torch.equal(made["a"][name].flatten().sort().values, tensor.flatten().sort().values)
        assert torch.equal(made["a"][name], made["b"][name]), "it follows from the seed"
        if len(tensor.unique()) > 100:
            assert not torch.equal(made["a"][name], tensor) and not torch.equal(made["a"][name], made["c"][name])
    assert {tensor.shape for tensor in made["a"].values()} == {tensor.shape for tensor in own.values()}


def test_a_set_correlates_with_itself_and_not_with_its_shuffle(start: Checkpoint, tmp_path: Path) -> None:
    write_shuffled(start, 0, tmp_path / "other")
    assert rank_correlation(start, start) == 1
    with_shuffle = rank_correlation(start, checkpoint_at(tmp_path / "other", "other"))
    assert with_shuffle is not None and abs(with_shuffle) < 0.05


def test_the_correlation_is_of_ranks(tmp_path: Path) -> None:
    """Ranks 1 2 3 4 5 beside 2 1 4 3 5: 1 - 6 (1 + 1 + 1 + 1 + 0) / (5 * 24) = .8; a size doesn't matter."""
    one = holding(tmp_path / "one", a=[0.1, 0.2], b=[3.0, 40.0, 50.0])
    other = holding(tmp_path / "other", a=[2.0, 1.0], b=[400.0, 30.0, 500.0])
    assert rank_correlation(one, other) == pytest.approx(0.8)


def test_equal_weights_have_no_ranks(tmp_path: Path) -> None:
    one, other = holding(tmp_path / "one", a=[1.0, 1.0, 1.0]), holding(tmp_path / "other", a=[1.0, 2.0, 3.0])
    assert rank_correlation(one, other) is None and rank_correlation(other, one) is None


def test_a_sample_is_drawn_alike_from_both(tmp_path: Path) -> None:
    """20 of 100 entries, in proportion: 16 of 80 and 4 of 20; at the same places of either."""
    values = [float(i) for i in range(100)]
    one = holding(tmp_path / "one", a=values[:80], b=values[80:])
    other = holding(tmp_path / "other", a=[-v for v in values[:80]], b=[-v for v in values[80:]])
    first, second = (dict(sample_entries(checkpoint, most=20)) for checkpoint in (one, other))
    assert {name: len(entries) for name, entries in first.items()} == {"a": 16, "b": 4}
    assert all(torch.equal(first[name], -second[name]) for name in first)
    assert {name: len(entries) for name, entries in sample_entries(one, most=100)} == {"a": 80, "b": 20}


def test_the_description_has_mean_and_quantiles(tmp_path: Path) -> None:
    """0, .02, ... 2: 101 evenly spaced entries in two tensors, whose q-quantile is 2 q and whose mean is 1."""
    values = [i / 50 for i in range(101)]
    weights = holding(tmp_path / "w", a=values[::2], b=values[1::2])
    said = describe_weights(weights)
    assert said["mean"] == pytest.approx(1)
    assert {float(share): value for share, value in said["quantiles"].items()} == pytest.approx(
        {share: 2 * share for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)}
    )
    assert said["bytes"] == (tmp_path / "w" / "model.safetensors").stat().st_size


def vectors(folder: Path, ends: Mapping[str, list[float]]) -> list[Checkpoint]:
    """Checkpoints of two tensors each, the four entries split between them."""
    return [holding(folder / name, a=values[:1], b=values[1:]) for name, values in ends.items()]


def test_what_rounding_did_by_hand(tmp_path: Path) -> None:
    """Rounded (0, 1, 0, 2), exact (1, 1, 0, 2): |gap|^2 = 1, |exact|^2 = 6, dot = 5, |rounded|^2 = 5.

    Relative error sqrt(1/6) = .408248, cosine 5 / sqrt(30) = .912871; 2 of 4 entries unchanged, and 1 of 4.
    """
    four = {"tuned": [1.0, 2, 3, 4], "before": [1.0, 1, 3, 2], "exact": [2.0, 2, 1, 2], "exact_before": [1.0, 1, 1, 0]}
    assert compare_rounding(*vectors(tmp_path, four)) == {
        "unchanged": 0.5,
        "unchanged_in_float32": 0.25,
        "relative_error": 0.408248,
        "cosine": 0.912871,
    }


def test_a_vector_that_rounding_made_zero_has_no_direction(tmp_path: Path) -> None:
    """Nothing is left of (1, 1, 0, 2): its error is the whole of it, sqrt(6/6)."""
    four = {"tuned": [1.0] * 4, "before": [1.0] * 4, "exact": [2.0, 2, 1, 2], "exact_before": [1.0, 1, 1, 0]}
    said = compare_rounding(*vectors(tmp_path, four))
    assert (said["unchanged"], said["relative_error"], said["cosine"]) == (1.0, 1.0, 0.0)


def test_where_nothing_was_learnt_there_is_no_relative_error(tmp_path: Path) -> None:
    four = {"tuned": [1.0] * 4, "before": [1.0] * 4, "exact": [2.0] * 4, "exact_before": [2.0] * 4}
    assert compare_rounding(*vectors(tmp_path, four)) == {
        "unchanged": 1.0,
        "unchanged_in_float32": 1.0,
        "relative_error": None,
        "cosine": 0.0,
    }


@pytest.mark.parametrize("kind", ["fisher", "gradient"])
def test_gradients_that_are_no_numbers_make_no_weights(kind: str, tmp_path: Path) -> None:
    """A weight of 1, as where nobody has influence, would be made of them."""
    wreck = saved(wrecked(llama(seed=3)), tokenizer(), tmp_path / "wreck", "wreck")
    with pytest.raises(UserError, match="no finite numbers"):
        estimate_influence(open_checkpoint(wreck), ROWS, kind)
