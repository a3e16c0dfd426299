"""Experiments: each seed once, kept, and result, page and picture of all that were asked for."""

from __future__ import annotations

import json
import os
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from bench.core.errors import UserError
from bench.core.types import Json
from bench.studies.ablations import experiment
from bench.studies.ablations.base import AblationPlace
from bench.studies.ablations.experiment import (
    Experiment,
    Ground,
    experiment_faults,
    load_experiments,
    read_study_or_experiment,
    run_experiment,
    run_seed_alone,
)

NAME = "squares:square"
"""Of a module beside the ablations that is there in these tests alone."""


def square(seed: int) -> Json:
    return {"value": seed**2}


def on_task(seed: int, asked: Json, store: Path) -> Json:
    return {"value": seed * asked["by"], "store": str(store)}


def draw(results: list[Json]) -> Figure:
    figure = Figure()
    figure.subplots().plot([result["value"] for result in results])
    return figure


def table(results: list[Json]) -> str:
    return "values " + ", ".join(str(result["value"]) for result in results)


SQUARES = Experiment("squares", "How large?", "Very.", 2, NAME, draw, table)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds are run in threads of this process, which knows the module."""
    module = types.ModuleType("squares")
    module.square, module.on_task = square, on_task  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{experiment.__package__}.squares", module)
    monkeypatch.setattr(experiment, "open_pool", ThreadPoolExecutor)
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))


def test_a_seed_is_run_by_name_and_says_which_it_is() -> None:
    found = run_seed_alone(NAME, 7)
    assert (found["value"], found["seed"]) == (49, 7) and found["wall_seconds"] >= 0


def test_what_is_kept_is_not_run_again_and_a_new_version_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds, of which one is changed where it is kept: the page shows what is kept, in the order asked."""
    files = run_experiment(SQUARES, [3, 2], tmp_path, 1)
    assert [file.name for file in files] == ["lab-squares.json", "lab-squares.md", "lab-squares.png", "lab-squares.svg"]
    assert "squares, seeds 3,2: 2 to do" in capsys.readouterr().out
    kept = tmp_path / "runs" / "experiment" / "squares-v2-3.json"
    made = json.loads(kept.read_text())
    made["result"] |= {"value": -9, "wall_seconds": 120.0}
    kept.write_text(json.dumps(made))
    run_experiment(SQUARES, [3, 2], tmp_path, 1)
    assert "0 to do" in capsys.readouterr().out
    [data] = load_experiments(tmp_path)
    assert [result["value"] for result in data["results"]] == [-9, 4]
    assert (data["seeds"], data["version"], data["minutes"]) == ([3, 2], 2, 2.0)
    assert data["command"] == "python -m bench ablate squares --seeds 3,2" and len(data["provenance"]) == 2
    page = (tmp_path / "lab-squares.md").read_text()
    assert page.startswith("# squares (lab)\n\nHow large? Very.\n") and page.endswith("values -9, 4\n")
    assert "Seeds 3, 2." in page and "2 minutes of one core" in page


def test_an_experiment_on_a_task_is_given_what_is_asked_and_the_store_and_named_after_the_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was kept of other questions is neither shown nor set aside."""
    scale = [3]
    on_task = replace(SQUARES, run="squares:on_task", asks=lambda place, seed: {"of": place.task, "by": scale[0]})
    ground = Ground(AblationPlace("tofu", params={"authors": 4}), tmp_path / "store", ("tofu.authors=4",))

    def values() -> list[int]:
        files = run_experiment(on_task, [3, 2], tmp_path, 1, ground)
        assert [file.stem for file in files] == ["lab-tofu-squares"] * 4
        [data] = load_experiments(tmp_path)
        assert data["command"] == "python -m bench ablate squares --seeds 3,2 --task tofu --set tofu.authors=4"
        assert data["place"]["params"] == {"authors": 4} and data["results"][0]["store"] == str(ground.store)
        return [result["value"] for result in data["results"]]

    assert values() == [9, 6]
    assert (tmp_path / "lab-tofu-squares.md").read_text().startswith("# squares: tofu (lab)\n")
    scale[0] = 5
    capsys.readouterr()
    assert values() == [15, 10]
    assert "2 to do" in capsys.readouterr().out
    scale[0] = 3
    assert values() == [9, 6]
    said = capsys.readouterr()
    assert "0 to do" in said.out and said.err == ""


@pytest.mark.parametrize(
    "spoilt",
    [
        "",
        "{",
        "[]",
        "null",
        '{"result": 3}',
        '{"result": {"seed": 3, "wall_seconds": 1}, "provenance": {}}',
        '{"result": {"seed": 2, "wall_seconds": 1, "value": 9}, "provenance": {}}',
        '{"result": {"seed": 3, "wall_seconds": "1", "value": 9}, "provenance": {}}',
        '{"result": {"seed": 3, "wall_seconds": NaN, "value": 9}, "provenance": {}}',
        '{"result": {"seed": 3, "wall_seconds": 1, "value": 9}, "provenance": []}',
        "fifo",
        "/dev/zero",
        "/nowhere",
        "folder",
    ],
)
def test_what_is_no_result_in_a_seeds_place_is_set_aside_by_name_and_the_seed_run_again(
    spoilt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "runs" / "experiment" / "squares-v2-3.json"
    run_experiment(SQUARES, [3, 2], tmp_path, 1)
    sound, page = json.loads(kept.read_text())["result"]["value"], (tmp_path / "lab-squares.md").read_text()
    capsys.readouterr()
    kept.unlink()
    if spoilt == "fifo":
        os.mkfifo(kept)
    elif spoilt == "folder":
        kept.mkdir()
    elif spoilt.startswith("/"):
        kept.symlink_to(spoilt)
    else:
        kept.write_text(spoilt)
    run_experiment(SQUARES, [3, 2], tmp_path, 1)
    said = capsys.readouterr()
    assert "squares, seeds 3,2: 1 to do" in said.out
    [away] = [each for each in kept.parent.iterdir() if each.name.startswith("squares-v2-3.json.damaged-")]
    assert said.err == (
        f"NOTE: squares-v2-3.json is no result of seed 3 of squares: set aside as {away.name} and made again.\n"
    )
    assert json.loads(kept.read_text())["result"]["value"] == sound == 9
    assert (tmp_path / "lab-squares.md").read_text() == page
    run_experiment(SQUARES, [3, 2], tmp_path, 1)
    assert "0 to do" in capsys.readouterr().out, "it heals"


def test_only_experiments_are_loaded_and_a_broken_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text('{"kind": "study"}')
    whole = {
        "schema": 1,
        "version": 1,
        "seeds": [0],
        "command": "x",
        "minutes": 1.0,
        "results": [{}],
        "provenance": [{}],
    }
    for name, data in {"b": whole, "c": {}, "d": whole | {"results": {}}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"kind": experiment.KIND, "name": name} | data))
    assert [data["name"] for data in load_experiments(tmp_path)] == ["b"]
    said = capsys.readouterr().err
    assert "left out: c.json" in said and "left out: d.json" in said and "results: " in said
    for text in ("{", "[1]", "3"):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(UserError, match=r"c.json is not readable .* run the ablation again"):
            read_study_or_experiment(tmp_path / "c.json")


def test_seeds_that_no_commit_made_are_no_publication() -> None:
    assert experiment_faults({"provenance": [{"dirty": False}]}) == []
    [said] = experiment_faults({"provenance": [{"dirty": True}, {"dirty": False}, {"dirty": None}, {}]})
    assert said.startswith("3 of its seeds were run by code that is no commit's")


def test_a_picture_that_shows_the_same_is_not_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another page's picture in the folder is none of its business."""
    drawn: list[str] = []

    def made(name: str, value: int) -> list[str]:
        def draw() -> Figure:
            drawn.append(name)
            return Figure()

        return [path.name for path in experiment.write_page(tmp_path / f"{name}.md", "text", {"value": value}, draw)]

    for name in ("one", "other"):
        assert made(name, 1) == made(name, 1) == [f"{name}.md", f"{name}.png", f"{name}.svg"]
    assert drawn == ["one", "other"]
    made("one", 2)
    made("other", 1)
    assert drawn == ["one", "other", "one"]
    assert experiment.load_experiments(tmp_path) == [], (
        "and what is known of the pictures is no study that can't be read"
    )
    assert capsys.readouterr().out == ""


def test_a_lab_whose_parameters_are_unknown_today_is_named_as_an_older_one() -> None:
    place = {"task": "tofu", "tier": "lab", "params": {"authors": 150, "gap_steps": 0}}
    assert experiment.tell_older(place) == experiment.tell_older({}) == ""
    older = {**place, "params": {**place["params"], "history_steps": 640}}  # type: ignore[dict-item]
    assert experiment.tell_older(older) == " An older version of the lab: authors=150, history_steps=640."
    assert experiment.tell_older({**older, "task": "of-a-plug-in"}) == ""
