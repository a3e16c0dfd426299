"""Judging after measuring: the probes of kind ``judge``, which compare what a model said with what the oracles said.

Such a probe asks the model nothing. Its options name the ``judge`` (`bench.judges.load_judge`) and the probe whose
generations are judged (``said``); its examples hold the truth and the wrong answers, or the accepted ones, which need no
oracle. The grades join the responses, so that the scores can be computed again without texts and without the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.core.errors import UserError
from bench.core.types import Example, Json, Probe, Responses
from bench.judges import judge_rows, label, load_judge
from bench.metrics.judged import calibration

KIND = "judge"


def judge_probes(probes: Sequence[Probe]) -> list[Probe]:
    """Those that are judged and not asked."""
    return [probe for probe in probes if probe.kind == KIND]


def labels(probes: Sequence[Probe]) -> list[str]:
    """Names and versions of the judges of these probes."""
    return [label(load_judge(str(probe.options["judge"]))) for probe in judge_probes(probes)]


def judged(responses: Responses, oracles: Sequence[Responses], probes: Sequence[Probe]) -> Responses:
    """The responses with a row of grades for each judged example; the measured checkpoint is no oracle of its own."""
    rows = {probe.name: grades(responses, oracles, probe) for probe in judge_probes(probes)}
    return replace(responses, rows={**responses.rows, **rows})


def grades(responses: Responses, oracles: Sequence[Responses], probe: Probe) -> dict[str, Json]:
    """The judge's grades for one probe."""
    judge, said = load_judge(str(probe.options["judge"])), str(probe.options["said"])
    if any("accepted" in example.references for example in probe.examples):
        return accepted_rows(responses, judge, probe.examples, said)
    return judge_rows(responses, oracles, judge, probe.examples, said) if oracles else {}


def check_accepts(name: str) -> None:
    """`UserError` unless the judge can say of a single answer whether it is given."""
    if not hasattr(load_judge(name), "accepts"):
        raise UserError(
            f"The judge '{name}' only compares answers and can't accept one: use 'chat', or leave the judge out "
            "(RESTOR's accuracy by string rules needs none)."
        )


def accepted_rows(responses: Responses, judge: Any, examples: Sequence[Example], said: str) -> dict[str, Json]:
    """How far each accepted answer agrees with each text that was generated: ``grades``, one dictionary a text.

    ``accepts`` is the grade from which an answer counts as given. The question is the prompt's last line.
    """
    rows: dict[str, Json] = {}
    for example in examples:
        row = responses.rows.get(said, {}).get(example.id, {})
        texts = row.get("texts", [row["text"]] if "text" in row else [])
        if not texts:
            continue
        question = str(example.payload["prompt"]).rpartition("\n")[2]
        options = {f"accepted-{i}": text for i, text in enumerate(example.references["accepted"])}
        rows[example.id] = {
            "grades": [judge.grade(question, text, options) for text in texts],
            "accepts": float(judge.accepts),
        }
    return rows


def calibrated(target: Responses, oracle: Responses, probes: Sequence[Probe]) -> Json:
    """How the judge grades the target and the oracle, the latter against itself as in the paper; what it is worth."""
    twin = [replace(oracle, checkpoint="itself")]
    by_side = {probe.name.removesuffix("_judged"): probe for probe in judge_probes(probes)}
    before, after = ({s: grades(who, twin, probe) for s, probe in by_side.items()} for who in (target, oracle))
    return calibration(before, after, labels(probes)[0])
