"""Whole commands in real processes: what a run leaves behind, what a second one does, and what failures do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.machine import Machine
from bench.core.record import Record, RunSpec, Score, Step
from bench.core.trackers import Tracker
from bench.lab.build import LabOptions
from bench.records.files import read_responses, write_record
from bench.runs import launch
from bench.runs.jobs import Job, Result
from bench.runs.launch import build_jobs, compare_with_old, record_results, tell_seeds, track_result
from bench.runs.plan import Plan, PlannedRun
from bench.runs.store import Store
from tests.processes import MEASURED, STAGES, TINY, Place, bench, contents, plug_in, result_of, tiny_run, without_torch

ABSOLUTE = re.compile(r"(?<![\w.…/:])/(?:[\w.+@~-]+/)+[\w.+@~-]*")
"""An absolute path of a machine."""
METHODS = """
import os
from dataclasses import dataclass
from bench.api import Method, Unmet

@dataclass(frozen=True)
class Idle(Method):
    summary = "returns the target"
    def unlearn(self, request, ctx): return request.target

@dataclass(frozen=True)
class Lazy(Idle):
    pass

@dataclass(frozen=True)
class Breaks(Idle):
    def unlearn(self, request, ctx):
        raise RuntimeError(f"no weights in {request.target.path}/model.safetensors")

@dataclass(frozen=True)
class Dies(Idle):
    def unlearn(self, request, ctx): os.kill(os.getpid(), 9)

@dataclass(frozen=True)
class Moody(Idle):
    def unlearn(self, request, ctx):
        if os.path.exists("bad-day"):
            raise RuntimeError("not today")
        return request.target

@dataclass(frozen=True)
class Declines(Idle):
    def unlearn(self, request, ctx): raise Unmet("it needs a full moon")

@dataclass(frozen=True)
class Dreams(Idle):
    needs = frozenset({"moon"})
"""
NAMES = {name.lower(): name for name in ("Idle", "Lazy", "Breaks", "Dies", "Moody", "Declines", "Dreams")}


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plug_in(tmp_path_factory.mktemp("plugged"), METHODS, NAMES, "faulty")


def texts(value: Any) -> list[str]:
    """Every text in a piece of JSON, keys too."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def test_a_run_makes_a_record_of_target_oracle_and_method(finished: Place) -> None:
    records = finished.records()
    assert set(records) == {"target", "retrain", "msa"}
    for record in records.values():
        assert record["status"] == "done" and record["reason"] == "" and record["label"] == "muse-books (lab)"
        assert set(record["scores"]) | set(record["absent"]) == set(record["metrics"])
        assert record["lineage"]["oracle_rows"]["in_forget"] == 0 < record["lineage"]["oracle_rows"]["count"]
    assert len({record["lineage"]["target"] for record in records.values()}) == 1
    assert finished.nodes() == sorted([*STAGES, *MEASURED])


def test_a_run_leaves_nothing_half_made(finished: Place) -> None:
    assert [path.name for path in (finished.store / "leases").iterdir()] == [".guard"]
    assert list((finished.store / "partial").iterdir()) == []
    assert [path for path in contents(finished.out) if Path(path).name.startswith(".")] == ["plots/.stamps.json"]


def test_a_record_names_nothing_of_this_machine(finished: Place) -> None:
    import socket

    found = [text for record in finished.records().values() for text in texts(record)]
    assert not [text for text in found if ABSOLUTE.search(text) or text == socket.gethostname()]


def test_the_oracles_row_is_the_first_oracle_and_ideal(finished: Place) -> None:
    record = finished.records()["retrain"]
    assert record["lineage"]["result"] == record["lineage"]["oracles"][0]
    assert record["scores"]["kl_forget"]["value"] == pytest.approx(record["floors"]["kl_forget"], abs=0.01)
    assert record["scores"]["privleak"]["value"] == pytest.approx(0, abs=5)


def test_a_record_keeps_the_estimate_beside_the_fact(finished: Place) -> None:
    cost = finished.records()["msa"]["cost"]
    assert cost["estimate"]["seconds"] >= 0 and cost["estimate"]["memory"] > 700e6
    assert cost["expected_seconds"] >= 0 and cost["seconds"]["method"] > 0 and cost["seconds"]["measure"] > 0
    assert set(cost["stages"]) == {"theta_1", "msa"} and set(cost["scenario_seconds"]) >= {"history", "target"}
    assert cost["tokens_trained"] > 0 and cost["bytes_stored"] > 0 and cost["peak_bytes"] > 50e6


def test_a_record_counts_the_methods_flops(finished: Place) -> None:
    """Training is tokens times the count; msa's sum has three terms without a retain vector. The target did nothing."""
    records = finished.records()
    cost, flops = records["msa"]["cost"], records["msa"]["cost"]["flops"]
    assert flops["training"] == cost["tokens_trained"] * flops["training_per_token"]
    assert flops["arithmetic"] == 2 * 3 * flops["parameters"]
    assert "count FLOPs" not in cost["stages"] | cost["scenario_seconds"]
    assert records["retrain"]["cost"]["flops"]["training"] > 0 and "flops" not in records["target"]["cost"]


def test_the_same_command_again_does_nothing(finished: Place, tmp_path: Path) -> None:
    """Torch is not even imported, in no process; store and records stay as they are, to the second."""
    place = finished.copy(tmp_path / "again")
    before, store = contents(place.out), contents(place.store)
    times = {file: file.stat().st_mtime_ns for file in [*place.files().values(), *place.store.rglob("*")]}
    done = place.run(first=[without_torch(tmp_path)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"\bcached\b", done.stdout)) == 3 and "done in" not in done.stdout
    after = contents(place.out)
    assert {name for name in after if not name.startswith("plots")} == {n for n in before if not n.startswith("plots")}
    assert all(after[name] == before[name] for name in before if not name.endswith(".svg"))
    assert contents(place.store) == store
    assert times == {file: file.stat().st_mtime_ns for file in times}


@pytest.fixture
def closed(finished: Place, tmp_path: Path) -> Iterator[Place]:
    """The finished run over a store on a file system that is mounted read-only."""
    place = finished.copy(tmp_path / "closed")
    for words in (["--bind", place.store, place.store], ["-o", "remount,ro,bind", place.store]):
        if os.geteuid() or subprocess.run(["mount", *map(str, words)], capture_output=True).returncode:
            pytest.skip("mounting a folder read-only needs root and the right to mount")
    yield place
    subprocess.run(["umount", str(place.store)], check=True)


def test_over_a_read_only_store_everything_cached_works_and_what_is_new_is_a_sentence(closed: Place) -> None:
    assert (done := closed.run()).returncode == 0, done.stderr
    assert len(re.findall(r"\bcached\b", done.stdout)) == 3
    store, source = ["--store", str(closed.store)], ["--from", str(closed.out)]
    for words in (
        [*tiny_run(command="plan"), *closed.words],
        ["rescore", *source, *store],
        ["show", "msa", *source, *store],
        ["ls", "runs", *source],
        ["leaderboard", *source, "--to", "page.md"],
        ["doctor", *store],
        ["prune", "--out", str(closed.out), *store],
        [*tiny_run("ga", "plan"), *closed.words],
    ):
        said = bench(words, closed.folder)
        assert said.returncode == 0 and "Traceback" not in said.stderr, (words, said.stdout, said.stderr)
    new = bench([*tiny_run("msa,ga"), *closed.words], closed.folder)
    [line] = [line for line in new.stdout.splitlines() if line.startswith("FAILED")]
    assert new.returncode == 1 and line.startswith("FAILED ga seed 0: Nothing can be written into the store"), (
        new.stdout
    )
    assert len(line.split(". ")) == 1 and "choose another with --store" in line


def test_over_a_read_only_store_records_are_made_of_what_it_has(closed: Place, finished: Place) -> None:
    fresh = Place(closed.folder / "fresh")
    words = ["--store", str(closed.store), "--out", str(fresh.out)]
    said = bench([*tiny_run(command="plan"), *words], closed.folder)
    assert said.returncode == 0 and "(Read-only file system)" in said.stdout, said.stdout + said.stderr
    done = bench([*tiny_run(), *words], closed.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: result_of(record) for name, record in fresh.records().items()} == {
        name: result_of(record) for name, record in finished.records().items()
    }


def test_a_plan_needs_no_records_that_can_be_written(closed: Place) -> None:
    """Be the folder there or not."""
    for out in (closed.store / "models", closed.store):
        said = bench([*tiny_run(command="plan"), "--store", str(closed.store), "--out", str(out)], closed.folder)
        assert said.returncode == 0 and f"NOTE: `run` writes records: --out {out}: nothing can be" in said.stdout, said


def test_a_run_whose_checkpoint_has_gone_is_made_again_and_compared(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    before = place.records()["msa"]
    shutil.rmtree(Store(place.store).path(before["lineage"]["result_node"]))
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"msa seed 0: made again, all {len(before['scores'])} scores as before" in done.stdout
    assert re.findall(r"(\S+): done in", done.stdout) == ["msa"], "nothing else was lost, and nothing else is built"
    assert result_of(place.records()["msa"]) == result_of(before)


def test_scores_that_differ_from_the_old_ones_are_said(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    record = place.records()["msa"]
    record["scores"]["world_accuracy"]["value"] += 0.25
    place.files()["msa"].write_text(json.dumps(record))
    shutil.rmtree(Store(place.store).path(record["lineage"]["result_node"]))
    done = place.run()
    assert done.returncode == 0
    count = len(record["scores"])
    assert f"msa seed 0: made again, 1 of {count} scores DIFFER: world_accuracy" in done.stdout


def test_a_broken_record_is_named_left_out_and_not_overwritten(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    file = place.files()["msa"]
    broken = file.read_bytes()[:1000]
    file.write_bytes(broken)
    done = place.run()
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert file.read_bytes() == broken
    relative = file.relative_to(place.out).as_posix()
    assert f"left out: {relative}:" in done.stdout
    assert f"FAILED msa seed 0: {file.name} is not a readable record" in done.stdout
    page = (place.out / "leaderboard.md").read_text()
    assert f"- `{relative}`: " in page and "| msa " not in page and "| *target*" in page


def test_what_is_in_the_way_of_a_picture_is_said_and_the_scores_are_told(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    [picture, *_] = sorted((place.out / "plots").glob("*.png"))
    shutil.rmtree(place.out / "plots")
    picture.mkdir(parents=True)
    done = place.run()
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert done.returncode == 1 and line.startswith("FAILED report: --out "), done.stdout + done.stderr
    assert f"plots/{picture.name}: a folder is in the way of a file; " in line and "move or delete it" in line
    assert "world_accuracy" in done.stdout and "records: " in done.stdout


def test_a_need_that_is_not_met_is_a_skip_with_its_reason(finished: Place, plugged: Path, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    done = place.run("declines,dreams,idle", first=[plugged])
    assert done.returncode == 0, done.stdout + done.stderr
    records = place.records()
    assert (records["declines"]["status"], records["declines"]["reason"]) == ("skipped", "it needs a full moon")
    assert records["dreams"]["status"] == "skipped"
    assert records["dreams"]["reason"] == "it needs moon, which muse-books cannot give here"
    assert records["dreams"]["scores"] == records["declines"]["scores"] == {}
    assert records["idle"]["scores"] == records["target"]["scores"], "an untouched target scores as the target"


def test_a_failing_run_is_recorded_and_the_others_finish(finished: Place, plugged: Path, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    done = place.run("breaks,dies,lazy", first=[plugged])
    assert done.returncode == 1
    records = place.records()
    assert {method: record["status"] for method, record in records.items()} == {
        "target": "done",
        "retrain": "done",
        "msa": "done",
        "breaks": "failed",
        "dies": "failed",
        "lazy": "done",
    }
    reason = records["breaks"]["reason"]
    assert reason.startswith("Traceback (most recent call last):") and 'faulty.py", line' in reason
    assert re.search(r"RuntimeError: no weights in …/\S*model\.safetensors$", reason.strip())
    assert "code -9" in records["dies"]["reason"]
    assert not [text for record in records.values() for text in texts(record) if ABSOLUTE.search(text)]
    assert re.search(r"FAILED breaks seed 0: RuntimeError: no weights in ", done.stdout)
    assert "FAILED dies seed 0: the worker process ended with code -9" in done.stdout
    assert "| lazy" in (place.out / "leaderboard.md").read_text()


def test_a_run_that_fails_where_an_earlier_one_finished_is_no_run_made_again(
    finished: Place, plugged: Path, tmp_path: Path
) -> None:
    """The earlier record stays, and speaks for its own run alone; what else was lost is made again and compared."""
    place = finished.copy(tmp_path)
    assert place.run("moody", first=[plugged]).returncode == 0
    before = place.records()["moody"]
    shutil.rmtree(Store(place.store).path(before["lineage"]["responses"]))  # the target's as well, which it returns
    (tmp_path / "bad-day").touch()
    done = place.run("moody", first=[plugged])
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    assert "FAILED moody seed 0: RuntimeError: not today" in done.stdout and "leaderboard: " in done.stdout
    assert "moody seed 0: made again" not in done.stdout
    assert f"target seed 0: made again, all {len(before['scores'])} scores as before" in done.stdout
    assert place.records()["moody"] == before


def spec_of(record: Any, folder: Path) -> Path:
    spec = {name: value for name, value in record["spec"].items() if name != "key"}
    file = folder / "spec.json"
    file.write_text(json.dumps({"spec": spec, "paths": {}}))
    return file


def test_exec_makes_the_record_that_run_makes(finished: Place, tmp_path: Path) -> None:
    place, expected = finished.copy(tmp_path), finished.records()["msa"]
    shutil.rmtree(place.out)
    shutil.rmtree(Store(place.store).path(expected["lineage"]["result_node"]))
    done = bench(["exec", str(spec_of(expected, tmp_path)), *place.words], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "msa seed 0: done"
    made = place.records()
    assert set(made) == {"msa"} and result_of(made["msa"]) == result_of(expected)
    assert made["msa"]["spec"] == expected["spec"]
    assert made["msa"]["provenance"]["versions"] == expected["provenance"]["versions"]


def test_a_limit_is_loud(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    shutil.rmtree(place.out)
    done = place.run("target", "--limit", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOTE: --limit 2 cuts every probe" in done.stdout
    record = place.records()["target"]
    assert record["label"] == "muse-books (lab), first 2 rows of each probe"
    assert record["spec"]["limit"] == 2 and record["spec"]["key"] != finished.records()["target"]["spec"]["key"]
    assert record["label"] in (place.out / "leaderboard.md").read_text()
    node = Store(place.store).find(record["lineage"]["responses"])
    assert node is not None
    rows = read_responses(node.path / "responses.json.gz").rows
    assert rows and all(len(by_id) == 2 for by_id in rows.values())


def built(output: str) -> Counter[str]:
    """How often each stage was built, as the lines of a run tell."""
    return Counter(re.findall(r"^\S+ seed 0 (.+): done in", output, flags=re.MULTILINE))


@pytest.mark.slow
def test_two_runs_at_once_build_each_node_once(finished: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    both = [place.start(fresh=False), place.start(fresh=False)]
    outputs = [process.communicate(timeout=900)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(outputs)
    assert built(outputs[0]) + built(outputs[1]) == Counter([*STAGES, *MEASURED])
    assert place.nodes() == sorted([*STAGES, *MEASURED])
    results = {method: result_of(record) for method, record in place.records().items()}
    assert results == {method: result_of(record) for method, record in finished.records().items()}


def words_of_plan(place: Place) -> Sequence[str]:
    return [*tiny_run(command="plan"), *place.words]


def test_plan_says_what_would_happen_and_does_nothing(finished: Place, tmp_path: Path) -> None:
    forbidden = without_torch(tmp_path)
    new = Place(tmp_path / "new")
    new.folder.mkdir()
    done = bench(words_of_plan(new), tmp_path, [forbidden])
    assert done.returncode == 0, done.stderr
    for method in ("target", "retrain", "msa"):
        assert re.search(rf"^{method} +│ 0 +│ run ", done.stdout, flags=re.MULTILINE)
    assert "seed 0: to be made: history" in done.stdout and "GB of memory each" in done.stdout
    assert list(new.folder.iterdir()) == []
    done = bench(words_of_plan(finished), tmp_path, [forbidden])
    assert done.returncode == 0 and len(re.findall(r"│ cached ", done.stdout)) == 3, done.stdout


def test_the_tiny_library_has_every_parameter_of_the_task() -> None:
    from bench.core import registry

    shared = set(LabOptions.__dataclass_fields__) - {"width", "history_passes", "target_passes"} | {"rate"}
    assert set(TINY) == set(registry.fields_of(registry.load_task("muse-books", "lab"))) - shared


# The jobs of a plan, by hand


def entry(method: str, seed: int, status: str = "run", **fields: Any) -> PlannedRun:
    steps = () if method == "target" else tuple(Step(name, {}) for name in method.split("+"))
    return PlannedRun(RunSpec("tofu", {}, "lab", "lab", steps, seed), status, **fields)


def test_each_seed_is_finished_before_the_next_its_stages_first_and_what_all_wait_for_before_the_methods() -> None:
    """The history is part of the target's stage; a cached or skipped run makes no job, and needs no stage."""
    entries = (
        entry("target", 3),
        entry("msa", 3, seconds=1.26, disk=8),
        entry("msa", 0),
        entry("npo+repair", 0),
        entry("retrain", 0),
        entry("ga", 5, "cached"),
        entry("ga", 6, "skipped"),
    )
    jobs = build_jobs(Plan({"history": 9.0, "target": 1.0, "oracle-0": 1.0}, entries=entries, memory=70))
    assert [job.name for job in jobs] == [
        "stage-target seed 0",
        "stage-oracle-0 seed 0",
        "retrain seed 0",
        "msa seed 0",
        "npo+repair seed 0",
        "stage-target seed 3",
        "stage-oracle-0 seed 3",
        "target seed 3",
        "msa seed 3",
    ]
    stages = [job for job in jobs if job.stage]
    assert [job.stage for job in stages] == ["target", "oracle-0"] * 2
    firsts = [entries[2].spec, entries[0].spec]
    assert [job.spec for job in stages] == [firsts[0], firsts[0], firsts[1], firsts[1]], (
        "its seed's first run to be made"
    )
    assert jobs[-1] == Job(entries[1].spec, estimate={"seconds": 1.3, "memory": 70, "disk": 8})
    assert [job.estimate for job in stages] == [{"seconds": 10.0, "memory": 70}] * 4, "with the history it may train"


def test_the_table_is_shown_each_time_that_a_seed_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all complete seeds, cached ones among them; the last table comes with the report."""
    entries = [entry("msa", 0), entry("npo", 0), entry("msa", 1), entry("msa", 2), entry("npo", 1, "cached")]
    shown: list[list[str]] = []
    monkeypatch.setattr(
        launch, "print_table", lambda plan, out: shown.append([f"{e.spec.method} {e.spec.seed}" for e in plan.entries])
    )
    ended = tell_seeds(Plan({}, entries=tuple(entries)))
    for each, stage in ((0, "target"), (1, ""), (2, ""), (3, "target"), (0, ""), (3, "")):
        ended(Result(Job(entries[each].spec, stage), "done"))
    assert shown == [["msa 1", "npo 1"], ["msa 0", "npo 0", "msa 1", "npo 1"]]


def test_nothing_to_do_makes_no_job() -> None:
    cached = tuple(entry(method, 0, "cached") for method in ("target", "msa"))
    assert build_jobs(Plan({"target": 1.0}, entries=cached)) == []
    assert [job.name for job in build_jobs(Plan({}, entries=(*cached, entry("ga", 0))))] == ["ga seed 0"]


@pytest.mark.parametrize("status", ["done", "skipped", "failed"])
@pytest.mark.parametrize("kept", ["done", "skipped", "failed"])
def test_a_job_is_followed_to_its_own_record_and_what_is_lost_meanwhile_ends_no_command(
    status: str, kept: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runs' responses have gone by the time that they are read: what is left is shown all the same."""
    shown: list[Record] = []
    over: list[bool] = []

    class Spy(Tracker):
        def record(self, record: Record, said: Any, curves: Any) -> None:
            assert said == {} == curves
            shown.append(record)

        def end(self, spec: RunSpec, stage: str, failed: bool) -> None:
            over.append(failed)

    runs = [entry("msa", seed) for seed in (1, 0)]
    old = [Record(each.spec, kept, lineage={"responses": "0" * 32}, cost={"nodes": []}) for each in runs]
    for each in old:
        write_record(each, tmp_path / "out")
    plan = Plan(
        entries=tuple(replace(each, old=was) for each, was in zip(runs, old, strict=True)),
        machine=Machine(tmp_path / "out", tmp_path / "store"),
    )
    results = [Result(Job(each.spec), status, "a reason") for each in runs]
    for result in results:
        track_result(result, plan.machine, Spy(tmp_path))
    assert shown == (old if status == kept else [])
    assert over == ([] if status == kept else [status == "failed"] * 2)
    said = record_results(plan, results)
    assert ("made again" in capsys.readouterr().out) is (status == kept == "done")
    expected = ["msa seed 1: a reason", "msa seed 0: a reason"] if status == "failed" else []
    assert [line[: len(start)] for line, start in zip(said, expected, strict=True)] == expected


def test_a_score_that_has_gone_or_come_differs_from_the_old_record() -> None:
    spec = entry("msa", 0).spec
    old = Record(spec, "done", scores={"a": Score(1.0, 2), "b": Score(2.0, 2)})
    new = Record(spec, "done", scores={"a": Score(1.0, 2), "b": Score(2.0, 3), "c": Score(0.0, 1)})
    made = PlannedRun(spec, "run", old=old)
    assert compare_with_old(made, old) == "msa seed 0: made again, all 2 scores as before"
    assert compare_with_old(made, new) == "msa seed 0: made again, 2 of 3 scores DIFFER: b, c"
