"""The paper's claims as verdicts: each is one number with its margin, judged by its interval over seeds.

A claim names one score, one side of one margin with its reason, and a contrast. It is supported
where the whole 95% t interval lies beyond the margin, contradicted where all of it lies on the other side, and else
undecided. Computed from published records and studies alone, so that new ones may overturn it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from bench.core import registry
from bench.core.errors import UNUSABLE, UserError, say_once, shorten_reason
from bench.core.files import read_toml
from bench.core.hashing import canonical_json
from bench.core.record import PRIMARY, Record
from bench.core.typed_toml import as_typed
from bench.core.types import Json
from bench.records.contrasts import SEEDS_TO_RANK, compare_paired, find_row
from bench.records.files import load_records
from bench.records.markdown import format_number, markdown_table
from bench.records.noise import difference
from bench.records.tables import ORACLE, OWN_VALUE, TARGET, Section, build_sections, t_interval
from bench.studies.ablations import FOLDER
from bench.studies.ablations.base import Study
from bench.studies.ablations.experiment import experiment_stem, load_experiments, older_lab
from bench.studies.ablations.study import load_studies, study_stem, with_derived_findings

SUPPORTED, CONTRADICTED, UNDECIDED, UNKNOWN = "supported", "contradicted", "undecided", "not measured"
View = Literal["value", "gap", "lost", "undone"]
VIEWS: Mapping[View, str] = {
    "value": "score",
    "gap": "gap to the oracles",
    "lost": "loss against the oracles",
    "undone": "share of the damage undone",
}
"""What may be taken of a score on a seed, in words; the oracles' is their mean on that seed."""
ENDS: Mapping[str, Callable[[Iterable[Any]], Any]] = {"smallest": min, "largest": max}
"""Words that stand for an end of a study's column."""
NEAREST = "nearest "
"""Before a number: the value of the column that is nearest to it, as checkpoints are kept where the history has them."""
Arm = str | Mapping[str, Any]
"""A row's or an estimate's name, or coordinates of a study's findings."""


@dataclass(frozen=True)
class Claim:
    """A sentence, and the statement about one number that stands for it."""

    text: str
    source: str
    """Where it was made."""
    score: str
    """A role of the primary scores, or a score's name."""
    of: Arm
    side: Literal["below", "above"]
    """On which side of the margin the number is claimed to lie."""
    margin: float
    reason: str
    """Why this margin."""
    command: str
    """What measures it."""
    minus: Arm | None = None
    view: View = "value"
    study: str = ""
    """The ablation that is looked at; empty for the tables."""
    experiment: str = ""
    smallest: bool = False
    """Of an experiment: whether its smallest removal is meant and not the whole one."""

    @property
    def condition(self) -> str:
        """The claim about the number in words."""
        minus = "" if self.minus is None else f" minus {name_arm(self.minus)}"
        sign = "<" if self.side == "below" else ">"
        return f"{VIEWS[self.view]}: {name_arm(self.of)}{minus} {sign} {self.margin:g}"


@dataclass(frozen=True)
class Measured:
    """A claim's number on one task, by seed."""

    task: str
    score: str
    of: Mapping[int, float]
    minus: Mapping[int, float] | None = None
    wrecks: tuple[str, str] = ("", "")
    """What fell apart on some seed: the name of the first arm and of the other, or nothing."""


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of a claim on one task."""

    status: str
    task: str = "—"
    score: str = "—"
    mean: float | None = None
    interval: tuple[float, float] | None = None
    """95% t interval; None for fewer than two seeds."""
    n: int = 0
    """Seeds."""
    why: str = ""
    """Why it is undecided, where the interval alone doesn't say so."""


@dataclass(frozen=True)
class Evidence:
    """All that a verdict may look at."""

    sections: Mapping[str, Section]
    """Task -> its lab section."""
    studies: Mapping[tuple[str, str], Study]
    """(ablation, task) -> the derived study."""
    experiments: Mapping[str, Sequence[Json]]
    """Name -> the results of its seeds."""
    older: Mapping[str, str] = field(default_factory=dict)
    """Name -> what is said of an experiment on an earlier version of its task; empty of others."""


def name_arm(arm: Arm) -> str:
    """An arm in words."""
    if isinstance(arm, str):
        return arm
    return ", ".join(f"{value}" if name == "series" else f"{name} {value}" for name, value in arm.items())


# --- measuring


def measure_claim(claim: Claim, evidence: Evidence) -> list[Measured]:
    """The claim's number on every task that has what it compares."""
    if claim.experiment:
        results = evidence.experiments.get(claim.experiment)
        return [measure_estimates(claim, results)] if results else []
    found = []
    if claim.study:
        studies = {task: study for (name, task), study in evidence.studies.items() if name == claim.study}
        for task, study in studies.items():
            with naming_file(claim, f"{study_stem(study)}.json"):
                found.append(measure_study(claim, task, study))
    else:
        found = [measure_rows(claim, task, section) for task, section in evidence.sections.items()]
    return [one for one in found if one]


def measure_rows(claim: Claim, task: str, section: Section) -> Measured | None:
    """A claim about rows of a table; None where the section lacks one, or the score."""
    arms = [find_row(section, str(arm)) for arm in (claim.of, claim.minus) if arm is not None]
    rows = [row for row in arms if row]
    if len(rows) < len(arms):
        return None
    framing = [record for row in section.rows if not row.is_method for record in row.records]
    wrecks = [row.name if row.wrecked else "" for row in rows]
    return measure_arms(claim, task, [row.records for row in rows], framing, wrecks)


def measure_study(claim: Claim, task: str, study: Study) -> Measured | None:
    """A claim about arms of a study; None where it lacks one, or the score."""
    arms = [records_at(study, arm) for arm in (claim.of, claim.minus) if arm is not None]
    return measure_arms(claim, task, arms, [finding.record for finding in study.findings])


def records_at(study: Study, arm: Arm) -> list[Record]:
    """The records of the findings at some coordinates; `ENDS` stand for the ends of their column."""
    assert not isinstance(arm, str), "an arm of a study is a table of coordinates"
    wanted = dict(arm)
    for column, value in arm.items():
        there = [finding.at[column] for finding in study.points if column in finding.at]
        if value in ENDS and there:
            wanted[column] = ENDS[value](there)
        elif str(value).startswith(NEAREST) and there:
            place = float(value.removeprefix(NEAREST))
            wanted[column] = min(there, key=lambda other: (abs(other - place), other))
    return [f.record for f in study.points if all(f.at.get(column) == value for column, value in wanted.items())]


def measure_arms(
    claim: Claim, task: str, arms: Sequence[Sequence[Record]], framing: Sequence[Record], wrecks: Sequence[str] = ()
) -> Measured | None:
    """The claim's number for one set of records or two, given those of target and oracle; None where something lacks."""
    roles: Mapping[str, str] = next((r.facts["primary"] for arm in arms for r in arm if r.facts.get("primary")), {})
    score = roles.get(claim.score, claim.score)
    is_own = claim.view == "gap" and claim.score in OWN_VALUE
    values = [values_by_seed(arm, score, "value" if is_own else claim.view, framing) for arm in arms]
    if (claim.score in PRIMARY and claim.score not in roles) or not all(values):
        return None
    names = (*wrecks, "", "")
    return Measured(task, score, values[0], values[1] if len(values) > 1 else None, (names[0], names[1]))


def values_by_seed(records: Sequence[Record], score: str, view: View, framing: Sequence[Record]) -> dict[int, float]:
    """Per seed the mean over the records of what is taken of a score; without those that lack it or its frame."""
    oracles, targets = (framing_values(framing, method, score) for method in (ORACLE, TARGET))
    found: dict[int, list[float]] = {}
    for record in records:
        value, place = score_of(record, score), setting_of(record)
        taken = None if value is None else take(view, value, oracles.get(place), targets.get(place))
        if taken is not None:
            found.setdefault(record.spec.seed, []).append(taken)
    return {seed: fmean(values) for seed, values in sorted(found.items())}


def take(view: View, value: float, oracle: float | None, target: float | None) -> float | None:
    """What a view takes of a score, given the oracles' and the target's; None where it needs one that isn't there."""
    if view == "value":
        return value
    if oracle is None:
        return None
    if view == "gap":
        return abs(difference(value, oracle))
    if view == "lost":
        return 0.0 - difference(value, oracle)
    if target is None or not (way := difference(oracle, target)):
        return None
    return difference(value, target) / way


def framing_values(records: Sequence[Record], method: str, score: str) -> dict[tuple[str, int], float]:
    """By setting of the task and seed the score of target or oracles, of these their mean."""
    found = {}
    for record in records:
        if record.spec.method == method:
            own = score_of(record, score)
            every = (
                record.facts.get("oracle_values", {}).get(score) if method == ORACLE else None
            )  # each record has these
            values = every or ([] if own is None else [own])
            if values:
                found[setting_of(record)] = fmean(values)
    return found


def setting_of(record: Record) -> tuple[str, int]:
    """What a record shares with its target and oracles."""
    return canonical_json(dict(record.spec.task_params)), record.spec.seed


def score_of(record: Record, name: str) -> float | None:
    """A score, or a number that the method noted of its influence weights."""
    if name in record.scores:
        return record.scores[name].value
    noted = record.facts.get("notes", {}).get("influence", {}).get(name)
    return None if noted is None else float(noted)


def measure_estimates(claim: Claim, results: Sequence[Json]) -> Measured:
    """A claim about estimates of an experiment."""
    found: list[dict[int, float]] = []
    for arm in (claim.of, claim.minus):
        if arm is not None:
            found.append({int(r["seed"]): float(estimate_of(claim, r, str(arm))[claim.score]) for r in results})
    return Measured(claim.experiment, claim.score, found[0], found[1] if len(found) > 1 else None)


def estimate_of(claim: Claim, result: Json, name: str) -> Json:
    """The numbers of one estimate on one seed."""
    if claim.smallest:
        least: Json = min(result["removals"], key=lambda removal: removal["share"])["estimates"][name]
        return least
    whole: Json = {row["name"]: row for row in result["estimates"]}[name]
    return whole


# --- judging


def judge_claim(claim: Claim, evidence: Evidence) -> list[Verdict]:
    """The verdicts on a claim, one for each task; one that it isn't measured where there is none."""
    with naming_file(claim, f"lab-{claim.experiment}.json" if claim.experiment else "the published records"):
        return [judge_measured(claim, one) for one in measure_claim(claim, evidence)] or [Verdict(UNKNOWN)]


def judge_measured(claim: Claim, found: Measured) -> Verdict:
    """The verdict of one task: where the interval lies. Fewer than `SEEDS_TO_RANK` seeds decide nothing, nor do wrecks."""
    other = found.minus if found.minus is not None else dict.fromkeys(found.of, 0.0)
    differences = [difference(found.of[seed], other[seed]) for seed in sorted(found.of.keys() & other.keys())]
    n = len(differences)
    if not n:
        return Verdict(UNKNOWN, found.task, found.score)
    paired = compare_paired(found.of, other)
    if paired is None:
        interval = t_interval(differences) if n > 1 else None
        few = f"{n} seed{'s' if n > 1 else ''}"
        return Verdict(UNDECIDED, found.task, found.score, fmean(differences), interval, n, few)
    status, why = decide(claim, paired.low, paired.high), ""
    for decided, name in zip((SUPPORTED, CONTRADICTED), found.wrecks, strict=True):
        if status == decided and name:
            status, why = UNDECIDED, f"{name} fell apart on some seed"
    return Verdict(status, found.task, found.score, paired.mean, (paired.low, paired.high), n, why)


def decide(claim: Claim, low: float, high: float) -> str:
    """The verdict's word for an interval: beyond the margin, on its other side, or across it."""
    below, above = high < claim.margin, low > claim.margin
    if not below and not above:
        return UNDECIDED
    return SUPPORTED if below == (claim.side == "below") else CONTRADICTED


@contextmanager
def naming_file(claim: Claim, file: str) -> Iterator[None]:
    """Makes a `UserError` that names ``file`` of what can't be read off it."""
    try:
        yield
    except UNUSABLE as error:
        said = f"{type(error).__name__}: {shorten_reason(error)}"
        remedy = "the ablation" if file.endswith(".json") else "the records"
        raise UserError(f"The claim '{claim.text}' can't be read off {file} ({said}): run {remedy} again.") from error


# --- reading and writing


def read_claims() -> dict[str, Claim]:
    """The claims in the order of the page, by name."""
    file = Path(__file__).with_name("claims.toml")
    found: dict[str, Claim] = as_typed(Mapping[str, Claim], read_toml(file), file.name)
    return found


def read_evidence(results: Path) -> Evidence:
    """The lab's sections, of each task that at its own parameters, and the studies."""
    loaded = load_records(results)
    for broken in loaded.broken:
        say_once(broken.left_out)
    sections: dict[str, Section] = {}
    for section in build_sections(loaded.records):
        if section.tier == "lab" and section.rows and (section.task not in sections or is_at_defaults(section)):
            sections[section.task] = section
    studies = {
        (s.name, s.place.task): with_derived_findings(s, ablation) for s, ablation in load_studies(results / FOLDER)
    }
    made = {experiment_stem(data).removeprefix("lab-"): data for data in load_experiments(results / FOLDER)}
    experiments = {name: data["results"] for name, data in made.items()}
    return Evidence(sections, studies, experiments, {name: describe_older_task(data) for name, data in made.items()})


def describe_older_task(data: Json) -> str:
    """In words, that an experiment was made on an earlier version of its task: with parameters that this one no longer has."""
    told = ", ".join(f"{name} {value}" for name, value in older_lab(data.get("place", {})).items())
    return f" (of an earlier version of this lab: {told})" if told else ""


def is_at_defaults(section: Section) -> bool:
    """Whether a section's runs have their task's own parameters and nothing else asked."""
    spec = section.rows[0].records[0].spec
    own = registry.default_params(registry.load_task(spec.task, spec.tier))
    return dict(spec.task_params) == own and spec.limit is None and not spec.hashes.get("data")


def render_claims(results: Path) -> str:
    """The page of all claims with their verdicts, as Markdown."""
    evidence, claims = read_evidence(results), read_claims()
    rows = [table_row(claim, verdict) for claim in claims.values() for verdict in judge_claim(claim, evidence)]
    counted = [sum(row[6].startswith(f"**{status}") for row in rows) for status in (SUPPORTED, CONTRADICTED, UNDECIDED)]
    pages = [
        f"- [{study.name} on {study.place.task}](../{results.name}/ablations/{study.place.name}-{study.name}.md)"
        for study in evidence.studies.values()
    ]
    pages += [
        f"- [{name}](../{results.name}/ablations/lab-{name}.md){evidence.older.get(name, '')}"
        for name in evidence.experiments
    ]
    margins = [
        f"- {claim.text} ({claim.source}): margin {claim.margin:g}, {claim.reason}." for claim in claims.values()
    ]
    parts = [
        "# The paper's claims, in the lab",
        "Generated by `python -m bench claims` from the published records and studies; do not edit. The lab is a small model on "
        "generated data, with its whole history: a verdict is about that, and about no large model. The paper is arXiv "
        "2506.20941; its tables T1 to T8 are named as in [reproduce.md](reproduce.md).",
        "**What MSA sees and others don't.** MSA begins at theta_0, a checkpoint from before the forget set was seen. NPO and "
        "task arithmetic have the target alone; of the other rows in the tables `msa@difference`, `transfer`, `before`, "
        "`rewind` and `interpolate` see theta_0 too. A difference between MSA and the former is one between what was known, "
        "and not of the arithmetic alone.",
        f"Each line is one number on one task: mean over seeds of the paired difference with its 95% t interval. "
        f"*{SUPPORTED}*: the interval lies beyond the margin; *{CONTRADICTED}*: it lies on the other side, so that an "
        f"advantage of the margin is excluded, as where both are alike; *{UNDECIDED}*: the margin is inside, or there are "
        f'fewer than {SEEDS_TO_RANK} seeds. Lines are not adjusted for their number: what may be written as "A beats B" '
        f"says the leaderboard (Holm). {counted[0]} {SUPPORTED}, {counted[1]} {CONTRADICTED}, {counted[2]} {UNDECIDED}. "
        "Whether something carries over to a CNN and a graph network is read off the lines of digits and graph.",
        markdown_table(HEAD, rows),
        "## Where each claim was made, and why this margin",
        "\n".join(margins),
        *(["## Ablations", "\n".join(pages)] if pages else []),
    ]
    return "\n\n".join(parts) + "\n"


HEAD = ("claim", "task", "score", "direction and margin", "mean and 95% interval", "n", "verdict", "command")


def table_row(claim: Claim, verdict: Verdict) -> list[str]:
    """A verdict's line of the page."""
    why = f" ({verdict.why})" if verdict.why else ""
    command = claim.command if verdict.status == UNKNOWN else claim.command.replace("TASK", verdict.task)
    score = verdict.score if verdict.score in ("—", claim.score) else f"{verdict.score} ({claim.score})"
    said = "—"
    if verdict.mean is not None:
        ends = f" [{', '.join(map(format_number, verdict.interval))}]" if verdict.interval else ""
        said = f"{format_number(verdict.mean)}{ends}"
    status = f"**{verdict.status}**{why}"
    n = str(verdict.n) if verdict.n else "—"
    return [claim.text, verdict.task, score, claim.condition, said, n, status, f"`{command}`"]
