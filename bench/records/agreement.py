"""Whether fresh runs agree with the published ones of the same setting: a newcomer's demo beside the results folder.

A row agrees where its mean lies in the 95% prediction interval of so many new seeds given the published ones:
mean ± t sd √(1/k + 1/n), with t of n - 1 degrees of freedom (Student's, for one new seed sd √(1 + 1/n)). Another
processor gives other weights at the same seed, so that more than that can't be asked.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.core.hashing import canonical_json
from bench.core.record import Record
from bench.core.types import Json
from bench.records.bundles import bundle_path, unpack_bundle
from bench.records.noise import one_row, pooled_sd
from bench.records.plain import parse_plain
from bench.records.tables import Section, TableRow, t_interval, t_quantile

NOT_OF_SETTING = ("seed", "key", "hashes", "data", "study", "lean", "kinds", "versions")
"""Parts of a run's spec that two seeds of one setting may differ in, or that only say what else was asked."""
LEAST = 2
"""Published seeds below which there is no spread to judge by."""


@dataclass(frozen=True)
class Agreement:
    """A primary score of one row, here and published."""

    row: str
    score: str
    here: float
    """Mean over the seeds that were run here."""
    mean: float
    """Of the published seeds."""
    interval: tuple[float, float]
    """95% t interval of the published mean."""
    n: int
    """Published seeds."""
    expected: tuple[float, float]
    """Where `here` lies with 95%, if it is of the same kind."""

    @property
    def agrees(self) -> bool:
        """Whether it lies there."""
        low, high = self.expected
        return low <= self.here <= high or math.isclose(self.here, self.mean)


def find_results() -> Path | None:
    """The published results: those of the working folder, else of the checkout this code runs from; None for neither."""
    places = (Path("results"), Path(__file__).resolve().parents[2] / "results")
    return next((place for place in places if os.path.isdir(place)), None)


def compare_with_published(sections: Sequence[Section], results: Path) -> list[Agreement]:
    """The primary scores of every row whose setting is published, by section and row."""
    found = []
    for section in sections:
        if not section.rows or not section.primary:
            continue
        published = read_settings(bundle_path(section.rows[0].records[0], results))
        for row in section.rows:
            like = records_of(row.records[0], published)
            found += [one for score in section.primary.values() if (one := compare_score(row, score, like))]
    return found


def read_settings(bundle: Path) -> dict[str, list[bytes]]:
    """By setting the lines of a bundle, which are records; none where there is no sound bundle."""
    if not os.path.isfile(bundle):
        return {}
    found: dict[str, list[bytes]] = defaultdict(list)
    try:
        for line in unpack_bundle(bundle).splitlines():
            found[setting_of(json.loads(line)["spec"])].append(line)
    except (LookupError, TypeError, ValueError):  # what is wrong with it says whatever reads the folder
        return {}
    return dict(found)


def records_of(record: Record, published: Mapping[str, Sequence[bytes]]) -> list[Record]:
    """The published runs of a record's setting, as far as they are sound records."""
    found = []
    for line in published.get(setting_of(record.spec.to_json()), ()):
        with suppress(ValueError):
            found.append(Record.from_json(parse_plain(line)))
    return found


def setting_of(spec: Json) -> str:
    """What the runs of one row share, as text: method and complete parameters, task, its parameters, and how it was run."""
    rest: dict[str, Any] = {name: value for name, value in spec.items() if name not in NOT_OF_SETTING}
    rest["steps"] = [[step["method"], step["params"]] for step in rest["steps"]]
    return canonical_json(rest)


def compare_score(row: TableRow, score: str, published: Sequence[Record]) -> Agreement | None:
    """One score of a row beside its published runs; None where there are too few, or they are of other versions."""
    if score not in row.cells:
        return None
    like = [record for record in published if is_comparable(row.records[0], record, score)]
    if len(like) < LEAST:
        return None
    values, here = [record.scores[score].value for record in like], row.cells[score]
    k, n, mean = here.n, len(values), fmean(values)
    spread = max(pooled_sd([values]), one_row(score, like))
    half = t_quantile(n - 1, 0.975) * spread * math.sqrt(1 / k + 1 / n)
    return Agreement(row.name, score, here.mean, mean, t_interval(values), n, (mean - half, mean + half))


def is_comparable(one: Record, other: Record, score: str) -> bool:
    """Whether both have the score, and no component behind it in two versions."""
    if other.status != "done" or score not in other.scores or score not in one.metrics:
        return False
    if one.metrics[score].get("version") != other.metrics[score].get("version"):
        return False
    mine: Mapping[str, int] = one.spec.versions
    shared = [name for name in mine if name in other.spec.versions and name not in one.metrics]
    return all(mine[name] == other.spec.versions[name] for name in shared)
