"""Which methods differ: paired differences of gaps over seeds, for contrasts that were fixed before any run.

A gap is a method's distance from the oracles in a primary score (`TableRow.gaps`); a contrast is MSA's gap minus another
row's, seed by seed. Its mean comes with the 95% t interval and the two-sided p of the paired t test; p is adjusted over
contrasts times primary scores of a section (Holm 1979). What a method costs is set and not measured: it stands in the
tables and is not tested.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.records.identity import is_called, is_preset
from bench.records.noise import ROUNDING, difference, pooled_sd
from bench.records.tables import Section, TableCell, TableRow, t_interval

SEEDS_TO_RANK = 5
"""Common seeds that a contrast takes."""
LEVEL = 0.05
"""Holm's adjusted p below which a difference is supported."""
ONE = "msa"
OTHERS = ("npo", "npo@small-retain", "task-arithmetic", "rewind@25")
"""What `ONE` is compared with."""
TOGETHER = {"kl_forget": "kl_retain", "kl_retain": "kl_forget"}
"""Roles that tell little alone: doing nothing has a low divergence on retain, a mere mixture a low one on forget."""


@dataclass(frozen=True)
class Paired:
    """A paired comparison of two rows: the first one's gap minus the second one's."""

    mean: float
    low: float
    high: float
    """95% t interval."""
    p: float
    """Two-sided, of the paired t test."""
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Contrast:
    """Two rows compared in one primary score."""

    one: str
    other: str
    role: str
    score: str
    paired: Paired
    holm: float | None = None
    """Adjusted p; None where the contrast was chosen after looking, which no adjustment mends."""
    supported: bool = False
    wrecks: frozenset[str] = frozenset()
    """Which of the two has collapsed or diverged on some seed; neither is ever the better one."""

    @property
    def better(self) -> str:
        """The row whose mean gap is smaller."""
        return self.one if self.paired.mean < 0 else self.other


@dataclass(frozen=True)
class Contrasts:
    """What a section says of its rows."""

    fixed: tuple[Contrast, ...] = ()
    best: tuple[Contrast, ...] = ()
    """Against the best of the other methods, chosen after looking: described, and never supported."""
    said: str = ""
    """Why there are none, or how the best other was chosen."""

    @property
    def supported(self) -> tuple[Contrast, ...]:
        """The differences that may be written as such."""
        return tuple(contrast for contrast in self.fixed if contrast.supported)

    def better_rows(self) -> dict[str, set[str]]:
        """Per score the rows that a supported contrast names as the better one, and none as the worse."""
        better: dict[str, set[str]] = defaultdict(set)
        worse: dict[str, set[str]] = defaultdict(set)
        for contrast in self.supported:
            better[contrast.score].add(contrast.better)
            worse[contrast.score].add(contrast.other if contrast.better == contrast.one else contrast.one)
        return {score: rows - worse[score] for score, rows in better.items()}


def build_contrasts(section: Section) -> Contrasts:
    """The fixed contrasts of a section, and the differences to the best other method, described and not tested."""
    if not section.rows:
        return Contrasts()
    if not section.primary:
        seeds = {seed for row in section.rows for seed in row.seeds}
        few = len(seeds) < SEEDS_TO_RANK
        why = f"that takes {SEEDS_TO_RANK} seeds" if few else "no scores were fixed beforehand to compare by"
        return Contrasts(said=f"Nothing is ranked: {why}.")
    one = find_row(section, ONE)
    if one is None:
        return Contrasts(said=f"Nothing is ranked: there is no row {ONE}, which the contrasts are about.")
    others = [row for name in OTHERS if (row := find_row(section, name))]
    best = find_best_other(section, one)
    if not others and best is None:
        return Contrasts(said=f"Nothing is ranked: there is no other row that {ONE} is compared with.")
    fixed = _adjusted([contrast for other in others for contrast in compare_gaps(section, one, other)])
    chosen = compare_gaps(section, one, best) if best and best not in others else []
    if not fixed and not chosen:
        return Contrasts(said=f"Nothing is ranked: that takes {SEEDS_TO_RANK} seeds that both rows have in common.")
    if best is None:
        said = ""
    elif best in others:
        said = f"The best other method by its mean gap is {best.name}, which is among the contrasts."
    else:
        said = (
            f"The best other method by its mean gap is {best.name}: it was chosen after looking, so its differences are "
            "described and not tested."
        )
    return Contrasts(tuple(fixed), tuple(chosen), said)


def compare_rows(section: Section, one: TableRow, other: TableRow) -> list[Contrast]:
    """The primary scores of two rows that were named beforehand, p adjusted over these scores alone."""
    return _adjusted(compare_gaps(section, one, other))


def compare_gaps(section: Section, one: TableRow, other: TableRow) -> list[Contrast]:
    """Two rows in every primary score that has enough seeds, not adjusted."""
    found = []
    for role, score in section.primary.items():
        if paired := compare_paired(one.gaps.get(role, {}), other.gaps.get(role, {})):
            wrecks = frozenset(row.name for row in (one, other) if row.wrecked)
            found.append(Contrast(one.name, other.name, role, score, paired, wrecks=wrecks))
    return found


def find_best_other(section: Section, one: TableRow) -> TableRow | None:
    """The method beside MSA and the controls with the smallest `TableRow.distance` of those with all seeds of ``one``.

    No wreck; None where none has a distance on these seeds.
    """
    rows = [r for r in section.rows if r.is_method and not r.is_control and not r.wrecked and r.distance is not None]
    others = [
        row
        for row in rows
        if row.records[0].spec.steps[0].method != ONE
        and all(gaps.keys() <= row.gaps.get(role, {}).keys() for role, gaps in one.gaps.items())
    ]
    return min(others, key=lambda row: (row.distance, row.name), default=None)


def compare_paired(one: Mapping[int, float], other: Mapping[int, float]) -> Paired | None:
    """The paired t test of ``one - other`` over their common seeds; None with too few of them.

    Where all differences are equal there is no spread to test by: p is 1 if they are 0, else 0, its limit.
    """
    seeds = sorted(one.keys() & other.keys())
    if len(seeds) < SEEDS_TO_RANK:
        return None
    by_seed = {seed: difference(one[seed], other[seed]) for seed in seeds}
    differences = list(by_seed.values())
    low, high = t_interval(differences)
    return Paired(TableCell(by_seed).mean, low, high, _two_sided_p(differences), tuple(seeds))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979), in the order given: of the k-th smallest of m, the largest (m - j + 1) p_j so far."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found, largest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        found[i] = largest
    return found


def _two_sided_p(differences: Sequence[float]) -> float:
    from scipy.special import stdtr

    error = pooled_sd([differences]) / math.sqrt(len(differences))
    mean = fmean(differences)
    if error <= ROUNDING * abs(mean):
        return float(not mean)
    return float(2 * stdtr(len(differences) - 1, -abs(mean / error)))


def _adjusted(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """The contrasts with their adjusted p, and whether they are supported.

    Of the two divergences one is supported only if the other is there and does not point the other way. That a wreck is
    nearer is never supported.
    """
    adjusted = adjust_holm([contrast.paired.p for contrast in contrasts])
    means = {(contrast.one, contrast.other, contrast.role): contrast.paired.mean for contrast in contrasts}

    def is_supported(contrast: Contrast, p: float) -> bool:
        if p >= LEVEL or contrast.better in contrast.wrecks:
            return False
        if contrast.role not in TOGETHER:
            return True
        twin = means.get((contrast.one, contrast.other, TOGETHER[contrast.role]))
        return twin is not None and twin * contrast.paired.mean >= 0

    return [
        replace(contrast, holm=p, supported=is_supported(contrast, p))
        for contrast, p in zip(contrasts, adjusted, strict=True)
    ]


def find_row(section: Section, name: str) -> TableRow | None:
    """The row of a method by its step's name, such as ``npo`` or ``npo@small-retain``. Never one under repair.

    Of several settings the place's own preset, then the one with the most seeds, then the first by name.
    """
    rows = [row for row in section.rows if is_called(row.records[0], name)]
    return min(rows, key=lambda row: (not is_preset(row.records[0], name), -len(row.seeds), row.name), default=None)
