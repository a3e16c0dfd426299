"""What the models said: each question with its truth, and the answers of target, oracle and methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.core.record import Record
from bench.core.sampling import evenly_spread
from bench.core.types import Json, Responses
from bench.metrics.rouge import rouge
from bench.records.tables import ORACLE, TARGET, Section
from bench.report.words import quoted, tidy

KNOWS = 0.75
"""ROUGE-L recall from which an answer counts as knowing the truth, where the task has no judgement of its own."""
LOOPED = 0.5
"""Share of an answer's words in one phrase said again and again from which it is broken."""
MOST = 100
"""Questions of one probe that are shown, evenly spread."""
FORGOT, STILL, BROKE, KEPT, GAINED, NEVER = "forgot", "still", "broke", "kept", "gained", "never"
Said = Callable[[Record], Responses | None]
"""What gives a record's responses with texts; None where there are none, or they may not be shown."""


@dataclass
class Texts:
    """Texts by number, each once: methods often say the same."""

    numbers: dict[str, int]

    def number(self, text: str) -> int:
        """The number of a text."""
        return self.numbers.setdefault(quoted(text), len(self.numbers))


def build_answers(section: Section, said: Said) -> Json | None:
    """The answers of the first seed that has any; None without.

    ``probes`` holds rows of [id, question, truth, answers, verdicts], the last two in the order of ``who``; texts are numbers
    in ``texts``, -1 for none, and a verdict says what has become of what the target knew (`verdict_of`).
    """
    for seed in sorted({seed for row in section.rows for seed in row.seeds}):
        records = {row.name: record for row in section.rows for record in row.records if record.spec.seed == seed}
        found = {name: spoken for name, record in records.items() if (spoken := said(record)) and spoken.rows}
        if found:
            texts = Texts({})
            target, oracle = (_first(section, found, method) for method in (TARGET, ORACLE))
            probes = [_probe(probe, found, target, oracle, texts) for probe in _probes(found)]
            return {"seed": seed, "who": list(map(tidy, found)), "probes": probes, "texts": list(texts.numbers)}
    return None


def _first(section: Section, found: Mapping[str, Responses], method: str) -> Responses | None:
    row = section.row(method)
    return found.get(row.name) if row else None


def _probes(found: Mapping[str, Responses]) -> list[str]:
    """The probes with texts, in the order in which they were asked."""
    return list(dict.fromkeys(probe for responses in found.values() for probe in responses.rows))


def _probe(
    probe: str, found: Mapping[str, Responses], target: Responses | None, oracle: Responses | None, texts: Texts
) -> Json:
    answers = {name: responses.rows.get(probe, {}) for name, responses in found.items()}
    ids = list(dict.fromkeys(key for rows in answers.values() for key in rows))
    before, ideal = ((each.rows.get(probe, {}) if each else {}) for each in (target, oracle))
    rows = []
    for key in evenly_spread(ids, MOST):
        each = [by_id.get(key) for by_id in answers.values()]
        asked = next(row for row in each if row)
        rows.append(
            [
                tidy(key),
                texts.number(asked.get("prompt", "")),
                texts.number(asked.get("reference", "")),
                [texts.number(row["text"]) if row else -1 for row in each],
                [verdict_of(row, before.get(key), ideal.get(key), probe) if row else "" for row in each],
            ]
        )
    return {"name": tidy(probe), "asked": len(ids), "rows": rows}


def verdict_of(
    row: Mapping[str, Any], target: Mapping[str, Any] | None, oracle: Mapping[str, Any] | None, probe: str
) -> str:
    """What has become of one question: the target's answer says what was known, the oracle's whether it should be.

    Where there is no oracle, what a probe ``forget_...`` asks should be forgotten. An answer that goes in circles is broken;
    empty where there is no target to compare with.
    """
    if loops(row):
        return BROKE
    if target is None:
        return ""
    is_known = knows(row)
    if not knows(target):
        return GAINED if is_known else NEVER
    should_stay = knows(oracle) if oracle is not None else not probe.startswith("forget")
    if should_stay:
        return KEPT if is_known else BROKE
    return STILL if is_known else FORGOT


def knows(row: Mapping[str, Any]) -> bool:
    """Whether an answer has the truth: by the task's own judgement, else by ROUGE-L recall."""
    if matches := row.get("matches"):
        return any(match.get("lenient", match.get("exact", 0)) for match in matches)
    counts = row.get("counts_whole", row.get("counts", {}))
    if not counts.get("n_ref"):
        return bool(row.get("reference")) and str(row.get("text", "")).strip() == str(row["reference"]).strip()
    return rouge(counts, "recall", "") >= KNOWS


def loops(row: Mapping[str, Any]) -> bool:
    """Whether most of an answer is one phrase said again and again."""
    counts = row.get("counts", {})
    return bool(counts.get("looped")) and counts["looped"] > LOOPED * counts.get("words", 0)
