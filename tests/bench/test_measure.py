"""The measuring engine against plain one-text-at-a-time loops, and divergences worked by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import measure as engine
from bench.loaders import Opened, open_checkpoint
from bench.measure import generate, measure, score
from bench.templates import Encoded, encode
from bench.types import Checkpoint, Example, Probe, Responses
from tests.tiny import distributed, letters_tokenizer, llama, passage, qa, saved, tokenizer

Learned = tuple[Checkpoint, tuple[Example, ...]]
TEXTS = [
    encode(tokenizer(), row.payload)
    for row in (
        *(
            qa(i, " ".join(f"w{k}" for k in range(i % 5 + 1)), " ".join(f"w{i + k}" for k in range(i % 3 + 1)))
            for i in range(17)
        ),
        *(passage(i, " ".join(f"w{(i * k) % 30}" for k in range(2 * i + 1))) for i in range(9)),
        *(qa(i, "w1 w2 w3", f"w{i}", "continue") for i in range(5)),
    )
]


def plain(model: Any, text: Encoded) -> tuple[list[float], list[int]]:
    """One text, one forward pass, all positions: log-prob and argmax hit of each answer token."""
    ids = [*text.prompt, *text.answer]
    with torch.no_grad():
        logp = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    at = range(len(text.prompt), len(ids))
    return [float(logp[i - 1, ids[i]]) for i in at], [int(logp[i - 1].argmax() == ids[i]) for i in at]


@pytest.mark.parametrize("tokens", [1, 40, 4096])
def test_scores_are_those_of_a_plain_forward_pass(
    monkeypatch: pytest.MonkeyPatch, learned: Learned, tokens: int
) -> None:
    """In any order and in batches of 1, of a few and of all."""
    monkeypatch.setattr(engine, "BATCH_TOKENS", tokens)
    model = open_checkpoint(learned[0]).model
    texts = list(TEXTS)
    random.Random(tokens).shuffle(texts)
    with torch.no_grad():
        found = score(model, texts, "cpu")
    for text, (logp, hit) in zip(texts, found, strict=True):
        expected, hits = plain(model, text)
        assert logp == pytest.approx(expected, abs=1e-5)
        assert hit == hits
    assert 0 < sum(sum(hit) for _, hit in found) < sum(len(hit) for _, hit in found), "some tokens hit and some missed"


def test_the_byte_bound_cuts_batches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vocabulary 36 at 4 bytes: one answer position of one row takes 144 bytes."""
    assert len(list(engine.batches(TEXTS, 36))) == 1
    monkeypatch.setattr(engine, "LOGITS_BYTES", 144 * 20)
    cut = list(engine.batches(TEXTS, 36))
    assert len(cut) > 3
    assert sorted(text for batch in cut for text in batch_keys(batch)) == sorted(batch_keys(TEXTS))
    for batch in cut:
        positions = max(t.length for t in batch) - min(len(t.prompt) for t in batch)
        assert len(batch) == 1 or len(batch) * positions <= 20


def batch_keys(texts: Sequence[Encoded]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(text.prompt, text.answer) for text in texts]


def test_known_probabilities_come_out(tmp_path: Path) -> None:
    """p = 1/2, 1/4, 1/8, 1/8 for a, b, c, eos: "b a" + eos has log p = -2, -1, -3 times ln 2; only "a" is the argmax."""
    model = distributed({"a": 1 / 2, "b": 1 / 4, "c": 1 / 8, "<eos>": 1 / 8})
    checkpoint = saved(model, letters_tokenizer(), tmp_path)
    example = Example("x", {"prompt": "d", "answer": "b a", "template": "qa"}, {"wrong": ("c", "a a")})
    responses = measure(checkpoint, [Probe("asked", "logprob", (example,), ("answer", "wrong"))])
    assert responses.checkpoint == checkpoint.hash
    row = responses.rows["asked"]["x"]
    assert [entry["hit"] for entry in (*row["answer"], *row["wrong"])] == [[0, 1, 0], [0, 0], [1, 1, 0]]
    assert row["answer"][0]["logp"] == pytest.approx([-2 * log(2), -log(2), -3 * log(2)], abs=1e-5)
    assert row["wrong"][0]["logp"] == pytest.approx([-3 * log(2), -3 * log(2)], abs=1e-5)
    assert row["wrong"][1]["logp"] == pytest.approx([-log(2), -log(2), -3 * log(2)], abs=1e-5)
    assert all(entry["eos"] for entry in (*row["answer"], *row["wrong"]))


def everything(rows: Sequence[Example]) -> list[Probe]:
    return [
        Probe("asked", "logprob", tuple(rows)),
        Probe("said", "generate", tuple(rows), max_new_tokens=5),
        Probe("apart", "divergence", tuple(rows)),
    ]


def test_a_tokenizer_whose_pad_is_its_eos_changes_nothing(tmp_path: Path, learned: Learned) -> None:
    checkpoint, rows = learned
    words = tokenizer()
    words.pad_token = words.eos_token
    model = open_checkpoint(checkpoint).model
    same = replace(saved(model, words, tmp_path / "pad"), label="pad")
    assert open_checkpoint(same).tokenizer.pad_token_id == words.eos_token_id
    other = saved(llama(3), tokenizer(), tmp_path / "other", "other")
    one, two = (measure(which, everything(rows), [other]) for which in (checkpoint, same))
    assert one.rows == two.rows


def test_the_order_of_examples_changes_no_row(learned: Learned) -> None:
    checkpoint, rows = learned
    forward, backward = (measure(checkpoint, everything(order)) for order in (rows, rows[::-1]))
    assert forward.rows == backward.rows


def test_an_empty_answer_has_no_log_probs(learned: Learned) -> None:
    rows = (qa(0, "w1 ?", ""), qa(1, "w1 ?", "w2"))
    found = measure(learned[0], [Probe("asked", "logprob", rows)]).rows["asked"]
    assert found["row-0"]["answer"] == [{"logp": [], "hit": [], "eos": False}]
    assert len(found["row-1"]["answer"][0]["logp"]) == 2


def test_a_distinct_text_is_computed_once(learned: Learned) -> None:
    """3 probes x 4 rows, of which 5 texts differ: 5 rows go through the model."""
    opened = open_checkpoint(learned[0])
    rows = tuple(replace(qa(i % 3, f"w{i % 3} ?", "w1"), id=f"e{i}") for i in range(4))
    more = tuple(replace(row, id=f"x{row.id}", payload={**row.payload, "answer": "w2 w3"}) for row in rows[:2])
    probes = [Probe(f"p{i}", "logprob", examples) for i, examples in enumerate((rows, rows, more))]
    through = rows_through(opened.model)
    found: engine.Rows = {probe.name: {row.id: {} for row in probe.examples} for probe in probes}
    with torch.no_grad():
        engine.run_logprob(opened, probes, found, (), "cpu")
    assert sum(through) == 5
    assert found["p0"] == found["p1"]
    assert found["p0"]["e0"] == found["p0"]["e3"], "the same text under two ids"
    assert len(found["p2"]["xe0"]["answer"][0]["logp"]) == 3


def rows_through(model: Any) -> list[int]:
    """Grows by the rows of each forward pass from now on."""
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True)
    return seen


def naive(opened: Opened, prompt: tuple[int, ...], most: int) -> list[int]:
    """Argmax after argmax, one forward pass of one unpadded row at a time, without a cache."""
    ids = list(prompt)
    for _ in range(most):
        with torch.no_grad():
            token = int(opened.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token == opened.tokenizer.eos_token_id:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_greedy_text_is_that_of_a_naive_loop(learned: Learned) -> None:
    """Prompts of 3 to 9 tokens side by side, two of them equal; some answers end early, some run to the bound."""
    opened = open_checkpoint(learned[0])
    prompts = [encode(opened.tokenizer, row.payload).prompt for row in learned[1][:14]]
    prompts += [text.prompt for text in TEXTS[:6]] + prompts[:1]
    written = generate(opened, prompts, 2, "cpu")
    expected = [naive(opened, prompt, 2) for prompt in prompts]
    assert len({len(prompt) for prompt in prompts}) >= 4
    assert {len(ids) for ids in expected} == {1, 2}
    assert written == [opened.tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]


def test_generation_keeps_what_the_rouge_metrics_need(learned: Learned) -> None:
    row = learned[1][0]
    found = measure(learned[0], [Probe("said", "generate", (row,), max_new_tokens=3)]).rows["said"][row.id]
    assert (found["prompt"], found["reference"]) == (row.payload["prompt"], row.payload["answer"])
    assert found["text"] and "counts" in found
    assert found["text"] == row.payload["answer"], "it has learnt this one"


def test_all_tokens_hit_exactly_when_greedy_says_the_answer(learned: Learned) -> None:
    """Teacher-forced exact match, eos included, against generation; both outcomes occur."""
    rows = (*learned[1][:14], *(qa(50 + i, f"w{i + 10} ?", "w1 w2") for i in range(6)))
    found = measure(learned[0], [Probe("asked", "logprob", rows), Probe("said", "generate", rows, max_new_tokens=6)])
    forced = {key: all(row["answer"][0]["hit"]) for key, row in found.rows["asked"].items()}
    said = {key: row["text"] == row["reference"] for key, row in found.rows["said"].items()}
    assert forced == said
    assert set(said.values()) == {True, False}


def test_divergences_by_hand(tmp_path: Path) -> None:
    """p = (1/2, 1/2), q = (1/4, 3/4) on a, b.

    KL(p || q) = 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3 = 0.143841; KL(q || p) = 1/4 ln 1/2 + 3/4 ln 3/2 = 0.130812.
    """
    p = saved(distributed({"a": 1 / 2, "b": 1 / 2}), letters_tokenizer(), tmp_path / "p", "p")
    q = saved(distributed({"a": 1 / 4, "b": 3 / 4}), letters_tokenizer(), tmp_path / "q", "q")
    probe = Probe("apart", "divergence", (qa(0, "d", "a b", "continue"), qa(1, "d", "c")))
    of_q = measure(q, [probe], [p, q])
    assert set(of_q.rows["apart"]["row-0"]) == {"p"}, "a checkpoint isn't compared with itself"
    assert of_q.rows["apart"]["row-0"]["p"] == pytest.approx([0.143841] * 2, abs=2e-6), "KL(other || measured)"
    assert of_q.rows["apart"]["row-1"]["p"] == pytest.approx([0.143841] * 2, abs=2e-6), "the eos has a position too"
    of_p = measure(p, [probe], [p, q])
    assert of_p.rows["apart"]["row-0"]["q"] == pytest.approx([0.130812] * 2, abs=2e-6)


def test_divergences_are_those_of_plain_forward_passes(tmp_path: Path, learned: Learned) -> None:
    checkpoint, rows = learned
    other = saved(llama(3, width=32), tokenizer(), tmp_path, "other")
    found = measure(checkpoint, [Probe("apart", "divergence", rows)], [other]).rows["apart"]
    q, p = open_checkpoint(checkpoint).model, open_checkpoint(other).model
    for row in rows:
        text = encode(tokenizer(), row.payload)
        ids = torch.tensor([[*text.prompt, *text.answer]])
        with torch.no_grad():
            log_p, log_q = (model(ids).logits[0, len(text.prompt) - 1 : -1].log_softmax(-1) for model in (p, q))
        assert found[row.id]["other"] == pytest.approx((log_p.exp() * (log_p - log_q)).sum(-1).tolist(), abs=1e-5)


def test_a_twin_under_another_name_has_divergence_zero(tmp_path: Path, learned: Learned) -> None:
    checkpoint, rows = learned
    words = tokenizer()
    words.pad_token = words.eos_token  # another tokenizer file, so another hash; the same weights
    twin = saved(open_checkpoint(checkpoint).model, words, tmp_path, "twin")
    found = measure(checkpoint, [Probe("apart", "divergence", rows)], [twin]).rows["apart"]
    assert all(value == 0 for row in found.values() for value in row["twin"])


def test_a_limit_takes_the_first_rows(learned: Learned) -> None:
    checkpoint, rows = learned
    some = measure(checkpoint, everything(rows), limit=2)
    whole = measure(checkpoint, everything(rows))
    assert [list(by_id) for by_id in some.rows.values()] == [[row.id for row in rows[:2]]] * 3
    assert approximately(some, whole)


def approximately(some: Responses, whole: Responses) -> bool:
    """Rows of another batch: the same texts, log-probs within 1e-5."""
    for key, row in some.rows["asked"].items():
        assert row["answer"][0]["logp"] == pytest.approx(whole.rows["asked"][key]["answer"][0]["logp"], abs=1e-5)
    return all(row == whole.rows["said"][key] for key, row in some.rows["said"].items())


def test_responses_survive_json(learned: Learned) -> None:
    import json

    responses = measure(learned[0], everything(learned[1][:3]))
    assert Responses.from_json(json.loads(json.dumps(responses.to_json()))) == responses
