"""A finished ablation as a file of what was asked and a bundle of its records, and the table and picture drawn from
those alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from reprlib import repr as shorten
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from bench.core.errors import UserError, raise_problems, say_once
from bench.core.files import set_aside, write_text
from bench.core.hashing import canonical_json
from bench.core.record import Record
from bench.core.schema import STRICT, Real, Whole, read_as
from bench.core.texts import one_line
from bench.core.types import Json
from bench.records.bundles import BUNDLE, read_bundle, write_bundle
from bench.records.markdown import as_cell, goal_arrow, markdown_table, mean_and_range, plain
from bench.records.plain import MOST_STUDY, read_plain
from bench.records.publish import publication_faults
from bench.runs.rescore import Beside
from bench.studies.ablations import catalogue, experiment
from bench.studies.ablations.base import FRAME, Ablation, AblationPlace, Finding, Line, Study, lines_of, tell_few
from bench.studies.ablations.drawing import draw_lines

SCHEMA = 2


def study_stem(study: Study) -> str:
    """``lab-tofu-distance``: the name of its files."""
    return f"{study.place.name}-{study.name}"


def write_study(study: Study, ablation: Ablation, folder: Path) -> list[Path]:
    """The study's JSON, its records, page and picture; returns the files. What is no study in its place is set aside."""
    return [*write_study_file(study, folder), *write_study_page(study, ablation, folder)]


def write_study_file(study: Study, folder: Path) -> list[Path]:
    """The study's JSON and its records; returns both files."""
    place = folder / f"{study_stem(study)}.json"
    if not is_study(place):
        set_aside(place, "readable study", say_once)
    records = {finding.record.name: finding.record for finding in study.findings}
    bundle = write_bundle(records.values(), records_of(place))
    text = json.dumps(study_to_json(study), separators=(",", ":"), sort_keys=True, allow_nan=False)
    write_text(place, text.replace('{"at":', '\n{"at":') + "\n")  # a finding a line
    return [place, bundle]


def records_of(file: Path) -> Path:
    """The bundle beside a study's file."""
    return file.with_name(file.stem + BUNDLE)


def rewrite_study_file(file: Path, folder: Path) -> list[Path]:
    """A study's or an experiment's file again in ``folder``, with page and picture."""
    data = experiment.read_study_or_experiment(file)
    if data.get("kind") == experiment.KIND:
        return experiment.write_experiment(data, catalogue.load_experiment_named(data["name"]), folder)
    study = read_study(file)
    return write_study(study, catalogue.load_ablation_of_runs(study.name), folder)


def write_study_page(study: Study, ablation: Ablation, folder: Path) -> list[Path]:
    """Page and picture of a study."""
    shown, draw = with_derived_findings(study, ablation), ablation.draw or draw_lines
    page = folder / f"{study_stem(study)}.md"
    shows = study_to_json(study) | {"records": [finding.record.to_json() for finding in study.findings]}
    return experiment.write_page(page, render_study(study, ablation), shows, lambda: draw(shown, ablation))


def with_derived_findings(study: Study, ablation: Ablation) -> Study:
    """The study with the scores that its ablation shows, and with the findings that it computes of the measured ones."""
    shown = replace(study, more=ablation.more)
    return replace(shown, findings=tuple(ablation.derive(study))) if ablation.derive else shown


def study_to_json(study: Study) -> Json:
    """Plain JSON; records are named."""
    return {
        "schema": SCHEMA,
        "kind": "ablation",
        "name": study.name,
        "place": vars(study.place) | {"params": dict(study.place.params)},
        "seeds": list(study.seeds),
        "minutes": study.minutes,
        "command": study.command,
        "findings": [
            {"at": dict(f.at), "seed": f.seed, "chosen": f.chosen, "record": f.record.name} | shared_and_tried(f.tried)
            for f in study.findings
        ],
    } | ({"notes": study.notes} if study.notes else {})


def shared_and_tried(rows: Sequence[Json]) -> Json:
    """What all settings that a point tried say alike, once, and of each the rest."""
    first = {name: canonical_json(value) for name, value in rows[0].items()} if len(rows) > 1 else {}
    alike = [name for name, said in first.items() if all(name in r and canonical_json(r[name]) == said for r in rows)]
    rest = [{name: value for name, value in row.items() if name not in alike} for row in rows]
    return {"tried": rest} | ({"shared": {name: rows[0][name] for name in alike}} if alike else {})


class FindingShape(TypedDict):
    """A finding in a study's file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    at: dict[str, Any]
    seed: Whole
    chosen: dict[str, Any]
    tried: list[dict[str, Any]]
    shared: NotRequired[dict[str, Any]]
    """What every row of ``tried`` says beside its own."""
    record: str


class StudyShape(TypedDict):
    """A study's file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    schema: int
    kind: str
    name: str
    place: AblationPlace
    seeds: list[Whole]
    minutes: Real
    command: str
    findings: Annotated[list[FindingShape], Field(min_length=1)]
    notes: NotRequired[dict[str, Any]]


def check_study(data: Any) -> None:
    """ValueError where JSON is none of a study."""
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    if data.get("kind") != "ablation" or data.get("schema") != SCHEMA:
        raise ValueError(f"kind {shorten(data.get('kind'))}, schema {shorten(data.get('schema'))}")
    read_as(StudyShape, data)


def study_from_json(data: Json, records: Sequence[Record]) -> Study:
    """The inverse of `study_to_json`, given its records; ValueError when it is no study, or lacks one."""
    check_study(data)
    named = {record.name: record for record in records}
    if missing := [item["record"] for item in data["findings"] if item["record"] not in named]:
        raise ValueError(f"the records beside it lack {one_line(missing[0])}")
    findings = [
        Finding(
            item["at"],
            item["seed"],
            named[item["record"]],
            item["chosen"],
            tuple(item.get("shared", {}) | row for row in item["tried"]),
        )
        for item in data["findings"]
    ]
    place, seeds, notes = AblationPlace(**data["place"]), tuple(data["seeds"]), data.get("notes", {})
    return Study(data["name"], place, seeds, tuple(findings), data["minutes"], data["command"], notes)


def read_study(file: Path) -> Study:
    """The study in a file, with the records in the bundle beside it."""
    try:
        data = read_plain(file, MOST_STUDY)
        if not records_of(file).is_file():
            raise ValueError(f"its records are not beside it in {records_of(file).name}")
        return study_from_json(data, read_bundle(records_of(file)))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file.name} is not a readable study ({error}): run the ablation again.") from error


def is_study(file: Path) -> bool:
    """Whether a file is a study's, with or without its records."""
    try:
        check_study(read_plain(file, MOST_STUDY))
        return True
    except (ValueError, OSError):
        return False


def load_studies(folder: Path) -> list[tuple[Study, Ablation]]:
    """Every study in a folder, with its ablation; what can't be read or shown is named and left out."""
    found: list[tuple[Study, Ablation]] = []
    for file in sorted(folder.glob("[!.]*.json")):
        with experiment.leaving_out(file):
            if experiment.read_study_or_experiment(file).get("kind") != experiment.KIND:
                study, ablation = read_placed_study(file)
                render_study(study, ablation)
                found.append((study, ablation))
    return found


def read_placed_study(file: Path) -> tuple[Study, Ablation]:
    """The study in a file that has its name, and its ablation."""
    study = read_study(file)
    if study_stem(study) != file.stem:
        raise UserError(f"{file.name} holds the study that belongs at {study_stem(study)}.json.")
    return study, catalogue.load_ablation_of_runs(study.name)


def study_records(folder: Path) -> Beside:
    """The records of every study in a folder, by their bundle and name; studies that can't be read are named."""
    records: dict[str, Record] = {}
    broken: list[str] = []
    for file in sorted(folder.glob("[!.]*.json")):
        try:
            if experiment.read_study_or_experiment(file).get("kind") != experiment.KIND:
                where = f"{folder.name}/{records_of(file).name}"
                records |= {f"{where}: {found.record.name}": found.record for found in read_study(file).findings}
        except UserError as error:
            broken.append(f"left out: {one_line(' '.join(error.problems))}")
    return Beside(records, broken)


def study_faults(study: Study) -> list[str]:
    """Why a study can't be published: what stands in the way of any of its records."""
    return [fault for finding in study.findings for fault in publication_faults(finding.record)]


def faults_in_study_file(file: Path) -> list[str]:
    """Why a study's or an experiment's file can't be published, each reason once."""
    data = experiment.read_study_or_experiment(file)
    if data.get("kind") == experiment.KIND:
        return experiment.experiment_faults(data)
    reasons = [fault.split(": ", 1)[1] for fault in study_faults(read_study(file))]
    return [f"{reasons.count(reason)} of its runs: {reason}" for reason in dict.fromkeys(reasons)]


CHOSEN_SAID = (
    " What is chosen without the oracle is chosen by the rule of `bench tune` on validation rows{seed}, which no probe "
    "contains; an edge is the end of what was tried."
)


def render_study(study: Study, ablation: Ablation) -> str:
    """The study's page, Markdown."""
    shown = with_derived_findings(study, ablation)
    goals = {name: found["goal"] for name, found in shown.findings[0].record.metrics.items()}
    scores = shown.scores
    columns = columns_shown(shown, ablation)
    head = [*columns, "seeds", *(f"{name} {goal_arrow(goals[name])}" for name in scores)]
    if any(finding.chosen.get("params") for finding in shown.findings):
        head.append("chosen without the oracle")
    body = []
    for line in lines_of(shown):
        cells = [_coordinate_text(line.at.get(column)) for column in columns]
        if line.at.get("row") in FRAME:
            cells[0] = f"*{line.at['row']}*" + "".join(
                f", {key.removeprefix('task.')}={value}" for key, value in line.at.items() if key.startswith("task.")
            )
        seeds = {finding.seed for finding in line.findings}
        cells += [str(len(seeds)), *(mean_and_range(line.values(name)) for name in scores)]
        if "chosen without the oracle" in head:
            cells.append(chosen_settings_text(line))
        body.append(cells)
    tier = "lab: a small model on generated data, not the benchmark itself" if study.place.tier == "lab" else "real"
    parts = [
        f"# {plain(study.name)}: {plain(study.place.task)} ({plain(study.place.tier)})",
        f"{ablation.question} {ablation.reading}",
        f"Tier {tier}. Seeds {', '.join(map(str, study.seeds))}; a cell is the mean over seeds (smallest–largest)."
        f"{tell_few(study.seeds)} "
        f"Made by `{as_cell(study.command)}`; {study.minutes:.0f} minutes of one core from an empty store. Log-probs and "
        "divergences alone were asked (a lean measurement); records and code versions lie beside this page."
        + (CHOSEN_SAID.format(seed=tuned_where(shown)) if "chosen without the oracle" in head else ""),
        f"![{study.name}]({study_stem(study)}.svg)",
        markdown_table(head, body),
    ]
    if ablation.extra:
        parts.append(ablation.extra(shown))
    return "\n\n".join(part for part in parts if part) + "\n"


def tuned_where(study: Study) -> str:
    """Of which seed the validation rows are that settings were chosen on."""
    others = {row["seed"] for finding in study.findings for row in finding.tried if row["seed"] != finding.seed}
    return f" of seed {', '.join(map(str, sorted(others)))}" if others else " of the same seed"


def columns_shown(study: Study, ablation: Ablation) -> list[str]:
    """The columns of the table that some point has."""
    wanted = [ablation.series, ablation.x, *ablation.columns]
    return [name for name in dict.fromkeys(wanted) if any(name in finding.at for finding in study.points)]


def _coordinate_text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def chosen_settings_text(line: Line) -> str:
    """A text about the settings that the rule chose on each seed."""
    said: list[str] = []
    for finding in line.findings:
        if not finding.chosen.get("params"):
            continue
        params = ", ".join(f"{key} {value:g}" for key, value in sorted(finding.chosen["params"].items()))
        said.append(params + (" (edge)" if finding.chosen["edge"] and finding.chosen["of"] > 1 else ""))
    return "; ".join(f"{text} ×{said.count(text)}" if said.count(text) > 1 else text for text in dict.fromkeys(said))


def redraw_page(file: Path, to: Path | None = None) -> list[Path]:
    """Page and picture of a study or an experiment again, beside it or in ``to``; none of what can't be read, which is named."""
    with experiment.leaving_out(file):
        data = experiment.read_study_or_experiment(file)
        if data.get("kind") == experiment.KIND:
            read_as(experiment.ExperimentShape, data)
            asked = catalogue.load_experiment_named(data["name"])
            return experiment.write_experiment_page(data, asked, to or file.parent)
        return write_study_page(*read_placed_study(file), to or file.parent)
    return []


def publish_studies(files: Sequence[Path], to: Path, force: bool) -> list[Path]:
    """Copy clean studies, with page and picture drawn from them; nothing is written unless all can be."""
    problems = [f"{file.name}: {fault}" for file in files for fault in faults_in_study_file(file)]
    # Looked at once: what somebody else publishes from now on is written again, and equal.
    there = {file: _content(to / file.name) for file in files}
    new = [file for file in files if there[file] != _content(file)]
    taken = [] if force else [file.name for file in new if there[file] is not None]
    problems += [f"{name}: published already and different; delete that file first, or use --force." for name in taken]
    raise_problems(problems)
    return [path for file in new for path in rewrite_study_file(file, to)]


def _content(file: Path) -> tuple[bytes, bytes] | None:
    """A study's file and its records as bytes, or an experiment's file; None where there is no such file."""
    if not file.exists():
        return None
    records = records_of(file)
    return file.read_bytes(), records.read_bytes() if records.exists() else b""
