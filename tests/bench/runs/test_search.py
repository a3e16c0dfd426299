"""A search: which settings on which seeds, what is written of it, and the preset that it becomes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core import registry, settings
from bench.core.boxes import SOBOL_SEED, Scale, faces_of
from bench.core.errors import UserError, say_once
from bench.core.files import read_toml, set_aside
from bench.core.record import RunSpec, Step
from bench.runs import search
from bench.runs.asked import Asked
from bench.runs.facts import source_of
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
from bench.runs.selection import expected_best, search_box, steps_for
from bench.runs.validate import row_file, row_versions
from methods.ga import GradientAscent
from tests.shell import Shell
from tests.stores import WRONG_KINDS, Wreck

OWN = Path(registry.__file__).parents[2] / "methods" / "settings"
"""The settings files of the checkout, which no test may touch."""
TEXT = """
[lab-digits]
params = { steps = 7 }
source = "by hand"
box = { lr = { log = [0.0005, 0.002] }, steps = 1 }

[real]
box = { lr = { log = [0.1, 0.2] } }

[sam]
params = { sharpness = 0.01 }
source = "a paper"

[sure]
params = { lr = 0.5 }
source = "a variant that leaves nothing to search"
"""
TUNE = (
    *("tune", "--methods", "ga,ga@sam", "--task", "digits", "--seeds", "100,101", "--jobs", "1", "--settings", "8"),
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


@pytest.mark.slow(40)
def test_what_a_search_chose_becomes_the_preset_of_the_place_when_asked(place: Path, shell: Shell) -> None:
    """Eight settings on the first seed and the best two on the other, of a method and of a variant. The records are the
    same with and without --write; the box and the other tables stay.
    """
    said = shell(*TUNE)
    assert said.code == 0, said.out + said.err
    assert (
        "20 runs (2 searches of 8 settings on seed 100, the best quarter on 101 as well), 20 to do, about" in said.out
    )
    assert "CPU hours" in said.out and "the preset [" not in said.out and (place / "ga.toml").read_text() == TEXT
    folder = shell.folder / "out" / "tune"
    records = [json.loads((folder / f"lab-digits-{name}.json").read_text()) for name in ("ga", "ga@sam")]
    before = read_toml_text(TEXT)
    for record, variant in zip(records, ("", "sam"), strict=True):
        rates = [each["params"]["lr"] for each in record["settings"]]
        assert len(set(rates)) == 8 and all(0.0005 <= lr <= 0.002 for lr in rates)
        assert (record["variant"], record["seeds"], record["budget"]) == (variant, [100, 101], 8)
        assert {each["params"].get("sharpness", 0.0) for each in record["settings"]} == {0.01 if variant else 0.0}
        assert record["box"] == before["lab-digits"]["box"] | ({"sharpness": 0.01} if variant else {})
        first = sorted((each["by_seed"][0]["tokens"], i) for i, each in enumerate(record["settings"]))
        order = sorted(first, key=lambda one: record["settings"][one[1]]["j_first"])
        went_on = [i for i, each in enumerate(record["settings"]) if each["stage"] == 2]
        assert went_on == sorted(i for _, i in order[:2]) and record["chosen"] in went_on
        assert record["params"] == record["settings"][record["chosen"]]["params"]
        assert record["expected_best"][0] == pytest.approx(sum(each["j_first"] for each in record["settings"]) / 8)

    said = shell(*TUNE, "--write")
    assert said.code == 0, said.out + said.err
    assert "as well), 0 to do\n" in said.out, "what is there isn't run again"
    tables = read_toml(place / "ga.toml")
    for record, table, name in zip(records, ("lab-digits", "lab-digits-sam"), ("ga", "ga@sam"), strict=True):
        remark = f" (at a face of its box: {', '.join(record['faces'])})" if record["faces"] else ""
        source = f"bench tune, results/tune/lab-digits-{name}.json{remark}"
        assert tables[table]["source"] == source
        assert f"lab-digits {name}: the preset [{table}] now, in settings/ga.toml" in said.out
        preset = registry.preset_params(GradientAscent, "lab-digits", record["variant"])
        assert preset and registry.said_params(GradientAscent, preset) == record["params"], "runs take it at once"
        run = RunSpec("digits", {}, "lab", "lab", (Step("ga", record["params"]),), 0)
        assert source_of(run.steps[0], run) == f"{table}: {source}"
    assert tables["lab-digits"]["box"] == before["lab-digits"]["box"] and tables["real"] == before["real"]
    assert tables["lab-digits-sam"].keys() == {"params", "source"}
    box = search_box(GradientAscent, "lab-digits")
    assert search_box(GradientAscent, "lab-digits", "sam") == box | {"sharpness": 0.01}, "a choice holds nothing"


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
    assert said.code == 1 and said.out.count("FAILED validate seed 100: it broke") == 16
    assert "seed 101:" not in said.out, "which settings go on is not known"
    assert "Traceback" not in said.out + said.err
    assert "lab-digits ga: no record, as some of its settings failed" in said.out
    assert "lab-digits ga@sam: no record, as some of its settings failed" in said.out
    assert not (shell.folder / "out" / "tune").exists() and (place / "ga.toml").read_text() == TEXT


def test_each_mistake_of_a_search_is_a_sentence() -> None:
    def told(methods: tuple[str, ...] = ("npo",), write: bool = False, count: int = 16, **changes: Any) -> list[str]:
        return tune_problems(Asked(**{"task": "tofu", "methods": methods, "seeds": (100,), **changes}), count, write)

    assert told() == told(sets=("tofu.width=8",)) == told(("npo@small-retain",), write=True) == told(count=1) == []
    assert told(sets=("npo.lr=1",)) == ["tune chooses a method's settings itself: leave out --set npo.lr=1."]
    for count in (-2, 0, 3, 12):
        assert told(count=count) == [
            f"--settings {count}: a Sobol sequence is even at powers of two alone, such as 8, 16 or 32."
        ]
    assert told(seeds=(101, 5, 0)) == [
        "--seeds: [0, 5] are reported, so nothing may be chosen on them; tune on others, such as 100,101."
    ]
    assert told(seeds=(6, 100)) == []
    assert told(("npo",), task="qa", model="some/model") == []
    [said] = told(("npo",), True, task="qa", model="some/model")
    assert said == "--write: methods take their presets of tofu on qa; leave it out."


def plan_of(*methods: str, tier: str = "lab", task: str = "digits", status: str = "run") -> Plan:
    rows = [(), *((Step(name, {}),) for name in methods)]
    return Plan(
        entries=tuple(
            PlannedRun(RunSpec(task, {}, tier, "m", row, 100), status if row else "run", "it needs what isn't there")
            for row in rows
        )
    )


def test_a_search_has_every_setting_on_the_first_seed_and_the_best_on_the_others(place: Path) -> None:
    """The oracle's row is no method to be searched, and a method that is named twice is searched once."""
    asked = Asked("digits", ("ga", "ga", "ga@sam"), seeds=(101, 100))
    found, sam = searches_of(plan_of("retrain", "ga"), asked, 4)
    assert (found.place, found.name, sam.name, found.seeds) == ("lab-digits", "ga", "ga@sam", (101, 100))
    assert len({step.params["lr"] for step in found.steps}) == 4
    assert {step.params["steps"] for step in found.steps} == {1}, "the box is laid over the defaults"
    assert [(job.spec.steps[0], job.spec.seed) for job in found.first] == [(step, 101) for step in found.steps]
    assert [(job.spec.steps[0], job.spec.seed) for job in found.later(2)] == [(found.steps[2], 100)]
    assert {(job.stage, job.spec.study) for job in [*found.first, *found.later(0)]} == {("validate", "tune")}
    assert found.record(Path("out")) == Path("out/tune/lab-digits-ga.json")
    assert sam.record(Path("out")) == Path("out/tune/lab-digits-ga@sam.json")
    [real] = searches_of(plan_of("ga", tier="real"), replace(asked, methods=("ga",)), 4)
    assert real.place == "real-digits" and all(0.1 <= step.params["lr"] <= 0.2 for step in real.steps), "the tier's box"


def test_a_method_without_a_box_is_told_where_it_belongs(place: Path) -> None:
    with pytest.raises(
        UserError, match=r"ga@sure has nothing to search .* a box of \[lab-digits-sure\] in settings/ga.toml"
    ):
        searches_of(plan_of("ga"), Asked("digits", ("ga@sure",), seeds=(100,)))
    (place / "ga.toml").write_text("")
    settings.read_settings.cache_clear()
    with pytest.raises(UserError, match=r"ga has nothing to search .* a box of \[lab-digits\] in settings/ga.toml"):
        searches_of(plan_of("ga"), Asked("digits", ("ga",), seeds=(100,)))


def test_all_are_the_methods_and_variants_that_have_something_to_search(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GradientAscent, "variants", ("sam", "sure"))
    asked = Asked("digits", ("all",), seeds=(100,))
    names = [search.name for search in searches_of(plan_of("ga"), asked, 2)]
    assert {"msa", "ga", "ga@sam", "npo", "npo@small-retain"} <= set(names)
    assert not {"ga@sure", "retrain"} & set(names) and len(set(names)) == len(names)
    assert "ga@sure is left out: it has nothing to search for lab-digits." in capsys.readouterr().out
    left = [search.method for search in searches_of(plan_of("ga", status="skipped"), asked, 2)]
    assert "ga" not in left and "npo" in left
    assert "ga is left out: it needs what isn't there." in capsys.readouterr().out


def write_row(folder: Path, job: Job, forget: float, tokens: int = 10) -> None:
    """A row by today's versions, beside a level of .2; everything is kept."""
    step = job.spec.steps[0]
    row = {"params": dict(step.params), "versions": row_versions(job.spec), "seed": job.spec.seed, "seconds": 2.0}
    known = {"level": {"qa": 0.2}, "target": {"retain": 1.0, "world": 1.0}, "provenance": MADE}
    file = row_file(folder, job.spec)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps({**row, **known, "forget": {"qa": forget}, "retain": 1.0, "world": 1.0, "tokens": tokens})
    )


def made_search() -> Search:
    """Eight settings on three seeds."""
    box = {"lr": Scale("log", (1e-4, 1e-2)), "steps": 5}
    base = RunSpec("digits", {}, "lab", "lab", (), 5)
    return Search(base, "ga", "", (5, 6, 7), box, tuple(steps_for("ga", box, 8)))


def test_the_second_stage_is_the_best_quarter_and_begins_when_the_first_is_complete(tmp_path: Path) -> None:
    """J .7, .6, ... 0 by falling forget scores: the last two of eight go on, to two more seeds."""
    made = made_search()
    for i, job in enumerate(made.first):
        assert made.best(tmp_path) == made.second(tmp_path) == [] and not made.is_done(tmp_path)
        write_row(tmp_path, job, 0.9 - i / 10)
    assert made.best(tmp_path) == [7, 6]
    assert [(job.spec.steps[0], job.spec.seed) for job in made.second(tmp_path)] == [
        (made.steps[i], seed) for i in (7, 6) for seed in (6, 7)
    ]
    for job in made.second(tmp_path):
        assert not made.is_done(tmp_path)
        write_row(tmp_path, job, 0.2)
    assert made.is_done(tmp_path)


def test_the_record_is_of_the_means_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last setting was best on the first seed (J 0) and is at .4 on the others: .8 / 3. The one before it is at .1
    everywhere.
    """
    monkeypatch.setattr(search, "get_provenance", lambda: {"commit": "here", "dirty": False})
    made = made_search()
    for i, job in enumerate(made.first):
        write_row(tmp_path, job, 0.9 - i / 10)
    for job in made.later(7):
        write_row(tmp_path, job, 0.6)
    for job in made.later(6):
        write_row(tmp_path, job, 0.3, tokens=16)
    made.record(tmp_path).write_text("mine")
    said = write_search(made, tmp_path)
    assert [path.read_text() for path in (tmp_path / "tune").glob("*.damaged-*")] == ["mine"]
    text = made.record(tmp_path).read_text()
    record = json.loads(text)
    assert [json.loads(line.rstrip(",")) for line in text.splitlines()[1:-1]] == record["settings"][:-1], "one a line"
    assert (record["chosen"], record["params"]) == (6, dict(made.steps[6].params))
    assert [each["stage"] for each in record["settings"]] == [1] * 6 + [2, 2]
    assert [record["settings"][i]["j"] for i in (0, 6, 7)] == pytest.approx([0.7, 0.1, 0.8 / 3])
    assert record["settings"][6]["tokens"] == pytest.approx(14) and len(record["settings"][6]["by_seed"]) == 3
    assert record["expected_best"] == pytest.approx(expected_best([0.7 - i / 10 for i in range(8)]))
    assert record["sobol_seed"] == SOBOL_SEED and "version 3" in record["rule"]
    assert record["box"] == {"lr": {"log": [1e-4, 1e-2]}, "steps": 5}
    assert record["faces"] == faces_of(made.box, record["params"])
    assert record["provenance"]["commits"] == ["abc", "here"]
    assert "J 0.100 (f 0.300, level 0.200, u 1.000, target's 1.000)" in said and said.endswith("lab-digits-ga.json")
    row_file(tmp_path, made.later(7)[0].spec).unlink()
    with pytest.raises(
        UserError, match="Rows of the search of ga have gone or are damaged: run the same command again."
    ):
        write_search(made, tmp_path)


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
    record = {"method": "ga", "variant": "", "place": "lab-tofu", "params": params, "box": {"steps": 3}, "faces": []}
    preset = chosen_preset(record)
    assert (preset.params, preset.source) == ({"lr": 0.5}, "bench tune, results/tune/lab-tofu-ga.json")
    source = chosen_preset({**record, "faces": ["lr", "steps"]}).source
    assert source.endswith("lab-tofu-ga.json (at a face of its box: lr, steps)")


def test_a_variants_preset_holds_against_the_preset_of_its_place(place: Path) -> None:
    """GA's default of 20 steps was searched, and has to be said: the place's own preset is 7."""
    params = {**registry.default_params(GradientAscent), "sharpness": 0.01}
    record = {"method": "ga", "variant": "sam", "place": "lab-digits", "params": params, "faces": []}
    preset = chosen_preset({**record, "box": {"lr": {"log": [1e-4, 1e-2]}, "sharpness": 0.01}})
    assert preset.params == {"steps": 20, "lr": params["lr"], "sharpness": 0.01}
    assert preset.source == "bench tune, results/tune/lab-digits-ga@sam.json"


@pytest.mark.parametrize("wreck", [*WRONG_KINDS, lambda place: place.write_text('{"place": "mine"}')])
def test_what_is_no_record_of_the_search_in_its_place_is_set_aside(
    wreck: Wreck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Search(RunSpec("digits", {}, "lab", "lab", (), 0), "ga", "", (100,), {}, ())
    file = own.record(tmp_path)
    file.parent.mkdir(parents=True)
    wreck(file)
    assert not is_record_of(own, file)
    set_aside(file, "record of this search", say_once)
    [kept] = file.parent.iterdir()
    assert f"lab-digits-ga.json is no record of this search: set aside as {kept.name}" in capsys.readouterr().err
    file.write_text('{"place": "lab-digits", "method": "ga"}')
    assert is_record_of(own, file) and not is_record_of(replace(own, variant="sam"), file)
