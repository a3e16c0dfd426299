"""The core types: frozen, JSON in and out, nothing here knows of language models or of torch.

`RunSpec` says what is asked, `Scenario` is what a task prepares, `Request` is what a method may see of it,
`Responses` is what was observed of a checkpoint, `Score` is what a metric makes of that, and `Record` is the whole
run as one JSON file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from bench.core.hashing import hash_json
from bench.core.rows import check_row

Json = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """One row of data: something to train on, or something to ask."""

    id: str
    """Unique within its split; results are joined by it."""
    payload: Mapping[str, Any]
    """Text tasks: ``prompt``, ``answer``, ``template`` (see `bench.engines.templates`). Other tasks: other payloads."""
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further texts by role, such as ``wrong`` (perturbed answers) or ``paraphrase``."""
    tags: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """The example as plain JSON; what data hashes are made of."""
        refs = {role: list(texts) for role, texts in self.references.items()}
        return {"id": self.id, "payload": dict(self.payload), "references": refs, "tags": list(self.tags)}


def without_references(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The examples without their references: what may be trained on, without what a probe may ask."""
    return tuple(dataclasses.replace(example, references={}) for example in examples)


def data_hash(examples: Sequence[Example]) -> str:
    """Content hash of an ordered list of examples."""
    return hash_json([example.to_json() for example in examples])


@dataclass(frozen=True)
class Checkpoint:
    """Weights on disk, named by their content. Opened lazily, by its loader."""

    path: str
    """Folder with safetensors, config and tokenizer. Never written into a record."""
    hash: str
    """sha256 over the names and bytes of the files that decide what the model does."""
    loader: str = "causal-lm"
    """Name of the loader that opens it (`bench.engines.loaders`)."""
    dtype: str = "float32"
    label: str = ""
    """What it is, for people: ``target``, ``oracle-0``, ``history-300``."""
    tokenizer: str = ""
    """Folder of the tokenizer, where it isn't the checkpoint's own."""


@dataclass(frozen=True)
class Moment:
    """A checkpoint of a history, and when it was taken."""

    checkpoint: Checkpoint
    step: int
    """Optimiser steps since the first weights."""
    tokens: int | None
    """Tokens trained on so far, padding not counted; None where nobody knows."""
    stage: str
    """Part of the training that it belongs to: ``pretraining``, ``stage1``, ``exposure`` ..."""
    exposed: bool = False
    """Whether it was taken after training on the forget set had begun."""
    revision: str = ""
    """Its name at the source, such as ``stage1-step119000-tokens500B`` or ``checkpoint-500``."""


@dataclass(frozen=True)
class History:
    """Ordered checkpoints of the model's own past, those from before the first exposure to the forget set first."""

    moments: tuple[Moment, ...]

    @property
    def before(self) -> tuple[Moment, ...]:
        """The moments from before the first exposure: where methods take theta_0 from unless told otherwise."""
        return tuple(moment for moment in self.moments if not moment.exposed)

    @property
    def last(self) -> Moment:
        """The last checkpoint before exposure: the default theta_0 of MSA."""
        return self.before[-1]


@dataclass(frozen=True)
class Validation:
    """Rows on which a user may tune without the oracle; disjoint from every probe."""

    forget: tuple[Example, ...] = ()
    retain: tuple[Example, ...] = ()
    utility: tuple[Example, ...] = ()
    unseen: tuple[Example, ...] = ()
    """Rows like the forget rows that were never trained on: the target's score on them is the never-trained level of the
    tuning rule. A method never gets them."""


@dataclass(frozen=True)
class Recipe:
    """An optimiser schedule: AdamW with warm-up and cosine or linear decay, gradient norm clipped at 1."""

    steps: int
    """Optimiser steps."""
    lr: float
    """Peak learning rate."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises from 0."""
    schedule: str = "cosine"
    """``cosine``, ``linear``, ``constant``, or ``wsd`` (constant, then a linear fall to 0 over ``decay``), after the warm-up."""
    weight_decay: float = 0.0
    beta2: float = 0.98
    """AdamW's second moment decay; the first is 0.9."""
    dtype: str = ""
    """Of weights, gradients and optimiser state; ``bfloat16`` loses what is below 1/256 of a weight. Empty: as the run
    trains everything else, in float32 unless told otherwise."""
    lora: int = 0
    """Rank of low-rank adapters (peft) on every linear layer, merged into the weights at the end; 0 trains all weights."""
    only: str = ""
    """A regular expression for the names of the weights that are trained, the whole name; empty: all."""
    until: float = 0.0
    """Stop when the first stream's loss, mean over the last pass's worth of steps, is at most this, in nats; 0: never."""
    decay: float = 0.0
    """Share of the steps over which ``wsd`` (warm-up, stable, decay) falls."""

    @property
    def stable_steps(self) -> int:
        """Steps before the fall of ``wsd``; of another schedule all."""
        return self.steps - (round(self.decay * self.steps) if self.schedule == "wsd" else 0)


@dataclass(frozen=True)
class Retraining:
    """How an oracle is trained, but not on what: what a share of the retraining is counted by."""

    recipe: Recipe
    """Of all its training from the last checkpoint before exposure."""
    batch: int
    """Rows of one step."""
    text_batch: int = 0
    """Passages of one step beside them; 0: passages are drawn like all other rows."""


@dataclass(frozen=True)
class Request:
    """All that a method may see. No oracle, no probe, no held-out row is reachable from it."""

    target: Checkpoint
    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    validation: Validation
    history: History | None = None
    """Only for a method that declares the need ``history``."""
    oracle: Checkpoint | None = None
    """Only for ``retrain``, which is the oracle's row."""
    instructions: tuple[Example, ...] = ()
    """Only for a method that declares the need ``instructions``."""
    retraining: Retraining | None = None
    """The oracle's recipe, where there is one: its steps and batches, and none of its rows."""
    half: tuple[Example, ...] = ()
    """Only for an attack: the forget rows of every second fact; one that trains on them is measured on the others."""
    first: Checkpoint | None = None
    """Only for an attack: the task's target, which the steps before it have unlearned from."""


ProbeKind = Literal[
    "logprob", "classes", "generate", "divergence", "reference", "gradnorm", "depth", "lm-eval", "judge"
]


@dataclass(frozen=True)
class Probe:
    """One way of looking at a checkpoint."""

    name: str
    kind: str
    """A name of `bench.engines.measuring.measure.KINDS`."""
    examples: tuple[Example, ...]
    roles: tuple[str, ...] = ("answer",)
    """logprob: which texts to score as the answer; ``answer`` is the payload's own, others are references."""
    max_new_tokens: int = 0
    """generate: the longest continuation, in tokens."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Json:
        """The probe as plain JSON, for hashing."""
        examples = [example.to_json() for example in self.examples]
        return vars(self) | {"examples": examples, "roles": list(self.roles), "options": dict(self.options)}


BROKEN_DOWN = "the model has broken down: its logits are no finite numbers"
OTHER_BROKEN = "{} has broken down: its logits are no finite numbers"
"""Why a probe's rows can't be scored: of the measured model, and of one that it is compared with."""


@dataclass(frozen=True)
class Responses:
    """All observations of one checkpoint: ``rows[probe][example id]`` is a small dictionary (`bench.core.rows`)."""

    checkpoint: str
    """Content hash of the checkpoint that was measured."""
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]]
    seconds: float = 0.0
    cost: Mapping[str, float] = field(default_factory=dict)
    """What the measuring took: seconds for each kind of probe, positions computed (`bench.engines.measuring.measure.Session`)."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Probe -> the reason why its rows can't be scored: the model, or one that it was compared with, gave no finite
    numbers there."""
    attention: str = ""
    """The attention that the model was computed with (``sdpa``, ``eager``); empty for a model without."""

    @property
    def wrecked(self) -> bool:
        """Whether the model itself has broken down somewhere."""
        return BROKEN_DOWN in self.broken.values()

    def named(self, who: str) -> Responses:
        """The responses of a model that another one is compared with, so that ``broken`` doesn't blame that one."""
        return dataclasses.replace(self, broken=dict.fromkeys(self.broken, OTHER_BROKEN.format(who)))

    def publishable(self) -> Responses:
        """The responses without any text: ids and numbers only, enough to compute every metric again."""
        rows = {
            probe: {key: {k: v for k, v in row.items() if not holds_text(v)} for key, row in by_id.items()}
            for probe, by_id in self.rows.items()
        }
        return dataclasses.replace(self, rows=rows)

    def spoken(self) -> Responses:
        """The rows that hold what the model wrote, and nothing else: its texts, the prompts and the references."""
        rows = {
            probe: {key: row for key, row in by_id.items() if isinstance(row.get("text"), str)}
            for probe, by_id in self.rows.items()
        }
        return Responses(self.checkpoint, {probe: by_id for probe, by_id in rows.items() if by_id})

    def to_json(self) -> Json:
        """The object as plain JSON."""
        data = {"checkpoint": self.checkpoint, "rows": self.rows, "seconds": self.seconds, "cost": dict(self.cost)}
        data |= {"broken": dict(self.broken)} if self.broken else {}
        return data | ({"attention": self.attention} if self.attention else {})

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`; ValueError where its parts are of other kinds."""
        kinds: dict[str, Any] = {
            "checkpoint": str,
            "rows": dict,
            "seconds": (int, float),
            "cost": dict,
            "broken": dict,
            "attention": str,
        }
        if not isinstance(data, dict) or not {"checkpoint", "rows"} <= data.keys() <= kinds.keys():
            raise ValueError("it lacks its checkpoint or rows, or has a part of no known name")
        for name, value in data.items():
            if not isinstance(value, kinds[name]):
                raise ValueError(f"{name} is a {type(value).__name__}")
        for probe, rows in data["rows"].items():
            if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
                raise ValueError(f"rows.{probe}: an example's answers are no object")
            for key, row in rows.items():
                try:
                    check_row(row)
                except ValueError as error:
                    raise ValueError(f"rows.{probe}.{key}.{error}") from None
        for name in ("cost", "broken"):
            kind = str if name == "broken" else (int, float)
            if not all(isinstance(each, kind) for each in data.get(name, {}).values()):
                raise ValueError(f"{name} holds something else than {'texts' if name == 'broken' else 'numbers'}")
        if not all(map(math.isfinite, (data.get("seconds", 0.0), *data.get("cost", {}).values()))):
            raise ValueError("seconds or cost: what the measuring took is no finite number")
        return cls(**data)


def finite_json(value: Any) -> Any:
    """The same JSON with null for every number that isn't finite, such as the losses of a diverged training."""
    if isinstance(value, Mapping):
        return {key: finite_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def holds_text(value: Any) -> bool:
    """A text, or a list with one in it."""
    return isinstance(value, str) or (isinstance(value, list | tuple) and any(map(holds_text, value)))
