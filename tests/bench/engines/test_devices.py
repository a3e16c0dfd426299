"""Nothing reads a value off the device row by row: seen on tensors without values (meta), and by counting what would wait.

No GPU has run this: that its copies are pinned and that its batches grow with its memory is computed, not measured.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import masking_utils

from bench.core.contracts import Opened
from bench.core.types import Example, Probe
from bench.engines import devices
from bench.engines.coding import Texts, collate_texts
from bench.engines.devices import Held, factor_of, send, send_numbers
from bench.engines.measuring import generation, measure, scoring
from bench.engines.measuring.gradients import norm_alone, norms_together
from bench.engines.templates import Encoded
from bench.engines.training.losses import NextToken
from tests.syncs import Waits
from tests.tiny import llama, tokenizer


def texts(count: int, like: int = 0) -> list[Encoded]:
    rng = random.Random(like)
    made = (
        Encoded((3, *(rng.randrange(3, 30) for _ in range(4))), tuple(rng.randrange(3, 30) for _ in range(5)), False)
        for _ in range(count)
    )
    return list(dict.fromkeys(made))


def session(model: Any, device: str, trees: bool) -> measure.Session:
    asked = measure.Session(Opened(model, tokenizer(), Texts(tokenizer())), device, {}, (), None)
    asked.trees = trees
    return asked


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library looks once a pass whether several texts lie in one row; that is its own wait, and the only one."""
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda _: None)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("trees", [True, False])
def test_scores_need_no_value_until_all_are_there(monkeypatch: pytest.MonkeyPatch, trees: bool) -> None:
    """On the meta device a tensor has a shape and no values: whoever asks for one gets an error."""
    asked, held = texts(40), list[Held[Any]]()
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 60)
    monkeypatch.setattr(Held, "fetch", lambda self: held.append(self) or {})
    with torch.no_grad():
        measure.score_texts(session(llama().to("meta"), "meta", trees), asked, set(asked[::2]))
    by_name = {each.parts[0].dtype for each in held}
    assert len(held) == 4 and len(held[0].parts) > 1 and by_name == {torch.float32, torch.int32}
    assert {part.device.type for each in held for part in each.parts} == {"meta"}


@pytest.mark.usefixtures("patient")
def test_training_and_gradients_need_none_either() -> None:
    model = llama().to("meta")
    NextToken()(model, collate_texts(texts(4), "meta")).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert norm_alone(model, texts(1)[0], "meta").device.type == "meta"


def counted(work: Any) -> dict[str, int]:
    with Waits() as waits:
        work()
    return dict(waits.seen)


def test_what_waits_is_counted() -> None:
    """The check itself: it sees a value that the engine reads."""
    found = counted(lambda: Held[int](keys=[0], lengths=[2], parts=[torch.ones(2)]).fetch())
    assert found == {"bench/engines/devices.py tolist": 1}


def scores(count: int) -> dict[str, int]:
    model = llama()
    with torch.no_grad():
        return counted(lambda: measure.score_texts(session(model, "cpu", trees=False), texts(count), set(texts(count))))


def test_waits_of_scores_do_not_grow_with_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 10**6)
    few, many = scores(5), scores(80)
    assert few == many and few["bench/engines/devices.py tolist"] == 4


def test_waits_of_gradient_norms_do_not_grow_with_rows() -> None:
    model = llama()
    few, many = (counted(lambda n=n: norms_together(model, texts(n), "cpu")) for n in (5, 40))
    assert few == many == {}
    assert counted(lambda: norm_alone(model, texts(1)[0], "cpu")) == {}


def test_waits_of_divergences_and_classes_do_not_grow_with_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 10**6)
    opened = Opened(llama(), tokenizer(), Texts(tokenizer()))
    monkeypatch.setattr(measure, "open_checkpoint", lambda *_: Opened(llama(1)))

    def apart(count: int) -> dict[str, int]:
        rows = tuple(
            Example(f"e{i}", {"prompt": f"w{i % 20}", "answer": f"w{i // 20} w3", "template": "qa"})
            for i in range(count)
        )
        asked = session(opened.model, "cpu", trees=False)
        asked.others, asked.rows = (Named(),), {"p": {row.id: {} for row in rows}}
        with torch.no_grad():
            return counted(lambda: measure.run_divergence(asked, [Probe("p", "divergence", rows)]))

    few, many = apart(4), apart(80)
    assert few == many and sum(few.values()) <= 2


class Named:
    label = "other"


def written(rows: int, tokens: int, sampled: bool) -> dict[str, int]:
    model = llama()
    model.generation_config.eos_token_id = None
    words = tokenizer()
    words.eos_token = None
    sampling = generation.Sampling(1) if sampled else None
    asking = generation.GenerationSettings(tokens, min_new_tokens=2, sampling=sampling)
    prompts = [(3 + i % 9, 4 + i // 9, 5) for i in range(rows)]
    return counted(lambda: generation.generate(Opened(model, words, Texts(words)), prompts, asking))


@pytest.mark.parametrize("sampled", [False, True])
def test_waits_of_generation_grow_with_neither_rows_nor_tokens(monkeypatch: pytest.MonkeyPatch, sampled: bool) -> None:
    """A batch's tokens are looked at every so many steps: twice as many looks for twice as many tokens, whatever the rows."""
    monkeypatch.setattr(generation, "takes_batches", lambda *_: True)
    monkeypatch.setattr(generation, "steps_between_looks", lambda *_: 8)
    name = "bench/engines/measuring/generation.py tolist"
    assert written(4, 16, sampled) == written(40, 16, sampled) == {name: 2}
    assert written(4, 32, sampled) == {name: 4}
    monkeypatch.setattr(generation, "steps_between_looks", lambda *_: 1)
    assert written(4, 16, sampled) == {name: 16}, "a CPU is looked at every time"


def test_a_copy_to_a_cpu_is_the_tensor_itself() -> None:
    held = torch.arange(3)
    assert send(held, "cpu") is held
    assert send_numbers(([1, 2] for _ in range(2)), "cpu").tolist() == [[1, 2], [1, 2]]


def test_a_copy_to_a_gpu_comes_from_pinned_memory_and_nobody_waits_for_it() -> None:
    class Spy:
        calls: Sequence[Any] = ()

        def pin_memory(self) -> Spy:
            self.calls = [*self.calls, "pinned"]
            return self

        def to(self, device: str, non_blocking: bool = False) -> Spy:
            self.calls = [*self.calls, (device, non_blocking)]
            return self

    spy: Any = Spy()
    assert send(spy, "cuda:1").calls == ["pinned", ("cuda:1", True)]


def test_batches_grow_with_a_gpus_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of what three models leave, a gigabyte each: (24 - 3 x 2) / 3 = 6 times a CPU's; at most 16, at least once."""
    assert factor_of(llama()) == 1

    class Placed:
        device = torch.device("cuda")

        def parameters(self) -> list[Any]:
            return [torch.empty(10**9, dtype=torch.bfloat16, device="meta")]

    found = []
    for memory in (24, 141, 8, 4):
        card = type("Card", (), {"total_memory": memory * 10**9})
        monkeypatch.setattr(devices.torch.cuda, "get_device_properties", lambda _, card=card: card)
        found.append(factor_of(Placed()))
    assert found == [6, 16, 1, 1]


def test_held_numbers_come_back_by_their_texts() -> None:
    held: Held[str] = Held()
    held.add(["a", "b"], [2, 0], torch.tensor([1.0, 2.0]))
    held.add(["c"], [1], torch.tensor([3.0]))
    assert held.fetch() == {"a": [1.0, 2.0], "b": [], "c": [3.0]} and Held().fetch() == {}
