"""lm-evaluation-harness on a model in memory: its own evaluator and scoring, without its start-up cost.

`choice_task` makes a task of our rows, `named_tasks` loads lm-eval's, `evaluate` runs either and keeps a row for each
document. A probe of kind ``lm-eval`` holds either our rows with the reference ``choices``, or (`named_probes`) the
documents of one of lm-eval's tasks, so that its content hash covers the data and no path.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.assets.hub import require_hub
from bench.core.errors import UserError, unknown_name
from bench.core.types import Example, Probe
from bench.engines.templates import chat_text

BATCH = 32
"""Requests scored at once."""
CHOICES = "choices"
"""Role of the references that a choice task offers."""

Rows = dict[str, dict[str, float]]


def evaluate(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[Any],
    *,
    limit: int | None = None,
    batch_size: int = BATCH,
    device: str = "cpu",
    max_length: int | None = None,
) -> dict[str, Rows]:
    """``{task name: {document id: {metric: value}}}`` by ``lm_eval.evaluator.evaluate``.

    Document ids count from 0 in the task's order, as strings; values are what lm-eval has for the single document
    (``acc`` 0 or 1), metrics that are no single number are left out. ``max_length`` in tokens defaults to the model's.
    Raises FloatingPointError when a log-likelihood or a logit isn't a number: lm-eval would take the first choice, or
    write the first token, then.
    """
    with quiet():
        from lm_eval.evaluator import evaluate as run
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device, max_length=max_length)
        with refusing_nan(model):
            found = run(
                lm=lm,
                task_dict={"tasks": {task.config.task: task for task in tasks}},
                limit=limit,
                bootstrap_iters=0,
                log_samples=True,
            )
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = found["samples"] if found else {}
    return {task: {str(sample["doc_id"]): values(sample) for sample in by_task} for task, by_task in samples.items()}


@contextlib.contextmanager
def refusing_nan(model: Any) -> Iterator[None]:
    """`FloatingPointError` where the model's logits after the last token of a row are no numbers."""

    def look(_: Any, __: Any, output: Any) -> None:
        logits = getattr(output, "logits", None)
        if logits is not None and bool(logits[:, -1].isnan().any()):
            raise FloatingPointError("the model's logits are no numbers")

    hook = model.register_forward_hook(look)
    try:
        yield
    finally:
        hook.remove()


def values(sample: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of one document's logged sample that are single numbers."""
    for response in sample["filtered_resps"]:
        said = response[0] if isinstance(response, tuple | list) else response
        if isinstance(said, int | float) and not math.isfinite(said):
            raise FloatingPointError(f"the model's log-likelihood of document {sample['doc_id']} is {said}")
    numbers = {name: sample[name] for name in sample["metrics"]}
    of_numpy = {name for name, value in numbers.items() if getattr(value, "shape", None) == ()}
    return {name: float(v) for name, v in numbers.items() if isinstance(v, int | float) or name in of_numpy}


def evaluate_probe(model: Any, tokenizer: Any, probe: Probe, device: str) -> Rows:
    """A probe of kind ``lm-eval``: a row ``{"acc": 0 or 1, ...}`` for each of its examples, by example id."""
    if name := probe.options.get("task"):
        task = stock_task(name, [dict(example.payload) for example in probe.examples])
    else:
        task = choice_task(probe.name, probe.examples, tokenizer)
    by_document = evaluate(model, tokenizer, [task], device=device)[task.config.task]
    return {probe.examples[int(document)].id: row for document, row in by_document.items()}


def choice_task(name: str, examples: Sequence[Example], tokenizer: Any) -> Any:
    """A multiple-choice `ConfigurableTask` of ``examples``, in memory; metric ``acc``.

    The prompt is the text of the payload's template. The choices are the references ``choices``, among them the
    payload's ``answer``; they are offered in alphabetical order, because lm-eval's argmax gives a tie to the first.
    Raises ValueError for a row without at least two different choices or without the right one.
    """
    from datasets import Dataset

    documents = [make_document(example, tokenizer) for example in examples]
    config = {
        "task": name,
        "custom_dataset": lambda **_: {"test": Dataset.from_list(documents)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": 0,
        "metadata": {"version": 1},
    }
    with quiet():
        from lm_eval.api.task import ConfigurableTask

        return ConfigurableTask(config=config)


def make_document(example: Example, tokenizer: Any) -> dict[str, Any]:
    """The row that lm-eval reads: prompt text, choices with their leading space where the template has one, label."""
    answer, choices = example.payload["answer"], sorted(example.references.get(CHOICES, ()))
    if len(set(choices)) < max(2, len(choices)) or answer not in choices:
        raise ValueError(f"{example.id}: a choice needs different texts, the right one among them; it has {choices}")
    prompt, space = prompt_text(example.payload, tokenizer)
    return {"prompt": prompt, "choices": [space + choice for choice in choices], "label": choices.index(answer)}


def prompt_text(payload: Mapping[str, Any], tokenizer: Any) -> tuple[str, str]:
    """The text before a choice and the space between them, as `bench.engines.templates` has them in tokens."""
    if payload["template"] == "qa":
        return f"{tokenizer.bos_token or ''}Q: {payload['prompt']} A:", " "
    if payload["template"] == "chat":
        return chat_text(tokenizer, payload["prompt"]), ""
    raise ValueError(f"no choice task for the template {payload['template']!r}; there are qa and chat")


def named_tasks(names: Sequence[str], data: Path | None) -> list[Any]:
    """lm-eval's own tasks by name; a group (``blimp``) is taken apart.

    ``data`` is a folder with a folder of rows for each family (``piqa``, ``blimp``), read in place of the hub's; else
    the hub is read. Raises `UserError` for an unknown name, rows that aren't there, and a task that puts examples
    before its questions.
    """
    return [stock_task(leaf, None, data) for name in names for leaf in single_tasks(name, data)]


def named_probes(names: Sequence[str], data: Path | None) -> tuple[Probe, ...]:
    """A probe for each of `named_tasks`, with the task's raw documents as its examples' payloads.

    ``piqa:200`` is the first 200 documents, as lm-eval's ``--limit`` takes them; the probe's name says so.
    """
    probes = []
    for asked in names:
        wanted, most = first_of(asked)
        for task in named_tasks([wanted], data):
            name = task.config.task
            rows = task.dataset[task.config.test_split or task.config.validation_split]
            if len(rows) != len(task.eval_docs):
                raise UserError(f"The lm-eval task '{name}' leaves rows out, which isn't supported here; take another.")
            examples = tuple(Example(f"{name}-{i}", dict(row)) for i, row in enumerate(rows))[:most]
            called = name if len(examples) == len(rows) else f"{name}_first{most}"
            probes.append(Probe(called, "lm-eval", examples, options={"task": name, "version": str(task.VERSION)}))
    return tuple(probes)


def first_of(asked: str) -> tuple[str, int | None]:
    """A task's name, and how many of its documents are asked, first come; None for all."""
    name, colon, most = asked.partition(":")
    if colon and not (most.isdecimal() and int(most)):
        raise UserError(f"--lm-eval {asked}: after the colon stands how many documents to ask, such as {name}:200.")
    return name, int(most) if colon else None


def single_tasks(name: str, data: Path | None) -> list[str]:
    """The single tasks behind a name; with ``data``, those of a group whose rows are there."""
    entry = manager_of(name).task_index.get(name)
    if entry is None:
        raise UserError(unknown_name("lm-eval task", name, nearest_tasks(name)))
    if entry.kind.name in ("TASK", "PY_TASK"):
        return [name]
    members = entry.tags if entry.kind.name == "TAG" else flatten(entry.cfg["task"])
    found = [leaf for member in sorted(members) for leaf in single_tasks(member, data)]
    if data is None:
        return found
    return [leaf for leaf in found if local_rows(leaf, data, manager_of(leaf).task_index[leaf].cfg) is not None]


def flatten(members: Any) -> list[str]:
    """The names in a group's list of tasks."""
    listed = members if isinstance(members, list) else [members]
    return [member if isinstance(member, str) else member.get("task", member.get("group")) for member in listed]


def stock_task(name: str, documents: list[dict[str, Any]] | None, data: Path | None = None) -> Any:
    """lm-eval's own task with ``documents`` in memory, or with rows from ``data`` or the hub in place of them."""
    config = manager_of(name).task_index[name].cfg
    if shots := config.get("num_fewshot"):
        raise UserError(
            f"The lm-eval task '{name}' puts {shots} examples before each question, which isn't supported here: "
            "use lm-eval's own command line for it."
        )
    override: dict[str, Any] = {"task": name, "training_split": None, "fewshot_split": None}
    if documents is not None:
        from datasets import Dataset

        split = config.get("test_split") or config.get("validation_split")
        override["custom_dataset"] = lambda **_: {split: Dataset.from_list(documents)}
    elif data is not None:
        folder = local_rows(name, data, config)
        if folder is None:
            there = ", ".join(sorted(path.name for path in data.glob("*/"))) or "nothing"
            raise UserError(
                f"The folder '{data.name}' has no rows for '{name}'; it has: {there}. "
                "Take one of those, or leave the folder out to use the hub."
            )
        override["dataset_path"] = str(folder)
    else:
        require_hub(f"read the rows of '{name}'")
    with quiet():
        return manager_of(name).load({"group": "asked", "task": [override]})["tasks"][name]


def local_rows(name: str, data: Path, config: Mapping[str, Any]) -> Path | None:
    """The folder with a task's rows below ``data``: its family's, if its dataset card names the task's configuration."""
    subset = config.get("dataset_name")
    for folder in (data / name, data / name.split("_")[0]):
        card = folder / "README.md"
        said = card.read_text(encoding="utf-8") if card.is_file() else ""
        if folder.is_dir() and (not subset or f"config_name: {subset}\n" in said):
            return folder.resolve()
    return None


def manager_of(name: str) -> Any:
    """A task manager that knows ``name``: of its family's folder where there is one, else of all."""
    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent
    for family in (name, name.split("_")[0]):
        if (root / family).is_dir() and name in make_manager(root / family).task_index:
            return make_manager(root / family)
    return make_manager(None)


@functools.cache
def make_manager(folder: Path | None) -> Any:
    """A task manager of one family's folder, or of all families (10 to 20 seconds)."""
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager(include_path=folder, include_defaults=folder is None)


def nearest_tasks(name: str) -> list[str]:
    """Names worth offering for a misspelt one: lm-eval has 14,000."""
    import difflib

    close = difflib.get_close_matches(name, list(manager_of(name).task_index), n=5, cutoff=0.6)
    return close or ["piqa", "blimp", "arc_easy", "hellaswag"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence lm-eval's log lines and everyone's progress bars; errors still raise."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
