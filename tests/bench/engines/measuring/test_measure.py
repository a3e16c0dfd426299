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

from bench.core import distributed as processes
from bench.core.contracts import Opened
from bench.core.types import BROKEN_DOWN, OTHER_BROKEN, Checkpoint, Example, Probe, Responses
from bench.engines.loaders import open_checkpoint
from bench.engines.measuring import measure as engine
from bench.engines.measuring import scoring
from bench.engines.measuring.generation import GenerationCost, GenerationSettings, Sampling, generate
from bench.engines.measuring.measure import Session, measure, merge_rows, own_share, score_texts, total_cost
from bench.engines.templates import Encoded, encode
from tests.tiny import distributed, letters_tokenizer, llama, passage, qa, saved, tokenizer, wrecked

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


@pytest.mark.parametrize("tokens", [1, 40, 2048])
def test_scores_are_those_of_a_plain_forward_pass(
    monkeypatch: pytest.MonkeyPatch, learned: Learned, tokens: int
) -> None:
    """In any order and in batches of 1, of a few and of all."""
    monkeypatch.setattr(scoring, "BATCH_TOKENS", tokens)
    opened = open_checkpoint(learned[0])
    texts = list(TEXTS)
    random.Random(tokens).shuffle(texts)
    with torch.no_grad():
        found = score_texts(session(opened), texts, set())
    for text in texts:
        expected, hits = plain(opened.model, text)
        assert found[text]["logp"] == pytest.approx(expected, abs=1e-5)
        assert found[text]["hit"] == hits
    hits = [hit for one in found.values() for hit in one["hit"]]
    assert 0 < sum(hits) < len(hits), "some tokens hit and some missed"


def session(opened: Opened, **fields: Any) -> Session:
    return Session(opened, "cpu", fields.pop("rows", {}), fields.pop("others", ()), fields.pop("reference", None))


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


def test_of_equal_logits_the_first_token_is_said(tmp_path: Path) -> None:
    """A dead model, under which all tokens are equally likely, has memorised nothing: greedy says the first alone."""
    flat = saved(distributed(dict.fromkeys(("a", "b", "c", "d"), 1 / 4)), letters_tokenizer(), tmp_path)
    rows = (qa(0, "d", "a a", "continue"), qa(1, "d", "b c", "continue"))
    found = measure(flat, [Probe("asked", "logprob", rows), Probe("said", "generate", rows, max_new_tokens=2)]).rows
    assert found["asked"]["row-0"]["answer"][0]["hit"] == [1, 1] and found["said"]["row-0"]["text"] == "a a"
    assert found["asked"]["row-1"]["answer"][0]["hit"] == [0, 0]


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


def test_a_distinct_position_is_computed_once(learned: Learned) -> None:
    """3 probes of 10 rows in all, 5 different texts: bos + "Q: w0 w0 ? A:" (5) and so on, w1 or w2 w3 behind it.

    Questions 0, 1 and 2 have 6 prompt tokens, of which bos and "Q:" are common: 2 + 3 x 4 = 14. Behind each stand w1
    (1), behind 0 and 1 also w2 w3 (2): 14 + 3 + 4 = 21; the eos at the ends predicts nothing.
    """
    opened = open_checkpoint(learned[0])
    rows = tuple(replace(qa(i % 3, f"w{i % 3} w{i % 3} ?", "w1"), id=f"e{i}") for i in range(4))
    more = tuple(replace(row, id=f"x{row.id}", payload={**row.payload, "answer": "w2 w3"}) for row in rows[:2])
    probes = [Probe(f"p{i}", "logprob", examples) for i, examples in enumerate((rows, rows, more))]
    found: engine.Rows = {probe.name: {row.id: {} for row in probe.examples} for probe in probes}
    asked = session(opened, rows=found)
    with torch.no_grad():
        engine.run_logprob(asked, probes)
    assert asked.trees is True
    assert asked.cost["distinct"] == 21
    assert found["p0"] == found["p1"]
    assert found["p0"]["e0"] == found["p0"]["e3"], "the same text under two ids"
    assert len(found["p2"]["xe0"]["answer"][0]["logp"]) == 3


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
    cost = GenerationCost()
    written = generate(opened, prompts, GenerationSettings(2), "cpu", cost)
    expected = [naive(opened, prompt, 2) for prompt in prompts]
    assert len({len(prompt) for prompt in prompts}) >= 4
    assert {len(ids) for ids in expected} == {1, 2}
    assert written == [[opened.tokenizer.decode(ids, skip_special_tokens=True)] for ids in expected]
    distinct = {prompt: len(ids) for prompt, ids in zip(prompts, expected, strict=True)}
    assert cost.steps == len(distinct), "one step behind the prompt's own; whoever has ended takes no further one"


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
    probe = Probe("apart", "divergence", (qa(0, "d", "a b", "continue"), qa(1, "d", "c c"), qa(2, "d", "c")))
    of_q = measure(q, [probe], [p, q])
    assert set(of_q.rows["apart"]["row-0"]) == {"p"}, "a checkpoint isn't compared with itself"
    assert of_q.rows["apart"]["row-0"]["p"] == pytest.approx([0.143841] * 2, abs=2e-6), "KL(other || measured)"
    assert of_q.rows["apart"]["row-1"]["p"] == pytest.approx([0.143841] * 3, abs=2e-6), "the eos has a position too"
    assert of_q.rows["apart"]["row-2"]["p"] == pytest.approx([0.143841], abs=2e-6), "but not behind one token"
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
        apart = (log_p.exp() * (log_p - log_q)).sum(-1).tolist()
        assert found[row.id]["other"] == pytest.approx(apart[:1] if len(apart) == 2 else apart, abs=1e-5)


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


def test_moments_and_compressed_length_by_hand(tmp_path: Path) -> None:
    """p = 1/2, 1/4, 1/8, 1/8: mean of ln p = -(1/2 + 2/4 + 3/8 + 3/8) ln 2 = -1.75 ln 2; the variance is
    (.5 x .75^2 + .25 x .25^2 + .25 x 1.25^2) ln^2 2 = .6875 ln^2 2."""
    import zlib

    model = distributed({"a": 1 / 2, "b": 1 / 4, "c": 1 / 8, "<eos>": 1 / 8})
    checkpoint = saved(model, letters_tokenizer(), tmp_path)
    example = Example("x", {"prompt": "d", "answer": "b a", "template": "qa"})
    asked = Probe("asked", "logprob", (example,), options={"vocabulary": True, "zlib": True})
    other = Probe("other", "logprob", (example,))
    rows = measure(checkpoint, [asked, other]).rows
    entry = rows["asked"]["x"]["answer"][0]
    assert entry["mu"] == pytest.approx([-1.75 * log(2)] * 3, rel=1e-5)
    assert entry["sigma"] == pytest.approx([0.6875**0.5 * log(2)] * 3, rel=1e-5)
    assert entry["zlib"] == len(zlib.compress(b"b a"))
    assert set(rows["other"]["x"]["answer"][0]) == {"logp", "hit", "eos"}, "only where it is asked for"


def test_a_sure_distribution_has_the_least_deviation(tmp_path: Path) -> None:
    checkpoint = saved(distributed({"a": 1.0}), letters_tokenizer(), tmp_path)
    asked = Probe("asked", "logprob", (qa(0, "d", "a", "continue"),), options={"vocabulary": True})
    entry = measure(checkpoint, [asked]).rows["asked"]["row-0"]["answer"][0]
    assert entry["sigma"] == pytest.approx([1e-3])


def test_the_gradient_norm_is_that_of_a_plain_backward_pass(learned: Learned) -> None:
    """Mean over parameter tensors of the gradient's norm, the eos left out; nothing stays on the model."""
    checkpoint, rows = learned
    found = measure(checkpoint, [Probe("g", "gradnorm", (rows[0], rows[12], rows[14]))]).rows["g"]
    model = open_checkpoint(checkpoint).model
    for row in (rows[0], rows[12], rows[14]):
        text = encode(tokenizer(), row.payload)
        ids = [*text.prompt, *text.answer][: text.length - text.eos]
        logits = model(torch.tensor([ids])).logits[0, len(text.prompt) - 1 : -1]
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.tensor(ids[len(text.prompt) :])).backward()
        norms = [float(parameter.grad.norm()) for parameter in model.parameters()]
        assert found[row.id]["norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-4)


def test_a_reference_is_asked_in_the_models_place(tmp_path: Path, learned: Learned) -> None:
    """p(b) = 1/4 and p(a) = 1/2 whatever stands before: the loss of "b a" without eos is 3/2 ln 2."""
    before = saved(distributed({"a": 1 / 2, "b": 1 / 4, "c": 1 / 4}), letters_tokenizer(), tmp_path / "before")
    model = saved(distributed({"a": 1 / 4, "b": 3 / 4}), letters_tokenizer(), tmp_path / "model")
    probe = Probe("asked_reference", "reference", (qa(0, "d", "b a", "continue"),))
    assert measure(model, [probe], reference=before).rows["asked_reference"]["row-0"]["loss"] == pytest.approx(
        1.5 * log(2), rel=1e-5
    )
    assert measure(model, [probe]).rows["asked_reference"] == {}, "without one there is nothing"


def test_stops_cut_and_references_are_cut(learned: Learned) -> None:
    """The answer learnt is three words; a stop at the second leaves the first, a reference of 2 tokens the first two."""
    checkpoint, rows = learned
    row = rows[10]
    words = row.payload["answer"].split()
    whole = Probe("whole", "generate", (row,), max_new_tokens=3, options={"reference_tokens": 2})
    stopped = Probe("stopped", "generate", (row,), max_new_tokens=3, options={"stops": [words[1]]})
    found = measure(checkpoint, [whole, stopped]).rows
    assert found["whole"][row.id]["text"] == " ".join(words)
    assert found["whole"][row.id]["reference"] == " ".join(words[:2])
    assert found["whole"][row.id]["counts"]["n_ref"] == 2 and found["whole"][row.id]["counts_whole"]["n_ref"] == 3
    assert found["stopped"][row.id]["text"].strip() == words[0]


def test_samples_depend_on_seed_repeat_and_prompt_alone(tmp_path: Path) -> None:
    """p = 1/2, 1/4, 1/4: shares of 600 draws within 4 deviations; another batch gives the same texts."""
    model = saved(distributed({"a": 1 / 2, "b": 1 / 4, "c": 1 / 4}), letters_tokenizer(), tmp_path)
    opened = open_checkpoint(model)
    asking = GenerationSettings(6, sampling=Sampling(seed=5, repeats=100))
    one, two = (encode(opened.tokenizer, qa(0, p, "a").payload).prompt for p in ("d", "d a"))
    both, alone = generate(opened, [one, two], asking), generate(opened, [two], asking)
    assert both[1] == alone[0] and both[0] != both[1]
    letters = " ".join(both[0]).split()
    assert len(letters) == 600
    assert letters.count("a") / 600 == pytest.approx(1 / 2, abs=4 * (0.25 / 600) ** 0.5)
    assert letters.count("b") / 600 == pytest.approx(1 / 4, abs=4 * (0.1875 / 600) ** 0.5)
    assert generate(opened, [one], GenerationSettings(6, sampling=Sampling(seed=6, repeats=100)))[0] != both[0]


def test_accepted_answers_are_matched(learned: Learned) -> None:
    checkpoint, rows = learned
    row = replace(rows[0], references={"accepted": (rows[0].payload["answer"],), "corrupted": ("w29",)})
    sample = {"seed": 1, "repeats": 3, "temperature": 0.01}
    found = measure(checkpoint, [Probe("said", "generate", (row,), max_new_tokens=3, options={"sample": sample})])
    kept = found.rows["said"][row.id]
    assert len(kept["texts"]) == 3 and [one["exact"] for one in kept["matches"]] == [1, 1, 1]
    assert [one["wrong"] for one in kept["matches"]] == [0, 0, 0]
    assert "texts" not in found.publishable().rows["said"][row.id], "published rows hold no text"


def test_the_reference_is_the_datas_own_answer(learned: Learned) -> None:
    """An answer that repeats its prompt used to lose the repeated part."""
    row = qa(0, "w1 w2 ?", "w1 w2 ? w3 w4")
    found = measure(learned[0], [Probe("said", "generate", (row,), max_new_tokens=2)]).rows["said"]["row-0"]
    assert found["reference"] == "w1 w2 ? w3 w4" and found["counts"]["n_ref"] == 4


def test_a_text_longer_than_learnt_positions_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from bench.core.errors import UserError

    words = tokenizer()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=8, n_embd=16, n_layer=1, n_head=2))
    checkpoint = saved(model.eval(), words, tmp_path)
    with pytest.raises(UserError, match="longer than the model's 8 positions"):
        measure(checkpoint, [Probe("asked", "logprob", (qa(0, "w1", "w2"), passage(0, "w1 " * 12)))])


def rows_probe(name: str, kind: str, n: int) -> Probe:
    return Probe(name, kind, tuple(Example(f"{name}-{i}", {"prompt": "", "answer": "a"}) for i in range(n)))


def test_shares_are_merged_in_the_order_of_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 rows over 3 processes: 0 3, 1 4 and 2; a task of lm-eval is asked whole by one of them."""
    probes = [rows_probe("rows", "logprob", 5), rows_probe("one", "generate", 1), rows_probe("task", "lm-eval", 2)]
    parts = []
    for rank in range(3):
        monkeypatch.setattr(processes, "_ring", processes.Ring(None, rank, 3))
        parts.append({part.name: {row.id: {"by": rank} for row in part.examples} for part in own_share(probes)})
    assert [list(part.get("rows", {})) for part in parts] == [["rows-0", "rows-3"], ["rows-1", "rows-4"], ["rows-2"]]
    assert [list(part) for part in parts] == [["rows", "one", "task"], ["rows"], ["rows"]]
    found = merge_rows(probes, parts)
    assert [row["by"] for row in found["rows"].values()] == [0, 1, 2, 0, 1]
    assert {name: list(rows) for name, rows in found.items()} == {
        probe.name: [row.id for row in probe.examples] for probe in probes
    }


def test_work_is_added_up_and_seconds_are_the_longest() -> None:
    assert total_cost([{"positions": 3, "seconds_logprob": 1.0}, {"positions": 4, "seconds_logprob": 2.5}]) == {
        "positions": 7,
        "seconds_logprob": 2.5,
    }


@pytest.mark.parametrize(("number", "dtype"), [(float("nan"), "float32"), (float("inf"), "float32"), (6e4, "float16")])
def test_a_wreck_has_no_rows_and_says_so(number: float, dtype: str, tmp_path: Path, learned: Learned) -> None:
    """NaN or infinite weights, and logits beyond float16; an argmax of NaN would be the first token."""
    wreck = replace(saved(wrecked(llama(1, width=64), number), tokenizer(), tmp_path), dtype=dtype)
    probes = [*everything(learned[1]), Probe("norms", "gradnorm", learned[1][:2])]
    found = measure(wreck, probes, [saved(llama(3), tokenizer(), tmp_path / "other", "other")])
    assert found.broken == dict.fromkeys(("asked", "said", "apart", "norms"), BROKEN_DOWN) and found.wrecked
    assert found.rows == dict.fromkeys(("asked", "said", "apart", "norms"), {})
    assert Responses.from_json(found.to_json()) == found == found.publishable()


def test_another_models_breakdown_is_not_the_measured_ones(tmp_path: Path, learned: Learned) -> None:
    wreck = saved(wrecked(llama(1)), tokenizer(), tmp_path, "oracle-0")
    probes = [*everything(learned[1]), Probe("beside", "reference", learned[1])]
    found = measure(learned[0], probes, [wreck], reference=wreck)
    assert found.broken == {
        "apart": OTHER_BROKEN.format("the oracle"),
        "beside": OTHER_BROKEN.format("the reference model"),
    }
    assert not found.wrecked and found.rows["apart"] == found.rows["beside"] == {}
    sound = measure(learned[0], everything(learned[1]))
    assert {name: found.rows[name] for name in ("asked", "said")} == {n: sound.rows[n] for n in ("asked", "said")}
    both = measure(wreck, probes, [saved(wrecked(llama(2)), tokenizer(), tmp_path / "2", "oracle-1")], reference=wreck)
    assert both.broken["apart"] == BROKEN_DOWN


def test_what_has_no_numbers_is_absent_and_the_rest_is_kept(tmp_path: Path, learned: Learned) -> None:
    """One word whose embedding is NaN takes the probes that hold it, whole: a mean over the other rows is no score."""
    opened = open_checkpoint(learned[0])
    opened.model.config.tie_word_embeddings = False
    opened.model.lm_head.weight = torch.nn.Parameter(opened.model.lm_head.weight.detach().clone())
    with torch.no_grad():
        opened.model.get_input_embeddings().weight[opened.tokenizer.convert_tokens_to_ids("w20")] = torch.nan
    wreck = saved(opened.model, opened.tokenizer, tmp_path / "wreck", "wreck")
    sound, hit = (qa(0, "w1 ?", "w2 w3"), qa(1, "w4 ?", "w5")), qa(2, "w20 ?", "w6")
    options: dict[str, Any] = {"max_new_tokens": 3}
    kinds = {"logprob": {"roles": ("answer",)}, "generate": options, "gradnorm": {}}
    drawn = {"sample": {"seed": 0, "repeats": 2}}
    probes = [
        *(Probe(f"{kind}-sound", kind, sound, **given) for kind, given in kinds.items()),
        *(Probe(f"{kind}-hit", kind, (*sound, hit), **given) for kind, given in kinds.items()),
        Probe("sampled-hit", "generate", (*sound, hit), options=drawn, **options),
    ]
    found = measure(wreck, probes)
    assert found.broken == dict.fromkeys(
        [f"{kind}-hit" for kind in (*kinds, "sampled")], "the model has broken down: its logits are no finite numbers"
    )
    for kind in kinds:
        assert found.rows[f"{kind}-hit"] == {} and set(found.rows[f"{kind}-sound"]) == {row.id for row in sound}
    for row in sound:
        right = plain(opened.model, encode(opened.tokenizer, row.payload))[0]
        assert found.rows["logprob-sound"][row.id]["answer"][0]["logp"] == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize("lacks", ["bos", "eos"])
def test_texts_without_special_tokens_are_those_of_plain_passes(tmp_path: Path, lacks: str) -> None:
    words = tokenizer()
    setattr(words, f"{lacks}_token", None)
    checkpoint = saved(llama(3), words, tmp_path / "bare")
    rows = (*(passage(i, " ".join(f"w{k}" for k in range(i, 2 * i + 1))) for i in range(4)), qa(9, "w1 ?", "w2 w3"))
    found = measure(checkpoint, [Probe("all", "logprob", rows, ("answer",))]).rows["all"]
    for row in rows:
        ids = words.encode(row.payload["answer"], add_special_tokens=False)
        front = words.encode("Q: w1 ? A:", add_special_tokens=False) if row.payload["prompt"] else []
        front = [1, *front] if lacks == "eos" else front
        end = [2] if row.payload["prompt"] and lacks == "bos" else []
        front, ids = (front, ids) if front else (ids[:1], ids[1:])
        right = plain(llama(3), Encoded(tuple(front), (*ids, *end), False))[0]
        assert found[row.id]["answer"][0]["logp"] == pytest.approx(right, abs=1e-5)
