"""A search: which settings on which seeds, what is written of it, and the preset that it becomes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.core import registry, settings
from bench.core.errors import UserError, say_once
from bench.core.files import read_toml, set_aside
from bench.core.record import RunSpec, Step
from bench.runs import search
from bench.runs.asked import Asked
from bench.runs.jobs import Job, Result, WorkerConfig
from bench.runs.plan import Plan, PlannedRun
from bench.runs.search import (
    Search,
    chosen_preset,
    is_record_of,
    provenance_of_all,
    searches_of,
    tune_problems,
    write_search,
)
from bench.runs.validate import row_file
from methods.ga import GradientAscent
from tests.shell import Shell
from tests.stores import WRONG_KINDS, Wreck

OWN = Path(registry.__file__).parents[2] / "methods" / "settings"
"""The settings files of the checkout, which no test may touch."""
TEXT = """
[lab-digits]
params = { steps = 7 }
source = "by hand"
box = [{ lr = [0.0005, 0.002], steps = [1] }]

[real]
box = [{ lr = [0.1] }]
"""
TUNE = (
    *("tune", "--methods", "ga", "--task", "digits", "--seeds", "100", "--jobs", "1"),
    *("--store", "store", "--out", "out", "--set", "digits.width=4"),
    *("--set", "digits.history_passes=0.25", "--set", "digits.target_passes=0.12"),
)
MADE = {"commit": "abc", "dirty": False, "commits": ["abc"], "device": "cpu"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A settings folder of this test alone, with `TEXT` for GA and copies of the others."""
    folder = tmp_path / "settings"
    shutil.copytree(OWN, folder)
    (folder / "ga.toml").write_text(TEXT)
    real = settings.settings_file

    def elsewhere(kind: type) -> Path:
        file = real(kind)
        return folder / file.name if file.parent == OWN else file

    before = {file: file.read_bytes() for file in OWN.iterdir()}
    monkeypatch.setattr(settings, "settings_file", elsewhere)
    monkeypatch.setattr(search, "settings_file", elsewhere)
    settings.read_settings.cache_clear()
    yield folder
    settings.read_settings.cache_clear()
    assert {file: file.read_bytes() for file in OWN.iterdir()} == before, "the checkout's own files are untouched"


def test_what_a_search_chose_becomes_the_preset_of_the_place_when_asked(place: Path, shell: Shell) -> None:
    """Two settings on one seed. The record is the same either way; the box and the other tables stay."""
    said = shell(*TUNE)
    assert said.code == 0, said.err
    assert "2 runs (ga: 2 settings), 2 to do" in said.out and "the preset of that place" not in said.out
    assert (place / "ga.toml").read_text() == TEXT
    record = json.loads((shell.folder / "out" / "tune" / "lab-digits-ga.json").read_text())
    assert [each["params"]["lr"] for each in record["settings"]] == [0.0005, 0.002]
    assert (record["seeds"], record["budget"], record["edges"]) == ([100], 2, ["lr"])
    assert record["params"] == record["settings"][record["chosen"]]["params"]

    said = shell(*TUNE, "--write")
    assert said.code == 0, said.err
    assert "2 runs (ga: 2 settings), 0 to do" in said.out, "what is there isn't run again"
    assert "lab-digits ga: the preset of that place now, in settings/ga.toml" in said.out
    before, tables = read_toml_text(TEXT), read_toml(place / "ga.toml")
    assert tables["lab-digits"] == {
        "params": {"steps": 1, "lr": record["params"]["lr"]},
        "source": "bench tune, results/tune/lab-digits-ga.json (edge of its grid)",
        "box": before["lab-digits"]["box"],
    }
    assert tables["real"] == before["real"]
    preset = registry.preset_params(GradientAscent, "lab-digits", "")
    assert preset and registry.said_params(GradientAscent, preset) == record["params"], "runs take it at once"


def read_toml_text(text: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(text)


def test_a_setting_that_fails_leaves_no_record_and_no_preset(
    place: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(jobs: Sequence[Job], config: WorkerConfig) -> list[Result]:
        return [
            Result(job, "failed" if job.stage == "validate" else "done", "Traceback\n  a line\nit broke")
            for job in jobs
        ]

    monkeypatch.setattr(search, "carry_out", broken)
    said = shell(*TUNE, "--write")
    assert said.code == 1 and said.out.count("FAILED validate seed 100: it broke") == 2
    assert "Traceback" not in said.out + said.err
    assert "lab-digits ga: no record, as some of its settings failed" in said.out
    assert not (shell.folder / "out" / "tune").exists() and (place / "ga.toml").read_text() == TEXT


def test_each_mistake_of_a_search_is_a_sentence() -> None:
    def told(methods: tuple[str, ...] = ("npo",), write: bool = False, **changes: Any) -> list[str]:
        return tune_problems(Asked(**{"task": "tofu", "methods": methods, "seeds": (100,), **changes}), write)

    assert told() == told(sets=("tofu.width=8",)) == told(write=True) == []
    assert told(("npo@per-token",)) == ["tune searches a method's own grid: leave out '@' in npo@per-token."]
    assert told(sets=("npo.lr=1",)) == ["tune searches a method's own grid: leave out --set npo.lr=1."]
    assert told(seeds=(101, 2, 0)) == [
        "--seeds: [0, 2] are reported, so nothing may be chosen on them; tune on others, such as 100,101."
    ]
    assert told(("npo",), task="qa", model="some/model") == []
    [said] = told(("npo",), True, task="qa", model="some/model")
    assert said == "--write: methods take their presets of tofu on qa; leave it out."


def plan_of(*methods: str, tier: str = "lab", task: str = "digits") -> Plan:
    rows = [(), *((Step(name, {}),) for name in methods)]
    return Plan(entries=tuple(PlannedRun(RunSpec(task, {}, tier, "m", row, 100), "run") for row in rows))


def test_a_search_has_every_setting_on_every_seed_setting_by_setting(place: Path) -> None:
    """The oracle's row is no method to be searched, and a method that is named twice is searched once."""
    asked = Asked("digits", ("ga",), seeds=(101, 100))
    [found] = searches_of(plan_of("retrain", "ga", "ga"), asked)
    assert (found.place, found.method, found.seeds) == ("lab-digits", "ga", (101, 100))
    assert [step.params["lr"] for step in found.steps] == [0.0005, 0.002]
    assert {step.params["steps"] for step in found.steps} == {1}, "the box is laid over the preset"
    assert [(job.spec.steps[0].params["lr"], job.spec.seed) for job in found.jobs] == [
        (0.0005, 101),
        (0.0005, 100),
        (0.002, 101),
        (0.002, 100),
    ]
    assert {(job.stage, job.spec.study) for job in found.jobs} == {("validate", "tune")}
    assert found.record(Path("out")) == Path("out/tune/lab-digits-ga.json")
    [real] = searches_of(plan_of("ga", tier="real"), asked)
    assert real.place == "real-digits" and [step.params["lr"] for step in real.steps] == [0.1], "the tier's box"


def test_a_method_without_settings_to_try_is_told_where_they_belong(place: Path) -> None:
    (place / "ga.toml").write_text("")
    settings.read_settings.cache_clear()
    with pytest.raises(UserError, match=r"ga has no settings to try .* as a box of \[lab-digits\] in settings/ga.toml"):
        searches_of(plan_of("ga"), Asked("digits", ("ga",), seeds=(100,)))


def test_the_record_is_of_the_means_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget .1 and .3 beside a level of .2: mean .2 has forgotten. The second setting is the more useful one, but at
    .5 and .5 it has not."""
    monkeypatch.setattr(search, "get_provenance", lambda: {"commit": "here", "dirty": False})
    steps = tuple(Step("ga", {"lr": lr}) for lr in (1.0, 2.0))
    jobs = tuple(
        Job(RunSpec("digits", {}, "lab", "lab", (step,), seed), "validate") for step in steps for seed in (5, 6)
    )
    for job, forget in zip(jobs, (0.1, 0.3, 0.5, 0.5), strict=True):
        lr = job.spec.steps[0].params["lr"]
        row = {"params": {"lr": lr}, "forget": {"qa": forget}, "level": {"qa": 0.2}, "retain": 0.4 * lr, "world": 0.6}
        file = row_file(tmp_path, job.spec)
        file.parent.mkdir(parents=True, exist_ok=True)
        about = {"versions": {}, "seed": job.spec.seed, "seconds": 2.0, "provenance": MADE}
        file.write_text(json.dumps({**row, **about, "fine": -1.0}))
    made = Search("lab-digits", "ga", (5, 6), steps, jobs)
    made.record(tmp_path).write_text("mine")
    said = write_search(made, tmp_path)
    assert [path.read_text() for path in (tmp_path / "tune").glob("*.damaged-*")] == ["mine"]
    record = json.loads(made.record(tmp_path).read_text())
    assert (record["chosen"], record["params"], record["forgotten"]) == (0, {"lr": 1.0}, True)
    assert [each["forget"]["qa"] for each in record["settings"]] == pytest.approx([0.2, 0.5])
    assert record["provenance"]["commits"] == ["abc", "here"]
    assert "utility 0.500 EDGE: lr ->" in said and "NOT FORGOTTEN" not in said and said.endswith("lab-digits-ga.json")


@pytest.mark.parametrize(
    ("here", "rows", "dirty"), [(False, (False, False), False), (True, (False,), True), (None, (False,), True)]
)
def test_a_search_is_clean_only_where_all_that_made_it_is(
    here: bool | None, rows: tuple[bool, ...], dirty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "get_provenance", lambda: {"commit": "z", "dirty": here})
    made = [{**MADE, "dirty": each, "commits": [name]} for each, name in zip(rows, "by", strict=False)]
    found = provenance_of_all(made)
    assert (found["commit"], found["commits"]) == ("z", [*"by"[: len(rows)], "z"])
    assert (found["dirty"], found["device"]) == (dirty, "cpu")
    assert provenance_of_all([{**MADE, "dirty": True}])["dirty"] is True


def test_a_preset_has_what_is_no_default_and_says_where_it_comes_from() -> None:
    params = {**registry.default_params(GradientAscent), "lr": 0.5}
    record = {"method": "ga", "place": "lab-tofu", "params": params, "edges": []}
    preset = chosen_preset(record)
    assert (preset.params, preset.source) == ({"lr": 0.5}, "bench tune, results/tune/lab-tofu-ga.json")
    assert chosen_preset({**record, "edges": ["lr"]}).source.endswith("lab-tofu-ga.json (edge of its grid)")


@pytest.mark.parametrize("wreck", [*WRONG_KINDS, lambda place: place.write_text('{"place": "mine"}')])
def test_what_is_no_record_of_the_search_in_its_place_is_set_aside(
    wreck: Wreck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Search("lab-digits", "ga", (100,), (), ())
    file = own.record(tmp_path)
    file.parent.mkdir(parents=True)
    wreck(file)
    assert not is_record_of(own, file)
    set_aside(file, "record of this search", say_once)
    [kept] = file.parent.iterdir()
    assert f"lab-digits-ga.json is no record of this search: set aside as {kept.name}" in capsys.readouterr().err
    file.write_text('{"place": "lab-digits", "method": "ga"}')
    assert is_record_of(own, file)
