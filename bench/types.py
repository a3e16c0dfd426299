"""The core types: frozen, JSON in and out, nothing here knows of language models or of torch.

`RunSpec` says what is asked, `Scenario` is what a task prepares, `Request` is what a method may see of it,
`Responses` is what was observed of a checkpoint, `Score` is what a metric makes of that, and `Record` is the whole
run as one JSON file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from bench.hashing import digest

SCHEMA = 1
"""Version of the record's layout."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """One row of data: something to train on, or something to ask."""

    id: str
    """Unique within its split; results are joined by it."""
    payload: Mapping[str, Any]
    """Text tasks: ``prompt``, ``answer``, ``template`` (see `bench.templates`). Other tasks: other payloads."""
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further texts by role, such as ``wrong`` (perturbed answers) or ``paraphrase``."""
    tags: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """The example as plain JSON; what data hashes are made of."""
        refs = {role: list(texts) for role, texts in self.references.items()}
        return {"id": self.id, "payload": dict(self.payload), "references": refs, "tags": list(self.tags)}


def bare(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The examples without their references: what may be trained on, without what a probe may ask."""
    return tuple(dataclasses.replace(example, references={}) for example in examples)


def data_hash(examples: Sequence[Example]) -> str:
    """Content hash of an ordered list of examples."""
    return digest([example.to_json() for example in examples])


@dataclass(frozen=True)
class Checkpoint:
    """Weights on disk, named by their content. Opened lazily, by its loader."""

    path: str
    """Folder with safetensors, config and tokenizer. Never written into a record."""
    hash: str
    """sha256 over the names and bytes of the files that decide what the model does."""
    loader: str = "causal-lm"
    """Name of the loader that opens it (`bench.loaders`)."""
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


ProbeKind = Literal["logprob", "classes", "generate", "divergence", "reference", "gradnorm", "lm-eval", "judge"]


@dataclass(frozen=True)
class Probe:
    """One way of looking at a checkpoint."""

    name: str
    kind: str
    """A name of `bench.measure.KINDS`."""
    examples: tuple[Example, ...]
    roles: tuple[str, ...] = ("answer",)
    """logprob: which texts to score as the answer; ``answer`` is the payload's own, others are references."""
    max_new_tokens: int = 0
    """generate: the longest continuation, in tokens."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Json:
        """The probe as plain JSON, for hashing."""
        return {
            "name": self.name,
            "kind": self.kind,
            "examples": [example.to_json() for example in self.examples],
            "roles": list(self.roles),
            "max_new_tokens": self.max_new_tokens,
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class Responses:
    """What was observed of one checkpoint: ``rows[probe][example id]`` is a small dictionary.

    - logprob: ``{role: [{"logp": [nats per answer token], "hit": [0 or 1 per token], "eos": bool}, ...]}``, one entry
      for each text of the role; ``logp`` is empty for a text without tokens. Where the probe asks for them also ``mu``
      and ``sigma`` (mean and deviation of log p under the vocabulary distribution, per token) and ``zlib`` (bytes).
    - classes: ``{"answer": [{"logp": [nats], "hit": [0 or 1], "eos": False}], "classes": [log-prob of each class]}``: the
      label is a one-token answer, so that what reads logprob's rows reads these.
    - reference: ``{"loss"}``, the mean answer loss under the reference model; gradnorm: ``{"norm"}``.
    - generate: ``{"text", "prompt", "reference", "counts": {...}}``, counts as `bench.metrics.rouge.overlap` makes them;
      sampled several times: ``texts``, a list, in the place of ``text``, and no counts. Where the example has the
      references ``accepted`` also ``matches``, one dictionary for each text (`bench.metrics.answers.match`).
    - divergence: ``{label of the other checkpoint: [KL in nats per answer token]}``.
    - lm-eval: ``{"acc": 0 or 1}`` and the like. judge: ``{"grades": {option: number}}`` (`bench.judging`).
    """

    checkpoint: str
    """Content hash of the checkpoint that was measured."""
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]]
    seconds: float = 0.0
    cost: Mapping[str, float] = field(default_factory=dict)
    """What the measuring took: seconds for each kind of probe, positions computed (`bench.measure.Session`)."""

    def publishable(self) -> Responses:
        """The same without any text: ids and numbers only, enough to compute every metric again."""
        rows = {
            probe: {key: {k: v for k, v in row.items() if not is_text(v)} for key, row in by_id.items()}
            for probe, by_id in self.rows.items()
        }
        return dataclasses.replace(self, rows=rows)

    def to_json(self) -> Json:
        """Plain JSON."""
        return {"checkpoint": self.checkpoint, "rows": self.rows, "seconds": self.seconds, "cost": dict(self.cost)}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`."""
        return cls(data["checkpoint"], data["rows"], data.get("seconds", 0.0), data.get("cost", {}))


def is_text(value: Any) -> bool:
    """A text, or a list with one in it."""
    return isinstance(value, str) or (isinstance(value, list | tuple) and any(map(is_text, value)))


@dataclass(frozen=True)
class Score:
    """One number with its size and interval."""

    value: float
    n: int
    """Examples behind it."""
    low: float | None = None
    high: float | None = None
    """95% percentile bootstrap over examples; None where the statistic has no such interval."""
    unit: str = ""

    def to_json(self) -> Json:
        """Plain JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`."""
        return cls(**data)


@dataclass(frozen=True)
class Step:
    """One step of a run: a method with its complete parameters."""

    method: str
    params: Mapping[str, Any]
    variant: str = ""
    """Name of the method's preset that the parameters started from, where the user asked for one."""

    @property
    def name(self) -> str:
        """``npo`` or ``npo@small-retain``."""
        return f"{self.method}@{self.variant}" if self.variant else self.method


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's result; two specs with the same `key` are the same run."""

    task: str
    task_params: Mapping[str, Any]
    tier: str
    model: str
    """Known name, hub id or ``lab``."""
    steps: tuple[Step, ...]
    """Applied to the target in order; none for the untouched target."""
    seed: int
    limit: int | None = None
    """Examples per probe, when cut."""
    data: str = "generated"
    """Where the rows come from, for people: ``generated``, ``hub``, or a folder's name."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Content hashes of data and weights that come from outside."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Versions of the components that took part."""
    lm_eval: tuple[str, ...] = ()
    """lm-eval tasks asked beside the task's own probes."""
    start: str = ""
    """Where the steps begin: empty for the target, else the rule of a history's checkpoint (`bench.history.choose`)."""
    lean: bool = False
    """Whether log-probs and divergences alone are asked: the scores of other probes are absent."""
    kinds: tuple[str, ...] = ()
    """Kinds of the probes that are asked; none for all of them. The scores of other probes are absent."""
    compute: Mapping[str, Any] = field(default_factory=dict)
    """How training computes, where not as usual: ``dtype`` of the weights, ``autocast`` (bfloat16, weights stay float32),
    ``lora`` (rank of adapters), ``micro`` (rows of a forward pass)."""
    study: str = ""
    """A label; not part of the key."""

    @property
    def method(self) -> str:
        """The name of the row: the methods joined, or ``target``; ``rewound-`` when they don't begin at the target."""
        name = "+".join(step.name for step in self.steps) or "target"
        return f"rewound-{name}" if self.start else name

    @property
    def key(self) -> str:
        """Hash of the canonical JSON of everything but the label and the display name of the data."""
        data = self.to_json()
        del data["study"], data["data"]
        return digest(data)[:16]

    def to_json(self) -> Json:
        """Plain JSON."""
        data = dataclasses.asdict(self)
        data["steps"] = [
            {"method": step.method, "params": dict(step.params), "variant": step.variant} for step in self.steps
        ]
        data["lm_eval"], data["kinds"] = list(self.lm_eval), list(self.kinds)
        for name in (
            "start",
            "lean",
            "kinds",
            "compute",
        ):  # what is left at its default isn't said: specs from before it have their keys
            if not data[name]:
                del data[name]
        return data

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`."""
        steps = tuple(Step(step["method"], step["params"], step.get("variant", "")) for step in data["steps"])
        lists = {name: tuple(data.get(name, ())) for name in ("lm_eval", "kinds")}
        return cls(**{**data, "steps": steps, **lists})


@dataclass(frozen=True)
class Record:
    """One run as it is kept: ``<out>/<tier>/<task>/<model>/<method>-<key>.json``."""

    spec: RunSpec
    status: str
    """``done``, ``skipped`` or ``failed``."""
    reason: str = ""
    """Why it was skipped, or the whole error."""
    label: str = ""
    """What the section of the table is called: ``tofu (lab)``, or a subset of a benchmark with its size."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    metrics: Mapping[str, Json] = field(default_factory=dict)
    """Per score: version, goal (``up``, ``down``, ``oracle`` or a number), unit, needs_oracle."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Scores that can't be had, with the reason."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Per score: mean absolute difference between two oracles of this seed; for KL the KL between them."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What a reader must know beside the scores: retain rows seen, history used, collapse, figures of the target."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """Hash of every checkpoint and data set, training rows of the oracle."""
    cost: Mapping[str, Any] = field(default_factory=dict)
    """Seconds per stage, peak bytes, tokens trained, bytes stored, and the estimate beside the fact."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Versions, commit, dirty flag, threads, device kind."""
    schema: int = SCHEMA

    @property
    def name(self) -> str:
        """Where the record lives below the results folder."""
        model = self.spec.model.replace("/", "--")
        return f"{self.spec.tier}/{self.spec.task}/{model}/{self.spec.method}-{self.spec.key}.json"

    def to_json(self) -> Json:
        """Plain JSON, in a fixed order of keys."""
        return {
            "schema": self.schema,
            "spec": self.spec.to_json() | {"key": self.spec.key},
            "label": self.label,
            "status": self.status,
            "reason": self.reason,
            "scores": {name: score.to_json() for name, score in sorted(self.scores.items())},
            "metrics": dict(self.metrics),
            "absent": dict(self.absent),
            "floors": dict(self.floors),
            "facts": dict(self.facts),
            "lineage": dict(self.lineage),
            "cost": dict(self.cost),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`; raises ValueError when the file is not such a record."""
        if data.get("schema") != SCHEMA:
            raise ValueError(f"schema {data.get('schema')!r} where {SCHEMA} is expected")
        spec = dict(data["spec"])
        key = spec.pop("key")
        record = cls(
            spec=RunSpec.from_json(spec),
            scores={name: Score.from_json(score) for name, score in data["scores"].items()},
            **{name: data[name] for name in RECORD_PLAIN},
        )
        if record.spec.key != key:
            raise ValueError(f"its key {key} is not the hash of its spec ({record.spec.key})")
        return record


RECORD_PLAIN = (
    "status",
    "reason",
    "label",
    "metrics",
    "absent",
    "floors",
    "facts",
    "lineage",
    "cost",
    "provenance",
    "schema",
)
"""Fields of a record that are plain JSON already."""
