"""What a loss reads of the target: computed again directly, and as it was at the start while the model moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from bench.core.contracts import Batch, Recipe, References, Row, Stream
from bench.core.types import Example
from bench.engines.coding import Texts, collate_texts
from bench.engines.templates import Encoded
from bench.engines.training.losses import NextToken
from bench.engines.training.references import Target, read_target
from bench.engines.training.trainer import train
from tests.tiny import bits, llama, passage, qa, saved, tokenizer

ROWS = (
    *(qa(i, f"w{i} w{i % 4} ?", " ".join(f"w{i + k}" for k in range(1 + i % 3))) for i in range(9)),
    passage(0, "w1 w2 w3"),
)
CPU = torch.device("cpu")


def with_alternates(rows: Sequence[Example]) -> tuple[Example, ...]:
    """The same rows, each with another answer."""
    return tuple(replace(row, payload={**row.payload, "alternate": f"w{20 + i} w9"}) for i, row in enumerate(rows))


def logps_of(model: Any, row: Encoded) -> list[float]:
    """The log-probs of an answer's tokens, from a plain forward pass over the whole of one row."""
    ids = torch.tensor([[*row.prompt, *row.answer]])
    with torch.no_grad():
        logps = model(input_ids=ids).logits[0].float().log_softmax(-1)
    start = len(row.prompt) - 1
    return [float(logps[start + k, token]) for k, token in enumerate(row.answer)]


@dataclass(frozen=True)
class Reads:
    """Minus the mean log-prob of the answer; it keeps what it was handed."""

    seen: list[Any] = field(default_factory=list, compare=False)
    reference: ClassVar[References] = "tokens"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.look(batch)
        return NextToken()(model, batch)

    def look(self, batch: Batch) -> None:
        assert batch.reference is not None
        self.seen.append((batch.reference.clone(), batch.answer_mask()))


@dataclass(frozen=True)
class ReadsModel(Reads):
    """The same with the target's logits."""

    reference: ClassVar[References] = "model"

    def look(self, batch: Batch) -> None:
        assert batch.target is not None
        self.seen.append((batch, batch.answer_logits(batch.target).values.clone()))


def read(model: Any, rows: Sequence[Example], loss: Any) -> tuple[Any, list[Row]]:
    encoded = [Texts(tokenizer()).encode(row.payload) for row in rows]
    (reference,) = read_target(model, Texts(tokenizer()), [Stream(tuple(rows), 4, loss)], [encoded], CPU)
    return reference, encoded


def test_the_log_probs_of_tokens_are_those_of_a_plain_pass() -> None:
    model = llama(seed=2)
    reference, encoded = read(model, ROWS, Reads())
    for chosen in ([0, 1, 2], [9, 5, 0, 8], [3]):
        rows = [encoded[i] for i in chosen]
        batch = collate_texts(rows)
        reference.attach(batch, chosen)
        found = [values[mask].tolist() for values, mask in zip(batch.reference, batch.answer_mask(), strict=True)]
        for got, row in zip(found, rows, strict=True):
            assert got == pytest.approx(logps_of(model, row), abs=1e-5)
        assert not batch.reference[~batch.answer_mask()].any() and not batch.reference.requires_grad
        assert batch.reference.dtype == torch.float32


def test_the_log_probs_of_the_other_answers_lie_beside_theirs() -> None:
    model = llama(seed=2)
    for wanted in ("sums", "tokens"):
        reads = type("Wants", (Reads,), {"reference": wanted})()
        reference, encoded = read(model, with_alternates(ROWS), reads)
        chosen = [4, 0, 7]
        batch = collate_texts([encoded[i] for i in chosen])
        reference.attach(batch, chosen)
        for place, i in enumerate(chosen):
            expected = logps_of(model, encoded[i].alternate)
            got = batch.alternate.reference[place]
            if wanted == "sums":
                assert float(got) == pytest.approx(sum(expected), abs=1e-4)
            else:
                assert got[batch.alternate.answer_mask()[place]].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_loss_that_reads_nothing_is_handed_nothing() -> None:
    reference, encoded = read(llama(), ROWS, NextToken())
    batch = collate_texts(encoded[:2])
    reference.attach(batch, [0, 1])
    assert batch.reference is None and batch.target is None and batch.beside is None


def trained(folder: Path, loss: Any, model: Any, steps: int = 4, **options: Any) -> dict[str, bytes]:
    stream = Stream(ROWS, 4, loss, **options)
    train(
        model.train(),
        Texts(tokenizer()),
        [stream],
        Recipe(steps, 1e-2),
        seed=0,
        out=folder / "out",
        scratch=folder / "s",
    )
    return bits(model)


def test_the_target_stays_at_the_start_while_the_model_moves(tmp_path: Path) -> None:
    loss, model, start = ReadsModel(), llama(seed=2), llama(seed=2)
    trained(tmp_path, loss, model)
    assert len(loss.seen) == 4
    for batch, logits in loss.seen:
        with torch.no_grad():
            assert torch.equal(logits, batch.answer_logits(start).values)
            assert not torch.allclose(batch.answer_logits(model).values, logits, atol=1e-3)


def test_reading_the_target_changes_no_bit_of_the_training(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", NextToken(), llama(seed=2))
    assert trained(tmp_path / "read", ReadsModel(), llama(seed=2)) == plain


def test_under_adapters_the_target_is_the_base_and_no_second_model(tmp_path: Path) -> None:
    start = llama(seed=2)
    model = get_peft_model(llama(seed=2), LoraConfig(r=2, target_modules="all-linear"))
    target = Target(model)
    assert target.held is model
    loss = ReadsModel()
    train(
        model.train(), Texts(tokenizer()), [Stream(ROWS, 4, loss)], Recipe(4, 1e-2), seed=0, out=tmp_path / "out",
        scratch=tmp_path / "s",
    )  # fmt: skip
    for batch, logits in loss.seen:
        with torch.no_grad():
            assert torch.allclose(logits, batch.answer_logits(start).values, atol=1e-6)
    with torch.no_grad():
        moved = loss.seen[0][0].answer_logits(model).values
    assert not torch.allclose(moved, loss.seen[0][1], atol=1e-3)
    assert model.training, "reading the target leaves the model in training"


def test_another_checkpoint_lies_beside_the_model_as_it_is_on_disk(tmp_path: Path) -> None:
    past = saved(llama(seed=5), tokenizer(), tmp_path / "past")
    seen: list[tuple[Batch, Tensor]] = []

    class Looks(NextToken):
        def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
            assert batch.beside is not None
            seen.append((batch, batch.answer_logits(batch.beside).values.clone()))
            return super().__call__(model, batch)

    trained(tmp_path, Looks(), llama(seed=2), beside=past)
    assert len(seen) == 4
    for batch, logits in seen:
        with torch.no_grad():
            assert torch.equal(logits, batch.answer_logits(llama(seed=5)).values)
