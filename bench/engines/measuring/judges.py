"""Judges: which of several reference answers is the model's own answer factually closest to?

The paper (arXiv 2506.20941) asks GPT-4o. Here the judge is a plug-in, and the default,
`bench.engines.measuring.similarity.Similarity`, is a rule over words that needs no network; every score names the judge
that made it. Judging comes after measuring and is pure but for the judge: `add_grades` adds the rows of a probe such as
``forget_judged``, which `bench.metrics.judged` scores.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import entry_points

from bench.core.contracts import Judge
from bench.core.errors import Absent, UserError, unknown_name
from bench.core.types import OTHER_BROKEN, Example, Json, Probe, Responses
from bench.metrics.judged import describe_calibration

GROUP = "msa_bench.judges"
"""Entry points of judges: name -> something callable without arguments that gives a `Judge`."""
OURS = {
    "similarity": "bench.engines.measuring.similarity:Similarity",
    "chat": "bench.engines.measuring.chat_judge:ChatJudge",
}
KIND = "judge"
"""The kind of the probes that are judged and not asked."""


def judge_label(judge: Judge) -> str:
    """``similarity v1``: what the metrics write beside their scores."""
    return f"{judge.name} v{judge.version}"


def load_judge(name: str) -> Judge:
    """The judge of that name: ``similarity``, ``chat`` (set up by the environment) or a plug-in's."""
    known = {point.name: point.value for point in entry_points(group=GROUP)} | OURS
    if name not in known:
        raise UserError(unknown_name("judge", name, known))
    refused = f"The plug-in for the judge '{name}' can't be loaded"
    try:
        kind = pkgutil.resolve_name(known[name])
    except Exception as error:  # whatever a plug-in's module does while it is imported
        raise UserError(f"{refused}: {type(error).__name__}: {error}.") from error
    judge = kind() if callable(kind) else kind
    if not isinstance(judge, Judge):
        raise UserError(f"{refused}: derive it from bench.api.Judge, and let its entry point name the class.")
    return judge


def judge_rows(
    responses: Responses, oracles: Sequence[Responses], judge: Judge, examples: Iterable[Example], said_probe: str
) -> dict[str, Json]:
    """The judge's grades of what ``responses`` has under the probe ``said_probe``: id -> ``{"grades": {option: number}}``.

    Options: ``truth`` (the example's answer), ``oracle-0`` ... (what the oracles that are other checkpoints said, in
    their order) and ``wrong-0`` ... (its wrong answers). Examples without a greedy generation are left out. The paper
    judges the ideal model against itself; to do so pass it under another name: ``replace(oracle, checkpoint="")``.
    """
    said = responses.rows.get(said_probe, {})
    others = [oracle.rows.get(said_probe, {}) for oracle in oracles if oracle.checkpoint != responses.checkpoint]
    rows: dict[str, Json] = {}
    for example in examples:
        if "text" not in said.get(example.id, {}):
            continue
        spoken = {f"oracle-{i}": by_id[example.id]["text"] for i, by_id in enumerate(others) if example.id in by_id}
        wrong = {f"wrong-{i}": text for i, text in enumerate(example.references.get("wrong", ()))}
        options = {"truth": example.payload["answer"], **spoken, **wrong}
        grades = judge.grade(example.payload["prompt"], said[example.id]["text"], options)
        rows[example.id] = {"grades": {option: float(grades[option]) for option in options}}
    return rows


def judge_probes(probes: Sequence[Probe]) -> list[Probe]:
    """The probes that are judged and not asked."""
    return [probe for probe in probes if probe.kind == KIND]


def judge_labels(probes: Sequence[Probe]) -> list[str]:
    """Names and versions of the judges that these probes name."""
    return [judge_label(load_judge(str(probe.options["judge"]))) for probe in judge_probes(probes)]


def add_grades(responses: Responses, oracles: Sequence[Responses], probes: Sequence[Probe]) -> Responses:
    """The responses with a row of grades for each judged example; the measured checkpoint is no oracle of its own."""
    judged = judge_probes(probes)
    known = [oracle.named("the oracle") for oracle in oracles if oracle.checkpoint != responses.checkpoint]
    broken: dict[str, str] = {}
    for probe in judged:
        said = str(probe.options["said"])
        for each in (responses, *known):
            if said in each.broken:
                broken.setdefault(probe.name, each.broken[said])
    rows = {probe.name: {} if probe.name in broken else grade_probe(responses, oracles, probe) for probe in judged}
    return replace(responses, rows={**responses.rows, **rows}, broken={**responses.broken, **broken})


def grade_probe(responses: Responses, oracles: Sequence[Responses], probe: Probe) -> dict[str, Json]:
    """Let its judge grade one probe: example id -> row."""
    judge, said = load_judge(str(probe.options["judge"])), str(probe.options["said"])
    if any("accepted" in example.references for example in probe.examples):
        return accepted_rows(responses, judge, probe.examples, said)
    return judge_rows(responses, oracles, judge, probe.examples, said) if oracles else {}


def check_accepts(name: str) -> None:
    """`UserError` unless the judge can say of a single answer whether it is given."""
    if load_judge(name).accepts is None:
        raise UserError(
            f"The judge '{name}' only compares answers and can't accept one: use 'chat', or leave the judge out "
            "(RESTOR's accuracy by string rules needs none)."
        )


def accepted_rows(responses: Responses, judge: Judge, examples: Sequence[Example], said: str) -> dict[str, Json]:
    """Grade how far each accepted answer agrees with each generated text: ``grades``, one dictionary a text.

    ``accepts`` is the grade from which an answer counts as given. The question is the prompt's last line.
    """
    assert judge.accepts is not None, "`check_accepts` refuses a judge that only compares"
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


def calibrate_judge(target: Responses, oracle: Responses, probes: Sequence[Probe]) -> Json:
    """Grade the target and the oracle, the latter against itself as in the paper, to see what a judge is worth."""
    twin = [replace(oracle, checkpoint="itself")]
    by_side = {probe.name.removesuffix("_judged"): probe for probe in judge_probes(probes)}
    for who, found in (("the target", target), ("the oracle", oracle)):
        if any(probe.options["said"] in found.broken for probe in by_side.values()):
            return {"verdict": f"{OTHER_BROKEN.format(who)}; there is nothing to see the judge's worth by."}
    before, after = ({s: grade_probe(who, twin, probe) for s, probe in by_side.items()} for who in (target, oracle))
    try:
        return describe_calibration(before, after, judge_labels(probes)[0])
    except Absent as reason:
        return {"verdict": f"There is nothing to see the judge's worth by: {reason}."}
