from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.core.files import this_process_space
from bench.core.machine import Machine
from bench.core.record import Record, RunSpec
from bench.runs import executor, leases
from bench.runs.executor import MOST_SECONDS, RETRY_SECONDS, Pool, Worker, write_failed
from bench.runs.executors import follow
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.progress import event_line
from bench.runs.setting import Paths
from bench.runs.store import Store
from tests.processes import Place, environment, result_of
from tests.stores import ended, python


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
    assert busy["status"] == "busy" and busy["node"] == key and "another host" in busy["message"]
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
    done, machine = file.read_text(), Machine(place.out, place.store)
    write_failed(spec, "no luck", machine)
    assert file.read_text() == done, "a run that once finished keeps its scores"
    file.unlink()
    for reason in ("no luck", "again none"):
        write_failed(spec, reason, machine)
        assert place.records()["msa"]["status"] == "failed" and place.records()["msa"]["reason"] == reason
    file.write_text("my notes")
    write_failed(spec, "no luck", machine)
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


def test_the_first_job_that_nobody_is_busy_with_is_next_and_a_busy_one_rests_ever_longer(
    finished: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its place in the line, so that the first seed stays the first one."""
    clock = [100.0]
    monkeypatch.setattr(executor.time, "monotonic", lambda: clock[0])
    pool = Pool(config(finished), [].append)
    pool.line = [executor.Place(number, Job(spec_of(finished), name)) for number, name in enumerate("abc")]
    first = pool.next_place()
    assert first is not None and first.job.stage == "a"
    first.rest()
    pool.line.insert(0, first)
    second = pool.next_place()
    assert second is not None and second.job.stage == "b", "a rests"
    clock[0] += RETRY_SECONDS
    assert pool.next_place() is first, "before c"
    rests = []
    for _ in range(8):
        first.rest()
        rests.append(first.until - clock[0])
    assert rests == sorted(rests) and rests[0] == 2 * RETRY_SECONDS and rests[-1] == MOST_SECONDS


def test_no_jobs_start_no_worker(tmp_path: Path) -> None:
    pool = Pool(config(Place(tmp_path)), lambda event: None)
    assert follow(pool, []) == [] and pool.processes == [] and list(tmp_path.iterdir()) == []


def test_an_error_of_ours_ends_the_pool(finished: Place, tmp_path: Path) -> None:
    """The error comes out, and no thread is left waiting."""
    place = finished.copy(tmp_path)

    def report(event: object) -> None:
        raise ZeroDivisionError

    shutil.rmtree(Store(place.store).path(place.records()["msa"]["lineage"]["responses"]))
    with pytest.raises(ZeroDivisionError):
        follow(Pool(config(place), report), [Job(spec_of(finished))])


def test_a_folder_of_records_that_cannot_be_made_fails_each_run_with_a_sentence(
    finished: Place, tmp_path: Path
) -> None:
    """Neither the log nor the record can be written: the next job is done all the same."""
    place = finished.copy(tmp_path)
    spec = spec_of(finished)
    shutil.rmtree(place.out)
    place.out.write_text("a file")
    alone = WorkerConfig.of(Machine(place.out, place.store, jobs=1), Paths())
    results = follow(Pool(alone, lambda event: None), [Job(spec), Job(spec, "oracle-1")])
    assert [result.status for result in results] == ["failed", "done"]
    [line] = results[0].message.splitlines()
    assert (
        line.startswith(f"--out {place.out}: ")
        and "a file is in the way of a folder; what was finished is kept" in line
    )
    assert place.out.read_text() == "a file"


def test_a_record_that_cannot_be_written_fails_its_run_alone(
    finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = finished.copy(tmp_path)
    specs = [spec_of(finished, method) for method in place.records()]
    for file in place.files().values():
        file.unlink()
    write = executor.write_record
    done = []

    def refuse(record: Record, out: Path) -> Path:
        if record.spec == specs[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out / record.name))
        return write(record, out)

    monkeypatch.setattr(executor, "write_record", refuse)
    for spec in specs:
        done.append(worker(place, []).do(Job(spec)))
    assert [each["status"] for each in done] == ["failed", *["done"] * (len(specs) - 1)]
    assert done[0]["message"].startswith(f"--out {place.out}: lab/") and "the disk is full" in done[0]["message"]
    assert len(done[0]["message"].splitlines()) == 1 and len(place.records()) == len(specs) - 1


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "x.safetensors"),
            "x.safetensors: the file system is read-only;",
        ),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            "the disk is full; what was finished is kept",
        ),
        (MemoryError(), "Memory has run out; what was finished is kept: use fewer --jobs"),
        (
            OSError("Can't load the tokenizer for 'x'.\nIf you were trying to"),
            "Can't load the tokenizer for 'x'; what was",
        ),
    ],
)
def test_what_the_machine_refuses_inside_a_run_is_a_sentence_in_its_record(
    error: Exception, sentence: str, finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = finished.copy(tmp_path)
    spec = spec_of(finished)
    place.files()["msa"].unlink()

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("bench.runs.runner.execute", refuse)
    failed = worker(place, []).do(Job(spec))
    assert failed["status"] == "failed" and sentence in failed["message"] and "Traceback" not in failed["message"]
    record = place.records()["msa"]
    assert record["status"] == "failed" and sentence in record["reason"] and str(tmp_path) not in record["reason"]


def test_any_error_of_a_worker_without_memory_names_the_remedy(
    finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself gives odd errors then, such as "'frame' object is not callable"."""
    place, spec = finished.copy(tmp_path), spec_of(finished)
    monkeypatch.setattr("bench.runs.runner.execute", lambda *_: {}["a fault of ours"])
    for lacking in (False, True):
        monkeypatch.setattr(executor, "lacks_memory", lambda lacking=lacking: lacking)
        last = worker(place, []).do(Job(spec))["message"].splitlines()[-1]
        assert last.startswith("KeyError: 'a fault of ours'") and ("use fewer --jobs" in last) == lacking


def test_neither_a_log_nor_a_record_has_secrets_hosts_or_folders(
    finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = finished.copy(tmp_path)
    spec = spec_of(finished)
    place.files()["msa"].unlink()
    said = f"token hf_AbCdEfGhIjKl at https://me:pass@{socket.gethostname()}/x in {place.store}/y and {Path.home()}/z"
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nprint({said!r}, file=sys.stderr)\nsys.exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}")
    [result] = follow(Pool(config(place), lambda event: None), [Job(spec)])
    log = (place.out / "logs" / "worker-0.log").read_text()
    assert "token … at https://…@" in log and "in …/y and …/z" in log
    write_failed(spec, said, Machine(place.out, place.store), config(place).folders())
    for text in (log, place.records()["msa"]["reason"], result.message):
        for secret in ("hf_AbC", "pass", str(place.store), str(Path.home()) + "/"):
            assert secret not in text


FIRST = """
import os, sys
from bench.runs import executor
def start():
    print("torch" in sys.modules, flush=True)
    os._exit(0)
executor.start_heart = start
executor.serve_jobs(None)
"""


def test_a_worker_starts_its_heart_before_anything_else() -> None:
    """As long as there is memory for a thread."""
    assert ended([python(FIRST)]) == ["False\n"]


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_ended_gives_back_what_its_stopped_worker_held(way: int, tmp_path: Path) -> None:
    """The worker can't do so itself: it is killed where it stands."""
    place = Place(tmp_path)
    process = place.start()
    held: list[Path] = []
    until = time.monotonic() + 120
    while not held and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
        for worker in psutil.Process(process.pid).children():
            if list((place.store / "partial").glob("*")) if (place.store / "partial").is_dir() else ():
                worker.suspend()
                held = list((place.store / "leases").glob("*.json"))
    assert held, "the worker was stopped at its work"
    process.send_signal(way)
    process.communicate(timeout=60)
    assert process.returncode == 128 + way
    assert os.listdir(place.store / "leases") == [".guard"] and os.listdir(place.store / "partial") == []
