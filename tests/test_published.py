"""What is published: the leaderboard is what the generator prints, scores follow from the kept responses, and the
defaults are what the published searches chose."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.options import is_text
from bench.core import registry
from bench.core.boxes import box_json
from bench.core.machine import Machine
from bench.core.record import Record
from bench.records.files import responses_path
from bench.records.leaderboard import files_of, missing_pictures, stale_tables
from bench.runs import report, search, selection
from bench.runs.asked import Asked
from bench.runs.plan import make_plan
from bench.runs.rescore import Places, rescore_command
from bench.runs.search import REPORTED, chosen_preset, name_search
from bench.studies.ablations import catalogue, experiment, study
from bench.studies.claims import render_claims
from tests.paths import ROOT
from tests.published import RESULTS, published_records

MOST_BYTES = 15_000_000
SEARCHES = [
    path
    for path in sorted((RESULTS / "tune").glob("*.json"))
    if json.loads(path.read_text())["schema"] == search.SCHEMA
]
"""Those by today's rule; what an earlier one chose is kept as what was run."""


LAB_TEXTS = ("tofu", "restor", "muse-books")


def lab_records(task: str) -> list[Record]:
    records = published_records().records
    return [r for r in records if r.spec.task == task and r.spec.tier == "lab" and r.status == "done"]


def test_records_are_whole_and_clean() -> None:
    loaded = published_records()
    assert loaded.broken == [] and loaded.records
    for record in loaded.records:
        assert record.provenance["dirty"] is False, record.name
        assert record.lineage["oracle_rows"]["in_forget"] == 0, record.name


def test_leaderboard_and_tables_are_what_the_generator_prints() -> None:
    loaded = published_records()
    files = files_of(loaded, RESULTS, ROOT / "leaderboard.md")
    stale = [path.name for path, text in files.items() if not is_text(path, text)]
    assert not stale and not stale_tables(RESULTS, files), f"{stale}: run `python -m bench leaderboard`"
    assert not missing_pictures(loaded, RESULTS, ROOT / "leaderboard.md"), "run `python -m bench plot`"


def test_claims_are_what_the_generator_prints() -> None:
    assert render_claims(RESULTS) == (ROOT / "docs/claims.md").read_text(), "run `python -m bench claims`"


def is_by_todays_rule(path: Path) -> bool:
    """Whether what a study chose or tried, if it did, was by today's rule of selection; an earlier one's page stays as it was."""
    findings = json.loads(path.read_text()).get("findings", [])
    rows = [finding.get("shared", {}) | row for finding in findings for row in finding["tried"]]
    return all("tokens" in row or "broken" in row for row in rows)


STUDIES = [path for path in sorted((RESULTS / "ablations").glob("[!.]*.json")) if is_by_todays_rule(path)]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_are_clean_and_their_pages_are_drawn_from_them(path: Path, tmp_path: Path) -> None:
    data = experiment.read_study_or_experiment(path)
    if data["kind"] == experiment.KIND:
        assert experiment.experiment_faults(data) == []
    else:
        found = study.read_study(path)
        assert study.study_faults(found) == [] and len(found.seeds) >= 3
        assert all(f.record.lineage["oracle_rows"]["in_forget"] == 0 for f in found.findings)
        read = catalogue.load_ablation_of_runs(found.name).signals
        assert all(("signals" in row) == (read and "broken" not in row) for f in found.findings for row in f.tried)
    (tmp_path / "responses").mkdir()  # a published folder has SVG alone
    study.rewrite_study_file(path, tmp_path / "ablations")
    for suffix in (".json", ".jsonl.xz", ".md", ".svg", ".png"):
        file, again = path.with_suffix(suffix), (tmp_path / "ablations" / path.name).with_suffix(suffix)
        assert again.exists() == file.exists() and (not file.exists() or again.read_bytes() == file.read_bytes()), (
            suffix
        )
    assert path.with_suffix(".md").exists() and path.with_suffix(".svg").exists()
    assert not path.with_suffix(".png").exists(), "SVG alone is published"


def test_what_is_published_stays_small() -> None:
    """A clone brings all of it, and every version of it that was ever committed."""
    files = [path for path in RESULTS.rglob("*") if path.is_file() and path.name[0] != "." and path.name != report.NAME]
    sizes = {path: path.stat().st_size for path in files}
    largest = sorted(sizes, key=sizes.__getitem__)[-5:]
    assert sum(sizes.values()) <= MOST_BYTES, f"largest: {[path.relative_to(RESULTS).as_posix() for path in largest]}"


def main_methods() -> set[str]:
    """The rows of the command that docs/results.md gives for the tables, with the variant of NPO that the books take."""
    command = re.search(r"bench run --methods (\S+) --task tofu --seeds 0-5", (ROOT / "docs/results.md").read_text())
    assert command
    asked = Asked("tofu", tuple(command[1].split(",")), (), (0,))
    return {entry.spec.method for entry in make_plan(asked, Machine(Path("none"), Path("none"))).entries}


@pytest.mark.slow(30)
def test_every_score_follows_from_the_kept_responses(tmp_path: Path) -> None:
    """Kept are those of the main rows of each lab task's first seed and of all real rows."""
    records = [r for r in published_records().records if r.status == "done"]
    kept = [r for r in records if responses_path(RESULTS, r.lineage["responses"]).exists()]
    first = [r.spec for r in kept if r.spec.tier == "lab" and r.spec.seed == 0 and not r.spec.order]
    for task in (*LAB_TEXTS, "digits", "graph"):
        there = {spec.method.replace("@per-token", "").replace("+per-token", "") for spec in first if spec.task == task}
        assert main_methods() <= there, task
    assert all(r in kept for r in records if r.spec.tier == "real")
    said: list[str] = []
    assert rescore_command(Places(RESULTS, tmp_path), False, said.append, workers=2), "\n".join(said)
    assert said[-1].startswith(f"{len(kept)} records computed again")


@pytest.mark.parametrize("task", LAB_TEXTS)
def test_targets_have_learnt_what_oracles_never_saw(task: str) -> None:
    """What `tests/tasks/test_lab_figures.py` asserts of one seed, of each that is published, with room for its chance."""
    records = [r for r in lab_records(task) if not r.spec.study]
    targets = {r.spec.seed: r for r in records if r.spec.method == "target"}
    oracles = {r.spec.seed: r for r in records if r.spec.method == "retrain"}
    assert targets.keys() == oracles.keys() and (task != "tofu" or len(targets) >= 6)
    for seed, target in targets.items():
        forgetting, kept = (target.facts["primary"][role] for role in ("forgetting", "kept"))
        assert target.scores[forgetting].value >= 0.7 and oracles[seed].scores[forgetting].value <= 0.05
        assert target.scores[kept].value >= 0.9 and oracles[seed].scores[kept].value >= 0.9
        assert target.facts["displacement"] <= 0.4 and target.facts["about"]["same_answer"] < 0.05


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_presets_are_what_the_search_chose(path: Path) -> None:
    found = json.loads(path.read_text())
    method, place, variant = registry.load_component("methods", found["method"]), found["place"], found["variant"]
    assert path.stem == f"{place}-{name_search(found['method'], variant)}" and found["rule"] == selection.RULE
    outcomes = [selection.Outcome.from_json(setting) for setting in found["settings"]]
    assert selection.choose_setting(outcomes) == found["chosen"] is not None
    assert found["settings"][found["chosen"]]["params"] == found["params"]
    preset, table = registry.preset_params(method, place, variant), f"{place}-{variant}" if variant else place
    assert preset and registry.said_params(method, preset) == found["params"]
    assert method.presets[table].source == chosen_preset(found).source, "as `bench tune --write` would write it"
    first = [setting.get("j_first") for setting in found["settings"]]
    assert found["expected_best"] == selection.expected_best(first)
    went_on = [i for i, setting in enumerate(found["settings"]) if setting["stage"] == 2]
    on_first = [replace(each, seeds=each.seeds[:1], runs=1) for each in outcomes]
    assert went_on == sorted(selection.best_quarter(on_first))
    box = selection.search_box(method, place, variant)
    assert box_json(box) == found["box"], "the box that is published is the one that was searched"
    wanted = [step.params for step in selection.steps_for(found["method"], box, found["budget"])]
    assert [setting["params"] for setting in found["settings"]] == wanted
    assert found["provenance"]["dirty"] is False and not set(REPORTED) & set(found["seeds"])


def test_every_method_had_the_same_budget_on_the_same_seeds() -> None:
    budgets: dict[str, set[str]] = {}
    for path in SEARCHES:
        found = json.loads(path.read_text())
        budgets.setdefault(found["place"], set()).add(f"{found['budget']} on {found['seeds']}")
    assert all(len(sizes) == 1 for sizes in budgets.values()), budgets
