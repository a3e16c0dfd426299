"""`bench eval`: a benchmark's whole suite on one model, into one JSON file that others script against.

The form of the file is fixed (docs/design.md): ``scores``, ``absent``, ``examples``, ``cost``, ``provenance``. A metric
that needs an oracle or a reference model is absent without one, with the reason; nothing stands in for it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.assets.models import TOKENIZERS, resolve_model
from bench.assets.tokens import has_own_tokenizer, read_chat_template, tokenizer_difference
from bench.core import registry
from bench.core.contracts import Metric, Suite
from bench.core.errors import UserError, collecting, mistakes_in, report_mistake, unknown_name
from bench.core.files import write_text
from bench.core.machine import device_problems, peak_memory
from bench.core.places import file_problems
from bench.core.provenance import get_provenance
from bench.core.types import Checkpoint, Json, Probe, Responses
from bench.engines.measuring.judges import add_grades, judge_probes
from bench.metrics import score_all
from bench.records.files import write_responses

DTYPES = ("float32", "bfloat16", "float16")
CHAT_TEMPLATES = ("chat", "chat-open-unlearning", "base")
"""Ways to ask a question of a chat suite (`bench.engines.templates`)."""


@dataclass(frozen=True)
class EvaluationRequest:
    """The arguments of `bench eval`."""

    task: str
    model: str
    data: str
    out: Path
    split: str = ""
    tokenizer: str = ""
    oracle: str = ""
    reference: str = ""
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    limit: int | None = None
    judge: str = ""
    """TOFU: another judge than the offline one. RESTOR: a judge beside the string rules."""
    template: str = ""
    """Of `CHAT_TEMPLATES`, in place of ``chat`` where the suite asks in that."""


def evaluate_model(asked: EvaluationRequest, models_dir: Path) -> Json:
    """Ask, score and write the file, and the responses with their texts beside it; returns what the file holds.

    Mistakes are found before any model is loaded.
    """
    found = find_checkpoints(asked, models_dir)
    import torch

    torch.set_num_threads(asked.threads)
    suite: Suite = registry.load_task(asked.task, "real")().suite(asked.data, asked.split, asked.judge)
    if asked.template:
        suite = replace(suite, probes=ask_in(suite.probes, asked.template))
    began = time.process_time()
    ours, oracles = ask_models(suite.probes, found, asked)
    scored = score_all(suite.metrics, ours, oracles)
    examples: Json = {}
    for metric in sorted(suite.metrics, key=lambda metric: metric.name):
        rows = values_by_row(metric, ours, oracles) if metric.name in scored.scores else {}
        if rows:
            examples[metric.name] = rows
    sizes = {name: score.n for name, score in scored.scores.items()}
    result: Json = {
        "scores": {name: score.value for name, score in sorted(scored.scores.items())},
        "absent": dict(sorted({**suite.absent, **scored.absent}.items())),
        "examples": examples,
        "cost": measuring_cost(ours, time.process_time() - began),
        "provenance": evaluation_provenance(asked, suite, found, sizes) | {"attention": ours.attention},
    }
    write_text(asked.out, json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_responses(ours, asked.out.with_name(f"{asked.out.stem}.responses.json.gz"))
    return result


def find_checkpoints(asked: EvaluationRequest, models_dir: Path) -> dict[str, Checkpoint]:
    """The model, and the oracle and the reference where they are given; one `UserError` with every mistake."""
    found: dict[str, Checkpoint] = {}
    with collecting():
        if asked.task not in registry.components("tasks"):
            report_mistake(unknown_name("task", asked.task, registry.components("tasks"), "tasks"))
        elif "real" not in registry.components("tasks")[asked.task]:
            report_mistake(f"The task '{asked.task}' has no suite to evaluate a model on.")
        elif asked.judge and not registry.load_task(asked.task, "real").judged:
            report_mistake(f"--judge {asked.judge}: the answers of '{asked.task}' aren't judged; leave it out.")
        if asked.dtype not in DTYPES:
            report_mistake(unknown_name("dtype", asked.dtype, DTYPES))
        if asked.template not in ("", *CHAT_TEMPLATES):
            report_mistake("--template: " + unknown_name("template", asked.template, CHAT_TEMPLATES))
        if asked.limit is not None and asked.limit < 1:
            report_mistake(f"--limit must be at least 1, not {asked.limit}.")
        folder = Path(asked.tokenizer).expanduser()
        if asked.tokenizer and not any((folder / file).is_file() for file in TOKENIZERS):
            report_mistake(f"--tokenizer {asked.tokenizer}: there is no tokenizer in that folder.")
        report_mistake(*device_problems(asked.device), *file_problems("--out", asked.out))
        if asked.threads < 1:
            report_mistake("--threads is at least 1.")
        own = str(folder.resolve()) if asked.tokenizer else ""
        for label, name in (("model", asked.model), ("oracle", asked.oracle), ("reference", asked.reference)):
            if not name:
                continue
            with mistakes_in(f"--{label}: "):
                model = resolve_model(name, models_dir, own_tokenizer=not asked.tokenizer)
                if own:
                    report_mistake(*foreign_tokens(model.path, Path(own)))
                if "model" in found:
                    report_mistake(*incomparable_reasons(found["model"], model.path, label, bool(own)))
                found[label] = Checkpoint(str(model.path), model.hash, dtype=asked.dtype, tokenizer=own, label=label)
    return found


def foreign_tokens(model: Path, tokenizer: Path) -> list[str]:
    """Reasons why a tokenizer can't stand in for a model's own: a token with another id there."""
    if not has_own_tokenizer(model):
        return []
    found = tokenizer_difference(model, tokenizer, ("the model's own", "that of --tokenizer"), only_tokens=True)
    return [f"--tokenizer: '{model.name}' has another one of its own ({found}); leave it out."] if found else []


def incomparable_reasons(model: Checkpoint, other: Path, label: str, one_tokenizer: bool) -> list[str]:
    """Reasons why another model's answers can't be compared token by token with the model's."""
    from bench.assets.folders import read_config

    configs = [read_config(Path(place)) for place in (model.path, other)]
    parts = [config.get("text_config") for config in configs]
    sizes = [
        {**config, **(part if isinstance(part, dict) else {})}.get("vocab_size")
        for config, part in zip(configs, parts, strict=True)
    ]
    if sizes[0] != sizes[1]:
        return [
            f"--{label}: it has a vocabulary of {sizes[1]} and the model one of {sizes[0]}; they can't be compared."
        ]
    if one_tokenizer:
        return []
    try:
        found = tokenizer_difference(Path(model.path), other, ("the model's", f"the {label}'s"))
    except UserError as error:
        return [f"--{label}: {problem}" for problem in error.problems]
    if not found and read_chat_template(Path(model.path)) != read_chat_template(other):
        found = "their chat templates differ"
    if found:
        return [f"--{label}: its tokenizer is not the model's ({found}); name one for both with --tokenizer."]
    return []


def ask_models(
    probes: Sequence[Probe], found: Mapping[str, Checkpoint], asked: EvaluationRequest
) -> tuple[Responses, list[Responses]]:
    """The model's responses, and the oracle's where there is one."""
    from bench.engines.measuring.measure import measure

    oracle = found.get("oracle")
    others = [oracle] if oracle else []
    how: Json = {"device": asked.device, "limit": asked.limit}
    ours = measure(found["model"], probes, others, reference=found.get("reference"), **how)
    if oracle is None:
        return add_grades(ours, [], probes), []
    heard = {probe.options["said"] for probe in judge_probes(probes)}
    compared = [without_attacks(probe) for probe in probes if probe.kind == "logprob" or probe.name in heard]
    theirs = measure(oracle, compared, **how)
    if oracle.hash == found["model"].hash:  # the model is its own oracle: compared as another one
        theirs = replace(theirs, checkpoint="oracle")
    return add_grades(ours, [theirs], probes), [theirs]


def ask_in(probes: Sequence[Probe], template: str) -> tuple[Probe, ...]:
    """The probes with another template for the chat's; `UserError` where none asks in a chat."""
    found, changed = [], 0
    for probe in probes:
        examples = tuple(
            replace(row, payload={**row.payload, "template": template})
            if row.payload.get("template") == "chat"
            else row
            for row in probe.examples
        )
        changed += examples != probe.examples or template == "chat"
        found.append(replace(probe, examples=examples))
    if not changed:
        raise UserError(f"--template {template}: this benchmark doesn't ask in a chat; leave it out.")
    return tuple(found)


def without_attacks(probe: Probe) -> Probe:
    """The probe without the options that only an attack on the model itself reads."""
    kept = {name: value for name, value in probe.options.items() if name not in ("vocabulary", "zlib")}
    return replace(probe, options=kept)


def values_by_row(metric: Metric, ours: Responses, oracles: Sequence[Responses]) -> Json:
    """The values behind a score by the row's number; where two tables have a row of it, both under their names."""
    rows: Json = {}
    for key, value in (metric.examples(ours, oracles) if metric.examples else {}).items():
        number = key.rpartition("-")[2]
        if isinstance(value, Mapping):
            rows[number] = {**rows.get(number, {}), **value}
        else:
            rows[number] = value
    return dict(sorted(rows.items(), key=lambda item: int(item[0]) if item[0].isdigit() else math.inf))


def measuring_cost(ours: Responses, cpu_seconds: float) -> Json:
    """Time and memory that measuring this model took; an oracle's own measuring is in ``cpu_seconds`` alone."""
    return {
        "seconds": round(ours.seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_bytes": peak_memory(),
        **dict(sorted(ours.cost.items())),
    }


def evaluation_provenance(
    asked: EvaluationRequest, suite: Suite, found: Mapping[str, Checkpoint], sizes: Mapping[str, int]
) -> Json:
    """The model, data, code and machine behind the scores, and the size of each score; no path of this machine."""
    return {
        "task": asked.task,
        "split": asked.split,
        "dtype": asked.dtype,
        "template": asked.template or "the suite's",
        "limit": asked.limit,
        "model": {label: checkpoint.hash for label, checkpoint in found.items()},
        "suite": dict(suite.facts),
        "metrics": {m.name: m.to_json() | ({"n": sizes[m.name]} if m.name in sizes else {}) for m in suite.metrics},
        **get_provenance(asked.device),
    }
