"""Texts as trees of tokens: what is shared, what a token sees, and that the model says the same as text by text."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from bench.engines.measuring import scoring
from bench.engines.measuring.scoring import (
    TreeRow,
    answer_logps,
    batch_rows,
    budget_of,
    common_prefix,
    forward_rows,
    plan_batches,
    row_alone,
    takes_trees,
    tree_rows,
)
from bench.engines.templates import Encoded
from tests.tiny import llama


def text(prompt: tuple[int, ...], answer: tuple[int, ...]) -> Encoded:
    return Encoded(prompt, answer, eos=True)


def answers(seed: int, questions: int = 6, each: int = 5) -> list[Encoded]:
    """Questions with one system prompt, five answers each, of which some begin alike."""
    rng = random.Random(seed)
    system = tuple(rng.randrange(4, 30) for _ in range(7))
    found = []
    for _ in range(questions):
        prompt = (*system, *(rng.randrange(4, 30) for _ in range(rng.randint(2, 6))))
        stem = tuple(rng.randrange(4, 30) for _ in range(3))
        found += [
            text(prompt, (*stem[: i % 3], *(rng.randrange(4, 30) for _ in range(rng.randint(1, 5))), 2))
            for i in range(each)
        ]
    return found


def test_a_tree_by_hand() -> None:
    """Prompt 5 6; answers 7 8, 7 9, 4: the inputs are 5 6 7 (the last tokens predict nothing), the second 7 is shared."""
    texts = [text((5, 6), (7, 8)), text((5, 6), (7, 9)), text((5, 6), (4,))]
    (row,) = tree_rows(texts, 100)
    assert row.ids == [5, 6, 7]
    assert row.parents == [-1, 0, 1]
    assert row.depths == [0, 1, 2]
    assert dict(zip(row.texts, row.paths, strict=True)) == {texts[0]: [1, 2], texts[1]: [1, 2], texts[2]: [1]}
    assert not row.branches, "nothing but a sequence, so no mask is needed"


def test_a_branch_sees_its_ancestors_only() -> None:
    texts = [text((5, 6), (7, 8, 2)), text((5, 6), (9, 8, 2))]
    (row,) = tree_rows(texts, 100)
    assert (row.ids, row.parents, row.depths) == ([5, 6, 7, 8, 9, 8], [-1, 0, 1, 2, 1, 4], [0, 1, 2, 3, 2, 3])
    mask, positions = scoring.ancestry([row], 7, torch.float32, "cpu")
    sees = [[i for i in range(7) if mask[0, 0, node, i] == 0] for node in range(7)]
    assert sees == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 1, 4, 5], [6]]
    assert positions[0, :6].tolist() == row.depths


@pytest.mark.parametrize("budget", [1, 12, 30, 1000])
def test_every_text_is_in_one_row_within_the_budget(budget: int) -> None:
    texts = answers(0)
    rows = list(tree_rows(texts, budget))
    assert sorted(scored_keys(rows)) == sorted((t.prompt, t.answer) for t in set(texts))
    for row in rows:
        alone = len({(*t.prompt, *t.answer)[:-1] for t in row.texts}) == 1
        assert alone or len(row.ids) <= budget
        for t, path in zip(row.texts, row.paths, strict=True):
            spelt, node = [], path[-1]
            while node >= 0:
                spelt.append(row.ids[node])
                node = row.parents[node]
            assert tuple(reversed(spelt)) == (*t.prompt, *t.answer)[:-1]
            assert len(path) == len(t.answer)


def scored_keys(rows: list[TreeRow]) -> list[tuple[Any, Any]]:
    return [(t.prompt, t.answer) for row in rows for t in row.texts]


def test_positions_are_as_few_as_there_are_beginnings() -> None:
    """In one row: as many nodes as there are different beginnings, without the last token of a text."""
    texts = answers(1)
    beginnings = {(*t.prompt, *t.answer)[:n] for t in texts for n in range(1, t.length)}
    (row,) = tree_rows(texts, 10_000)
    assert len(row.ids) == len(beginnings) < sum(t.length - 1 for t in texts) / 2


@pytest.mark.parametrize("seed", [0, 1])
def test_a_tree_says_what_single_texts_say(seed: int) -> None:
    """A random Llama, so that no position is like another; every answer token within 1e-5 nats."""
    model, texts = llama(seed, width=32), answers(seed)
    with torch.no_grad():
        shared = {
            t: v
            for batch in plan_batches(model, texts)
            for t, v in answer_logps(forward_rows(model, batch, "cpu")).items()
        }
        for t in texts:
            alone = answer_logps(forward_rows(model, [row_alone(model, t)], "cpu"))[t]
            ids = torch.tensor([[*t.prompt, *t.answer]])
            plain = model(ids).logits[0, len(t.prompt) - 1 : -1].log_softmax(-1)
            expected = plain[torch.arange(len(t.answer)), torch.tensor(t.answer)]
            assert torch.allclose(alone, expected, atol=1e-5)
            assert torch.allclose(shared[t], expected, atol=1e-5)
    assert takes_trees(model, texts, "cpu")


def test_a_model_with_absolute_positions_takes_trees_too() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=64, n_embd=16, n_layer=2, n_head=2)).eval()
    texts = answers(2)
    assert takes_trees(model, texts, "cpu")


def test_a_model_that_looks_past_its_mask_is_scored_text_by_text() -> None:
    """A hook that adds the row's mean to every state stands for a model with a view of its own."""
    model, texts = llama(0, width=32), answers(3)
    layer = model.model.layers[0].self_attn
    handle = layer.register_forward_hook(lambda _, __, out: (out[0] + out[0].mean(1, keepdim=True), *out[1:]))
    assert not takes_trees(model, texts, "cpu")
    handle.remove()
    assert takes_trees(model, texts, "cpu")
    assert all(len(row.texts) == 1 for batch in plan_batches(model, texts, trees=False) for row in batch)


def test_batches_keep_to_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(tree_rows(answers(4, questions=20), 24))
    assert sum(map(len, batch_rows(rows, 36))) == len(rows)
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 60)
    monkeypatch.setattr(scoring, "LOGITS_BYTES", 36 * 4 * 25)
    cut = list(batch_rows(rows, 36))
    assert len(cut) > 4 and sorted(scored_keys([r for b in cut for r in b])) == sorted(scored_keys(rows))
    for batch in cut:
        assert len({row.branches for row in batch}) == 1, "a batch without branches needs no mask"
        padded = len(batch) * max(len(row.ids) for row in batch)
        assert len(batch) == 1 or (padded <= 60 and sum(len(row.predicting) for row in batch) <= 25)


def test_memory_is_bounded_by_the_batch_and_not_by_the_data() -> None:
    model = llama(0)
    few, many = answers(5, questions=10), answers(5, questions=200)
    largest = [max(len(b) * max(len(r.ids) for r in b) for b in plan_batches(model, texts)) for texts in (few, many)]
    assert largest[1] <= scoring.BATCH_TOKENS + budget_of(model)


def test_common_beginnings() -> None:
    assert common_prefix((1, 2, 3), (1, 2, 4)) == 2
    assert common_prefix((1, 2), (1, 2, 4)) == 2
    assert common_prefix((), (1,)) == 0
    assert common_prefix((3,), (1,)) == 0
