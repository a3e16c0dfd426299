"""`make bench`: what the engine computes beside a plain pass for each metric, on one model and in one process.

The plain side stands for how the field's code (open-unlearning) evaluates: every metric goes over its own rows, 32 at a
time in the data's order, padded on the right without sorting, a plain mask made from lengths, logits at all positions;
the answers to one question are as many prompts; min-k++ goes over its rows twice; generation pads on the left and ends
a batch with its longest answer. Both sides tokenise with `bench.engines.templates` and use the same formulas, so that their
values must be equal: the command fails where they aren't. Neither side's seconds hold the opening of a model.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core import machine
from bench.core.contracts import Opened, Recipe, Stream, Suite
from bench.core.errors import UserError
from bench.core.files import write_text
from bench.core.types import Checkpoint, Example, Json, Probe
from bench.engines.coding import Texts
from bench.engines.loaders import LOADERS, Loader, open_checkpoint
from bench.engines.measuring import measure, scoring
from bench.engines.measuring.generation import cut_at_stops, ends_in_stop
from bench.engines.templates import Encoded, chat_prompt, encode
from bench.engines.training.losses import NextToken
from bench.engines.training.trainer import train
from bench.lab.model import SPECIAL, small_llama
from bench.lab.words import WordMaker
from bench.metrics.membership import loss, loss_per_byte, min_k, min_k_plus_plus
from bench.metrics.probability import hit_share, right_tail, text_probability
from bench.metrics.tokens import Text, mean
from bench.real.muse.suite import muse_suite
from bench.real.tofu.suite import NEW_TOKENS, configs_of_split, tofu_suite
from tests.paths import DATA

BATCH = 32
"""Rows of a plain batch: the field's."""
AGREE = 1e-4
"""Largest relative difference of two values."""
NEAR_ZERO = {"mia_min_k_plus_plus": 0.1}
"""Metric -> the size that a smaller value counts as, else 1e-3: float32 holds no more of a log-prob near 0, and a
min-k++ is a mean of deviations to both sides, which can come out at 0."""
SAME_TEXTS = 0.99
"""Least share of rows that are equal where a value hangs on which token is the most likely, as in a generated text."""
GOALS = {"tofu": {"log-probs": 0.2, "both": 0.2}, "muse-books": {"log-probs": 0.15, "both": 0.15}}
"""Suite -> column -> most CPU seconds, as a share of the plain side's."""
KINDS = {
    "log-probs": ("logprob", "reference"),
    "generation": ("generate",),
    "both": ("logprob", "reference", "generate"),
    "gradient norms": ("gradnorm",),
}
"""Column of the table -> kinds of probes that it is about; ``both`` asks the two before it in one call of `measure`."""
SUITES: Mapping[str, Callable[..., Suite]] = {"tofu": tofu_suite, "muse-books": muse_suite}
FOLDERS = {"tofu": "tofu", "muse-books": "books-public-domain"}
"""Suite -> folder of its rows in the data folder."""
LAYERS, VOCABULARY, LONGEST = 3, 2000, 4096
"""The model's blocks, its tokens, and the most positions that it takes."""
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

Key = tuple[str, ...]
"""Metric, probe, role, example."""
Values = dict[Key, float]


@dataclass(frozen=True)
class Options:
    """What the user typed."""

    data: str = ""
    """A folder with the folders of `FOLDERS`; empty: `Options.rows` generated rows."""
    rows: int = 40
    """Rows of each configuration."""
    width: int = 128
    suites: tuple[str, ...] = tuple(SUITES)
    threads: int = 1
    steps: int = 170
    """Of training: after so many the default model knows about six in ten words of TOFU's answers, and ends them."""


@dataclass
class Spent:
    """What one side took for one kind of probes."""

    cpu_seconds: float = 0.0
    positions: int = 0
    """That went into a model, padding included; `Meter` counts them the same way for both sides."""
    row_steps: int = 0
    """generation: those of them that were one token of one row behind a cache."""
    peak_bytes: int = 0
    """Largest resident memory."""
    grown_bytes: int = 0
    """By how much that is more than before."""


@dataclass
class Meter:
    """Counts the positions that go into the models it is fastened to."""

    positions: int = 0

    def fasten(self, model: Any) -> None:
        """Count what enters ``model`` from now on."""
        model.get_input_embeddings().register_forward_pre_hook(lambda _, args: self.count(args[0]))

    def count(self, ids: Tensor) -> None:
        """One batch of token ids."""
        self.positions += ids.numel()


@dataclass(frozen=True)
class Bed:
    """The models in memory, and the counter on both."""

    target: Opened
    reference: Opened
    meter: Meter = field(default_factory=Meter)


@dataclass
class Found:
    """What a side says."""

    values: Values = field(default_factory=dict)
    """Real numbers made of log-probs or gradients."""
    choices: dict[Key, Any] = field(default_factory=dict)
    """What hangs on which token is the most likely: generated texts, and shares of argmax hits."""
    row_steps: int = 0


# --- the plain side


@dataclass(frozen=True)
class Pass:
    """A metric's own way over its rows: one forward pass of each batch for every one of ``reads``."""

    metric: str
    probe: str
    value: Callable[[Text], float | None]
    role: str = "answer"
    reads: tuple[str, ...] = ("logps",)
    """Names of `READERS`."""
    reference: bool = False
    """Whether the reference model is asked."""


ROLES = {"answer": "", "paraphrase": "PARA_", "wrong": "PERT_"}
MEMORISED = {"tofu": "forget", "muse-books": "forget_verbmem"}
"""Suite -> the probe that exact memorisation and extraction strength read."""


def passes_of(suite: str, probes: Sequence[Probe]) -> list[Pass]:
    """The metrics that make passes, as the field has them; those computed from others' values (truth ratio) make none."""
    asked = {probe.name: probe for probe in probes}
    memorised = asked[MEMORISED[suite]].name
    made = [
        Pass(f"{side}_Q_A_{ROLES[role]}Prob", side, text_probability, role)
        for side in ("forget", "retain", "ra", "wf")
        if suite == "tofu"
        for role in asked[side].roles
    ]
    made.append(Pass("exact_memorization", memorised, hit_share, reads=("hits",)))
    made.append(Pass("extraction_strength", memorised, right_tail, reads=("hits",)))
    for side in ("forget", "holdout"):
        made += [
            Pass("mia_loss", side, loss),
            Pass("mia_zlib", side, loss_per_byte, reads=("logps and bytes",)),
            Pass("mia_min_k", side, min_k),
            Pass("mia_min_k_plus_plus", side, min_k_plus_plus, reads=("logps", "moments")),
            Pass("mia_reference", side, loss),
            Pass("mia_reference's reference", side, loss, reference=True),
        ]
    return made


def plain_logprobs(bed: Bed, suite: str, probes: Sequence[Probe]) -> Found:
    """Every metric by its own passes."""
    examples = {probe.name: probe.examples for probe in probes}
    found = Found()
    for made in passes_of(suite, probes):
        opened = bed.reference if made.reference else bed.target
        rows = list(plain_rows(opened, made, examples[made.probe]))
        (found.choices if "hits" in made.reads else found.values).update(valued(made, rows))
    return found


def plain_rows(opened: Opened, made: Pass, examples: Sequence[Example]) -> Iterator[tuple[str, list[Text]]]:
    """For each example the texts of the role with what the pass reads of them; the n-th texts of 32 rows are a batch."""
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        texts = [encoded(opened.tokenizer, example, made.role) for example in batch]
        rows: list[list[Text]] = [[] for _ in batch]
        for number in range(max(map(len, texts))):
            which = [i for i, row in enumerate(texts) if number < len(row)]
            column = [texts[i][number] for i in which]
            reads: list[dict[str, Any]] = [{"eos": text.eos} for text in column]
            for reader in made.reads:
                logits = plain_forward(opened, column)
                for read, more in zip(reads, READERS[reader](opened.tokenizer, logits, column), strict=True):
                    read.update(more)
            for i, read in zip(which, reads, strict=True):
                rows[i].append(read)
        yield from ((example.id, row) for example, row in zip(batch, rows, strict=True))


def encoded(tokenizer: Any, example: Example, role: str) -> list[Encoded]:
    """The texts of a role that have tokens."""
    texts = (None,) if role == "answer" else example.references.get(role, ())
    return [made for text in texts if (made := encode(tokenizer, example.payload, text)).answer]


def plain_forward(opened: Opened, texts: Sequence[Encoded]) -> Tensor:
    """Logits at all positions (B, T, V)."""
    width = max(text.length for text in texts)
    pad = opened.tokenizer.pad_token_id
    ids = [[*text.prompt, *text.answer, *[pad] * (width - text.length)] for text in texts]
    mask = [[1] * text.length + [0] * (width - text.length) for text in texts]
    out = opened.model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), use_cache=False)
    logits: Tensor = out.logits
    return logits.float()


def spans(values: Tensor, texts: Sequence[Encoded]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each text the rows of ``values`` (B, T, ...) that predict its answer, and the answer."""
    for row, text in zip(values, texts, strict=True):
        yield row[len(text.prompt) - 1 : text.length - 1], torch.tensor(text.answer)


def read_logps(_: Any, logits: Tensor, texts: Sequence[Encoded]) -> list[dict[str, Any]]:
    """Log-probs of the answer tokens."""
    logps = logits.log_softmax(-1)
    return [{"logp": span.gather(-1, answer[:, None])[:, 0].tolist()} for span, answer in spans(logps, texts)]


def read_bytes(tokenizer: Any, logits: Tensor, texts: Sequence[Encoded]) -> list[dict[str, Any]]:
    """Log-probs, and the compressed length of the answer."""
    rows = zip(read_logps(tokenizer, logits, texts), texts, strict=True)
    return [{**row, "zlib": measure.compressed_bytes(tokenizer, text)} for row, text in rows]


def read_moments(_: Any, logits: Tensor, texts: Sequence[Encoded]) -> list[dict[str, Any]]:
    """Mean and deviation of log p under the vocabulary distribution."""
    found = [measure.moments(span) for span, _ in spans(logits.log_softmax(-1), texts)]
    return [{name: values.tolist() for name, values in wide.items()} for wide in found]


def read_hits(_: Any, logits: Tensor, texts: Sequence[Encoded]) -> list[dict[str, Any]]:
    """Whether each answer token is the most likely one."""
    return [{"hit": (span == answer).int().tolist()} for span, answer in spans(logits.argmax(-1), texts)]


READERS: Mapping[str, Callable[[Any, Tensor, Sequence[Encoded]], list[dict[str, Any]]]] = {
    "logps": read_logps,
    "logps and bytes": read_bytes,
    "moments": read_moments,
    "hits": read_hits,
}
"""What a pass reads of a batch's logits."""


def valued(made: Pass, rows: Iterable[tuple[str, Sequence[Text]]]) -> Values:
    """The metric's value of each example, the mean over its texts."""
    found: Values = {}
    for key, texts in rows:
        values = [value for text in texts if (value := made.value(text)) is not None]
        if values:
            found[made.metric, made.probe, made.role, key] = mean(values)
    return found


def plain_generation(bed: Bed, suite: str, probes: Sequence[Probe]) -> Found:
    """`generate` of the library, side by side, and the counts that ROUGE is made of."""
    found, tokenizer = Found(), bed.target.tokenizer
    for probe in probes:
        stops = tuple(probe.options.get("stops", ()))
        for start in range(0, len(probe.examples), BATCH):
            batch = probe.examples[start : start + BATCH]
            prompts = [encode(tokenizer, example.payload).prompt for example in batch]
            before = bed.meter.positions
            written = plain_generate(bed.target, prompts, probe.max_new_tokens, stops)
            found.row_steps += bed.meter.positions - before - len(prompts) * max(map(len, prompts))
            for example, text in zip(batch, written, strict=True):
                row = measure.said_row(tokenizer, probe, example, [text])
                found.choices["ROUGE", probe.name, "said", example.id] = row["text"]
    return found


def plain_generate(
    opened: Opened, prompts: Sequence[Sequence[int]], new_tokens: int, stops: tuple[str, ...]
) -> list[str]:
    """Greedy texts of a left-padded batch, which goes on until its last row has ended."""
    width, pad = max(map(len, prompts)), opened.tokenizer.pad_token_id

    def stopped(ids: Tensor, _: Tensor) -> Tensor:
        return torch.tensor([ends_in_stop(opened.tokenizer, row, stops) for row in ids[:, width:].tolist()])

    out = opened.model.generate(
        input_ids=torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]),
        attention_mask=torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=pad,
        stopping_criteria=[stopped] if stops else [],
    )
    return [
        cut_at_stops(text, stops) for text in opened.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    ]


def plain_gradients(bed: Bed, suite: str, probes: Sequence[Probe]) -> Found:
    """One row at a time, as both sides must."""
    found, tokenizer = Found(), bed.target.tokenizer
    for probe in probes:
        for example in probe.examples:
            text = encode(tokenizer, example.payload)
            kept = replace(text, answer=text.answer[:-1], eos=False) if text.eos else text
            if kept.answer:
                found.values["gradnorm", probe.name, "", example.id] = plain_norm(bed.target, kept)
    return found


@torch.enable_grad()
def plain_norm(opened: Opened, text: Encoded) -> float:
    """The mean over parameter tensors of the norm of the loss's gradient."""
    ((span, answer),) = spans(plain_forward(opened, [text]), [text])
    torch.nn.functional.cross_entropy(span, answer).backward()
    norms = [parameter.grad.norm() for parameter in opened.model.parameters() if parameter.grad is not None]
    opened.model.zero_grad()
    return float(torch.stack(norms).mean())


def plain_both(bed: Bed, suite: str, probes: Sequence[Probe]) -> Found:
    """One after the other: no metric of the field knows of another's passes."""
    found = plain_logprobs(bed, suite, probes)
    said = plain_generation(bed, suite, [probe for probe in probes if probe.kind == "generate"])
    return Found(found.values, found.choices | said.choices, said.row_steps)


PLAIN: Mapping[str, Callable[[Bed, str, Sequence[Probe]], Found]] = {
    "log-probs": plain_logprobs,
    "generation": plain_generation,
    "both": plain_both,
    "gradient norms": plain_gradients,
}


# --- ours


def ours(suite: str, probes: Sequence[Probe]) -> Found:
    """The engine's answers, as the same values."""
    responses = measure.measure(HELD["target"], probes, reference=HELD["reference"])
    found = Found(row_steps=int(responses.cost.get("row_steps", 0)))
    by_kind = {kind: [probe for probe in probes if probe.kind == kind] for kind in measure.KINDS}
    for probe in by_kind["generate"]:
        for key, row in responses.rows[probe.name].items():
            found.choices["ROUGE", probe.name, "said", key] = row["text"]
    for probe in by_kind["gradnorm"]:
        for key, row in responses.rows[probe.name].items():
            found.values["gradnorm", probe.name, "", key] = row["norm"]
    for made in passes_of(suite, probes) if by_kind["logprob"] else ():
        texts = responses.rows[made.probe].items()
        if made.reference:
            losses = responses.rows[f"{made.probe}_reference"].items()
            found.values |= {(made.metric, made.probe, made.role, key): row["loss"] for key, row in losses if row}
        else:
            rows = [(key, [text for text in row.get(made.role, ()) if text["logp"]]) for key, row in texts]
            (found.choices if "hits" in made.reads else found.values).update(valued(made, rows))
    return found


HELD = {label: Checkpoint(label, label, "held", label=label) for label in ("target", "reference")}


@dataclass(frozen=True)
class HeldLoader(Loader):
    """Gives models that are in memory already, by the path that their checkpoints name."""

    models: Mapping[str, Opened] = field(default_factory=dict)

    def open(self, checkpoint: Checkpoint, device: str) -> Opened:
        """The model of that name."""
        return self.models[checkpoint.path]


@contextlib.contextmanager
def held(bed: Bed) -> Iterator[None]:
    """While this lasts the checkpoints of `HELD` are the models in memory, so that nobody's seconds hold their opening."""
    LOADERS["held"] = HeldLoader("", models={"target": bed.target, "reference": bed.reference})
    try:
        yield
    finally:
        del LOADERS["held"]


# --- both


def floor(tokenizer: Any, probes: Sequence[Probe], row_steps: int) -> int:
    """The least positions that anybody must compute: the distinct beginnings of texts that something is predicted from.

    Each beginning once for each model that is asked; in a generation every distinct beginning of a prompt, and our
    ``row_steps``, of which at most an eighth are of finished rows; for a gradient a text shares nothing, as the
    gradients of two texts can't be told apart.
    """
    texts: dict[str, list[tuple[int, ...]]] = {}
    for probe in probes:
        of_kind = texts.setdefault(probe.kind, [])
        for example in probe.examples:
            if probe.kind == "generate":
                of_kind.append((*encode(tokenizer, example.payload).prompt, -1))  # the last token of a text is not read
                continue
            for text in (text for role in probe.roles for text in encoded(tokenizer, example, role)):
                whole = (*text.prompt, *text.answer)
                of_kind.append(whole[:-1] if probe.kind == "gradnorm" and text.eos else whole)
    alone = sum(len(text) - 1 for text in dict.fromkeys(texts.pop("gradnorm", [])))
    return alone + sum(map(distinct, texts.values())) + row_steps


def distinct(texts: Iterable[tuple[int, ...]]) -> int:
    """Nodes of the tree of all texts but for their last tokens."""
    found, before = 0, tuple[int, ...]()
    for text in sorted(text[:-1] for text in texts):
        found += len(text) - scoring.common_prefix(before, text)
        before = text
    return found


@contextlib.contextmanager
def spending(meter: Meter) -> Iterator[Spent]:
    """Counts what happens inside; caches of earlier work are emptied first."""
    chat_prompt.cache_clear()
    trim()
    machine.reset_peak()
    spent, before, positions, began = Spent(), machine.peak_memory(), meter.positions, time.process_time()
    yield spent
    spent.cpu_seconds = time.process_time() - began
    spent.positions = meter.positions - positions
    spent.peak_bytes = machine.peak_memory()
    spent.grown_bytes = spent.peak_bytes - before


def trim() -> None:
    """Give free memory back to the system, so that what the other side left can't hide what this one needs."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc's own
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def compare(bed: Bed, suite: str, kind: str, probes: Sequence[Probe]) -> Json:
    """One line of the table. A first row of each probe goes through both sides unmeasured: first calls import things."""
    first = [measure.first_examples(probe, 1) for probe in probes]
    with torch.no_grad():
        ours(suite, first), PLAIN[kind](bed, suite, first)
        with spending(bed.meter) as mine:
            said = ours(suite, probes)
        with spending(bed.meter) as theirs:
            plainly = PLAIN[kind](bed, suite, probes)
    mine.row_steps, theirs.row_steps = said.row_steps, plainly.row_steps
    least = floor(bed.target.tokenizer, probes, said.row_steps)
    return {
        "ours": asdict(mine),
        "plain": asdict(theirs),
        "distinct": least,
        "above_distinct": mine.positions / least - 1,
        "ratio": mine.cpu_seconds / theirs.cpu_seconds,
        "agreement": agreement(said, plainly),
    }


def agreement(one: Found, other: Found) -> Json:
    """How far the two sides' values lie apart, and how many of their texts and argmax shares are the same."""
    assert one.values.keys() == other.values.keys(), sorted(one.values.keys() ^ other.values.keys())
    assert one.choices.keys() == other.choices.keys(), sorted(one.choices.keys() ^ other.choices.keys())
    worst = max((apart(value, other.values[key], key[0]) for key, value in one.values.items()), default=0.0)
    same = sum(value == other.choices[key] for key, value in one.choices.items())
    share = same / len(one.choices) if one.choices else 1.0
    return {
        "values": len(one.values),
        "worst": worst,
        "choices": len(one.choices),
        "same": share,
        "agrees": worst <= AGREE and share >= SAME_TEXTS,
    }


def apart(one: float, other: float, metric: str) -> float:
    """The relative difference; infinite where one of them isn't finite."""
    difference = abs(one - other)
    return (
        difference / max(abs(one), abs(other), NEAR_ZERO.get(metric, 1e-3)) if math.isfinite(difference) else math.inf
    )


def run(options: Options) -> Json:
    """Every suite and kind; `report` shows what it holds."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="msa-bench-speed-") as scratch:
        data = Path(options.data) if options.data else generated(Path(scratch) / "data", options)
        probes = {suite: probes_of(suite, data / FOLDERS[suite], options.rows) for suite in options.suites}
        bed = prepare(probes, options, Path(scratch))
    lines: dict[str, Json] = {}
    with held(bed):
        for suite, asked in probes.items():
            lines[suite] = {}
            for kind, names in KINDS.items():
                lines[suite][kind] = compare(bed, suite, kind, [probe for probe in asked if probe.kind in names])
    return {
        "suites": lines,
        "goals": GOALS,
        "agrees": all(line["agreement"]["agrees"] for of_suite in lines.values() for line in of_suite.values()),
        "data": Path(options.data).name if options.data else "generated",
        "rows": options.rows,
        "threads": options.threads,
        "model": {
            "parameters": bed.target.model.num_parameters(),
            "width": options.width,
            "layers": LAYERS,
            "vocabulary": len(bed.target.tokenizer),
            "training_steps": options.steps,
        },
    }


# --- the model and the rows


def probes_of(suite: str, folder: Path, rows: int) -> list[Probe]:
    """The suite's probes, cut; divergence needs an oracle and is no part of this."""
    kinds = {kind for names in KINDS.values() for kind in names}
    return [measure.first_examples(probe, rows) for probe in SUITES[suite](str(folder)).probes if probe.kind in kinds]


def prepare(probes: Mapping[str, Sequence[Probe]], options: Options, scratch: Path) -> Bed:
    """The model, trained on what it will be asked to say, and the reference: the same before it was trained."""
    asked = [probe for of_suite in probes.values() for probe in of_suite]
    tokenizer = byte_pairs(text for probe in asked for example in probe.examples for text in texts_of(example))
    model, reference = (small_llama(len(tokenizer), options.width, LAYERS, LONGEST, seed=0) for _ in range(2))
    streams = [
        Stream(tuple(taught(probe)), 8 if probe.max_new_tokens == NEW_TOKENS else 2, NextToken())
        for probe in asked
        if probe.kind == "generate"
    ]
    recipe = Recipe(options.steps, lr=3e-3)
    train(model, Texts(tokenizer), streams, recipe, seed=0, out=scratch / "model", scratch=scratch / "trainer")
    target = open_checkpoint(Checkpoint(str(scratch / "model"), "target"))
    bed = Bed(target, Opened(reference.eval(), target.tokenizer, target.coder))
    bed.meter.fasten(bed.target.model)
    bed.meter.fasten(bed.reference.model)
    return bed


def taught(probe: Probe) -> Iterator[Example]:
    """The examples with the probe's stop behind the answer, where it has one, so that the model learns to stop."""
    for example in probe.examples:
        stop = probe.options.get("stops", [""])[0]
        yield replace(example, payload={**example.payload, "answer": example.payload["answer"] + stop}, references={})


def texts_of(example: Example) -> Iterator[str]:
    """All text of an example."""
    yield from (example.payload["prompt"], example.payload["answer"])
    yield from (text for texts in example.references.values() for text in texts)


def byte_pairs(texts: Iterable[str]) -> Any:
    """A byte-level BPE tokenizer that puts bos first, with a chat template; pad, bos and eos as `small_llama` has them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pad, bos, eos = SPECIAL[:3]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[pad, bos, eos],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, bos_token=bos, eos_token=eos, chat_template=CHAT
    )


def generated(folder: Path, options: Options) -> Path:
    """Rows of invented words in the shapes and about the lengths of TOFU and MUSE-Books, in the hub's layout."""
    rng = random.Random(0)
    words = WordMaker(rng).words(500)

    def phrase(least: int, most: int = 0) -> str:
        return " ".join(rng.choices(words, k=rng.randint(least, most or least)))

    def question(least: int, most: int) -> Json:
        return {"question": f"{phrase(8, 16)}?", "answer": phrase(least, most)}

    def perturbed(side: str) -> Json:
        general = side in ("ra", "wf")
        row, begin = question(1 if general else 6, 3 if general else 32), "" if general else f"{phrase(4)} "
        row["perturbed_answer"] = [begin + phrase(1, 3 if general else 28) for _ in range(3 if general else 5)]
        return row if general else row | {"paraphrased_answer": begin + phrase(1, 28)}

    tables: dict[tuple[str, str, str], Callable[[], Json]] = {}
    for side, config in configs_of_split("forget10").items():
        shape = partial(question, 6, 32) if side == "holdout" else partial(perturbed, side)
        tables["tofu", config, "train"] = shape
    for split in ("forget_qa", "forget_qa_icl", "retain_qa", "retain_qa_icl"):
        tables["muse-books", "knowmem", split] = partial(question, 1, 3)
    tables["muse-books", "verbmem", "forget"] = lambda: {"prompt": phrase(80), "gt": f" {phrase(150)}"}
    for split in ("forget", "holdout"):
        tables["muse-books", "privleak", split] = lambda: {"text": phrase(300, 400)}
    cards: dict[str, dict[str, list[str]]] = {}
    for (suite, config, split), row in tables.items():
        rows = [row() for _ in range(10 if split.endswith("icl") else options.rows)]
        lines = "".join(json.dumps(made) + "\n" for made in rows)
        write_text(folder / FOLDERS[suite] / config / f"{split}.jsonl", lines)
        cards.setdefault(suite, {}).setdefault(config, []).append(split)
    for suite, configs in cards.items():
        card = ["---", "configs:"]
        for config, splits in configs.items():
            card += [f"- config_name: {config}", "  data_files:"]
            card += [f"  - split: {split}\n    path: {config}/{split}.jsonl" for split in splits]
        write_text(folder / FOLDERS[suite] / "README.md", "\n".join([*card, "---", ""]))
    return folder


# --- the report


def report(result: Json) -> None:
    """The table, the goals and whether the values agree."""
    from rich.console import Console
    from rich.table import Table

    model, console = result["model"], Console(highlight=False, width=150)
    console.print(
        f"{result['rows']} rows of each configuration ({result['data']}), {model['parameters']:,} parameters, "
        f"width {model['width']}, {result['threads']} thread(s); the plain side is one pass for each metric"
    )
    for suite, lines in result["suites"].items():
        table = Table(title=suite, title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("")
        for column in KINDS:
            table.add_column(column, justify="right")
        for label, cell in CELLS.items():
            table.add_row(label, *(cell(lines[kind]) for kind in KINDS))
        console.print()
        console.print(table)
        for kind, goal in GOALS[suite].items():
            ratio = lines[kind]["ratio"]
            reached = "reached" if ratio <= goal else "MISSED"
            console.print(
                f"goal: {suite}, {kind} in at most {goal:.2f} of the plain CPU seconds: {ratio:.3f}, {reached}"
            )
    console.print()
    console.print("The two sides agree." if result["agrees"] else "THE TWO SIDES DISAGREE.")


def sides(name: str, form: Callable[[float], str]) -> Callable[[Json], str]:
    """Ours and the plain side's entry of ``name``."""
    return lambda line: f"{form(line['ours'][name])} / {form(line['plain'][name])}"


def megabytes(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.0f} MB"


CELLS: Mapping[str, Callable[[Json], str]] = {
    "CPU seconds, ours / plain": sides("cpu_seconds", "{:.2f}".format),
    "ratio": lambda line: f"{line['ratio']:.3f}",
    "positions, ours / plain": sides("positions", "{:,}".format),
    "distinct positions": lambda line: f"{line['distinct']:,}",
    "ours above distinct": lambda line: f"{line['above_distinct']:.1%}",
    "row-steps, ours / plain": sides("row_steps", "{:,}".format),
    "peak memory, ours / plain": sides("peak_bytes", megabytes),
    "peak above the start": sides("grown_bytes", megabytes),
    "values, worst relative difference": lambda line: (
        f"{line['agreement']['values']}, {line['agreement']['worst']:.1e}"
    ),
    "choices, share the same": lambda line: f"{line['agreement']['choices']}, {line['agreement']['same']:.2%}",
}
"""Line of the table -> its text for one kind; choices are generated texts, and shares of argmax hits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 where the values disagree."""
    default = str(DATA) if all((DATA / name).is_dir() for name in FOLDERS.values()) else ""
    parser = argparse.ArgumentParser(
        prog="python -m tests.speed.measuring", description="Our engine beside one pass a metric."
    )
    parser.add_argument("--data", default=default, help="folder with tofu/ and books-public-domain/; '' generates rows")
    parser.add_argument("--rows", type=int, default=Options.rows, help="rows of each configuration")
    parser.add_argument("--width", type=int, default=Options.width, help="the model's hidden size, a multiple of 8")
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--threads", type=int, default=Options.threads)
    parser.add_argument("--out", type=Path, help="JSON file to write the result to")
    typed = parser.parse_args(arguments)
    suites = tuple(SUITES) if typed.suite == "all" else (typed.suite,)
    try:
        result = run(Options(typed.data, typed.rows, typed.width, suites, typed.threads))
    except UserError as error:
        parser.error(str(error))
    report(result)
    if typed.out:
        write_text(typed.out, json.dumps(result, indent=1) + "\n")
    return 0 if result["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
