"""What a recipe says: how a published table is made here, which of its rows and columns there are, what was assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.studies.reproduce.published import PublishedTable

Status = Literal["runnable", "runnable, published numbers not recovered", "not delivered", "numbers not recovered"]
Kind = Literal["share", "area", "index", "p-value", "percent of the oracle"]
"""How far two measurements of a column may lie apart, see `bench.studies.reproduce.gate`."""

LAST = "last-before-exposure"
TARGET, ORACLE = "target", "retrain"


@dataclass(frozen=True)
class RecipeColumn:
    """A published column and what it is here."""

    published: str
    score: str = ""
    """Our score; empty where we don't measure it."""
    note: str = ""
    """Why it isn't measured, or what differs."""
    kind: Kind = "share"
    scale: float = 1.0
    """Our value times this is in the published unit (100 for percent)."""
    judged: bool = False
    """Whether somebody judges the answers, and here somebody else."""
    oracle_area: float = 0.0
    """The oracle's published AUC, of a percent of it."""


@dataclass(frozen=True)
class RecipeRow:
    """A published row and what it is here."""

    published: str
    method: str = ""
    """Our method, `TARGET` or `ORACLE`; empty: not implemented here."""
    params: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class RecipePanel:
    """The rows of a table that share a model and its data: one scenario."""

    name: str
    """Unique in its recipe, fit for a file's name."""
    table: PublishedTable
    model: str
    """theta_0's release, as `bench fetch` takes it: known name or hub id, maybe with @revision."""
    arms: tuple[RecipeRow, ...]
    params: Mapping[str, Any]
    """Of the task."""
    target: str = ""
    """A target from elsewhere; empty: the task trains it."""
    oracles: tuple[str, ...] = ()
    """Retrained models from elsewhere; none: the task trains one."""
    target_tokens: float = 0
    """Tokens that training the target takes, all passes, roughly; 0 where it isn't trained here."""
    forget_tokens: float = 0
    """Tokens of one pass over the forget set, roughly."""
    forget_rows: int = 1
    """Rows or passages of the forget set, roughly."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Folders of checkpoints that stand in for earlier ones, by the name of the earlier one (`bench.studies.reproduce.smoke`)."""
    labels: tuple[str, ...] = ()
    """What records call exactly these data; anything else is a part of them, or something else."""

    @property
    def past(self) -> tuple[str, ...]:
        """The earlier checkpoints that its rows start from: revisions of its model, or other hub models."""
        named = [str(arm.params.get("before", LAST)) for arm in self.arms if arm.method == "msa"]
        return tuple(dict.fromkeys(name for name in named if name != LAST))


@dataclass(frozen=True)
class Assumption:
    """Something that the source doesn't report."""

    about: str
    choice: str
    flag: str = ""
    """What changes it; empty: nothing here does."""


@dataclass(frozen=True)
class Recipe:
    """One published table, as one command."""

    name: str
    title: str
    source: str
    task: str = ""
    columns: tuple[RecipeColumn, ...] = ()
    panels: tuple[RecipePanel, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    status: Status = "runnable"
    note: str = ""
    """What else a reader of the list must know: why it can't be run, what part is left out."""
    seeds: tuple[int, ...] = (0,)
    data: str = "hub"
    """Where the benchmark's rows come from, as `bench run --data` takes it."""
    compute: Mapping[str, Any] = field(default_factory=dict)
    """How training computes, as `RunSpec.compute`; ``checkpointing`` beside it."""
    then: tuple[str, ...] = ()
    """Methods that go on after each row's own."""
    others: tuple[PublishedTable, ...] = ()
    """Published tables that belong to it and have no counterpart here."""

    @property
    def tables(self) -> tuple[PublishedTable, ...]:
        """Every published table that it shows."""
        return (*(panel.table for panel in self.panels), *self.others)

    def row(self) -> dict[str, str]:
        """Its line of ``reproduce --list --json``."""
        fields = ("name", "title", "source", "status", "note", "task")
        return {field: getattr(self, field) for field in fields}
