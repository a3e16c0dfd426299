"""The measuring engine: every kind of probe, each distinct text once, order restored.

`bench.engines.measuring.scoring` lays out what is scored and `bench.engines.measuring.generation` writes what is
generated; here probes become texts, and what the model says of them becomes rows (`bench.core.rows`). Log-softmax is
taken in float32 whatever the model's dtype.
"""

from __future__ import annotations

import math
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bench.core import distributed
from bench.core.contracts import Opened
from bench.core.types import BROKEN_DOWN, OTHER_BROKEN, Checkpoint, Example, Probe, Responses
from bench.engines.coding import Texts
from bench.engines.devices import Held, send_numbers
from bench.engines.loaders import open_checkpoint
from bench.engines.measuring import depth, scoring
from bench.engines.measuring.generation import GenerationCost, GenerationSettings, generate
from bench.engines.measuring.gradients import gradient_norms
from bench.engines.positions import check_length
from bench.engines.templates import Encoded
from bench.metrics.answers import match
from bench.metrics.rouge import count_overlap

Report = Callable[[int, int], None]
Rows = dict[str, dict[str, dict[str, Any]]]
CLASS_ROWS = 256
"""Images or nodes that go through a classifier together."""
LEAST_VARIANCE = 1e-6
"""Of the log-probs under the vocabulary distribution, in min-k++ (Zhang et al. 2024, arXiv 2404.02936)."""


@dataclass(frozen=True)
class Item:
    """One text that is to be scored."""

    probe: Probe
    example: str
    role: str
    """logprob: the role of the answer; other kinds: empty."""
    encoded: Encoded

    def asks(self, option: str) -> bool:
        """Whether the probe has the option, and this is the text that it is about."""
        return self.role == "answer" and bool(self.probe.options.get(option))


@dataclass
class Session:
    """A model in memory and what it is asked with."""

    opened: Opened
    device: str
    rows: Rows
    others: Sequence[Checkpoint]
    """What `divergence` probes compare with."""
    reference: Checkpoint | None
    """The model that `reference` probes ask in this one's place."""
    target: Checkpoint | None = None
    """The model whose depth `depth` probes look into: what was unlearned."""
    trees: bool | None = None
    """Whether texts may share a row; None: not tried yet."""
    broken: dict[str, str] = field(default_factory=dict)
    """Probe -> the reason why what it was answered is no number, so that its rows can't be scored."""
    cost: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """``positions`` computed for log-probs, padding included, and ``distinct`` ones among them; ``prompt_positions``
    and ``row_steps`` of generation; ``seconds_<kind>``."""

    def spoil(self, probe: Probe, reason: str = BROKEN_DOWN) -> None:
        """Take back the rows of a probe: a model has broken down there, and no score is to be made of them."""
        self.rows[probe.name] = {}
        self.broken.setdefault(probe.name, reason)

    def plan(self, texts: Sequence[Encoded]) -> list[list[scoring.TreeRow]]:
        """Lay out ``texts`` in batches."""
        check_length(self.opened.model.config, max((text.length for text in texts), default=0))
        if self.trees is None:
            self.trees = scoring.takes_trees(self.opened.model, texts, self.device)
        made = scoring.plan_batches(self.opened.model, texts, self.trees)
        self.cost["positions"] += sum(len(batch) * max(len(row.ids) for row in batch) for batch in made)
        self.cost["distinct"] += sum(len(row.ids) for batch in made for row in batch)
        return made


@torch.no_grad()
def measure(
    checkpoint: Checkpoint,
    probes: Sequence[Probe],
    others: Sequence[Checkpoint] = (),
    *,
    reference: Checkpoint | None = None,
    target: Checkpoint | None = None,
    device: str = "cpu",
    limit: int | None = None,
    report: Report = lambda done, total: None,
) -> Responses:
    """Ask ``checkpoint`` every probe, and keep what it says.

    ``others`` are what `divergence` probes compare with (the oracles, under their labels); the measured checkpoint is
    left out of them. ``reference`` is who `reference` probes ask (membership by comparison with a model that never saw
    the texts), ``target`` whose states `depth` probes replace. ``limit`` cuts every probe to its first examples.
    Where several processes work together
    (`bench.core.distributed`), each must call this and asks its share; the first one returns the rows of all.
    """
    began = time.perf_counter()
    if limit is not None:
        probes = [first_examples(probe, limit) for probe in probes]
    whole, probes = probes, own_share(probes)
    rows: Rows = {probe.name: {example.id: {} for example in probe.examples} for probe in probes}
    others = [other for other in others if other.hash != checkpoint.hash]
    session = Session(open_checkpoint(checkpoint, device), device, rows, others, reference, target)
    done = 0
    for kind, run in KINDS.items():
        asked = [probe for probe in probes if probe.kind == kind]
        start = time.perf_counter()
        if asked:
            run(session, asked)
            session.cost[f"seconds_{kind}"] = round(time.perf_counter() - start, 3)
        for probe in asked:
            if not all(map(holds_finite, rows[probe.name].values())):
                session.spoil(probe)
        done += len(asked)
        report(done, len(probes))
    each = distributed.gather((rows, dict(session.cost), session.broken))
    broken = {name: reason for *_, part in each for name, reason in part.items()}
    rows, cost = merge_rows(whole, [part[0] for part in each]), total_cost([part[1] for part in each])
    rows |= {name: {} for name in broken}
    attention = getattr(getattr(session.opened.model, "config", None), "_attn_implementation", "")
    return Responses(checkpoint.hash, rows, time.perf_counter() - began, cost, broken, attention)


def own_share(probes: Sequence[Probe]) -> list[Probe]:
    """This process's part of every probe; tasks of lm-eval stay whole and go round."""
    if distributed.world() == 1:
        return list(probes)
    split = [replace(probe, examples=tuple(distributed.take_share(probe.examples))) for probe in probes]
    whole = [probe for probe in probes if probe.kind == "lm-eval"]
    return [probe for probe in split if probe.kind != "lm-eval" and probe.examples] + list(
        distributed.take_share(whole)
    )


def merge_rows(probes: Sequence[Probe], parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in the order of the probes' examples."""
    if len(parts) == 1:
        return parts[0]
    found: Rows = {}
    for probe in probes:
        rows = {example: row for part in parts for example, row in part.get(probe.name, {}).items()}
        order = dict.fromkeys([*(example.id for example in probe.examples if example.id in rows), *rows])
        found[probe.name] = {example: rows[example] for example in order}
    return found


def total_cost(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The cost of all processes: work is added up, seconds are those of the slowest one."""
    names = dict.fromkeys(name for cost in each for name in cost)
    return {name: (max if name.startswith("seconds") else sum)(cost.get(name, 0.0) for cost in each) for name in names}


def first_examples(probe: Probe, limit: int) -> Probe:
    """The probe with its first ``limit`` examples."""
    return replace(probe, examples=probe.examples[:limit])


def run_logprob(session: Session, probes: Sequence[Probe]) -> None:
    """Log-prob and argmax hit of every answer token, for each text of each role.

    Options, for the role ``answer``: ``vocabulary`` adds mean and deviation of the log-prob under the vocabulary
    distribution, ``zlib`` the compressed length of the answer's text in bytes.
    """
    items = [item for probe in probes for item in texts_of(session.opened.coder, probe)]
    spread = {item.encoded for item in items if item.asks("vocabulary")}
    found = score_texts(session, [item.encoded for item in items], spread)
    for item in items:
        entry = {**found[item.encoded], "eos": item.encoded.eos}
        if not item.asks("vocabulary"):
            entry = {name: value for name, value in entry.items() if name not in ("mu", "sigma")}
        if item.asks("zlib"):
            entry["zlib"] = compressed_bytes(session.opened.tokenizer, item.encoded)
        session.rows[item.probe.name][item.example].setdefault(item.role, []).append(entry)


def texts_of(coder: Texts, probe: Probe) -> Iterator[Item]:
    """Every text that a logprob probe scores, in order."""
    for example in probe.examples:
        for role in probe.roles:
            texts = (example.payload["answer"],) if role == "answer" else example.references.get(role, ())
            for text in texts:
                yield Item(probe, example.id, role, coder.encode(example.payload, text))


def own_texts(coder: Texts, probes: Sequence[Probe]) -> list[Item]:
    """The payload's own answer of every example."""
    return [Item(p, example.id, "", coder.encode(example.payload)) for p in probes for example in p.examples]


def score_texts(
    session: Session, texts: Sequence[Encoded], spread: set[Encoded]
) -> dict[Encoded, dict[str, list[float]]]:
    """Per text ``logp`` of its answer tokens in nats and ``hit``: whether each was the most likely token.

    For the texts in ``spread`` also ``mu`` and ``sigma``.
    """
    held: dict[str, Held[Encoded]] = {name: Held() for name in ("logp", "hit", "mu", "sigma")}
    for batch in session.plan(texts):
        seen = scoring.forward_rows(session.opened.model, batch, session.device)
        places = send_numbers((k for at in seen.at for k in at), session.device)
        labels = send_numbers((token for text in seen.texts for token in text.answer), session.device)
        lengths = list(map(len, seen.at))
        held["hit"].add(seen.texts, lengths, are_likeliest(seen.logits, places, labels).int())
        held["logp"].add(seen.texts, lengths, seen.logits.log_softmax(-1)[places, labels])
        wide = {text: at for text, at in zip(seen.texts, seen.at, strict=True) if text in spread}
        if wide:
            wanted = sorted({k for at in wide.values() for k in at})
            number = {k: i for i, k in enumerate(wanted)}
            own = send_numbers((number[k] for at in wide.values() for k in at), session.device)
            for name, values in moments(seen.logits[send_numbers(wanted, session.device)].log_softmax(-1)).items():
                held[name].add(wide, list(map(len, wide.values())), values[own])
    found: dict[Encoded, dict[str, list[float]]] = {text: {"logp": [], "hit": []} for text in texts}
    for name, each in held.items():
        for text, numbers in each.fetch().items():
            found[text][name] = numbers if name == "hit" else seven_digits(numbers)
    return found


def are_likeliest(logits: Tensor, places: Tensor, labels: Tensor) -> Tensor:
    """Whether each label is the most likely token at its place; among equals the first of them is."""
    if logits.device.type != "cpu":
        return logits.argmax(-1)[places] == labels
    hits = logits[places, labels] == logits.amax(-1)[places]
    largest = hits.nonzero()[:, 0]  # argmax is slow on a CPU, and only decides among equals; a GPU would wait for this
    hits[largest] = logits[places[largest]].argmax(-1) == labels[largest]
    return hits


def moments(logps: Tensor) -> dict[str, Tensor]:
    """Mean and deviation of log p under p at each position, (P,); the variance is at least `LEAST_VARIANCE`.

    Twice through the distribution, where the peer subtracts two large numbers.
    """
    p = logps.exp()
    mu = (p * logps).sum(-1)
    variance = (p * (logps - mu[:, None]).square()).sum(-1)
    return {"mu": mu, "sigma": variance.clamp(min=LEAST_VARIANCE).sqrt()}


def compressed_bytes(tokenizer: Any, text: Encoded) -> int:
    """Bytes of the answer's text after zlib; the text is the decoded answer tokens, special ones skipped."""
    return len(zlib.compress(tokenizer.decode(list(text.answer), skip_special_tokens=True).encode()))


def seven_digits(values: Sequence[float]) -> list[float]:
    """Seven significant digits: what float32 holds; what is stored is what is scored."""
    return [float(f"{value:.7g}") for value in values]


def holds_finite(value: Any) -> bool:
    """Whether every number in a row, however deep, is finite."""
    if isinstance(value, float):  # first, as nearly all are
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(holds_finite, value))
    return not isinstance(value, Mapping) or all(map(holds_finite, value.values()))


def run_classes(session: Session, probes: Sequence[Probe]) -> None:
    """Log-prob of every class, and of the right one as of a one-token answer: what metrics of answers read."""
    coder, model = session.opened.coder, session.opened.model
    items = [(probe.name, row.id, coder.encode(row.payload)) for probe in probes for row in probe.examples]
    distinct = list(dict.fromkeys(item[2] for item in items))
    held: Held[Any] = Held()
    best: Held[Any] = Held()
    for start in range(0, len(distinct), CLASS_ROWS):
        rows = distinct[start : start + CLASS_ROWS]
        logps = coder.collate(rows, session.device).class_log_probs(model)  # (B, C)
        held.add(rows, [logps.shape[1]] * len(rows), logps.flatten())
        best.add(rows, [1] * len(rows), logps.argmax(-1))
    said, numbers = best.fetch(), held.fetch()
    found: dict[Any, dict[str, Any]] = {}
    for row in distinct:
        values = seven_digits(numbers[row])
        answer = {"logp": [values[row.label]], "hit": [int(said[row] == [row.label])], "eos": False}
        found[row] = {"answer": [answer], "classes": values}
    session.cost["positions"] += len(distinct)
    session.cost["distinct"] += len(distinct)
    for name, example, row in items:
        session.rows[name][example] = found[row]


def run_divergence(session: Session, probes: Sequence[Probe]) -> None:
    """KL(other || this model) of the next-token distribution at every answer position, in nats."""
    if not session.others:
        return
    items = own_texts(session.opened.coder, probes)
    plan = session.plan([item.encoded for item in items])
    blames: list[Tensor] = []
    for other in session.others:
        theirs = open_checkpoint(other, session.device).model
        held: Held[Encoded] = Held()
        for batch in plan:
            seen = scoring.forward_rows(session.opened.model, batch, session.device)
            p = scoring.forward_rows(theirs, batch, session.device).logits.log_softmax(-1)
            q = seen.logits.log_softmax(-1)
            apart = (p.exp() * (p - q)).sum(-1).clamp(min=0)
            blames.append(~apart.isfinite().all() & q.isfinite().all())
            places = send_numbers((k for at in seen.at for k in at), session.device)
            held.add(seen.texts, list(map(len, seen.at)), apart[places])
        found = held.fetch()
        for item in items:
            values = without_lone_eos(item.encoded, found.get(item.encoded, []))
            session.rows[item.probe.name][item.example][other.label] = seven_digits(values)
    blamed = bool(blames) and bool(torch.stack(blames).any())
    blame_other(session, probes, OTHER_BROKEN.format("the oracle") if blamed else "")


def without_lone_eos(text: Encoded, values: Sequence[float]) -> Sequence[float]:
    """The values of an answer's tokens, the eos left out behind a single one, as half of their mean would be about it."""
    return values[:1] if text.eos and len(values) == 2 else values


def blame_other(session: Session, probes: Sequence[Probe], reason: str) -> None:
    """Take back those probes' rows that hold no finite numbers, where another model is the ``reason``."""
    for probe in probes:
        if reason and not holds_finite(session.rows[probe.name]):
            session.spoil(probe, reason)


def run_reference(session: Session, probes: Sequence[Probe]) -> None:
    """The mean answer loss under the reference model, nats per token; no row where there is no reference."""
    if session.reference is None:
        for probe in probes:
            session.rows[probe.name] = {}
        return
    rows: Rows = {probe.name: {example.id: {} for example in probe.examples} for probe in probes}
    asked = Session(open_checkpoint(session.reference, session.device), session.device, rows, (), None)
    items = own_texts(asked.opened.coder, probes)
    found = score_texts(asked, [item.encoded for item in items], set())
    for name, value in asked.cost.items():
        session.cost[name] += value
    for item in items:
        if logp := found[item.encoded]["logp"]:
            session.rows[item.probe.name][item.example]["loss"] = -sum(logp) / len(logp)
    blame_other(session, probes, OTHER_BROKEN.format("the reference model"))


def run_gradnorm(session: Session, probes: Sequence[Probe]) -> None:
    """``norm``: the mean over parameter tensors of the 2-norm of the gradient of the mean answer loss.

    The eos is left out, as in the peer.
    """
    items = own_texts(session.opened.coder, probes)
    kept = {item.encoded: without_eos(item.encoded) for item in items}
    found = gradient_norms(session.opened.model, [text for text in kept.values() if text.answer], session.device)
    for item in items:
        if (text := kept[item.encoded]).answer:
            session.rows[item.probe.name][item.example]["norm"] = float(f"{found[text]:.7g}")


def without_eos(text: Encoded) -> Encoded:
    """The text without the end of sequence that its answer may close with."""
    return replace(text, answer=text.answer[:-1], eos=False) if text.eos else text


def run_generate(session: Session, probes: Sequence[Probe]) -> None:
    """Greedy or sampled texts, with the counts of their overlap with the example's answer.

    Options: ``stops``, ``min_new_tokens``, ``sample`` (`bench.engines.measuring.generation.GenerationSettings`);
    ``reference_tokens`` cuts the reference to its first tokens, as the tokenizer counts them; ``overlap`` keeps the counts
    of sampled texts too. Probes that ask alike are generated together.
    """
    asked: dict[GenerationSettings, list[Probe]] = {}
    for probe in probes:
        asked.setdefault(GenerationSettings.of(probe.max_new_tokens, probe.options), []).append(probe)
    for asking, together in asked.items():
        rows = [(probe, example) for probe in together for example in probe.examples]
        prompts = [session.opened.coder.encode(example.payload).prompt for _, example in rows]
        cost = GenerationCost()
        texts = generate(session.opened, prompts, asking, session.device, cost)
        session.cost["prompt_positions"] += cost.prefill
        session.cost["row_steps"] += cost.steps
        for (probe, example), prompt, said in zip(rows, prompts, texts, strict=True):
            if prompt in cost.broken:
                session.spoil(probe)
            if probe.name not in session.broken:
                session.rows[probe.name][example.id] = said_row(session.opened.tokenizer, probe, example, said)


def said_row(tokenizer: Any, probe: Probe, example: Example, said: list[str]) -> dict[str, Any]:
    """The row of a generation: the text, what it answers, and the counts that its scores are made of."""
    whole = example.payload["answer"]
    reference = first_tokens(tokenizer, whole, probe.options.get("reference_tokens", 0))
    row: dict[str, Any] = {"prompt": example.payload["prompt"], "reference": reference}
    if "sample" in probe.options:
        row["texts"] = said
        if probe.options.get("overlap"):
            counts = {text: count_overlap(text, reference) for text in dict.fromkeys(said)}
            row["counts_each"] = [counts[text] for text in said]
    else:
        row |= {"text": said[0], "counts": count_overlap(said[0], reference)}
        if reference != whole:
            row["counts_whole"] = count_overlap(said[0], whole)
    if "accepted" in example.references:
        references = example.references
        row["matches"] = [match(text, references["accepted"], references.get("corrupted", ())) for text in said]
    return row


def first_tokens(tokenizer: Any, text: str, tokens: int) -> str:
    """The first ``tokens`` tokens of ``text`` as the tokenizer encodes it, special ones counted but not shown."""
    if not tokens:
        return text
    return str(tokenizer.decode(tokenizer.encode(text)[:tokens], skip_special_tokens=True))


def run_depth(session: Session, probes: Sequence[Probe]) -> None:
    """What each decoder block holds of the answers (`bench.engines.measuring.depth`), under the name of the option ``by``.

    ``patching`` and ``lens``: nats that the target loses with this model's states in the place of its own; no row where
    there is no target. ``linear``: whether a linear probe finds the answer's first token, trained on the payloads ``train``.
    The eos is left out.
    """
    for probe in probes:
        by = probe.options["by"]
        kept = {item.example: without_eos(item.encoded) for item in own_texts(session.opened.coder, [probe])}
        texts = [text for text in kept.values() if text.answer]
        if by == "linear":
            train = [session.opened.coder.encode(payload) for payload in probe.options["train"]]
            try:
                found: Mapping[Encoded, list[Any]] = depth.probe_blocks(
                    session.opened.model, train, texts, session.device
                )
            except FloatingPointError:
                session.spoil(probe)
                continue
        elif session.target is None:
            session.rows[probe.name] = {}
            continue
        else:
            full = open_checkpoint(session.target, session.device).model
            lost = depth.WAYS[by](full, session.opened.model, texts, session.device)
            found = {text: seven_digits(values) for text, values in lost.nats.items()}
            if lost.broken:
                session.spoil(probe, lost.broken)
                continue
        for example, text in kept.items():
            if text in found:
                session.rows[probe.name][example][by] = found[text]


def run_lm_eval(session: Session, probes: Sequence[Probe]) -> None:
    """lm-eval's own evaluator on the model in memory: a choice task of our rows, or lm-eval's tasks by name."""
    from bench.engines.measuring.lm_eval import evaluate_probe

    for probe in probes:
        try:
            found = evaluate_probe(session.opened.model, session.opened.tokenizer, probe, session.device)
        except FloatingPointError:
            session.spoil(probe)
            continue
        session.rows[probe.name] = found


def leave_to_judge(session: Session, probes: Sequence[Probe]) -> None:
    """Leave the rows empty: they are judged when the oracles have been asked too (`bench.engines.measuring.judges`)."""
    for probe in probes:
        session.rows[probe.name] = {}


KINDS: Mapping[str, Callable[[Session, Sequence[Probe]], None]] = {
    "logprob": run_logprob,
    "classes": run_classes,
    "generate": run_generate,
    "divergence": run_divergence,
    "reference": run_reference,
    "gradnorm": run_gradnorm,
    "depth": run_depth,
    "lm-eval": run_lm_eval,
    "judge": leave_to_judge,
}
"""Probe kind -> how to ask it."""
