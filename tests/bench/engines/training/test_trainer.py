"""The training engine on a tiny Llama: to the bit the same, whatever happens around it; losses worked out apart."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.core import stopping
from bench.core.contracts import Recipe, Stream
from bench.core.hashing import hash_tree
from bench.core.seals import seal
from bench.core.types import Checkpoint, Example
from bench.engines.coding import Texts, answer_log_probs, collate_texts
from bench.engines.loaders import open_checkpoint
from bench.engines.templates import Encoded, encode
from bench.engines.training.describe import describe_training
from bench.engines.training.losses import Ascent, NextToken
from bench.engines.training.references import batch_consecutive, reference_log_probs
from bench.engines.training.trainer import (
    Trained,
    last_checkpoint,
    name_losses,
    plan_rows,
    train,
)
from bench.runs.context import Work
from bench.runs.store import Store
from methods.npo import NPOLoss
from methods.transfer import MatchPast
from tests.tiny import bits, llama, passage, qa, saved, tokenizer

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
        Texts(tokenizer()),
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


@pytest.mark.parametrize("save_every", [0, 2])
def test_training_that_is_asked_to_stop_writes_its_state_and_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every: int
) -> None:
    """Asked in step 3, whether or not it writes states otherwise; asked in the last step, it ends as usual."""
    monkeypatch.setattr(stopping, "_asked", "")
    monkeypatch.setattr(stopping, "_listening", True)
    streams = (Stream(QUESTIONS, 4, NPOLoss(0.1, False)), Stream(PASSAGES, 2, NextToken()))
    whole, account = run(tmp_path / "whole", streams, micro=3)
    scratch = tmp_path / "scratch"

    def ask_at(step: int) -> Callable[[int, int], None]:
        return lambda done, total: stopping.ask_to_stop("SIGUSR2") if done == step else None

    with pytest.raises(stopping.Stopped) as stop:
        run(tmp_path / "stopped", streams, scratch=scratch, save_every=save_every, micro=3, report=ask_at(3))
    assert stop.value.further and Path(last_checkpoint(scratch) or "").name == "checkpoint-3"
    monkeypatch.setattr(stopping, "_asked", "")
    resumed, again = run(tmp_path / "on", streams, scratch=scratch, save_every=save_every, micro=3, report=ask_at(6))
    assert again.resumed and resumed == whole and again.tokens == account.tokens


def test_a_state_without_its_seal_is_passed_over(tmp_path: Path) -> None:
    """The seal comes last: a folder without it was being written when the process died."""
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-x").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        seal(tmp_path / f"checkpoint-{step}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10"), "the newest by number, not by name"
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text("[]")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")


def flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``whole``, and the ``scratch`` of a run that was killed in step 5 with states and snapshots of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("broken-off")
    run(folder / "whole", snapshots=(2, 4))
    with pytest.raises(Killed):
        run(folder, scratch=folder / "scratch", report=killed_at(5), save_every=2, snapshots=(2, 4))
    return folder


@pytest.mark.parametrize(
    ("file", "damage", "steps"),
    [
        ("checkpoint-4/model.safetensors", flip, [3, 4, 5, 6]),
        ("checkpoint-4/optimizer.pt", flip, [3, 4, 5, 6]),
        ("checkpoint-4/scheduler.pt", lambda data: b"", [3, 4, 5, 6]),
        ("checkpoint-4/rng_state.pth", lambda data: data[:-100], [3, 4, 5, 6]),
        ("checkpoint-4/trainer_state.json", flip, [3, 4, 5, 6]),
        ("checkpoint-4/sealed.json", flip, [3, 4, 5, 6]),
        ("snapshots/step-000002/model.safetensors", flip, [1, 2, 3, 4, 5, 6]),
        ("snapshots/step-000004/model.safetensors", flip, [3, 4, 5, 6]),
    ],
)
def test_a_damaged_state_is_not_gone_on_from(
    file: str, damage: Callable[[bytes], bytes], steps: list[int], broken_off: Path, tmp_path: Path
) -> None:
    """The state before it is; where a snapshot from before that is damaged, training begins again. The end is the same."""
    scratch = tmp_path / "scratch"
    shutil.copytree(broken_off / "scratch", scratch)
    (scratch / file).write_bytes(damage((scratch / file).read_bytes()))
    made: list[int] = []
    run(tmp_path, scratch=scratch, report=lambda done, _: made.append(done), save_every=2, snapshots=(2, 4))
    assert made == steps
    assert hash_tree(tmp_path / "out") == hash_tree(broken_off / "whole" / "out")


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_state_is_not_called(name: str, broken_off: Path, tmp_path: Path) -> None:
    """Even in one that is sealed: the Trainer reads tensors and plain values alone."""
    scratch, trap = tmp_path / "scratch", tmp_path / "called"
    shutil.copytree(broken_off / "scratch", scratch)
    state = scratch / "checkpoint-4"
    torch.save(Trap(trap), state / name)
    seal(state)
    with pytest.raises(pickle.UnpicklingError):
        run(tmp_path / "on", scratch=scratch, save_every=2)
    assert not trap.exists()


class Trap:
    """What is pickled as a call that leaves a file behind."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.place),)


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
        each = [NextToken()(model, collate_texts([encode(tokenizer(), row.payload)])).item() for row in rows]
        return sum(each) / len(each)

    assert losses(done) == pytest.approx([mean(QUESTIONS) - 0.5 * mean(PASSAGES)], abs=1e-5)


def test_a_small_step_goes_down_the_gradient(tmp_path: Path) -> None:
    """AdamW's first step at rate r moves each weight by r against the sign of its gradient (g / sqrt(g^2))."""
    model, before = llama(seed=7).train(), llama(seed=7)
    stream = Stream(QUESTIONS, 12, NextToken())
    recipe = Recipe(1, 1e-3, warmup=0.0, schedule="constant")
    train(model, Texts(tokenizer()), [stream], recipe, seed=0, out=tmp_path / "o", scratch=tmp_path / "s")
    NextToken()(before, collate_texts([encode(tokenizer(), row.payload) for row in QUESTIONS])).mean().backward()
    name = "model.layers.0.self_attn.v_proj.weight"
    moved = model.get_parameter(name) - before.get_parameter(name)
    gradient = before.get_parameter(name).grad
    large = gradient.abs() > gradient.abs().median()
    torch.testing.assert_close(moved[large], -1e-3 * gradient[large].sign(), atol=2e-5, rtol=0)


def test_the_reference_is_the_summed_log_prob_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Direct: one row at a time. The first NPO loss is then (2 / .1) ln 2 = 20 * 0.693147 = 13.8629 for every row."""
    model = llama(seed=7)
    rows = [encode(tokenizer(), row.payload) for row in QUESTIONS + PASSAGES]
    monkeypatch.setattr("bench.engines.training.references.REFERENCE_ROWS", 4)
    found = reference_log_probs(model.train(), Texts(tokenizer()), rows, torch.device("cpu"))
    assert model.training, "it must be left as it was"
    with torch.no_grad():
        direct = torch.cat([answer_log_probs(model.eval(), collate_texts([row])).sums for row in rows])
    torch.testing.assert_close(found, direct, atol=1e-5, rtol=0)
    _, done = run(tmp_path, (Stream(QUESTIONS, 6, NPOLoss(0.1, False)),), steps=1)
    assert losses(done) == pytest.approx([13.8629], abs=1e-4)


def test_reference_batches_are_bounded_by_padded_positions_and_keep_the_order() -> None:
    rows = [Encoded((1,), (2,) * (length - 1), False) for length in (2000, 2000, 100, *[10] * 50, 5000, 3)]
    lengths = [[row.length for row in batch] for batch in batch_consecutive(rows, 32)]
    assert lengths == [[2000, 2000], [100, *[10] * 31], [10] * 19, [5000], [3]]
    assert sum(lengths, []) == [row.length for row in rows]
    unbounded = [len(batch) for batch in batch_consecutive(rows, len(rows))]
    assert unbounded == [2, 40, 11, 1, 1], "40 rows of 100 positions, and no number of rows in the way"


class Counting:
    """NPO that notes which references it was given, in the order of use."""

    reference: ClassVar[str] = "sums"
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
    start = reference_log_probs(llama(seed=7), Texts(tokenizer()), rows, torch.device("cpu"))
    assert set(loss.given) == {(*row.prompt, *row.answer) for row in rows}
    for row, value in zip(rows, start.tolist(), strict=True):
        (given,) = loss.given[(*row.prompt, *row.answer)]
        assert given == pytest.approx(value, abs=1e-5)


def test_snapshots_are_the_weights_at_their_steps(tmp_path: Path) -> None:
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
        return str(describe_training([Stream(tuple(rows), batch, loss or NextToken(), weight)], Recipe(5, lr)))

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


def test_the_key_knows_other_checkpoints_by_their_content_and_ramps_by_their_end() -> None:
    def key(place: str = "here", content: str = "a", beside: str = "", last: float | None = None) -> str:
        stream = Stream(QUESTIONS, 6, MatchPast(Checkpoint(place, content), (0,)), last_weight=last)
        return str(
            describe_training([replace(stream, beside=Checkpoint(place, beside) if beside else None)], Recipe(5, 1e-3))
        )

    assert key() == key(place="there") and key(beside="b") == key(place="there", beside="b")
    others = [key(content="c"), key(beside="b"), key(beside="c"), key(last=0.0), key(last=1.0)]
    assert len({key(), *others}) == 1 + len(others)


class One(NextToken):
    """The next-token loss divided by its own value: 1 whatever has been learnt, with a gradient."""

    def __call__(self, model: Any, batch: Any) -> torch.Tensor:
        each = super().__call__(model, batch)
        return each / each.detach()


def test_a_weight_goes_on_a_straight_line_also_after_an_interruption(tmp_path: Path) -> None:
    """From 2 in the first of 6 steps to 1 in the last; killed in step 5 with states every 2 steps, it goes on at its place."""
    streams = (Stream(QUESTIONS, 4, One(), 2.0, last_weight=1.0),)
    whole, account = run(tmp_path / "whole", streams)
    assert losses(account) == pytest.approx([2.0, 1.8, 1.6, 1.4, 1.2, 1.0], abs=1e-4)
    scratch = tmp_path / "scratch"
    with pytest.raises(Killed):
        run(tmp_path / "killed", streams, scratch=scratch, save_every=2, report=killed_at(5))
    resumed, again = run(tmp_path / "on", streams, scratch=scratch, save_every=2)
    assert again.resumed and resumed == whole and losses(again) == losses(account)


def test_snapshots_survive_an_interruption(tmp_path: Path) -> None:
    """The store gives a resumed run a new, empty folder; the snapshot of step 2, before the interruption, is kept."""
    scratch = tmp_path / "scratch"
    with pytest.raises(Killed):
        run(tmp_path / "killed", scratch=scratch, save_every=2, snapshots=(2, 6), report=killed_at(5))
    run(tmp_path / "on", scratch=scratch, save_every=2, snapshots=(2, 6))
    run(tmp_path / "whole", snapshots=(2, 6))
    for step in ("step-000002", "step-000006"):
        whole, kept = (tmp_path / name / "out" / step / "model.safetensors" for name in ("whole", "on"))
        assert kept.read_bytes() == whole.read_bytes()
    assert {path.name for path in (tmp_path / "on" / "out").glob("step-*")} == {"step-000002", "step-000006"}


# --- until a loss is reached

ONE_PASS_A_STEP = (Stream(PASSAGES, 5, NextToken()),)
"""5 passages of 30 tokens together, all of them in every step."""


def trained_until(until: float, folder: Path, streams: Sequence[Stream], **options: Any) -> Trained:
    """At most 8 steps at one rate."""
    model = llama(seed=7).train()
    recipe = Recipe(8, 1e-2, warmup=0.0, schedule="constant", until=until)
    options = {"scratch": folder / "scratch"} | options
    return train(model, Texts(tokenizer()), streams, recipe, seed=0, out=folder / "out", **options)


def test_training_stops_after_the_first_pass_whose_loss_is_low_enough(tmp_path: Path) -> None:
    """Passes of one step with losses l1 > l2 > ...; l4 is the first at most (l3 + l4) / 2, so that it makes 4 steps."""
    whole = trained_until(0.0, tmp_path / "whole", ONE_PASS_A_STEP)
    found = losses(whole)
    assert whole.steps == len(found) == 8 and found == sorted(found, reverse=True) and found[3] < found[2] - 1e-3
    done = trained_until((found[2] + found[3]) / 2, tmp_path / "early", ONE_PASS_A_STEP)
    assert done.steps == 4 and losses(done) == found[:4]
    assert (done.tokens, whole.tokens) == (4 * 30, 8 * 30), "tokens of the steps that were made"
    assert trained_until(found[7] / 2, tmp_path / "never", ONE_PASS_A_STEP).steps == 8


def test_the_loss_of_a_pass_is_the_mean_over_its_steps(tmp_path: Path) -> None:
    """Two steps of 6 questions a pass, l1 ... l8; (l3 + l4) / 2 is the first mean of a pass at most the bound."""
    streams = (Stream(QUESTIONS, 6, NextToken()),)
    found = losses(trained_until(0.0, tmp_path / "whole", streams))
    bound = (found[2] + found[3]) / 2 + 1e-4
    assert (found[0] + found[1]) / 2 > bound and (found[1] + found[2]) / 2 > bound, "no pass before it is low enough"
    assert trained_until(bound, tmp_path / "early", streams).steps == 4


def test_only_the_first_streams_loss_counts(tmp_path: Path) -> None:
    """An ascent on passages beside the questions makes the step's loss negative; the bound is the questions' alone."""
    streams = (Stream(QUESTIONS, 12, NextToken()), Stream(PASSAGES, 5, Ascent(), weight=3.0))
    model = llama(seed=7)
    rows = [encode(tokenizer(), row.payload) for row in QUESTIONS]
    first = sum(NextToken()(model, collate_texts([row])).item() for row in rows) / len(rows)
    assert losses(trained_until(0.0, tmp_path / "whole", streams))[0] < 0 < first
    assert trained_until(first - 1e-3, tmp_path / "below", streams).steps > 1
    assert trained_until(first + 1e-3, tmp_path / "above", streams).steps == 1


@pytest.mark.parametrize("micro", [1, 4])
def test_micro_batches_stop_at_the_same_step(tmp_path: Path, micro: int) -> None:
    """3 steps a pass; in parts of 1 the 4 questions of a step are spread over as many parts as the 5 passages need."""
    streams = (Stream(QUESTIONS, 4, NextToken()), Stream(PASSAGES, 5, NextToken()))
    first = Stream(QUESTIONS, 4, NextToken())
    bound = sum(losses(trained_until(0.0, tmp_path / "alone", (first,)))[:3]) / 3
    whole = trained_until(bound, tmp_path / "whole", streams)
    assert 3 <= whole.steps < 8
    assert trained_until(bound, tmp_path / "parts", streams, micro=micro).steps == whole.steps


def test_an_interruption_does_not_change_where_it_stops(tmp_path: Path) -> None:
    """2 steps a pass: killed in step 3 and going on from step 2, the pass that ends in step 4 has its whole loss."""
    streams = (Stream(QUESTIONS, 6, NextToken()),)
    found = losses(trained_until(0.0, tmp_path / "free", streams))
    bound = (found[1] + found[2]) / 2 + 1e-4
    whole = trained_until(bound, tmp_path / "whole", streams)
    assert whole.steps == 3
    scratch, kept = tmp_path / "scratch", {"save_every": 2}
    with pytest.raises(Killed):
        trained_until(bound, tmp_path / "killed", streams, scratch=scratch, report=killed_at(3), **kept)
    again = trained_until(bound, tmp_path / "on", streams, scratch=scratch, **kept)
    assert again.resumed and again.steps == 3
    assert (tmp_path / "on/out/model.safetensors").read_bytes() == (
        tmp_path / "whole/out/model.safetensors"
    ).read_bytes()
    assert again.tokens == whole.tokens and losses(again) == losses(whole)


# --- dtype and adapters


def node(folder: Path, recipe: Recipe, seed: int = 0) -> tuple[Checkpoint, Checkpoint]:
    """(start, trained) of a node of the store."""
    start = saved(llama(seed=7), tokenizer(), folder / "start", "start")
    work = Work(Store(folder / "store"), seed=seed, provenance={})
    return start, work.train(start, STREAMS[:1], recipe, "tuned")


def tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(checkpoint.path) / "model.safetensors"))


def test_bfloat16_gives_bfloat16_files(tmp_path: Path) -> None:
    start, made = node(tmp_path, Recipe(3, 1e-2, dtype="bfloat16"))
    assert {tensor.dtype for tensor in tensors(made).values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in tensors(start).values()} == {torch.float32}, "the start stays as it was"
    assert made.dtype == "bfloat16" and next(open_checkpoint(made).model.parameters()).dtype == torch.bfloat16
    moved = [name for name, tensor in tensors(made).items() if not torch.equal(tensor, tensors(start)[name].bfloat16())]
    assert moved, "it has learnt"


def test_what_is_below_a_256th_of_a_weight_is_lost_in_bfloat16(tmp_path: Path) -> None:
    """Weights of some .02 that are to move by 1e-8 a step: in float32 they do, in bfloat16 they stay."""
    start, made = node(tmp_path / "bf16", Recipe(3, 1e-8, warmup=0.0, dtype="bfloat16"))
    _, exact = node(tmp_path / "f32", Recipe(3, 1e-8, warmup=0.0))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(tensors(made)[name], tensors(start)[name].bfloat16())
    assert not torch.equal(tensors(exact)[name], tensors(start)[name])


def test_adapters_are_merged_and_change_the_linear_layers_by_their_rank(tmp_path: Path) -> None:
    start, made = node(tmp_path, Recipe(4, 1e-2, lora=2))
    before, after = tensors(start), tensors(made)
    assert {file.name for file in Path(made.path).iterdir()} - {"node.json"} == {
        file.name for file in Path(start.path).iterdir()
    }, "no adapter files"
    assert {name: tensor.shape for name, tensor in after.items()} == {n: t.shape for n, t in before.items()}
    linear = {name for name in before if "_proj." in name}
    assert {name for name in before if not torch.equal(before[name], after[name])} == linear and len(linear) == 14
    for name in linear:
        strengths = torch.linalg.svdvals((after[name] - before[name]).double())
        assert strengths[1] > 100 * strengths[2], f"{name}: two directions, and beside them rounding alone"
        assert strengths[2] < 1e-6


def test_adapters_follow_from_the_seed(tmp_path: Path) -> None:
    recipe = Recipe(2, 1e-2, lora=2)
    first = node(tmp_path / "a", recipe)[1].hash
    torch.manual_seed(5)
    torch.rand(3)
    assert node(tmp_path / "b", recipe)[1].hash == first
    assert node(tmp_path / "c", recipe, seed=1)[1].hash != first


def test_the_key_of_an_old_recipe_is_what_it_was() -> None:
    """What a recipe leaves at its default isn't named, so that checkpoints made before there was a choice are found."""
    old = {"steps": 5, "lr": 1e-3, "warmup": 0.1, "schedule": "cosine", "weight_decay": 0.0, "beta2": 0.98}
    assert describe_training(STREAMS, Recipe(5, 1e-3))["recipe"] == old
    assert describe_training(STREAMS, Recipe(5, 1e-3, lora=4, until=0.5))["recipe"] == old | {"lora": 4, "until": 0.5}
    assert describe_training(STREAMS, Recipe(5, 1e-3, dtype="bfloat16"))["recipe"] == old | {"dtype": "bfloat16"}


def test_a_curve_has_each_streams_loss_and_the_rate_and_is_told_of_as_it_comes(tmp_path: Path) -> None:
    """At weights 1 and 1/4 the step's loss is the first stream's and a quarter of the second's; one stream has no parts."""
    heard: list[dict[str, float]] = []
    _, done = run(tmp_path / "two", watch=heard.append)
    assert tuple(heard) == done.curve and len(heard) == 6
    for point in done.curve:
        assert point["loss"] == pytest.approx(point["loss_next_token"] + 0.25 * point["loss_ascent"], abs=1e-5)
        assert point["grad_norm"] > 0 and point["lr"] >= 0
    _, alone = run(tmp_path / "one", STREAMS[:1])
    assert set(alone.curve[0]) == {"step", "loss", "lr", "grad_norm"}


def test_streams_of_one_loss_are_told_apart() -> None:
    streams = [Stream(QUESTIONS, 1, loss) for loss in (NPOLoss(0.1, False), NextToken(), NextToken(), Ascent())]
    assert name_losses(streams) == ["loss_npo", "loss_next_token", "loss_next_token_2", "loss_ascent"]


def test_micro_batches_give_the_same_parts(tmp_path: Path) -> None:
    _, whole = run(tmp_path / "whole", steps=3)
    _, parts = run(tmp_path / "parts", steps=3, micro=1)
    for one, other in zip(whole.curve, parts.curve, strict=True):
        assert other == pytest.approx(one, abs=1e-5)


def test_what_goes_on_tells_of_what_came_before_too(tmp_path: Path) -> None:
    stopped: list[dict[str, float]] = []

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", scratch=tmp_path / "s", save_every=2, report=stop, watch=stopped.append)
    heard: list[dict[str, float]] = []
    _, done = run(tmp_path / "b", scratch=tmp_path / "s", save_every=2, watch=heard.append)
    assert done.resumed and tuple(heard) == done.curve and [point["step"] for point in heard] == [1, 2, 3, 4, 5, 6]
    assert heard[:2] == stopped[:2]
