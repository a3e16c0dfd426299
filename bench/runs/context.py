"""The context that a task or a method works in: training, arithmetic and caching over one store.

Everything built here is a node of the store. A task's nodes and a method's nodes are named apart (`owner`), so that a
method can't stumble on the oracle by asking for the same training run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from bench.core import distributed
from bench.core.compute import WHOLE_STEP, Compute
from bench.core.contracts import Node, Opened, Recipe, Stream, TaskContext, Term, steps_kept
from bench.core.files import write_text
from bench.core.hashing import hash_json, hash_tokenizer
from bench.core.machine import peak_memory, reset_peak
from bench.core.types import OTHER_BROKEN, Checkpoint, Example, Json, data_hash, without_references
from bench.core.versions import ARITHMETIC, MEASURE
from bench.engines.loaders import check_seal, checkpoint_at, open_checkpoint, open_for_training
from bench.engines.training.describe import describe_training
from bench.runs.estimate import train_seconds
from bench.runs.progress import ignore_event
from bench.runs.store import NodeRequest, Store

ANSWERS = "answers.json"
"""File of a node with sampled answers: for each prompt a list of texts."""


ORDER = 1_000_003
"""Between the seeds of two data orders: no seed that a user takes is another one's second oracle or second run."""


@dataclass
class Work(TaskContext):
    """The context of one seed over one store; collects the nodes it touched, for lineage and cost."""

    store: Store
    seed: int
    provenance: Json
    device: str = "cpu"
    compute: Compute = WHOLE_STEP
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass, which saves memory and changes no number."""
    save_every: int = 0
    """Steps between the resumable states of a long training run; 0: none, it starts again."""
    trace: int = 0
    """Points on the way to a method's result that are measured too; 0: none."""
    wait: bool = True
    """Whether to wait for a node that another process is building; else `Busy` is raised."""
    report: Callable[[Json], None] = ignore_event
    live: bool = False
    """Whether what is measured on the way is reported too, for a tracker."""
    owner: str = "task"
    nodes: dict[str, Node] = field(default_factory=dict)
    """Every node that was asked for, by its key."""
    built: set[str] = field(default_factory=set)
    """Keys of those that were not there before."""
    notes: Json = field(default_factory=dict)
    """Facts that the task noted, for the record."""
    order: int = 0
    """Which data order a method trains in, where it is not the first."""

    @property
    def models(self) -> Path:
        """The folder with the models that were fetched."""
        return self.store.root / "models"

    def on_behalf_of(self, owner: str) -> Self:
        """A context whose nodes belong to another owner; touched nodes are collected together."""
        return replace(self, owner=owner)

    def note(self, **facts: Any) -> None:
        """Say something beside the scores."""
        self.notes.update(facts)

    def show(self, label: str, series: str, row: Mapping[str, float]) -> None:
        """Pass on what was just measured (`bench.core.trackers.Tracker.row`), where somebody watches."""
        if self.live:
            self.report({"stage": label, "status": "row", "series": series, "row": dict(row)})

    def node(
        self,
        fields: Json,
        make: Callable[[Path], Json | None],
        label: str,
        expect: Callable[[], float] | None = None,
        shared: bool = False,
    ) -> Node:
        """The node of ``fields`` and this owner, built if it is not there; ``shared`` as in `Store.build`."""

        def build(folder: Path) -> Json | None:
            self.report({"stage": label, "status": "start"})
            reset_peak()
            return {**(make(folder) or {}), "peak_bytes": peak_memory()}

        asked = NodeRequest({"owner": self.owner, **fields}, label, self.provenance, self.wait, expect)
        node, built = self.store.build(asked, build, shared)
        self.nodes[node.key] = node
        if built:
            self.built.add(node.key)
            self.report({"stage": label, "status": "done", "seconds": node.info["seconds"]})
        return node

    def cached(
        self, fields: Json, build: Callable[[Path], Json | None], label: str, rows: Sequence[Example] = ()
    ) -> Path:
        """A folder named by the hash of ``fields`` and ``rows``, filled by ``build`` when first needed."""
        of = {"rows": data_hash(without_references(rows))} if rows else {}
        return self.node({"kind": "cached", **fields, **of}, build, label).path

    def open(self, checkpoint: Checkpoint) -> Opened:
        """A checkpoint in memory, on this context's device."""
        return open_checkpoint(checkpoint, self.device)

    def train(
        self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str, keep: Sequence[int] = ()
    ) -> Checkpoint:
        """Fine-tune from ``start``; a cached node, shared by whoever asks for the same."""
        return self.train_traced(start, streams, recipe, label, keep)[0]

    def points(self, recipe: Recipe) -> list[int]:
        """The steps at `trace` equal shares of a training."""
        return steps_kept(recipe.steps, self.trace) if self.trace and not recipe.until else []

    def train_traced(
        self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str, keep: Sequence[int]
    ) -> tuple[Checkpoint, list[tuple[float, Checkpoint]]]:
        """The same, and its snapshots at the steps ``keep`` but the last, each with its share of all steps."""
        at = [step for step in keep if step < recipe.steps]
        node, dtype = self.train_node(start, streams, recipe, label, at), self.fitted(recipe).dtype
        way = [
            (
                step / recipe.steps,
                replace(
                    start,
                    path=str(node.path / f"step-{step:06d}"),
                    hash=node.info["meta"]["snapshots"][str(step)]["checkpoint"],
                    label=f"{label} at step {step}",
                    dtype=dtype,
                ),
            )
            for step in at
        ]
        return checkpoint_in(node, start, label, dtype), way

    def fitted(self, recipe: Recipe) -> Recipe:
        """The recipe with this context's dtype and adapters, where it has none of its own."""
        return replace(recipe, dtype=recipe.dtype or self.compute.dtype, lora=recipe.lora or self.compute.lora)

    def train_node(
        self,
        start: Checkpoint,
        streams: Sequence[Stream],
        recipe: Recipe,
        label: str,
        snapshots: Sequence[int] = (),
        seed: int | None = None,
    ) -> Node:
        """The node of a training run; ``snapshots`` are steps whose weights are kept beside the last ones."""
        for checkpoint in (start, *(stream.beside for stream in streams if stream.beside)):
            check_seal(checkpoint)
        recipe = self.fitted(recipe)
        seed = self.seed + ORDER * self.order if seed is None else seed
        fields = {
            "kind": "train",
            "start": start.hash,
            "seed": seed,
            "snapshots": list(snapshots),
            "autocast": self.compute.autocast,
            "micro": self.compute.micro,
            **describe_training(streams, recipe),
            **({"tokenizer": hash_tokenizer(Path(start.tokenizer))} if start.tokenizer else {}),
        } | ({} if self.device == "cpu" else {"device": self.device.split(":")[0]})

        def make(folder: Path) -> Json:
            from bench.engines.training.trainer import train

            opened = open_for_training(replace(start, dtype=recipe.dtype), self.device)
            parameters = sum(parameter.numel() for parameter in opened.model.parameters())
            model = add_adapters(opened, recipe.lora, seed) if recipe.lora else opened.model
            model.train()
            done = train(
                model,
                opened.coder,
                streams,
                recipe,
                seed=seed,
                out=folder,
                scratch=self.scratch(fields),
                snapshots=snapshots,
                save_every=self.save_every,
                micro=self.compute.micro,
                autocast=self.compute.autocast,
                checkpointing=self.checkpointing,
                use_cpu=self.device == "cpu",
                report=lambda step, of: self.report({"stage": label, "status": "progress", "done": step, "total": of}),
                watch=lambda point: self.show(label, f"train/{label}", point),
            )
            if not distributed.is_first():  # what it says is what counts
                return {}
            return {
                "checkpoint": checkpoint_at(folder, label).hash,
                "tokens": done.tokens,
                "train_seconds": done.seconds,
                "parameters": parameters,
                "resumed": done.resumed,
                "steps": done.steps,
                "curve": list(done.curve),
                **({"weights": list(done.weights)} if any(stream.limit for stream in streams) else {}),
                "snapshots": {
                    str(step): {"tokens": tokens, "checkpoint": checkpoint_at(folder / f"step-{step:06d}", "").hash}
                    for step, tokens in done.tokens_at.items()
                },
            }

        return self.node(fields, make, label, partial(train_seconds, self.store, start, streams, recipe), shared=True)

    def scratch(self, fields: Json) -> Path:
        """Where the training run of ``fields`` keeps its resumable state."""
        return self.store.scratch(hash_json({"owner": self.owner, **fields})[:32])

    def combine(
        self,
        terms: Sequence[Any],
        label: str,
        weights: Checkpoint | None = None,
        dtype: str = "",
    ) -> Checkpoint:
        """Sum of coefficient times weights, tensor by tensor (`bench.engines.arithmetic.sums.combine`); a cached node."""
        given = [Term(*term) for term in terms]
        fields: Json = {
            "kind": "combine",
            "engine": ARITHMETIC,
            "terms": [[term.coefficient, term.checkpoint.hash] for term in given],
        }
        if weights:
            fields |= {"weights": weights.hash, "weighted": [term.weighted for term in given]}
        if dtype:
            fields |= {"dtype": dtype}

        def write(folder: Path) -> None:
            from bench.engines.arithmetic import sums

            sums.combine(given, folder, weights=weights, dtype=dtype, scratch=self.scratch(fields))

        used = [*(term.checkpoint for term in given), *([weights] if weights else [])]
        node = self.checkpoint_node(fields, write, label, used)
        return checkpoint_in(node, used[0], label, dtype or used[0].dtype)

    def cast(self, checkpoint: Checkpoint, dtype: str) -> Checkpoint:
        """Convert a checkpoint's weights to another dtype; a cached node."""
        return self.combine([(1.0, checkpoint)], f"{checkpoint.label} in {dtype}", dtype=dtype)

    def scrambled(self, before: Checkpoint, tuned: Checkpoint, kind: str) -> Checkpoint:
        """``before`` plus a control in the place of ``tuned - before`` (`bench.engines.arithmetic.sums.write_scrambled`);
        a cached node.
        """
        fields = {"kind": "scrambled", "engine": ARITHMETIC, "of": [before.hash, tuned.hash], "as": kind}
        fields |= {"seed": self.seed}

        def write(folder: Path) -> None:
            from bench.engines.arithmetic import sums

            sums.write_scrambled(before, tuned, kind, self.seed, folder, scratch=self.scratch(fields))

        node = self.checkpoint_node(fields, write, f"{kind} vector", [before, tuned])
        return checkpoint_in(node, before, kind, "float32")

    def quantise(self, checkpoint: Checkpoint, kind: str, group: int = 0) -> Checkpoint:
        """A checkpoint with rounded weights (`bench.engines.arithmetic.rounding.write_rounded`); a cached node."""
        fields = {"kind": "rounded", "engine": ARITHMETIC, "of": checkpoint.hash, "as": kind, "group": group}

        def write(folder: Path) -> None:
            from bench.engines.arithmetic.rounding import write_rounded

            write_rounded(checkpoint, kind, group, folder, scratch=self.scratch(fields))

        label = f"{checkpoint.label} in {kind}"
        return checkpoint_in(
            self.checkpoint_node(fields, write, label, [checkpoint]), checkpoint, label, checkpoint.dtype
        )

    def compare_rounded(self, one: Checkpoint, other: Checkpoint, kind: str, group: int = 0) -> Json:
        """What differs between two checkpoints after rounding (`bench.engines.arithmetic.rounding.count_differing`)."""

        def compare() -> Json:
            from bench.engines.arithmetic.rounding import count_differing

            return count_differing(one, other, kind, group)

        fields = {"kind": "compare rounded", "as": kind, "group": group}
        return self.compared(fields, compare, f"{one.label} and {other.label} in {kind}", one, other)

    def describe_update(self, before: Checkpoint, after: Checkpoint) -> Json:
        """How the weights have moved (`bench.engines.arithmetic.updates.describe_update`)."""

        def describe() -> Json:
            from bench.engines.arithmetic import updates

            return updates.describe_update(before, after)

        return self.compared({"kind": "update"}, describe, f"update to {after.label}", before, after)

    def compared(self, fields: Json, compare: Callable[[], Json], label: str, *of: Checkpoint) -> Json:
        """What ``compare`` says of the checkpoints ``of``, none of which may be sealed; a cached node."""
        for checkpoint in of:
            check_seal(checkpoint)
        fields = {**fields, "engine": ARITHMETIC, "of": [checkpoint.hash for checkpoint in of]}
        found: Json = self.node(fields, lambda _: {"found": compare()}, label).info["meta"]["found"]
        return found

    def influence(
        self, checkpoint: Checkpoint, forget: Sequence[Example], retain: Sequence[Example], kind: str
    ) -> Checkpoint:
        """Influence weights at a checkpoint (`bench.engines.training.influence`); a cached node."""
        from bench.engines.training.influence import INFLUENCE_VERSION, write_weights

        fields = {
            "kind": "influence",
            "version": INFLUENCE_VERSION,
            "estimate": kind,
            "checkpoint": checkpoint.hash,
            "forget": data_hash(without_references(forget)),
            "retain": data_hash(without_references(retain)),
        }

        def write(folder: Path) -> None:
            opened = open_checkpoint(replace(checkpoint, dtype="float32"), self.device)
            write_weights(opened, checkpoint, forget, retain, kind, folder)

        label = f"influence ({kind})"
        return checkpoint_in(self.checkpoint_node(fields, write, label, [checkpoint]), Checkpoint("", ""), label)

    def sample(
        self,
        checkpoint: Checkpoint,
        rows: Sequence[Example],
        count: int,
        tokens: int,
        stops: Sequence[str] = (),
        temperature: float = 1.0,
    ) -> list[list[str]]:
        """``count`` sampled answers of a checkpoint to each row's prompt (`Context.sample`); a cached node."""
        from bench.engines.measuring.generation import GenerationCost, GenerationSettings, Sampling, generate

        check_seal(checkpoint)
        asked = [{"prompt": row.payload["prompt"], "template": row.payload["template"], "answer": ""} for row in rows]
        fields = {
            "kind": "answers",
            "version": MEASURE,
            "checkpoint": checkpoint.hash,
            "tokenizer": hash_tokenizer(Path(checkpoint.tokenizer)) if checkpoint.tokenizer else "",
            "dtype": checkpoint.dtype,
            "asked": hash_json(asked),
            "count": count,
            "tokens": tokens,
            "stops": list(stops),
            "temperature": temperature,
            "seed": self.seed,
        } | ({} if self.device == "cpu" else {"device": self.device.split(":")[0]})

        def write(folder: Path) -> None:
            opened, cost = open_checkpoint(checkpoint, self.device), GenerationCost()
            prompts = [opened.coder.encode(payload).prompt for payload in asked]
            settings = GenerationSettings(tokens, stops=tuple(stops), sampling=Sampling(self.seed, count, temperature))
            answers = generate(opened, prompts, settings, self.device, cost)
            if cost.broken:
                raise FloatingPointError(f"no answers can be sampled: {OTHER_BROKEN.format(checkpoint.label or 'it')}")
            write_text(folder / ANSWERS, json.dumps(answers))

        node = self.node(fields, write, f"answers of {checkpoint.label or 'a checkpoint'}")
        found: list[list[str]] = json.loads((node.path / ANSWERS).read_text())
        return found

    def checkpoint_node(
        self, fields: Json, write: Callable[[Path], None], label: str, used: Sequence[Checkpoint]
    ) -> Node:
        """The node of a checkpoint that ``write`` makes of others, none of which may be sealed."""
        for checkpoint in used:
            check_seal(checkpoint)

        def make(folder: Path) -> Json:
            write(folder)
            return {"checkpoint": checkpoint_at(folder, label).hash}

        return self.node(fields, make, label)


def checkpoint_in(node: Node, like: Checkpoint, label: str, dtype: str = "float32") -> Checkpoint:
    """The checkpoint that a node holds, of the loader and the tokenizer of ``like``."""
    made = node.info["meta"]["checkpoint"]
    return replace(like, path=str(node.path), hash=made, label=label, dtype=dtype)


def add_adapters(opened: Opened, rank: int, seed: int) -> Any:
    """The model with fresh low-rank adapters, as wide as the rank, on `Opened.adaptable`; `train` merges them."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=opened.adaptable)
    return get_peft_model(opened.model, config)
