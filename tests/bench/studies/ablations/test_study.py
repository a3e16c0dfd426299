"""A finished ablation as a file, and its page and picture, which are functions of that file and of nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.hashing import hash_file
from bench.records.bundles import read_bundle, write_bundle
from bench.records.markdown import goal_arrow, mean_and_range
from bench.studies.ablations import catalogue
from bench.studies.ablations import study as studies
from bench.studies.ablations.base import Ablation, Study, lines_of
from tests.factories import ablation_study, finding, place

RUNS = [name for name in catalogue.ABLATIONS if isinstance(catalogue.load_ablation(name), Ablation)]


def through_a_file(study: Study) -> Study:
    """Written as the command writes it, and read again."""
    with TemporaryDirectory() as folder:
        return studies.read_study(written(study, Path(folder)))


def written(study: Study, folder: Path) -> Path:
    """A study's file, with its records beside it."""
    return studies.write_study_file(study, folder)[0]


def small(*findings: Any, name: str = "controls", seeds: tuple[int, ...] = (0, 1)) -> Study:
    return Study(name, place(), seeds, findings, 3.0, "python -m bench ablate controls")


@pytest.mark.parametrize("name", RUNS)
def test_a_study_is_read_back_as_it_was_written(name: str) -> None:
    study = ablation_study(name)
    back = through_a_file(study)
    assert back == study
    assert studies.study_to_json(back) == studies.study_to_json(study)
    assert studies.render_study(back, catalogue.load_ablation_of_runs(name)) == studies.render_study(
        study, catalogue.load_ablation_of_runs(name)
    )


def test_a_study_names_its_records_which_lie_beside_it_once_each(tmp_path: Path) -> None:
    study = ablation_study("steps")
    again = replace(study, findings=(*study.findings, study.findings[-1]))
    file = written(again, tmp_path)
    names = [item["record"] for item in json.loads(file.read_text())["findings"]]
    assert names == [finding.record.name for finding in again.findings] and len(names) > 10
    assert [record.name for record in read_bundle(studies.records_of(file))] == sorted(set(names))
    whole = sum(len(json.dumps(finding.record.to_json())) for finding in study.findings)
    assert studies.records_of(file).stat().st_size < whole / 10


@pytest.mark.parametrize("what", ["gone", "fewer", "cut", "of before"])
def test_a_study_without_its_records_is_a_sentence(what: str, tmp_path: Path) -> None:
    study = ablation_study("controls", seeds=(0,))
    file = written(study, tmp_path)
    bundle = studies.records_of(file)
    if what == "gone":
        bundle.unlink()
    elif what == "fewer":
        write_bundle([finding.record for finding in study.findings[1:]], bundle)
    elif what == "cut":
        bundle.write_bytes(bundle.read_bytes()[:-9])
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 1}))
    reason = {
        "gone": r"its records are not beside it in lab-tofu-controls\.jsonl\.xz",
        "fewer": "the records beside it lack lab/tofu/lab/",
        "cut": "it is cut short",
        "of before": "kind 'ablation', schema 1",
    }[what]
    with pytest.raises(
        UserError, match=rf"lab-tofu-controls\.json is not a readable study \({reason}.*run the ablation"
    ):
        studies.read_study(file)


@pytest.mark.parametrize("name", RUNS)
def test_page_and_picture_follow_from_the_study_alone(name: str, tmp_path: Path) -> None:
    """Drawn from memory, and from the file into a published folder, which has no PNG: the same bytes."""
    study, ablation = ablation_study(name), catalogue.load_ablation_of_runs(name)
    (tmp_path / "responses").mkdir()
    one = studies.write_study_page(study, ablation, tmp_path / "one" / "ablations")
    other = studies.write_study_page(through_a_file(study), ablation, tmp_path / "ablations")
    assert [file.name for file in one] == [f"lab-tofu-{name}{suffix}" for suffix in (".md", ".png", ".svg")]
    assert [(file.name, hash_file(file)) for file in one if file.suffix != ".png"] == [
        (file.name, hash_file(file)) for file in other
    ]
    page = one[0].read_text()
    assert (
        ablation.question in page and f"![{name}](lab-tofu-{name}.svg)" in page and "not the benchmark itself" in page
    )
    assert f"python -m bench ablate {name}" in page and "12 minutes of one core" in page


def test_another_score_gives_another_picture_and_page(tmp_path: Path) -> None:
    """Otherwise the test above would pass for a picture of nothing."""
    study, ablation = ablation_study("controls"), catalogue.load_ablation_of_runs("controls")
    last = study.findings[-1]
    scores = {name: score.value for name, score in last.record.scores.items()} | {"forget_accuracy": 0.777}
    moved = finding(last.at, last.seed, scores, facts=last.record.facts)
    one = studies.write_study_page(study, ablation, tmp_path / "one")
    other = studies.write_study_page(
        replace(study, findings=(*study.findings[:-1], moved)), ablation, tmp_path / "other"
    )
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(one, other, strict=True))


def test_files_are_written_and_drawn_again(tmp_path: Path) -> None:
    study = ablation_study("controls", seeds=(0,))
    files = studies.write_study(study, catalogue.load_ablation_of_runs("controls"), tmp_path)
    before = {file.name: hash_file(file) for file in files}
    assert set(before) == {f"lab-tofu-controls{suffix}" for suffix in (".json", ".jsonl.xz", ".md", ".png", ".svg")}
    assert [(found.name, ablation.name) for found, ablation in studies.load_studies(tmp_path)] == [
        ("controls", "controls")
    ]
    assert studies.read_study(tmp_path / "lab-tofu-controls.json") == study
    (tmp_path / "lab-tofu-controls.md").unlink()
    drawn = studies.redraw_page(tmp_path / "lab-tofu-controls.json")
    assert {file.name: hash_file(file) for file in drawn} == {
        k: v for k, v in before.items() if not k.endswith((".json", ".xz"))
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"kind": "ablation", "schema": 99}', '{"kind": "run"}'])
def test_a_broken_file_is_a_sentence(text: str, tmp_path: Path) -> None:
    file = tmp_path / "lab-tofu-controls.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"lab-tofu-controls\.json is not a readable study"):
        studies.read_study(file)


def test_what_is_no_study_in_its_place_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = ablation_study("controls", seeds=(0,))
    for _ in range(2):  # a study of before is written over
        written(study, tmp_path)
    assert not list(tmp_path.glob("*damaged*"))
    (tmp_path / "lab-tofu-controls.json").write_text("somebody's notes")
    written(study, tmp_path)
    [away] = tmp_path.glob("lab-tofu-controls.json.damaged-*")
    assert away.read_text() == "somebody's notes" and away.name in capsys.readouterr().err
    assert studies.read_study(tmp_path / "lab-tofu-controls.json") == study


def test_the_records_of_all_studies_are_read_and_what_is_none_is_named(tmp_path: Path) -> None:
    study = ablation_study("controls", seeds=(0,))
    written(study, tmp_path)
    (tmp_path / "broken.json").write_text("{")
    found = studies.study_records(tmp_path)
    assert found.records == {
        f"{tmp_path.name}/lab-tofu-controls.jsonl.xz: {each.record.name}": each.record for each in study.findings
    }
    assert found.broken == ["left out: broken.json is not readable (it is no JSON (line 1)): run the ablation again."]


# --- the table


def row(page: str, start: str) -> list[str]:
    """The cells of the table's row that begins so."""
    [line] = [line for line in page.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_cell_is_the_mean_and_the_range_over_seeds() -> None:
    """(.25 + .75) / 2 = .5; equal seeds have no range, and a score that is absent is a dash."""
    assert mean_and_range([]) == "—"
    assert mean_and_range([0.25, 0.25]) == "0.250"
    assert mean_and_range([0.25, 0.75]) == "0.500 (0.250–0.750)"


def test_the_page_has_a_line_for_each_coordinate() -> None:
    def both(at: dict[str, Any], one: float, other: float, **fields: Any) -> list[Any]:
        return [
            finding(at, seed, {"forget_accuracy": value, "privleak": 5.0}, **fields)
            for seed, value in ((0, one), (1, other))
        ]

    chosen = {"params": {"alpha": 1.15}, "edge": False, "of": 4}
    failed = {"params": {"alpha": 3.0}, "edge": True, "of": 4}
    found = [
        *both({"row": "target"}, 1.0, 1.0, method="target"),
        *both({"row": "oracle", "task.width": 32}, 0.1, 0.3, method="retrain"),
        *both({"series": "MSA", "vector": "forget"}, 0.2, 0.4, chosen=chosen),
        *both({"series": "MSA", "vector": "random"}, 0.5, 0.9, chosen=failed),
    ]
    study = small(*found)
    assert study.scores == ("forget_accuracy",), "privleak is of the headline, and not shown"
    page = studies.render_study(study, catalogue.load_ablation_of_runs("controls"))
    head = ["series", "vector", "seeds", f"forget_accuracy {goal_arrow('oracle')}", "chosen without the oracle"]
    assert row(page, "series") == head
    assert row(page, "*target*")[2:4] == ["2", "1.000"]
    assert row(page, "*oracle*, width=32")[2:4] == ["2", "0.200 (0.100–0.300)"]
    assert row(page, "MSA | forget")[:4] == ["MSA", "forget", "2", "0.300 (0.200–0.400)"]
    assert row(page, "MSA | forget")[4].startswith("alpha 1.15") and "edge" not in row(page, "MSA | forget")[4]
    assert row(page, "MSA | random")[4].startswith("alpha 3") and "edge" in row(page, "MSA | random")[4]


def test_seeds_that_chose_alike_are_said_once() -> None:
    def line(*alphas: float) -> str:
        found = [finding({}, i, chosen={"params": {"alpha": a}, "edge": False, "of": 4}) for i, a in enumerate(alphas)]
        return studies.chosen_settings_text(studies.Line({}, tuple(found)))

    assert line(1.0, 1.0, 2.0) == "alpha 1 ×2; alpha 2"
    assert line(1.0) == "alpha 1"


def test_findings_are_grouped_by_their_coordinates() -> None:
    """Whatever the order that a coordinate's columns stand in."""
    found = [finding({"a": 1, "b": 2}, 0), finding({"a": 2}, 0), finding({"b": 2, "a": 1}, 1)]
    lines = lines_of(small(*found))
    assert [[f.seed for f in line.findings] for line in lines] == [[0, 1], [0]]


def test_target_and_oracle_are_no_points() -> None:
    study = small(
        finding({"row": "target"}), finding({"row": "oracle"}), finding({"series": "MSA", "vector": "others"})
    )
    assert [f.at for f in study.points] == [{"series": "MSA", "vector": "others"}]
    assert len(study.framing("target")) == len(study.framing("oracle")) == 1


def test_a_study_of_dirty_records_has_faults() -> None:
    clean = ablation_study("controls", seeds=(0,))
    dirty = replace(clean.findings[0].record, provenance={"commit": "0" * 20, "dirty": True})
    spoiled = replace(clean, findings=(replace(clean.findings[0], record=dirty), *clean.findings[1:]))
    assert len(studies.study_faults(spoiled)) > len(studies.study_faults(clean))


SPOILT: dict[str, Any] = {
    "no JSON": "{half",
    "another kind": {"kind": "cake"},
    "findings of none": {"findings": []},
    "a name of none": {"name": "never-heard-of"},
    "a place elsewhere": {"place": {"task": "../../up", "tier": "lab", "model": "lab", "params": {}}},
    "seeds in words": {"seeds": ["0"]},
    "minutes without end": {"minutes": None},
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_study_that_cant_be_read_is_named_and_the_others_are_drawn(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ablation_study("distance")
    good = written(study, tmp_path)
    change = SPOILT[what]
    bad = tmp_path / f"bad-{what.replace(' ', '-')}.json"
    bad.write_text(change if isinstance(change, str) else json.dumps(json.loads(good.read_text()) | change))
    studies.records_of(bad).write_bytes(studies.records_of(good).read_bytes())
    assert [found.name for found, _ in studies.load_studies(tmp_path)] == ["distance"]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"NOTE: left out: {bad.name}") and len(line) < 400


def test_a_study_whose_records_dont_say_what_its_page_shows_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ablation_study("distance")
    bundle = studies.records_of(written(study, tmp_path))
    write_bundle([replace(record, facts={}) for record in read_bundle(bundle)], bundle)
    assert studies.load_studies(tmp_path) == []
    assert studies.redraw_page(tmp_path / f"{studies.study_stem(study)}.json") == []
    assert "KeyError" in capsys.readouterr().err


def test_what_all_tried_settings_say_alike_is_written_once() -> None:
    """1 and 1.0 are not alike, nor is what one row lacks; a single row shares nothing."""
    rows = ({"a": 1, "b": {"c": 2}, "d": None, "e": 1}, {"a": 2, "b": {"c": 2}, "e": 1.0})
    assert studies.shared_and_tried(rows) == {
        "tried": [{"a": 1, "d": None, "e": 1}, {"a": 2, "e": 1.0}],
        "shared": {"b": {"c": 2}},
    }
    assert studies.shared_and_tried(rows[:1]) == {"tried": [rows[0]]} and studies.shared_and_tried(()) == {"tried": []}
    study = ablation_study("controls")
    study = replace(study, findings=tuple(replace(each, tried=rows) for each in study.findings))
    assert through_a_file(study).findings == study.findings
