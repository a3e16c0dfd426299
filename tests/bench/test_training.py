"""The training engine on a tiny Llama: to the bit the same, whatever happens around it; losses worked out apart."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from bench.contracts import Recipe, Stream
from bench.losses import Ascent
from bench.templates import encode
from bench.training import (
    NextToken,
    Trained,
    answer_log_probs,
    collate,
    describe,
    last_checkpoint,
    plan_rows,
    reference_log_probs,
    train,
)
from bench.types import Example
from methods.npo import NPOLoss
from tests.tiny import bits, llama, passage, qa, tokenizer

QUESTIONS = tuple(qa(i, f"w{i} w{i % 4} ?", f"w{i + 3} w{i}") for i in range(12))
PASSAGES = tuple(passage(i, " ".join(f"w{(i + k) % 20}" for k in range(i + 3))) for i in range(5))
STREAMS = (Stream(QUESTIONS, 6, NextToken()), Stream(PASSAGES, 2, Ascent(), weight=0.25))


def run(
    folder: Path,
    streams: Sequence[Stream] = STREAMS,
    steps: int = 6,
    *,
    seed: int = 0,
    scratch: Path | None = None,
    **options: Any,
) -> tuple[dict[str, bytes], Trained]:
    """The weights that training from the same start gives, as bytes, and its account."""
    model = llama(seed=7).train()
    done = train(
        model,
        tokenizer(),
        streams,
        Recipe(steps, 1e-2),
        seed=seed,
        out=folder / "out",
        scratch=scratch or folder / "scratch",
        **options,
    )
    return bits(model), done


def losses(done: Trained) -> list[float]:
    return [point["loss"] for point in done.curve]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    first, _ = run(tmp_path / "a")
    random.seed(123)
    np.random.seed(123)
    torch.manual_seed(123)
    torch.rand(7)
    second, _ = run(tmp_path / "b")
    other, _ = run(tmp_path / "c", seed=1)
    assert first == second, "the state of global generators must not matter"
    assert first != other
    assert first != bits(llama(seed=7)), "nothing was learnt"


def test_the_saved_weights_are_those_in_memory(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    weights, _ = run(tmp_path, steps=2)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert "lm_head.weight" not in stored, "tied weights are stored once"
    assert {name: tensor.numpy().tobytes() for name, tensor in stored.items()} == {
        name: value for name, value in weights.items() if name != "lm_head.weight"
    }


class Killed(Exception):
    pass


def killed_at(step: int) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done == step:
            raise Killed

    return report


def test_going_on_after_an_interruption_ends_in_the_same_bits(tmp_path: Path) -> None:
    """Killed in step 5 with states every 2 steps: it goes on from step 4. NPO's reference stays the start's."""
    streams = (Stream(QUESTIONS, 4, NPOLoss(0.1, False)), Stream(PASSAGES, 2, NextToken()))
    whole, account = run(tmp_path / "whole", streams, micro=3)
    scratch = tmp_path / "scratch"
    with pytest.raises(Killed):
        run(tmp_path / "killed", streams, scratch=scratch, save_every=2, micro=3, report=killed_at(5))
    assert Path(last_checkpoint(scratch) or "").name == "checkpoint-4"
    steps: list[int] = []
    resumed, again = run(
        tmp_path / "on", streams, scratch=scratch, save_every=2, micro=3, report=lambda done, total: steps.append(done)
    )
    assert steps == [5, 6], "it began again instead of going on"
    assert resumed == whole
    assert (losses(again), again.tokens) == (losses(account), account.tokens)


def test_a_state_without_its_last_file_is_passed_over(tmp_path: Path) -> None:
    """The Trainer writes trainer_state.json last: a folder without it was being written when the process died."""
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10"), "the newest by number, not by name"


@pytest.mark.parametrize("micro", [1, 4])
def test_micro_batches_give_the_same_losses(tmp_path: Path, micro: int) -> None:
    """6 and 2 rows a step; parts of 4 give 3 + 3 and 1 + 1, parts of 1 give steps in which a stream has no row."""
    _, whole = run(tmp_path / "whole", steps=4)
    _, parts = run(tmp_path / "parts", steps=4, micro=micro)
    assert len(whole.curve) == 4
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-6)
    assert parts.tokens == whole.tokens


def test_a_steps_loss_is_the_sum_over_streams_of_weight_times_mean(tmp_path: Path) -> None:
    """A batch as large as its stream holds every row, whatever the order: 12 questions, 5 passages at weight -0.5."""
    streams = (Stream(QUESTIONS, 12, NextToken()), Stream(PASSAGES, 9, NextToken(), weight=-0.5))
    _, done = run(tmp_path, streams, steps=1)
    model = llama(seed=7)

    def mean(rows: Sequence[Example]) -> float:
        each = [NextToken()(model, collate([encode(tokenizer(), row.payload)])).item() for row in rows]
        return sum(each) / len(each)

    assert losses(done) == pytest.approx([mean(QUESTIONS) - 0.5 * mean(PASSAGES)], abs=1e-5)


def test_a_small_step_goes_down_the_gradient(tmp_path: Path) -> None:
    """AdamW's first step at rate r moves each weight by r against the sign of its gradient (g / sqrt(g^2))."""
    model, before = llama(seed=7).train(), llama(seed=7)
    stream = Stream(QUESTIONS, 12, NextToken())
    recipe = Recipe(1, 1e-3, warmup=0.0, schedule="constant")
    train(model, tokenizer(), [stream], recipe, seed=0, out=tmp_path / "o", scratch=tmp_path / "s")
    NextToken()(before, collate([encode(tokenizer(), row.payload) for row in QUESTIONS])).mean().backward()
    name = "model.layers.0.self_attn.v_proj.weight"
    moved = model.get_parameter(name) - before.get_parameter(name)
    gradient = before.get_parameter(name).grad
    large = gradient.abs() > gradient.abs().median()
    torch.testing.assert_close(moved[large], -1e-3 * gradient[large].sign(), atol=2e-5, rtol=0)


def test_the_reference_is_the_summed_log_prob_of_the_start(tmp_path: Path) -> None:
    """Direct: one row at a time. The first NPO loss is then (2 / .1) ln 2 = 20 * 0.693147 = 13.8629 for every row."""
    model = llama(seed=7)
    rows = [encode(tokenizer(), row.payload) for row in QUESTIONS + PASSAGES]
    found = reference_log_probs(model.train(), rows, torch.device("cpu"), batch=4)
    assert model.training, "it must be left as it was"
    with torch.no_grad():
        direct = torch.cat([answer_log_probs(model.eval(), collate([row])).sums for row in rows])
    torch.testing.assert_close(found, direct, atol=1e-5, rtol=0)
    _, done = run(tmp_path, (Stream(QUESTIONS, 6, NPOLoss(0.1, False)),), steps=1)
    assert losses(done) == pytest.approx([13.8629], abs=1e-4)


class Counting:
    """NPO that notes which references it was given, in the order of use."""

    reference: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        self.given: dict[tuple[int, ...], set[float]] = {}

    def __call__(self, model: Any, batch: Any) -> Any:
        for ids, length, value in zip(batch.input_ids, batch.lengths, batch.reference, strict=True):
            self.given.setdefault(tuple(ids[:length].tolist()), set()).add(float(value))
        return NPOLoss(0.1, False)(model, batch)


def test_the_reference_does_not_move_with_the_model(tmp_path: Path) -> None:
    """Six epochs over the rows: each row meets the one value it had at the start, and rows don't get each other's."""
    loss = Counting()
    run(tmp_path, (Stream(QUESTIONS, 6, loss),), steps=12)
    rows = [encode(tokenizer(), row.payload) for row in QUESTIONS]
    start = reference_log_probs(llama(seed=7), rows, torch.device("cpu"))
    assert set(loss.given) == {(*row.prompt, *row.answer) for row in rows}
    for row, value in zip(rows, start.tolist(), strict=True):
        (given,) = loss.given[(*row.prompt, *row.answer)]
        assert given == pytest.approx(value, abs=1e-5)


def test_snapshots_are_the_weights_at_their_steps(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    _, done = run(tmp_path, snapshots=(2, 6))
    stored = {step: load_file(tmp_path / "out" / f"step-{step:06d}" / "model.safetensors") for step in (2, 6)}
    last = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(stored[6][name], last[name]) for name in last)
    assert not all(torch.equal(stored[2][name], last[name]) for name in last)
    assert done.tokens_at[6] == done.tokens and done.tokens_at[2] < done.tokens


def test_tokens_are_those_of_the_rows_without_padding(tmp_path: Path) -> None:
    """Rows of bos + words; 3 steps over all 5 passages of 3 to 7 words: 3 * ((3 + ... + 7) + 5) = 3 * 30 = 90."""
    _, done = run(tmp_path, (Stream(PASSAGES, 5, NextToken()),), steps=3, snapshots=(2,))
    assert done.tokens == 90
    assert done.tokens_at == {2: 60}


@pytest.mark.parametrize(("n", "batch"), [(10, 3), (10, 10), (4, 7), (1, 1)])
def test_every_row_comes_once_in_each_epoch(n: int, batch: int) -> None:
    steps = 5 * n
    plan = plan_rows(n, batch, steps, random.Random(0))
    assert [len(rows) for rows in plan] == [min(batch, n)] * steps
    flat = [row for rows in plan for row in rows]
    for start in range(0, len(flat) - n + 1, n):
        assert sorted(flat[start : start + n]) == list(range(n)), "an epoch is a permutation"
    assert set(Counter(flat[: 5 * n]).values()) == {5}
    assert n == 1 or flat[:n] != flat[n : 2 * n], "epochs are shuffled anew"


def test_the_key_tells_apart_all_that_changes_the_weights() -> None:
    def key(
        rows: Sequence[Example] = QUESTIONS, batch: int = 6, loss: Any = None, weight: float = 1.0, lr: float = 1e-3
    ) -> str:
        return str(describe([Stream(tuple(rows), batch, loss or NextToken(), weight)], Recipe(5, lr)))

    others = [
        key(QUESTIONS[::-1]),
        key(batch=5),
        key(loss=Ascent()),
        key(loss=NPOLoss(0.1, False)),
        key(loss=NPOLoss(0.2, False)),
        key(loss=NPOLoss(0.1, True)),
        key(weight=2.0),
        key(lr=2e-3),
    ]
    assert len({key(), *others}) == 1 + len(others)
    assert key() == key()


def test_snapshots_survive_an_interruption(tmp_path: Path) -> None:
    """The store gives a resumed run a new, empty folder, so the snapshot of step 2 has to be made again or kept."""
    scratch = tmp_path / "scratch"
    with pytest.raises(Killed):
        run(tmp_path / "killed", scratch=scratch, save_every=2, snapshots=(2, 6), report=killed_at(5))
    run(tmp_path / "on", scratch=scratch, save_every=2, snapshots=(2, 6))
    assert {path.name for path in (tmp_path / "on" / "out").glob("step-*")} == {"step-000002", "step-000006"}
