"""What the fields of a record may hold, declared once and checked by pydantic: strict kinds, finite numbers, short names.

The dataclasses of `bench.core.record` are annotated with these; `read_as` is the one way from JSON to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from reprlib import repr as shorten
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, GetPydanticSchema, TypeAdapter, ValidationError
from pydantic_core import core_schema
from typing_extensions import TypedDict

T = TypeVar("T")

MOST = 10**150
"""Beyond it a number is none: its square, and sums of such, are no numbers any more."""
LONGEST_NAME = 220
"""Bytes of a file's or a folder's name; file systems hold 255, and a name in the making is a little longer."""

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
OPEN = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
"""For what may have members that no reader knows."""

Line = Annotated[str, Field(max_length=10_000)]
Text = Annotated[str, Field(max_length=1_000_000)]
"""Such as a whole traceback."""
Real = Annotated[float, Field(ge=-MOST, le=MOST)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""Of 64 bits, as seeds are."""
Count = Annotated[int, Field(ge=0, le=MOST)]
Limit = Annotated[int, Field(ge=1, le=MOST)]
Key = Annotated[str, Field(pattern=r"^[\w-]{1,100}$")]
"""A content key, which becomes a file's name."""
Names = list[Line]
Goal = Literal["up", "down", "oracle", ""] | Real


def shaped(kind: Any) -> GetPydanticSchema:
    """The mark of a field that must have the shape of ``kind`` and is kept as it was told, to the order of its members."""

    def as_told(value: Any, check: Callable[[Any], Any]) -> Any:
        check(value)
        return value

    return GetPydanticSchema(lambda _, make: core_schema.no_info_wrap_validator_function(as_told, make(kind)))


class MetricShape(TypedDict):
    """What stands about a score's metric."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    goal: Goal
    needs_oracle: bool
    unit: Line
    version: Whole


class JudgeShape(TypedDict, total=False):
    """What the judge of the acc_* scores said of target and oracle."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    scores: dict[str, dict[str, dict[str, Any]]]
    verdict: Line


class FactsShape(TypedDict, total=False):
    """Facts that tables, pictures and pages read."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    about: dict[Line, Real]
    attention: Line
    blocks: list[Real]
    displacement: Real | None
    diverged: Names
    forgetting: Names
    headline: Names
    history_used: bool
    judge: JudgeShape
    notes: dict[str, Any]
    oracle_values: dict[str, list[Real]]
    primary: dict[Line, Line]
    retain_rows: Count
    source: Names
    theta_0: dict[str, Any]
    trace: list[TracePoint]
    utility: Names


class TracePoint(TypedDict):
    """One place on the way to a method's result, and beyond it where the share is above 1."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    scores: dict[Line, Real]
    share: Real


class LineageShape(TypedDict, total=False):
    """Names of checkpoints, responses and nodes."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    before: Line
    history: Names
    history_used: Names
    oracle_responses: list[Key]
    oracles: Names
    outside: Names
    responses: Key
    result: Line
    result_node: Line
    target: Line


class CostShape(TypedDict, total=False):
    """What the work took."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    bytes_stored: Real
    estimate: dict[str, Real]
    expected_seconds: Real
    flops: dict[str, Real]
    nodes: Names
    oracle_tokens: dict[Literal["from_theta_0", "from_nothing"], Count]
    peak_bytes: Real
    scenario_seconds: dict[str, Real]
    seconds: dict[str, Real]
    stages: dict[str, Real]
    tokens_trained: Real


class ProvenanceShape(TypedDict, total=False):
    """Which code made it."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    commit: Line | None
    commits: Names
    device: Line
    devices: Names
    dirty: bool | None
    finished: Line
    imported: dict[str, Line]
    instruction_set: Line
    instruction_sets: Names
    threads: Count | None
    versions: dict[str, Line | None]


Metrics = Annotated[Mapping[str, Any], shaped(dict[Line, MetricShape])]
Facts = Annotated[Mapping[str, Any], shaped(FactsShape)]
Lineage = Annotated[Mapping[str, Any], shaped(LineageShape)]
Cost = Annotated[Mapping[str, Any], shaped(CostShape)]
Provenance = Annotated[Mapping[str, Any], shaped(ProvenanceShape)]


def read_as(kind: type[T], data: Any) -> T:
    """The object of ``kind`` that JSON describes; ValueError names the first field that isn't as declared."""
    try:
        made: T = _adapter(kind).validate_json(json.dumps(data))
        return made
    except ValidationError as error:
        raise ValueError(_say(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def check_same(told: Any, made: Any, at: str = "") -> None:
    """ValueError names the first member that stands on one side alone, or has another value there."""
    if told == made:
        return
    if not isinstance(told, dict) or not isinstance(made, dict):
        raise ValueError(f"{at.strip('.') or 'it'}: {shorten(told)} where {shorten(made)} is expected")
    for name in sorted(told.keys() | made.keys()):
        if name not in told:
            raise ValueError(f"{at}{name}: it is missing")
        if name not in made:
            raise ValueError(f"{at}{name}: nothing of that name belongs there")
        check_same(told[name], made[name], f"{at}{name}.")


def check_place(name: str) -> str:
    """``name`` (``tier/task/model/file``), if it is a place below a results folder; else ValueError."""
    parts = name.split("/")
    for part in parts:
        if part.startswith(".") or not part or not part.isprintable() or "\\" in part:
            raise ValueError(f"it names itself {part!r}, which is no name of a file or folder")
        if len(part.encode()) > LONGEST_NAME:
            raise ValueError(f"it names itself {part[:40]!r}..., which is too long for the name of a file or folder")
    if len(parts) != 4:
        raise ValueError(f"it names itself {name!r}, which has {len(parts)} parts and not 4")
    return name


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""Built once for each kind, as that takes some milliseconds."""


def _say(error: ValidationError) -> str:
    """The first fault as ``field: what is wrong``."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"])) or "it"
    if first["type"] == "missing":
        return f"{place}: it is missing"
    if first["type"] == "unexpected_keyword_argument":
        return f"{place}: nothing of that name belongs there"
    said = first["msg"][0].lower() + first["msg"][1:]
    return f"{place}: {said}, and it is {shorten(first['input'])}"
