"""Depth probes: patched states, the lens and linear probes are those of plain passes, in models of several families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core.types import OTHER_BROKEN, Checkpoint, Probe
from bench.engines.hidden import decoder_blocks
from bench.engines.measuring.depth import (
    LEAST_ROWS,
    lose_by_patching,
    lose_in_lens,
    probe_blocks,
    read_off,
    states_of,
)
from bench.engines.measuring.measure import measure
from bench.engines.templates import Encoded
from tests.families import random_model
from tests.tiny import llama, qa, saved, tokenizer, wrecked

KINDS = ["Llama 3", "GPT-2", "GPT-NeoX, Pythia", "Gemma 2", "OPT", "Qwen3", "Mamba"]
TEXTS = [
    Encoded((1, 5, 9), (4, 7), False),
    Encoded((1, 5, 9), (4, 8, 11), False),
    Encoded((1, 5, 9, 4), (7, 12), False),
    Encoded((1, 20, 21, 22, 23, 24, 25, 26, 27, 28), (30, 31, 32, 33), False),
    Encoded((1, 3), (6,), False),
]
"""Of several lengths; some begin alike, so that in a tree one answer's places would lie before another's."""


def plain_states(model: Any, text: Encoded) -> list[torch.Tensor]:
    """The output (T, D) of every block on one text, by hooks of our own."""
    kept: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda m, i, out: kept.append(out[0] if isinstance(out, tuple) else out))
        for block in decoder_blocks(model)
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([[*text.prompt, *text.answer[:-1]]]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return [states[0] for states in kept]


def plain_log_prob(model: Any, text: Encoded, block: int = 0, states: torch.Tensor | None = None) -> float:
    """The mean log-prob of the answer in a pass of one text, one block's output at its places being ``states``."""
    first = len(text.prompt) - 1

    def put(module: Any, inputs: Any, output: Any) -> Any:
        own = (output[0] if isinstance(output, tuple) else output).clone()
        own[0, first:] = states
        return (own, *output[1:]) if isinstance(output, tuple) else own

    hooks = [] if states is None else [decoder_blocks(model)[block].register_forward_hook(put)]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*text.prompt, *text.answer[:-1]]]), use_cache=False).logits[0, first:]
    for hook in hooks:
        hook.remove()
    logps = logits.float().log_softmax(-1)
    return sum(float(logps[k, token]) for k, token in enumerate(text.answer)) / len(text.answer)


@pytest.mark.parametrize("family", KINDS)
@torch.no_grad()
def test_patching_is_that_of_plain_passes_of_one_text(family: str) -> None:
    full, source = random_model(family, 0), random_model(family, 1)
    lost = lose_by_patching(full, source, TEXTS, "cpu")
    assert list(lost.nats) and set(lost.nats) == set(TEXTS) and not lost.broken
    for text in TEXTS:
        own = plain_log_prob(full, text)
        theirs = [states[len(text.prompt) - 1 :] for states in plain_states(source, text)]
        by_hand = [own - plain_log_prob(full, text, block, states) for block, states in enumerate(theirs)]
        assert lost.nats[text] == pytest.approx(by_hand, abs=1e-5)
        assert max(map(abs, by_hand)) > 0.01, "it makes a difference"


@pytest.mark.parametrize("family", KINDS)
@torch.no_grad()
def test_the_last_block_patched_is_the_last_block_in_the_lens(family: str) -> None:
    full, source = random_model(family, 0), random_model(family, 1)
    patched, lens = (way(full, source, TEXTS, "cpu").nats for way in (lose_by_patching, lose_in_lens))
    for text in TEXTS:
        assert len(lens[text]) == 2 and lens[text][-1] == pytest.approx(patched[text][-1], abs=1e-5)
        assert lens[text][0] != pytest.approx(patched[text][0], abs=1e-3), "the blocks between count"


@torch.no_grad()
def test_the_lens_is_the_last_norm_and_the_head() -> None:
    full, source = llama(seed=0), llama(seed=1)
    lost = lose_in_lens(full, source, TEXTS, "cpu").nats
    for text in TEXTS:
        first, token = len(text.prompt) - 1, torch.tensor(text.answer)

        def said(states: torch.Tensor, first: int = first, token: torch.Tensor = token) -> float:
            logps = full.lm_head(full.model.norm(states[first:])).log_softmax(-1)
            return float(logps[torch.arange(len(token)), token].mean())

        by_hand = [
            said(ours) - said(theirs)
            for ours, theirs in zip(plain_states(full, text), plain_states(source, text), strict=True)
        ]
        assert lost[text] == pytest.approx(by_hand, abs=1e-5)
    states = torch.randn(3, 16)
    assert torch.allclose(read_off(full, states), full.lm_head(full.model.norm(states)), atol=1e-6)


@pytest.mark.parametrize("way", [lose_by_patching, lose_in_lens])
@torch.no_grad()
def test_the_target_loses_nothing_with_its_own_states_and_keeps_no_hook(way: Any) -> None:
    full = random_model("GPT-2")
    lost = way(full, full, TEXTS, "cpu")
    assert all(values == [0.0, 0.0] for values in lost.nats.values())
    assert not any(module._forward_hooks for module in full.modules())


@pytest.mark.parametrize("way", [lose_by_patching, lose_in_lens])
@torch.no_grad()
def test_texts_beside_a_text_change_nothing(way: Any) -> None:
    full, source = random_model("OPT", 0), random_model("OPT", 1)
    together = way(full, source, TEXTS, "cpu").nats
    for text in TEXTS:
        assert way(full, source, [text], "cpu").nats[text] == pytest.approx(together[text], abs=1e-5)


def rows_of_word(word: int, count: int, seed: int) -> list[Encoded]:
    """Texts whose last prompt token tells the answer: ``word`` is followed by ``word`` + 10."""
    draws = torch.randint(20, 40, (count, 3), generator=torch.Generator().manual_seed(seed)).tolist()
    return [Encoded((1, *draw, word), (word + 10,), False) for draw in draws]


@torch.no_grad()
def test_a_linear_probe_finds_what_the_states_tell_and_skips_rare_answers() -> None:
    model = random_model("Llama 3")
    train = [*rows_of_word(5, 8, 0), *rows_of_word(6, 8, 1), *rows_of_word(7, LEAST_ROWS - 1, 2)]
    asked = [*rows_of_word(5, 3, 3), *rows_of_word(6, 3, 4), *rows_of_word(7, 3, 5)]
    found = probe_blocks(model, train, asked, "cpu")
    assert set(found) == set(asked[:6]), "the third answer is too rare among the training rows"
    assert all(hits == [1, 1] for hits in found.values())
    swapped = [
        Encoded(text.prompt, (31 - text.answer[0],), False) for text in asked[:6]
    ]  # 15 and 16, the other way round
    assert all(hits == [0, 0] for hits in probe_blocks(model, train, swapped, "cpu").values())
    assert probe_blocks(model, train[:8], asked, "cpu") == {}, "one class alone is nothing to tell apart"
    assert probe_blocks(model, train, asked[6:], "cpu") == {}


@torch.no_grad()
def test_states_come_in_the_order_of_the_texts() -> None:
    model = random_model("GPT-NeoX, Pythia")
    texts = [Encoded(text.prompt, text.answer[:1], False) for text in TEXTS]
    for block, states in enumerate(states_of(model, texts, "cpu")):
        for text, own in zip(texts, states, strict=True):
            assert torch.allclose(own, plain_states(model, text)[block][-1], atol=1e-5)


QUESTIONS = tuple(qa(i, f"w{i} w{i + 1} ?", f"w{i + 2} w{i + 3}") for i in range(1, 4))


def ask(by: str, model: Checkpoint, target: Checkpoint | None, **options: Any) -> Any:
    return measure(model, [Probe("depth", "depth", QUESTIONS, options={"by": by, **options})], target=target)


def test_a_probe_of_each_way_gives_a_number_for_every_block(tmp_path: Path) -> None:
    target, other = (saved(llama(seed), tokenizer(), tmp_path / str(seed)) for seed in (0, 1))
    for by in ("patching", "lens"):
        rows = ask(by, other, target).rows["depth"]
        assert set(rows) == {row.id for row in QUESTIONS}
        assert all(len(row[by]) == 2 and any(row[by]) for row in rows.values())
        assert all(row == {by: [0.0, 0.0]} for row in ask(by, target, target).rows["depth"].values())
        assert ask(by, other, None).rows["depth"] == {}
    train = [row.payload for row in QUESTIONS for _ in range(LEAST_ROWS)]
    assert ask("linear", other, None, train=train).rows["depth"] == {row.id: {} for row in QUESTIONS}, (
        "one text is one row"
    )


def test_who_has_broken_down_is_named(tmp_path: Path) -> None:
    target, broken = saved(llama(0), tokenizer(), tmp_path / "a"), saved(wrecked(llama(1)), tokenizer(), tmp_path / "b")
    for by in ("patching", "lens"):
        said = ask(by, broken, target)
        assert said.rows["depth"] == {} and said.wrecked
        said = ask(by, target, broken)
        assert said.rows["depth"] == {} and said.broken == {"depth": OTHER_BROKEN.format("the target")}
