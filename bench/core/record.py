"""What is asked and what is kept: `RunSpec`, `Score` and `Record`, JSON in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from reprlib import repr as shorten
from typing import Any, Literal, Self

from bench.core.compute import USUAL, Compute
from bench.core.hashing import hash_json
from bench.core.schema import (
    STRICT,
    Cost,
    Count,
    Facts,
    Limit,
    Line,
    Lineage,
    Metrics,
    Provenance,
    Real,
    Text,
    Whole,
    check_place,
    check_same,
    read_as,
)
from bench.core.types import Json

PRIMARY = ("forgetting", "kept", "kl_forget", "kl_retain", "membership")
"""Roles of the scores that methods are compared by, one score each. Of the divergences the value counts, of the others
the distance to the oracles' mean on the same seed."""
SCHEMA = 2
"""Version of the record's layout."""
MIGRATE = "python -m tests.migrations.schema_2"
"""What brings a folder of records from schema 1 to 2."""
WHERE = "from within a checkout of the repository; an installed package has no tests"
"""Where that can be called."""


@dataclass(frozen=True)
class Score:
    """One number with its size and interval."""

    __pydantic_config__ = STRICT
    value: Real
    n: Count
    """Examples behind it."""
    low: Real | None = None
    high: Real | None = None
    """95% percentile bootstrap over examples; None where the statistic has no such interval."""
    unit: Line = ""

    def to_json(self) -> Json:
        """The object as plain JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Step:
    """One step of a run: a method with its complete parameters."""

    __pydantic_config__ = STRICT
    method: Line
    params: Mapping[str, Any]
    variant: Line = ""
    """Name of the method's preset that the parameters started from, where the user asked for one."""

    @property
    def name(self) -> str:
        """The step's name with its variant: ``npo`` or ``npo@small-retain``."""
        return f"{self.method}@{self.variant}" if self.variant else self.method


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's result; two specs with the same `key` are the same run."""

    __pydantic_config__ = STRICT
    task: Line
    task_params: Mapping[str, Any]
    tier: Line
    model: Line
    """Known name, hub id or ``lab``."""
    steps: tuple[Step, ...]
    """Applied to the target in order; none for the untouched target."""
    seed: Whole
    limit: Limit | None = None
    """Examples per probe, when cut."""
    data: Line = "generated"
    """Where the rows come from, for people: ``generated``, ``hub``, or a folder's name."""
    hashes: Mapping[str, Line] = field(default_factory=dict)
    """Content hashes of data and weights that come from outside."""
    versions: Mapping[str, Whole] = field(default_factory=dict)
    """Versions of the components that took part."""
    lm_eval: tuple[Line, ...] = ()
    """lm-eval tasks asked beside the task's own probes."""
    start: Line = ""
    """Where the steps begin: empty for the target, else the rule that picks a history's checkpoint
    (`bench.assets.history.choose_moment`)."""
    lean: bool = False
    """Whether log-probs and divergences alone are asked: the scores of other probes are absent."""
    kinds: tuple[Line, ...] = ()
    """Kinds of the probes that are asked; none for all of them. The scores of other probes are absent."""
    compute: Compute = USUAL
    """How training computes; its JSON names what isn't as usual."""
    attack: Line = ""
    """The attack by questions that is asked in the place of the task's own probes (`bench.runs.attacks.QUESTIONS`)."""
    order: Whole = 0
    """Which data order the steps train in: 0, or a second one that says how far two runs of one method lie apart."""
    study: Line = ""
    """A label; not part of the key."""

    @property
    def method(self) -> str:
        """The name of the row: the methods joined, or ``target``; ``rewound-`` when they don't begin at the target."""
        name = "+".join([step.name for step in self.steps] or ["target"])
        name += f"+{self.attack}" if self.attack else ""
        return f"rewound-{name}" if self.start else name

    @property
    def repetition(self) -> str:
        """``seed 0``, and of a second run its data order: ``seed 0, order 1``."""
        return f"seed {self.seed}, order {self.order}" if self.order else f"seed {self.seed}"

    @cached_property
    def key(self) -> str:
        """Hash of the canonical JSON of everything but the label and the display name of the data."""
        data = self.to_json()
        del data["study"], data["data"]
        return hash_json(data)[:16]

    def to_json(self) -> Json:
        """The object as plain JSON."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {"steps": [dict(vars(step)) for step in self.steps], "lm_eval": list(self.lm_eval)}
        for unsaid in ("attack", "order"):
            if not own[unsaid]:
                del own[unsaid]
        return own | lists | {"kinds": list(self.kinds), "compute": self.compute.to_json()}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`; ValueError names the field that isn't as declared."""
        made = read_as(cls, data)
        check_same(data, made.to_json())
        return made


@dataclass(frozen=True)
class Record:
    """One run as it is kept: ``<out>/<tier>/<task>/<model>/<method>-<key>.json``."""

    __pydantic_config__ = STRICT
    spec: RunSpec
    status: Literal["done", "skipped", "failed"]
    """``done``, ``skipped`` or ``failed``."""
    reason: Text = ""
    """Why it was skipped, or the whole error."""
    label: Line = ""
    """What the section of the table is called: ``tofu (lab)``, or a subset of a benchmark with its size."""
    scores: Mapping[Line, Score] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    """Per score: version, goal (``up``, ``down``, ``oracle`` or a number), unit, needs_oracle."""
    absent: Mapping[Line, Line] = field(default_factory=dict)
    """Scores that can't be had, with the reason."""
    floors: Mapping[Line, Real] = field(default_factory=dict)
    """Per score: mean absolute difference between two oracles of this seed; for KL the KL between them."""
    facts: Facts = field(default_factory=dict)
    """What a reader must know beside the scores: retain rows seen, history used, collapse, figures of the target."""
    lineage: Lineage = field(default_factory=dict)
    """Hash of every checkpoint and data set, training rows of the oracle."""
    cost: Cost = field(default_factory=dict)
    """Seconds per stage, peak bytes, tokens trained, bytes stored, and the estimate beside the fact."""
    provenance: Provenance = field(default_factory=dict)
    """Versions, commit, dirty flag, threads, device kind."""
    schema: int = SCHEMA

    @property
    def name(self) -> str:
        """Where the record lives below the results folder; ValueError where its names are none of files."""
        model = self.spec.model.replace("/", "--")
        return check_place(f"{self.spec.tier}/{self.spec.task}/{model}/{self.spec.method}-{self.spec.key}.json")

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
            raise ValueError(f"schema {shorten(data.get('schema'))} where {SCHEMA} is expected")
        spec = dict(data["spec"]) if isinstance(data.get("spec"), dict) else {}
        key = spec.pop("key", None)
        record = read_as(cls, {**data, "spec": spec})
        if record.spec.key != key:
            raise ValueError(f"its key {shorten(key)} is not the hash of its spec ({record.spec.key})")
        for name, score in record.scores.items():
            if (score.low is None) != (score.high is None):
                raise ValueError(f"scores.{name}: one end of its interval is missing")
            if score.low is not None and score.high is not None and score.low > score.high:
                raise ValueError(f"scores.{name}: its interval ends at {score.high}, before it begins at {score.low}")
            if name not in record.metrics:
                raise ValueError(f"metrics.{name}: it is missing, and scores has it")
        check_same(data, record.to_json())
        check_place(record.name)
        return record
