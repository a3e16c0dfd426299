"""The paper's claims beside what published records say: one line each, with the number, its spread and the command.

A verdict is a stated condition on records and studies, so that new records may overturn it. Every condition must hold on
every seed to count; what the paper claims of large models is only ever said here of the tier that was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from bench.core.errors import UNUSABLE, UserError, say_once, shorten_reason
from bench.core.files import read_toml
from bench.core.typed_toml import as_typed
from bench.core.types import Json
from bench.records.contrasts import compare_rows
from bench.records.files import load_records
from bench.records.markdown import format_number, markdown_table
from bench.records.tables import Section, TableRow, build_sections
from bench.studies.ablations import FOLDER
from bench.studies.ablations.arms import correlations
from bench.studies.ablations.base import Finding, Study, lines_of
from bench.studies.ablations.experiment import experiment_stem, load_experiments
from bench.studies.ablations.past import FIXED, STORED_EVERY
from bench.studies.ablations.sgd_influence_results import INFLUENCE, MSA, NOISE_FLOOR
from bench.studies.ablations.study import load_studies, with_derived_findings

K = TypeVar("K")
V = TypeVar("V")

HOLDS, PART, NOT, UNKNOWN = "holds", "holds in part", "does not hold", "not measured"
NEAR = 0.10
"""A forget accuracy this far above the oracle's still counts as forgotten: the margin of the rule of `bench.runs.selection`."""
KEPT = 0.05
"""Loss of retained or world knowledge, as a share, that still counts as kept."""
BASELINES = ("task-arithmetic", "npo", "ga", "graddiff")


@dataclass(frozen=True)
class Verdict:
    """A claim's verdict by the records, with the numbers that decide it."""

    status: str
    number: str
    """The number behind it, with its spread over seeds."""


@dataclass(frozen=True)
class Evidence:
    """All that a verdict may look at."""

    sections: Mapping[str, Section]
    """Task -> its lab section."""
    studies: Mapping[tuple[str, str], Study]
    """(ablation, task) -> the derived study."""
    experiments: Mapping[str, list[Json]]
    """Name -> the results of its seeds."""

    @property
    def texts(self) -> dict[str, Section]:
        """The sections of language models."""
        return {task: section for task, section in self.sections.items() if task not in NETWORKS}


@dataclass(frozen=True)
class Claim:
    """A sentence that is judged, and the condition that stands for it here."""

    text: str
    source: str
    """Where it was made."""
    condition: str
    """With ``{near}`` and ``{kept}`` for the margins `NEAR` and `KEPT`."""
    command: str
    """What measures it."""


MISSING = Verdict(UNKNOWN, "no published records")


def judge_on_tofu(name: str, judge: Callable[[Study], Verdict]) -> Callable[[Evidence], Verdict]:
    """A judge of one ablation's study on tofu; where that isn't published, nothing was measured."""

    def judged(evidence: Evidence) -> Verdict:
        study = evidence.studies.get((name, "tofu"))
        return MISSING if study is None else judge(study)

    return judged


def mean_with_range(found: Sequence[float] | Mapping[int, float]) -> str:
    """Mean (smallest–largest) of values, or of values by seed."""
    values = list(found.values()) if isinstance(found, Mapping) else found
    return f"{format_number(fmean(values))} ({format_number(min(values))}–{format_number(max(values))})"


def grade_claim(wholly: bool, partly: bool) -> str:
    """The verdict's word for a condition that is met wholly, partly or not."""
    return HOLDS if wholly else PART if partly else NOT


def combine_verdicts(statuses: Sequence[str], said: str) -> Verdict:
    """One verdict of several tasks: all alike, or in part; not measured where there is none."""
    if not statuses:
        return MISSING
    alike = all(status == statuses[0] for status in statuses)
    return Verdict(statuses[0] if alike else PART, said)


def _score_by_seed(findings: Sequence[Finding], score: str) -> dict[int, float]:
    return {f.seed: value for f in findings if (value := f.score(score)) is not None}


def scores_by_coordinate(study: Study, column: str, score: str, series: str = "") -> dict[Any, dict[int, float]]:
    """A score by seed at each value of a column, in the study's order; with ``series`` of that line alone."""
    lines = [line for line in lines_of(study) if column in line.at and series in ("", line.at.get("series"))]
    return {line.at[column]: _score_by_seed(line.findings, score) for line in lines}


FORGET = {"tofu": "forget_accuracy", "restor": "restor_wrong", "muse-books": "forget_knowmem_accuracy"}
"""The score that says whether a task's forget set is gone: the oracle's value is the goal."""
UTILITY = {"tofu": "retain_accuracy", "restor": "retain_accuracy", "muse-books": "retain_knowmem_accuracy"}
"""By task on texts; the paper's claims are about these."""
NETWORKS = {"digits": "test_accuracy", "graph": "test_accuracy"}
"""The utility of the tasks beyond language models."""


def judge_far_checkpoints(evidence: Evidence) -> Verdict:
    """The oldest checkpoint from which MSA forgets as well, and keeps as much, as from the last one."""
    studies = {task: evidence.studies.get(("distance", task)) for task in ("tofu", "restor")}
    found = [judge_reach(study, task) for task, study in studies.items() if study]
    return combine_verdicts([each.status for each in found], "; ".join(each.number for each in found))


def judge_reach(study: Study, task: str) -> Verdict:
    """How far back on one task, from the last checkpoint as long as every seed is good."""
    known, best = (_score_by_seed(study.framing("oracle"), scores[task]) for scores in (FORGET, UTILITY))
    forget, utility = (scores_by_coordinate(study, "age", scores[task], FIXED) for scores in (FORGET, UTILITY))
    ages = sorted(forget, reverse=True)
    kept = utility[ages[0]]

    def holds(age: float) -> bool:
        forgot = all(forget[age][seed] <= known[seed] + NEAR for seed in kept)
        return forgot and all(utility[age][seed] >= kept[seed] - KEPT for seed in kept)

    good = list(takewhile(holds, ages))
    if not good:
        said = f"{task}: not even the last checkpoint forgets to within {NEAR} of the oracle on every seed"
        return Verdict(NOT, said)
    oldest = good[-1]
    whole = all(kept[seed] >= best[seed] - KEPT for seed in kept)
    said = (
        f"{task}: back to {oldest:.0%} of pretraining (utility {mean_with_range(utility[oldest])}, "
        f"from the last one {mean_with_range(kept)}, oracle {mean_with_range(best)})"
    )
    return Verdict(grade_claim(oldest <= 0.5 and whole, oldest < 1), said)


def judge_frequency(study: Study) -> Verdict:
    """Whether a quarter of the checkpoints is as good as all of them."""
    values = {line.at["every"]: line for line in lines_of(study) if "every" in line.at}
    floors = {f.seed: f.record.floors["kl_forget"] for f in study.framing("oracle")}
    first = {score: _score_by_seed(values[1].findings, score) for score in ("kl_forget", "retain_accuracy")}
    told, good = [], []
    for every in STORED_EVERY[-2:]:
        worse, lost = [], []  # of each place and seed, against that seed's newest checkpoint
        for finding in values[every].findings:
            kl, kept = finding.score("kl_forget"), finding.score("retain_accuracy")
            assert kl is not None and kept is not None
            worse.append(kl - first["kl_forget"][finding.seed] - floors[finding.seed])
            lost.append(first["retain_accuracy"][finding.seed] - kept)
        good.append(max(worse) <= 0 and max(lost) <= KEPT)
        told.append(
            f"every {every}th: retain accuracy lost {mean_with_range(lost)}, "
            f"KL on forget beyond the newest's and the floor {mean_with_range(worse)}"
        )
    return Verdict(
        grade_claim(all(good), any(good)),
        f"tofu, over every place where exposure may begin: {'; '.join(told)}",
    )


def judge_against(baseline: str) -> Callable[[Evidence], Verdict]:
    """Whether MSA is supportedly nearer the oracles than a baseline, primary score by primary score."""

    def judge(evidence: Evidence) -> Verdict:
        told, statuses = [], []
        for task, section in evidence.texts.items():
            msa, other = section.row("msa"), section.row(baseline)
            if msa is None or other is None:
                continue
            won, lost = scores_won_and_lost(section, msa, other)
            statuses.append(grade_claim(bool(won) and not lost, len(won) > len(lost)))
            told.append(f"{task}: better on {', '.join(won) or 'nothing'}; worse on {', '.join(lost) or 'nothing'}")
        return combine_verdicts(statuses, "; ".join(told))

    return judge


def scores_won_and_lost(section: Section, one: TableRow, other: TableRow) -> tuple[list[str], list[str]]:
    """The primary scores on which ``one`` is supportedly nearer the oracles, and on which ``other`` is, with both means."""
    won: list[str] = []
    lost: list[str] = []
    for contrast in compare_rows(section, one, other):
        a, b = one.cells[contrast.score], other.cells[contrast.score]
        said = f"{contrast.score} ({format_number(a.mean)} against {format_number(b.mean)})"
        if contrast.supported:
            (won if contrast.better == one.name else lost).append(said)
    return won, lost


def judge_recovery(evidence: Evidence) -> Verdict:
    """The share of the corruption that MSA undoes, and whether anything else undoes as much."""
    section = evidence.sections.get("restor")
    if section is None or section.row("msa") is None:
        return MISSING
    score = "restor_accuracy_corrupted"

    def undone(row: TableRow | None) -> dict[int, float]:
        target, oracle = section.row("target"), section.row("retrain")
        assert row is not None and target is not None and oracle is not None
        low, high, mine = (r.cells[score].by_seed for r in (target, oracle, row))
        return {seed: (mine[seed] - low[seed]) / (high[seed] - low[seed]) for seed in mine}

    msa = undone(section.row("msa"))
    others = {name: undone(section.row(name)) for name in BASELINES if section.row(name)}
    best = max(others, key=lambda name: fmean(others[name].values()))
    ahead = all(msa[seed] > values[seed] for values in others.values() for seed in msa)
    said = f"restor: MSA undoes {mean_with_range(msa)} of the damage, the best baseline ({best}) {mean_with_range(others[best])}"
    return Verdict(grade_claim(min(msa.values()) >= 0.5 and ahead, ahead), said)


def judge_utility(evidence: Evidence) -> Verdict:
    """Judge how much of the oracle's utility MSA loses, score by score."""
    told, kept = [], []
    for task, section in evidence.texts.items():
        msa, oracle = section.row("msa"), section.row("retrain")
        if msa is None or oracle is None:
            continue
        for name in section.utility:
            mine, best = msa.cells[name].by_seed, oracle.cells[name].by_seed
            kept.append(all(mine[seed] >= best[seed] - KEPT for seed in mine))
            told.append(f"{task} {name} {mean_with_range(mine)}, oracle {format_number(fmean(best.values()))}")
    return Verdict(grade_claim(all(kept), any(kept)), "; ".join(told)) if told else MISSING


def judge_just_before(study: Study) -> Verdict:
    """Whether the last checkpoint before exposure is better than those taken during it."""
    told, statuses = [], []
    for score, sign in (("kl_forget", 1), ("retain_accuracy", -1)):
        floor = fmean(f.record.floors[score] for f in study.framing("oracle"))
        values = scores_by_coordinate(study, "steps after", score)
        first, during = values[0], {at: found for at, found in values.items() if at > 0}
        gains = {at: [sign * (values[seed] - first[seed]) for seed in first] for at, values in during.items()}
        ahead = [min(each) > 0 and fmean(each) > floor for each in gains.values()]
        statuses.append(grade_claim(all(ahead), all(fmean(each) > floor for each in gains.values())))
        best = min(gains, key=lambda at: fmean(gains[at]))
        told.append(
            f"{score} {mean_with_range(first)} from the last checkpoint before exposure, "
            f"{mean_with_range(during[best])} from the best during it ({best} steps in); noise floor {floor:.3f}"
        )
    return combine_verdicts(statuses, f"tofu: {'; '.join(told)}")


def judge_vector(study: Study) -> Verdict:
    """Whether controls forget as the forget vector does."""
    values = scores_by_coordinate(study, "vector", "forget_accuracy")
    own = values.pop("forget")
    nearest = min(values, key=lambda kind: fmean(values[kind].values()))
    ahead = all(own[seed] < other[seed] - NEAR for other in values.values() for seed in own)
    return Verdict(
        grade_claim(ahead, False),
        f"tofu: forget accuracy {mean_with_range(own)} with the forget vector, {mean_with_range(values[nearest])} with "
        f"the best control ({nearest})",
    )


def judge_weights_drift(study: Study) -> Verdict:
    """Whether influence weights of a far checkpoint rank parameters otherwise than those of the last one."""
    ages = sorted({float(f.at["age"]) for f in study.points})

    def ranks(age: float, which: str) -> list[float]:
        return correlations(study, "fisher", age, f"rank_correlation_with_{which}")

    by_age = {age: ranks(age, "last") for age in ages[:-1]}
    each = [by_age[age] for age in by_age]
    falls = all(older < newer for a, b in pairwise(each) for older, newer in zip(a, b, strict=True))
    said = ", ".join(f"{mean_with_range(values)} at {age:.0%}" for age, values in reversed(by_age.items()))
    return Verdict(
        grade_claim(falls and max(each[0]) < 0.5, falls),
        f"tofu: rank correlation of the Fisher weights at theta_0 with those at the last checkpoint before exposure: {said} of "
        f"pretraining; with those at theta_D {mean_with_range(ranks(ages[-1], 'target'))} even from the last one",
    )


def judge_weights_help(study: Study) -> Verdict:
    """Whether weighted MSA beats plain MSA and the shuffled control."""
    last = max(float(f.at["age"]) for f in study.points)

    def cell(kind: str) -> dict[int, float]:
        findings = [f for f in study.points if f.at["series"] == kind and f.at["age"] == last]
        return _score_by_seed(findings, "retain_accuracy")

    plain, shuffled = cell("uniform"), cell("shuffled-fisher")
    told, wins = [], []
    for kind, controls in (("fisher", (plain, shuffled)), ("gradient", (plain,))):
        mine = cell(kind)
        wins.append(all(mine[seed] > control[seed] for control in controls for seed in mine))
        told.append(f"{kind} {mean_with_range(mine)}")
    return Verdict(
        grade_claim(all(wins), any(wins)),
        f"tofu, retain accuracy at the rule's alpha: {', '.join(told)}, uniform {mean_with_range(plain)}, shuffled weights "
        f"{mean_with_range(shuffled)}",
    )


def judge_width(study: Study) -> Verdict:
    """Whether MSA's loss of retained knowledge shrinks with width."""
    msa, oracle = (scores_by_coordinate(study, "width", "retain_accuracy", series) for series in ("msa", "oracle"))
    lost = {width: {seed: value - msa[width][seed] for seed, value in oracle[width].items()} for width in sorted(msa)}
    first, *_, last = lost.values()
    shrinks = all(last[seed] < first[seed] for seed in first)
    said = ", ".join(f"width {width}: {mean_with_range(values)}" for width, values in lost.items())
    gone = max(last.values()) <= KEPT
    return Verdict(grade_claim(shrinks and gone, shrinks), f"tofu, retain accuracy lost against the oracle: {said}")


def judge_sgd_influence(evidence: Evidence) -> Verdict:
    """How near MSA and the exact SGD-influence come to the true difference, in cosine."""
    results = evidence.experiments.get("sgd-influence")
    if not results:
        return MISSING

    def cosines(name: str) -> list[float]:
        return [float(row["cosine"]) for result in results for row in result["estimates"] if row["name"] == name]

    def at_first(name: str) -> list[float]:
        return [float(result["removals"][0]["estimates"][name]["cosine"]) for result in results]

    floor, share = cosines(NOISE_FLOOR), results[0]["removals"][0]["share"]
    (exact, msa), (exact_small, msa_small) = ([of(name) for name in (INFLUENCE, MSA)] for of in (cosines, at_first))
    near, near_small = (
        all(a >= b - NEAR for a, b in zip(mine, theirs, strict=True))
        for mine, theirs in ((msa, exact), (msa_small, exact_small))
    )
    return Verdict(
        grade_claim(near and near_small, near or near_small),
        f"cosine with the true difference: MSA {mean_with_range(msa)}, exact SGD-influence {mean_with_range(exact)}, "
        f"a second oracle {mean_with_range(floor)}; "
        f"when only {share:.0%} of the forget rows' weight is removed: "
        f"MSA {mean_with_range(msa_small)}, exact {mean_with_range(exact_small)}",
    )


KL_SCORE = dict.fromkeys([*UTILITY, *NETWORKS], "kl_forget")
ORDERS = (
    ("KL on forget", KL_SCORE, "npo"),
    ("KL on forget", KL_SCORE, "task-arithmetic"),
    ("utility", UTILITY | NETWORKS, "npo"),
)
"""What MSA is compared in, the score by task, and with whom."""


def judge_carries_over(evidence: Evidence) -> Verdict:
    """Whether MSA stands to NPO and task arithmetic on the other networks as it does on every task on texts."""
    networks = {task: section for task, section in evidence.sections.items() if task in NETWORKS}
    told, carried = [], []
    for what, scores, baseline in ORDERS:
        both = ("msa", baseline)
        values = {task: [scores_of_method(s, scores[task], m) for m in both] for task, s in networks.items()}
        if len(values) < len(NETWORKS) or not all(side for pair in values.values() for side in pair):
            return MISSING
        texts = {task: s for task, s in evidence.texts.items() if scores_of_method(s, scores[task], baseline)}
        on_texts = {order_of_msa(section, scores[task], baseline) for task, section in texts.items()}
        common = on_texts.pop() if len(on_texts) == 1 else ""
        found = {task: order_of_msa(section, scores[task], baseline) for task, section in networks.items()}
        if common:
            carried.append(set(found.values()) == {common})
        said = [
            f"{task} {mean_with_range(a)} against {mean_with_range(b)} ({found[task] or 'mixed'})"
            for task, (a, b) in values.items()
        ]
        measured = ", ".join(texts) or "no task on texts"
        told.append(f"{what}, MSA against {baseline}: {common or 'no common order'} on {measured}; {'; '.join(said)}")
    status = grade_claim(all(carried), any(carried)) if carried else UNKNOWN
    return Verdict(status, ". ".join(told))


def scores_of_method(section: Section, score: str, method: str) -> list[float]:
    """A method's score on each seed."""
    row = section.row(method)
    return [] if row is None or score not in row.cells else list(row.cells[score].by_seed.values())


def order_of_msa(section: Section, score: str, baseline: str) -> str:
    """``higher`` or ``lower`` where MSA's score is that on every seed, else empty."""
    mine, theirs = scores_of_method(section, score, "msa"), scores_of_method(section, score, baseline)
    signs = {(a > b) - (a < b) for a, b in zip(mine, theirs, strict=False)}
    return {1: "higher", -1: "lower", 0: ""}[signs.pop()] if len(signs) == 1 else ""


JUDGES: Mapping[str, Callable[[Evidence], Verdict]] = {
    "far-checkpoints": judge_far_checkpoints,
    "frequency": judge_on_tofu("frequency", judge_frequency),
    "task-arithmetic": judge_against("task-arithmetic"),
    "npo": judge_against("npo"),
    "recovery": judge_recovery,
    "utility": judge_utility,
    "just-before": judge_on_tofu("exposure", judge_just_before),
    "vector": judge_on_tofu("controls", judge_vector),
    "sgd-influence": judge_sgd_influence,
    "weights-drift": judge_on_tofu("influence", judge_weights_drift),
    "weights-help": judge_on_tofu("influence", judge_weights_help),
    "width": judge_on_tofu("cost", judge_width),
    "carries-over": judge_carries_over,
}
"""Claim -> what judges it."""


def read_claims() -> dict[str, Claim]:
    """The claims in the order of the page, by name."""
    file = Path(__file__).with_name("claims.toml")
    found: dict[str, Claim] = as_typed(Mapping[str, Claim], read_toml(file), file.name)
    return found


def read_evidence(results: Path) -> Evidence:
    """The lab's sections at the tasks' own parameters, and the studies."""
    sections: dict[str, Section] = {}
    loaded = load_records(results)
    for broken in loaded.broken:
        say_once(broken.left_out)
    for section in build_sections(loaded.records):
        if section.tier == "lab" and section.rows:
            sections.setdefault(section.task, section)
    studies = {
        (s.name, s.place.task): with_derived_findings(s, ablation) for s, ablation in load_studies(results / FOLDER)
    }
    experiments = {
        experiment_stem(data).removeprefix("lab-"): data["results"] for data in load_experiments(results / FOLDER)
    }
    return Evidence(sections, studies, experiments)


def judge_claim(name: str, evidence: Evidence) -> Verdict:
    """The verdict on a claim; `UserError` names the published file that it can't be read off."""
    try:
        return JUDGES[name](evidence)
    except UNUSABLE as error:
        said = f"{type(error).__name__}: {shorten_reason(error)}"
        file = unfit_file(name, evidence)
        remedy = "run the ablation again" if file else "run the records again"
        raise UserError(
            f"The claim '{name}' can't be read off {file or 'the published records'} ({said}): {remedy}."
        ) from error


def unfit_file(name: str, evidence: Evidence) -> str:
    """The file of the study or experiment without which a claim can be judged; empty where there is no such one."""
    without = {
        f"lab-{key}.json": replace(evidence, experiments=leave_out(evidence.experiments, key))
        for key in evidence.experiments
    }
    for key, study in evidence.studies.items():
        without[f"{study.place.name}-{study.name}.json"] = replace(evidence, studies=leave_out(evidence.studies, key))
    for file, others in without.items():
        with suppress(*UNUSABLE):
            JUDGES[name](others)
            return file
    return ""


def leave_out(found: Mapping[K, V], key: K) -> dict[K, V]:
    """Everything but one."""
    return {each: value for each, value in found.items() if each != key}


def render_claims(results: Path) -> str:
    """The page of all claims with their verdicts, as Markdown."""
    evidence, claims = read_evidence(results), read_claims()
    seeds = sorted({seed for section in evidence.sections.values() for row in section.rows for seed in row.seeds})
    rows = []
    for name, claim in claims.items():
        found = judge_claim(name, evidence)
        rows.append([claim.text, claim.source, f"**{found.status}**", found.number, f"`{claim.command}`"])
    conditions = [f"- {claim.text}: {claim.condition.format(near=NEAR, kept=KEPT)}." for claim in claims.values()]
    pages = [
        f"- [{study.name} on {study.place.task}](../{results.name}/ablations/{study.place.name}-{study.name}.md)"
        for study in evidence.studies.values()
    ]
    pages += [f"- [{name}](../{results.name}/ablations/lab-{name}.md)" for name in evidence.experiments]
    parts = [
        "# The paper's claims, in the lab",
        "Generated by `python -m bench claims` from the published records and studies; do not edit. The lab is a small model on "
        "generated data, with its whole history: a verdict here is about that, and about a large model only as far as the "
        "ladder of sizes (last line) lets it. A number is a mean over seeds with the smallest and the largest; seeds "
        f"{', '.join(map(str, seeds)) or 'none'}. The paper is arXiv 2506.20941; its tables T1 to T8 are named as in "
        "[reproduce.md](reproduce.md).",
        markdown_table(["claim", "source", "verdict", "measured", "command"], rows),
        "## What each verdict asks for",
        "\n".join(conditions),
        *(["## Ablations", "\n".join(pages)] if pages else []),
    ]
    return "\n\n".join(parts) + "\n"
