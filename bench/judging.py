"""Judging after measuring: the probes of kind ``judge``, which compare what a model said with what the oracles said.

Such a probe asks the model nothing. Its options name the ``judge`` (`bench.judges.load_judge`) and the probe whose
generations are judged (``said``); its examples hold the truth and the wrong answers. The grades join the responses, so
that the scores can be computed again without texts and without the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.judges import judge_rows, label, load_judge
from bench.metrics.judged import calibration
from bench.types import Json, Probe, Responses

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
    judge = load_judge(str(probe.options["judge"]))
    return judge_rows(responses, oracles, judge, probe.examples, str(probe.options["said"]))


def calibrated(target: Responses, oracle: Responses, probes: Sequence[Probe]) -> Json:
    """How the judge grades the target and the oracle, the latter against itself as in the paper; what it is worth."""
    twin = [replace(oracle, checkpoint="itself")]
    by_side = {probe.name.removesuffix("_judged"): probe for probe in judge_probes(probes)}
    before, after = ({s: grades(who, twin, probe) for s, probe in by_side.items()} for who in (target, oracle))
    return calibration(before, after, labels(probes)[0])
