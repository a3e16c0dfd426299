"""The field's overall score (arXiv 2605.24614) as far as records tell it, shown as theirs beside distances to the oracle.

Harmonic mean of memorisation, privacy and utility. Theirs is the utility of TOFU with the fluency of what is written,
which a classifier of gibberish judges (gnueaj/unlearning-depth-score:patchscope/utility_eval.py) that isn't at hand: it is
left out here, so that the score bears another name than theirs. It rewards forgetting beyond the oracle's: the
oracle itself doesn't get 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.core.record import Record
from bench.metrics.tokens import harmonic_mean
from bench.records.tables import TARGET, Section, TableRow

MEMORISATION, PRIVACY, UTILITY = "field_memorisation", "field_privacy", "model_utility"


@dataclass(frozen=True)
class FieldScore:
    """One row of the field's overall score on one seed."""

    memorisation: float
    privacy: float
    utility: float
    """Relative to the target's, at most 1, as in the authors' code."""

    @property
    def overall(self) -> float:
        """The harmonic mean of the three."""
        return harmonic_mean((self.memorisation, self.privacy, self.utility))


def utility_of(record: Record) -> float | None:
    """TOFU's model utility, or the harmonic mean of the task's own utility scores where it has none; None without any."""
    names = [UTILITY] if UTILITY in record.metrics else list(record.facts.get("utility", ()))
    values = [record.scores[name].value for name in names if name in record.scores]
    return harmonic_mean(values) if values and len(values) == len(names) else None


def field_score(record: Record, target: Record) -> FieldScore | None:
    """The parts of a record's score; None where a part is absent or the target has no utility."""
    if MEMORISATION not in record.scores or PRIVACY not in record.scores:
        return None
    ours, theirs = utility_of(record), utility_of(target)
    if ours is None or not theirs:
        return None
    return FieldScore(record.scores[MEMORISATION].value, record.scores[PRIVACY].value, min(ours / theirs, 1.0))


def field_scores(section: Section) -> list[tuple[TableRow, list[FieldScore]]]:
    """The rows of a section that have the score, each with its seeds' scores, in the section's order; empty without a target."""
    target = section.row(TARGET)
    if target is None:
        return []
    by_seed = {record.spec.seed: record for record in target.records}
    found = []
    for row in section.rows:
        pairs = [(record, by_seed[record.spec.seed]) for record in row.records if record.spec.seed in by_seed]
        scores = [score for pair in pairs if (score := field_score(*pair))]
        if scores:
            found.append((row, scores))
    return found
