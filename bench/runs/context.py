"""The context that a task or a method works in: training, arithmetic and caching over one store.

Everything built here is a node of the store. A task's nodes and a method's nodes are named apart (`owner`), so that a
method can't stumble on the oracle by asking for the same training run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.core import distributed
from bench.core.contracts import Opened, Recipe, Stream
from bench.core.errors import Busy
from bench.core.hashing import digest, tokenizer_digest
from bench.core.machine import peak, reset_peak
from bench.core.types import Checkpoint, Example, Json, bare, data_hash
from bench.core.versions import ARITHMETIC
from bench.engines.loaders import check_seal, checkpoint_at, open_checkpoint
from bench.runs.estimate import train_seconds
from bench.runs.store import Node, Store

Event = Callable[[Json], None]


def silent(event: Json) -> None:
    """The reporter of somebody who doesn't want to know."""


@dataclass
class Work:
    """One store, one seed, one device; collects the nodes it touched, for lineage and cost."""

    store: Store
    seed: int
    provenance: Json
    device: str = "cpu"
    micro: int | None = None
    """Rows of a stream in one forward pass; None: the whole step."""
    save_every: int = 0
    """Steps between the resumable states of a long training run; 0: none, it starts again."""
    autocast: bool = False
    """bfloat16 autocast while training, float32 weights."""
    dtype: str = "float32"
    """Of the weights that are trained, where a recipe doesn't name another one."""
    lora: int = 0
    """Rank of the adapters that are trained, where a recipe names none; 0 trains all weights."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass, which saves memory and changes no number."""
    wait: bool = True
    """Whether to wait for a node that another process is building; else `Busy` is raised."""
    only_cached: bool = False
    """Build nothing: a node that isn't there raises `Busy`."""
    report: Event = silent
    owner: str = "task"
    nodes: dict[str, Node] = field(default_factory=dict)
    built: set[str] = field(default_factory=set)

    def on_behalf_of(self, owner: str) -> Work:
        """The same context with nodes of another owner; touched nodes are collected together."""
        return replace(self, owner=owner)

    def node(
        self,
        fields: Json,
        make: Callable[[Path], Json | None],
        label: str,
        expect: float = 0.0,
        shared: bool = False,
    ) -> Node:
        """The node of ``fields`` and this owner, built if it is not there; ``shared`` as in `Store.build`."""

        def build(folder: Path) -> Json | None:
            self.report({"stage": label, "status": "start", "expected": expect})
            reset_peak()
            return {**(make(folder) or {}), "peak_bytes": peak()}

        if self.only_cached and not self.store.has(digest({"owner": self.owner, **fields})[:32]):
            raise Busy(label)
        node, built = self.store.build(
            {"owner": self.owner, **fields}, build, label, self.provenance, self.wait, expect, shared
        )
        self.nodes[node.key] = node
        if built:
            self.built.add(node.key)
            self.report({"stage": label, "status": "done", "seconds": node.info["seconds"]})
        return node

    def cached(self, fields: Json, build: Callable[[Path], Json | None], label: str) -> Path:
        """A folder named by the hash of ``fields``, filled by ``build`` when first needed."""
        return self.node({"kind": "cached", **fields}, build, label).path

    def train(self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str) -> Checkpoint:
        """Fine-tune from ``start``; a cached node, shared by whoever asks for the same."""
        node = self.train_node(start, streams, recipe, label)
        made = node.info["meta"]["checkpoint"]
        return replace(start, path=str(node.path), hash=made, label=label, dtype=self.fitted(recipe).dtype)

    def fitted(self, recipe: Recipe) -> Recipe:
        """The recipe with this context's dtype and adapters, where it has none of its own."""
        return replace(
            recipe,
            dtype=recipe.dtype or self.dtype,
            lora=recipe.lora or self.lora,
        )

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
        from bench.engines.training.trainer import describe, train

        check_seal(start)
        recipe = self.fitted(recipe)
        seed = self.seed if seed is None else seed
        fields = {
            "kind": "train",
            "start": start.hash,
            "seed": seed,
            "snapshots": list(snapshots),
            "autocast": self.autocast,
            "micro": self.micro,
            **describe(streams, recipe),
            **({"tokenizer": tokenizer_digest(Path(start.tokenizer))} if start.tokenizer else {}),
        } | ({} if self.device == "cpu" else {"device": self.device.split(":")[0]})

        def make(folder: Path) -> Json:
            opened = open_checkpoint(replace(start, dtype=recipe.dtype), self.device)
            model = adapted(opened, recipe.lora, seed) if recipe.lora else opened.model
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
                micro=self.micro,
                autocast=self.autocast,
                checkpointing=self.checkpointing,
                use_cpu=self.device == "cpu",
                report=lambda step, of: self.report({"stage": label, "status": "progress", "done": step, "total": of}),
            )
            if not distributed.is_first():  # what it says is what counts
                return {}
            return {
                "checkpoint": checkpoint_at(folder, label).hash,
                "tokens": done.tokens,
                "train_seconds": done.seconds,
                "parameters": sum(p.numel() for p in opened.model.parameters()),
                "resumed": done.resumed,
                "steps": done.steps,
                "curve": list(done.curve),
                "snapshots": {
                    str(step): {"tokens": tokens, "checkpoint": checkpoint_at(folder / f"step-{step:06d}", "").hash}
                    for step, tokens in done.tokens_at.items()
                },
            }

        return self.node(fields, make, label, train_seconds(self.store.root, start, streams, recipe), True)

    def scratch(self, fields: Json) -> Path:
        """Where the training run of ``fields`` keeps its resumable state."""
        return self.store.scratch(digest({"owner": self.owner, **fields})[:32])

    def combine(
        self,
        terms: Sequence[Any],
        label: str,
        weights: Checkpoint | None = None,
        dtype: str = "",
    ) -> Checkpoint:
        """Sum of coefficient times weights, tensor by tensor (`bench.engines.arithmetic.sums.combine`); a cached node."""
        from bench.engines.arithmetic import sums

        whole = sums.as_terms(terms)
        for checkpoint in (*(term.checkpoint for term in whole), *([weights] if weights else [])):
            check_seal(checkpoint)
        fields: Json = {
            "kind": "combine",
            "engine": ARITHMETIC,
            "terms": [[term.coefficient, term.checkpoint.hash] for term in whole],
        }
        if weights:
            fields |= {"weights": weights.hash, "weighted": [term.weighted for term in whole]}
        if dtype:
            fields |= {"dtype": dtype}

        def make(folder: Path) -> Json:
            sums.combine(whole, folder, weights=weights, dtype=dtype, scratch=self.scratch(fields))
            return {"checkpoint": checkpoint_at(folder, label).hash}

        node = self.node(fields, make, label)
        made = node.info["meta"]["checkpoint"]
        first = whole[0].checkpoint
        return replace(first, path=str(node.path), hash=made, label=label, dtype=dtype or first.dtype)

    def cast(self, checkpoint: Checkpoint, dtype: str) -> Checkpoint:
        """The same weights in another dtype; a cached node."""
        return self.combine([(1.0, checkpoint)], f"{checkpoint.label} in {dtype}", dtype=dtype)

    def scrambled(self, before: Checkpoint, tuned: Checkpoint, kind: str) -> Checkpoint:
        """``before`` plus a control in the place of ``tuned - before`` (`bench.engines.arithmetic.sums.scrambled`);
        a cached node.
        """
        from bench.engines.arithmetic import sums

        for checkpoint in (before, tuned):
            check_seal(checkpoint)
        fields = {"kind": "scrambled", "engine": ARITHMETIC, "of": [before.hash, tuned.hash], "as": kind}

        def make(folder: Path) -> Json:
            sums.scrambled(before, tuned, kind, self.seed, folder, scratch=self.scratch(fields))
            return {"checkpoint": checkpoint_at(folder, kind).hash}

        node = self.node(fields | {"seed": self.seed}, make, f"{kind} vector")
        return replace(before, path=str(node.path), hash=node.info["meta"]["checkpoint"], label=kind, dtype="float32")

    def influence(
        self, checkpoint: Checkpoint, forget: Sequence[Example], retain: Sequence[Example], kind: str
    ) -> Checkpoint:
        """Influence weights at a checkpoint (`bench.engines.training.influence`); a cached node."""
        from bench.engines.training.influence import VERSION, write_weights

        check_seal(checkpoint)
        fields = {
            "kind": "influence",
            "version": VERSION,
            "estimate": kind,
            "checkpoint": checkpoint.hash,
            "forget": data_hash(bare(forget)),
            "retain": data_hash(bare(retain)),
        }

        def make(folder: Path) -> Json:
            opened = open_checkpoint(replace(checkpoint, dtype="float32"), self.device)
            write_weights(opened, checkpoint, forget, retain, kind, folder)
            return {"checkpoint": checkpoint_at(folder, kind).hash}

        node = self.node(fields, make, f"influence ({kind})")
        return Checkpoint(str(node.path), node.info["meta"]["checkpoint"], label=f"influence ({kind})")


def adapted(opened: Opened, rank: int, seed: int) -> Any:
    """The model with fresh low-rank adapters, as wide as the rank, on `Opened.adaptable`; `train` merges them."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=opened.adaptable)
    return get_peft_model(opened.model, config)
