from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.core.machine import Machine
from bench.core.record import Record, RunSpec
from bench.runs import leases
from bench.runs.executor import Pool, Worker, hide_paths, write_failed
from bench.runs.executors import follow
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.leases import this_process_space
from bench.runs.progress import event_line
from bench.runs.setting import Paths
from bench.runs.store import Store
from tests.processes import Place, environment, result_of


def config(place: Place) -> WorkerConfig:
    return WorkerConfig.of(Machine(place.out, place.store), Paths())


def worker(place: Place, events: list[Any]) -> Worker:
    return Worker(config(place), events.append)


def spec_of(place: Place, method: str = "msa") -> RunSpec:
    return Record.from_json(place.records()[method]).spec


def lease(store: Path, key: str, owner: Any) -> Path:
    """A lease file of somebody else."""
    file = store / "leases" / f"{key}.json"
    file.write_text(json.dumps(owner))
    return file


def test_a_worker_makes_a_record_from_what_the_store_has(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    for file in place.files().values():
        file.unlink()
    events: list[Any] = []
    assert worker(place, events).do(Job(spec_of(finished))) == {"status": "done"}
    assert events == [], "nothing had to be built"
    assert result_of(place.records()["msa"]) == result_of(finished.records()["msa"])


def test_a_worker_says_busy_and_does_not_wait(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    key = place.records()["msa"]["lineage"]["result_node"]
    place.files()["msa"].unlink()
    spec = spec_of(finished)
    shutil.rmtree(Store(place.store).path(key))
    held = lease(place.store, key, {"host": "elsewhere", "pid": 1, "started": 1, "nonce": "x"})
    busy = worker(place, []).do(Job(spec))
    assert busy["status"] == "busy" and busy["node"] == key and str(held) in busy["message"]
    assert "msa" not in place.records()
    held.unlink()
    lease(
        place.store, key, {"host": this_process_space(), "pid": 1, "started": -1, "nonce": "x"}
    )  # of a process that has gone
    assert worker(place, []).do(Job(spec)) == {"status": "done"}


def test_a_pool_says_once_who_its_jobs_wait_for(finished: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs wait for one node: one line, with the sentence that the worker sent."""
    told: list[Any] = []
    pool = Pool(config(finished), told.append)
    monkeypatch.setattr(leases, "PATIENCE_SECONDS", 0.0)
    busy = {"status": "busy", "node": "x", "stage": "target", "message": "process 7 on this machine is at it"}
    for stage in ("target", "oracle-0"):
        pool.tell_waiting(Job(spec_of(finished), stage), busy)
    [event] = told
    line = event_line(event)
    assert line.endswith("seed 0 target: note - waited 0 s: process 7 on this machine is at it."), line


def test_what_is_damaged_is_said_to_the_user_and_made_again(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    key = place.records()["msa"]["lineage"]["result_node"]
    place.files()["msa"].unlink()
    file = Store(place.store).path(key) / "node.json"
    file.write_text(file.read_text().replace("bytes", "bites"))
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if "was damaged" in line]
    [kept] = (place.store / "damaged").iterdir()
    assert line.startswith("msa seed 0 store: ") and key in line and f"damaged/{kept.name}" in line
    assert result_of(place.records()["msa"]) == result_of(finished.records()["msa"])


def test_a_stage_that_is_there_is_done_and_one_that_fails_leaves_no_record(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    spec = spec_of(finished)
    assert worker(place, []).do(Job(spec, "oracle-1")) == {"status": "done"}
    before = place.records()
    failed = worker(place, []).do(Job(spec, "oracle-9"))
    assert failed["status"] == "failed" and "IndexError" in failed["message"]
    assert place.records() == before


def test_a_task_that_has_gone_is_a_sentence_in_the_record(finished: Place, tmp_path: Path) -> None:
    """As when a plug-in was taken away between planning and running."""
    spec = RunSpec("vanished", {}, "lab", "lab", (), 0)
    failed = worker(Place(tmp_path), []).do(Job(spec))
    assert failed["status"] == "failed" and failed["message"].startswith("Unknown task 'vanished'.")
    [file] = (tmp_path / "out" / "lab" / "vanished" / "lab").iterdir()
    record = json.loads(file.read_text())
    assert record["status"] == "failed" and record["reason"] == failed["message"]


def test_a_file_in_the_way_is_told_before_the_work_and_stays(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    spec = spec_of(finished)
    shutil.rmtree(Store(place.store).path(place.records()["msa"]["lineage"]["result_node"]))
    file = place.files()["msa"]
    file.write_text("my notes")
    events: list[Any] = []
    failed = worker(place, events).do(Job(spec))
    assert failed["status"] == "failed" and "is not a readable record" in failed["message"]
    assert file.read_text() == "my notes" and events == []


def test_a_failed_record_takes_the_place_of_an_unfinished_record_only(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    spec, file = spec_of(finished), place.files()["msa"]
    done = file.read_text()
    write_failed(spec, "no luck", place.out)
    assert file.read_text() == done, "a run that once finished keeps its scores"
    file.unlink()
    for reason in ("no luck", "again none"):
        write_failed(spec, reason, place.out)
        assert place.records()["msa"]["status"] == "failed" and place.records()["msa"]["reason"] == reason
    file.write_text("my notes")
    write_failed(spec, "no luck", place.out)
    assert file.read_text() == "my notes"


def test_a_worker_ends_when_nobody_asks_any_more(tmp_path: Path) -> None:
    """Its standard input closes when its parent is gone, however that came about."""
    given = config(Place(tmp_path)).to_json()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "exec", "--worker", json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
    )
    assert process.poll() is None and process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stdout is not None and process.stdout.read() == b""
    process.stdout.close()


def test_a_worker_that_cannot_start_fails_its_jobs(
    finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job hangs, the log is named, and every run has a failed record."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    place, spec = Place(tmp_path), spec_of(finished)
    results = follow(Pool(config(place), lambda event: None), [Job(spec, "target"), Job(spec)])
    assert [result.status for result in results] == ["failed"] * 2
    [reason] = {result.message for result in results if not result.job.stage}
    assert reason.startswith("the worker process ended with code 1 ") and "see logs/worker-" in reason
    assert place.records()["msa"]["status"] == "failed" and place.records()["msa"]["reason"] == reason


def test_no_jobs_start_no_worker(tmp_path: Path) -> None:
    pool = Pool(config(Place(tmp_path)), lambda event: None)
    assert follow(pool, []) == [] and pool.processes == [] and list(tmp_path.iterdir()) == []


def test_an_error_of_ours_ends_the_pool(finished: Place, tmp_path: Path) -> None:
    """The log folder can't be made: the error comes out, and no thread is left waiting."""
    place = Place(tmp_path)
    place.out.write_text("a file")
    with pytest.raises(NotADirectoryError):
        follow(Pool(config(place), lambda event: None), [Job(spec_of(finished))])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('File "/usr/lib/python3.11/json/decoder.py", line 5', 'File "…/decoder.py", line 5'),
        ("no such file: '/data/me/model.safetensors'", "no such file: '…/model.safetensors'"),
        ("[Errno 2] /scratch/a b/c.json", "[Errno 2] …/c.json"),
        ("see https://example.org/a/b/c for more", "see https://example.org/a/b/c for more"),
        ("muse-books/lab and/or 1/2 of a/b/c", "muse-books/lab and/or 1/2 of a/b/c"),
        ("3 / 4", "3 / 4"),
    ],
)
def test_paths_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert hide_paths(text, ["/scratch/a b"]) == shown


def test_the_folders_of_this_process_are_hidden() -> None:
    text = f"{Path.cwd()}/x.py {Path.home()}/y.py {sys.prefix}/z.py"
    assert str(Path.cwd()) not in hide_paths(text) and str(Path.home()) not in hide_paths(text)
    assert hide_paths(f"{Path.cwd()}/x.py") == "…/x.py"
