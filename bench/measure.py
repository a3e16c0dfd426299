"""The measuring engine: every distinct text once, sorted by length, log-softmax in float32, order restored.

Scoring pads on the right, where causal attention can't see it; generation pads on the left with a mask made from the
lengths. Nothing compares ids with the padding token, so a tokenizer whose pad is its eos changes no score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.loaders import Opened, open_checkpoint
from bench.metrics.rouge import overlap
from bench.templates import Encoded, encode
from bench.training import collate
from bench.types import Checkpoint, Probe, Responses

LOGITS_BYTES = 128_000_000
"""Bound on the logits of one batch, float32."""
BATCH_TOKENS = 4096
"""Bound on the padded tokens of one batch."""

Report = Callable[[int, int], None]
Rows = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Item:
    """One text to score."""

    probe: str
    example: str
    role: str
    """logprob: the role of the answer; divergence: empty."""
    encoded: Encoded


@torch.no_grad()
def measure(
    checkpoint: Checkpoint,
    probes: Sequence[Probe],
    others: Sequence[Checkpoint] = (),
    *,
    device: str = "cpu",
    limit: int | None = None,
    report: Report = lambda done, total: None,
) -> Responses:
    """Ask ``checkpoint`` every probe.

    ``others`` are what `divergence` probes compare with (the oracles, under their labels); the measured checkpoint is
    left out of them. ``limit`` cuts every probe to its first examples.
    """
    began = time.perf_counter()
    opened = open_checkpoint(checkpoint, device)
    others = [other for other in others if other.hash != checkpoint.hash]
    if limit is not None:
        probes = [cut(probe, limit) for probe in probes]
    rows: Rows = {probe.name: {example.id: {} for example in probe.examples} for probe in probes}
    by_kind = {kind: [probe for probe in probes if probe.kind == kind] for kind in KINDS}
    done = 0
    for kind, run in KINDS.items():
        if by_kind[kind]:
            run(opened, by_kind[kind], rows, others, device)
        done += len(by_kind[kind])
        report(done, len(probes))
    return Responses(checkpoint.hash, rows, time.perf_counter() - began)


def cut(probe: Probe, limit: int) -> Probe:
    """The probe with its first ``limit`` examples."""
    return replace(probe, examples=probe.examples[:limit])


def run_logprob(opened: Opened, probes: Sequence[Probe], rows: Rows, others: Sequence[Checkpoint], device: str) -> None:
    """Log-prob and argmax hit of every answer token, for each text of each role."""
    items = [item for probe in probes for item in texts_of(opened.tokenizer, probe)]
    for item in items:
        rows[item.probe][item.example].setdefault(item.role, [])
    found = score(opened.model, [item.encoded for item in items], device)
    for item, (logp, hit) in zip(items, found, strict=True):
        entry = {"logp": logp, "hit": hit, "eos": item.encoded.eos}
        rows[item.probe][item.example][item.role].append(entry)


def texts_of(tokenizer: Any, probe: Probe) -> Iterator[Item]:
    """Every text that a logprob probe scores, in order."""
    for example in probe.examples:
        for role in probe.roles:
            texts = (example.payload["answer"],) if role == "answer" else example.references.get(role, ())
            for text in texts:
                yield Item(probe.name, example.id, role, encode(tokenizer, example.payload, text))


def score(model: Any, texts: Sequence[Encoded], device: str) -> list[tuple[list[float], list[int]]]:
    """Per text: log-probs of its answer tokens in nats, and whether each was the most likely token."""
    found: dict[Encoded, tuple[list[float], list[int]]] = {text: ([], []) for text in texts}
    for batch in batches([text for text in found if text.answer], model.config.vocab_size):
        for text, logits in zip(batch, answer_logits(model, batch, device), strict=True):
            labels = torch.tensor(text.answer, device=logits.device)
            logp = logits.log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
            found[text] = (rounded(logp), (logits.argmax(-1) == labels).int().tolist())
    return [found[text] for text in texts]


def batches(texts: Sequence[Encoded], vocabulary: int) -> Iterator[list[Encoded]]:
    """Texts sorted by length and answer start, in batches bounded by tokens and by the bytes of their logits."""
    ordered = sorted(texts, key=lambda text: (text.length, len(text.prompt), text.prompt, text.answer))
    batch: list[Encoded] = []
    for text in ordered:
        grown = [*batch, text]
        width = max(row.length for row in grown)
        scored = width - min(len(row.prompt) for row in grown)
        if batch and (len(grown) * width > BATCH_TOKENS or len(grown) * scored * vocabulary * 4 > LOGITS_BYTES):
            yield batch
            grown = [text]
        batch = grown
    if batch:
        yield batch


def answer_logits(model: Any, texts: Sequence[Encoded], device: str) -> Iterator[Tensor]:
    """The logits that predict each text's answer tokens, (answer tokens, V) in float32."""
    batch = collate(texts, device)
    first, last = int(batch.starts.min()) - 1, int(batch.lengths.max()) - 1
    keep = torch.arange(first, last, device=batch.input_ids.device)
    logits = model(input_ids=batch.input_ids, logits_to_keep=keep, use_cache=False).logits.float()  # (B, K, V)
    for row, text in zip(logits, texts, strict=True):
        begin = len(text.prompt) - 1 - first
        yield row[begin : begin + len(text.answer)]


def rounded(values: Tensor) -> list[float]:
    """Seven significant digits: what float32 holds; what is stored is what is scored."""
    return [float(f"{value:.7g}") for value in values.tolist()]


def run_divergence(
    opened: Opened, probes: Sequence[Probe], rows: Rows, others: Sequence[Checkpoint], device: str
) -> None:
    """KL(other || this model) of the next-token distribution at every answer position, in nats."""
    items = [
        Item(probe.name, example.id, "", encode(opened.tokenizer, example.payload))
        for probe in probes
        for example in probe.examples
    ]
    texts = list(dict.fromkeys(item.encoded for item in items))
    for other in others:
        reference = open_checkpoint(other, device).model
        found: dict[Encoded, list[float]] = {text: [] for text in texts}
        for batch in batches([text for text in texts if text.answer], opened.model.config.vocab_size):
            ours = answer_logits(opened.model, batch, device)
            theirs = answer_logits(reference, batch, device)
            for text, q, p in zip(batch, ours, theirs, strict=True):
                p, q = p.log_softmax(-1), q.log_softmax(-1)
                found[text] = rounded((p.exp() * (p - q)).sum(-1).clamp(min=0))
        for item in items:
            rows[item.probe][item.example][other.label] = found[item.encoded]


def run_generate(
    opened: Opened, probes: Sequence[Probe], rows: Rows, others: Sequence[Checkpoint], device: str
) -> None:
    """Greedy continuations, with the counts of their overlap with the example's answer."""
    for probe in probes:
        prompts = [encode(opened.tokenizer, example.payload).prompt for example in probe.examples]
        texts = generate(opened, prompts, probe.max_new_tokens, device)
        for example, text in zip(probe.examples, texts, strict=True):
            row = {"prompt": example.payload["prompt"], "reference": example.payload["answer"], "text": text}
            rows[probe.name][example.id].update(row | {"counts": overlap(text, example.payload["answer"])})


def generate(opened: Opened, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, device: str) -> list[str]:
    """Greedy text after each prompt, special tokens dropped; each distinct prompt once."""
    from transformers import GenerationConfig

    tokenizer, written = opened.tokenizer, dict[tuple[int, ...], str]()
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=opened.model.generation_config.eos_token_id or tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    )
    opened.model.generation_config = config  # else its own repetition penalty and the like fill what ours leaves open
    ordered = sorted(set(prompts), key=lambda prompt: (len(prompt), prompt))
    for start in range(0, len(ordered), 64):
        batch = ordered[start : start + 64]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in batch], device=device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch], device=device)
        out = opened.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        texts = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        written.update(zip(batch, texts, strict=True))
    return [written[prompt] for prompt in prompts]


def run_lm_eval(opened: Opened, probes: Sequence[Probe], rows: Rows, others: Sequence[Checkpoint], device: str) -> None:
    """lm-eval's own evaluator on the model in memory: a choice task of our rows, or lm-eval's tasks by name."""
    from bench.lmeval import evaluate_probe

    for probe in probes:
        try:
            rows[probe.name] = evaluate_probe(opened.model, opened.tokenizer, probe, device)
        except (
            FloatingPointError
        ):  # a model that broke down has no answers: its score is absent, not the first choice's
            rows[probe.name] = {}


Runner = Callable[[Opened, Sequence[Probe], Rows, Sequence[Checkpoint], str], None]
KINDS: Mapping[str, Runner] = {
    "logprob": run_logprob,
    "generate": run_generate,
    "divergence": run_divergence,
    "lm-eval": run_lm_eval,
}
"""Probe kind -> how to ask it."""
