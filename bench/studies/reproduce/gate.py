"""The calibration gate: rows of methods count as a reproduction only where target and oracle came out as published.

What ran must be what was published: another setting of the task, another way to compute or other rows can't pass it.

A tolerance is half of the last published digit, and what two honest measurements of the same thing may differ by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.core.files import read_toml
from bench.studies.reproduce.published import DATA, NR, PublishedTable
from bench.studies.reproduce.recipe import ORACLE, TARGET, RecipeColumn, RecipeRow

Z = 1.96
"""Standard errors in a 95% interval."""
UTILITY, DECADES = 0.02, 1.0
TEXTS = read_toml(DATA / "tolerances.toml")
REASONS = {kind: text.format(utility=UTILITY, factor=10**DECADES) for kind, text in TEXTS.items()}
BY_DEFINITION = {"p-value": "1.0", "percent of the oracle": "0"}
"""What the oracle scores against itself: no measurement."""
OTHER_JUDGE = "with another judge"
Outcome = Literal["passed", "failed", "can't be passed", "not applicable"]


@dataclass(frozen=True)
class MeasuredCell:
    """A score of a row here, mean over seeds, in the published unit."""

    value: float
    n: int
    """Examples behind it, of one seed."""
    low: float
    """Least over seeds."""
    high: float


Cells = Mapping[tuple[str, str], MeasuredCell]
"""(published row, published column) -> what came out."""


@dataclass(frozen=True)
class GateVerdict:
    """Whether target and oracle of one scenario came out as published, number by number."""

    outcome: Outcome
    reasons: tuple[str, ...]
    checks: tuple[str, ...] = ()
    """Every number of target and oracle that was compared, with its tolerance."""
    caveat: str = ""
    """What else sets it apart from the published table, whatever the outcome."""


def tolerance(column: RecipeColumn, text: str, n: int) -> float:
    """How far a measurement of ``n`` examples may lie from the published text; of p-values in powers of ten."""
    if column.kind == "p-value":
        return DECADES
    digit = half_digit(text)
    if column.kind == "index":
        return digit + UTILITY
    if column.kind == "percent of the oracle":
        apart = 1 - column.oracle_area  # PrivLeak is 100 ((1 - AUC) / apart - 1)
        return digit + 100 / apart * sampling_error(1 - apart * (1 + float(text) / 100), n // 2)
    return digit + column.scale * sampling_error(float(text) / column.scale, n // 2 if column.kind == "area" else n)


def sampling_error(share: float, rows: int) -> float:
    """95% of a share of so many rows lies within this, at least one row."""
    share = min(1.0, max(0.0, share))
    return max(Z * math.sqrt(share * (1 - share) / rows), 1 / rows)


def half_digit(text: str) -> float:
    """Half a unit of the last digit that a number is written with."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def signed_distance(column: RecipeColumn, text: str, value: float) -> float:
    """Measured minus published; of p-values in powers of ten."""
    if column.kind == "p-value":
        floor = 1e-300
        return math.log10(max(value, floor)) - math.log10(max(float(text), floor))
    return value - float(text)


def is_within(column: RecipeColumn, text: str, measured: MeasuredCell) -> bool:
    """Whether a cell came out as published."""
    return abs(signed_distance(column, text, measured.value)) <= tolerance(column, text, measured.n) + 1e-12


def judge_calibration(
    table: PublishedTable,
    columns: Sequence[RecipeColumn],
    arms: Sequence[RecipeRow],
    cells: Cells,
    other: Sequence[str] = (),
) -> GateVerdict:
    """The gate of one scenario, from its published rows of target and oracle and what came out for them.

    ``other`` says what ran instead of what was published (`departures`).
    """
    framing = [arm for arm in arms if arm.method in (TARGET, ORACLE)]
    caveat = OTHER_JUDGE if any(column.judged for column in columns) else ""
    reasons = list(other)
    if unpublished := [arm.method for arm in framing if not numbers_of(table, arm.published)]:
        reasons.append(f"no numbers of {' and '.join(map(_role_name, unpublished))} were published or recovered")
    if reasons:
        return GateVerdict("can't be passed", tuple(reasons), caveat=caveat)
    off, blank, checks = list[str](), list[str](), list[str]()
    for arm in framing:
        before, lacking = len(checks), list[str]()
        for column, text in zip(columns, table.row(arm.published).values, strict=True):
            found = cells.get((arm.published, column.published))
            if text == NR or not column.score or (arm.method == ORACLE and column.kind in BY_DEFINITION):
                continue
            if found is None:
                lacking.append(f"{_role_name(arm.method)} {column.published} wasn't measured, and {text} was published")
                continue
            said = f"{_role_name(arm.method)} {column.published} {measured_text(found.value)} vs {text}"
            checks.append(f"{said}, tolerance {_tolerance_text(column, tolerance(column, text, found.n))}")
            off += [] if is_within(column, text, found) else [said]
        if len(checks) == before:
            lacking = [f"nothing of {_role_name(arm.method)} was measured that was published"]
        blank += lacking
    if off or blank:
        return GateVerdict("failed", (*off, *blank), tuple(checks), caveat)
    passed = "target and oracle came out as published, within the tolerances"
    return GateVerdict("passed", (passed,), tuple(checks), caveat)


def departures(exact: Sequence[str], labels: Iterable[str], frame: Sequence[str]) -> list[str]:
    """Departures from what was published: rows called otherwise than ``exact``, and what the user changed."""
    changed = [f"`--set {text}` changed the task or how it is computed" for text in frame]
    return changed + [
        f"the data here are '{label}', not '{exact[0]}'" for label in dict.fromkeys(labels) if label not in exact
    ]


def _tolerance_text(column: RecipeColumn, width: float) -> str:
    return f"a factor of {10**width:.0f}" if column.kind == "p-value" else measured_text(width)


def numbers_of(table: PublishedTable, name: str) -> set[str]:
    """The numbers that are known of a published row; none where there is no such row."""
    return {text for row in table.rows if row.name == name for text in row.values} - {NR}


def _role_name(method: str) -> str:
    return "target" if method == TARGET else "oracle"


def measured_text(value: float) -> str:
    """A measured number as tables have it: four digits at most, small ones with their exponent."""
    if value and abs(value) < 0.001:
        return f"{value:.2e}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
