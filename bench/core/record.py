"""What is asked and what is kept: `RunSpec`, `Score` and `Record`, JSON in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from bench.core.compute import USUAL, Compute
from bench.core.hashing import hash_json
from bench.core.places import stays_below
from bench.core.types import Json

SCHEMA = 2
"""Version of the record's layout."""
MIGRATE = "python -m tests.migrations.schema_2"
"""What brings a folder of records from schema 1 to 2."""
WHERE = "from within a checkout of the repository; an installed package has no tests"
"""Where that can be called."""


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
        """The object as plain JSON."""
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
        """The step's name with its variant: ``npo`` or ``npo@small-retain``."""
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
    """Where the steps begin: empty for the target, else the rule that picks a history's checkpoint
    (`bench.assets.history.choose_moment`)."""
    lean: bool = False
    """Whether log-probs and divergences alone are asked: the scores of other probes are absent."""
    kinds: tuple[str, ...] = ()
    """Kinds of the probes that are asked; none for all of them. The scores of other probes are absent."""
    compute: Compute = USUAL
    """How training computes; its JSON names what isn't as usual."""
    study: str = ""
    """A label; not part of the key."""

    @property
    def method(self) -> str:
        """The name of the row: the methods joined, or ``target``; ``rewound-`` when they don't begin at the target."""
        name = "+".join(step.name for step in self.steps) or "target"
        return f"rewound-{name}" if self.start else name

    @cached_property
    def key(self) -> str:
        """Hash of the canonical JSON of everything but the label and the display name of the data."""
        data = self.to_json()
        del data["study"], data["data"]
        return hash_json(data)[:16]

    def to_json(self) -> Json:
        """The object as plain JSON."""
        lists = {"steps": [dict(vars(step)) for step in self.steps], "lm_eval": list(self.lm_eval)}
        return dataclasses.asdict(self) | lists | {"kinds": list(self.kinds), "compute": self.compute.to_json()}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`."""
        steps = tuple(Step(**step) for step in data["steps"])
        lists = {name: tuple(data[name]) for name in ("lm_eval", "kinds")}
        return cls(**{**data, "steps": steps, "compute": Compute(**data["compute"]), **lists})


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
        parts = (
            self.spec.tier,
            self.spec.task,
            self.spec.model.replace("/", "--"),
            f"{self.spec.method}-{self.spec.key}",
        )
        if odd := [part for part in parts if "/" in part or not stays_below(part)]:
            raise ValueError(f"it names itself {odd[0]!r}, which is no name of a file or folder")
        return f"{'/'.join(parts)}.json"

    def to_json(self) -> Json:
        """The object as plain JSON."""
        scores = {name: score.to_json() for name, score in self.scores.items()}
        return vars(self) | {"spec": self.spec.to_json() | {"key": self.spec.key}, "scores": scores}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`; raises ValueError when the file is not such a record."""
        if data.get("schema") == 1:
            raise ValueError(f"it is of schema 1, and `{MIGRATE} FOLDER` renews the records of a folder ({WHERE})")
        if data.get("schema") != SCHEMA:
            raise ValueError(f"schema {data.get('schema')!r} where {SCHEMA} is expected")
        spec = dict(data["spec"])
        key = spec.pop("key")
        scores = {name: Score.from_json(score) for name, score in data["scores"].items()}
        names = [field.name for field in dataclasses.fields(cls)]
        record = cls(**{name: data[name] for name in names} | {"spec": RunSpec.from_json(spec), "scores": scores})
        if record.spec.key != key:
            raise ValueError(f"its key {key} is not the hash of its spec ({record.spec.key})")
        return record
