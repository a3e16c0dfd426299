from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.machine import Machine
from bench.core.record import RunSpec, Step
from bench.runs.cluster import submission
from bench.runs.cluster.submission import (
    Array,
    Submission,
    all_tasks,
    ending,
    job_key,
    latest_tasks,
    read_events,
    read_submissions,
)
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.setting import Paths
from tests.faults.damage import DAMAGES

SPEC = RunSpec("tofu", {"width": 3}, "lab", "lab", (Step("msa", {"alpha": 1.0}),), 0)


def written(out: Path, name: str, *jobs: Job) -> Submission:
    made = Submission(
        out / "cluster" / name,
        WorkerConfig.of(Machine(out, out / "store", executor="slurm", slurm=("time=5",)), Paths(oracles=("a",))),
        (Array(f"msa-bench-{name}-runs", jobs, {"time": "5"}),),
        120,
    )
    made.write()
    return made


def test_a_submission_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = written(tmp_path, "a", Job(SPEC), Job(SPEC, "target", {"seconds": 3}))
    assert Submission.read(made.folder) == made
    assert [task.id for task in made.tasks()] == [("msa-bench-a-runs", 0), ("msa-bench-a-runs", 1)]


def test_damaged_submissions_are_passed_over(tmp_path: Path) -> None:
    made = written(tmp_path, "b", Job(SPEC))
    for name, text in (("a", "{"), ("c", "[]"), ("d", '{"config": 3}')):
        (tmp_path / "cluster" / name).mkdir()
        (tmp_path / "cluster" / name / submission.FILE).write_text(text)
    (tmp_path / "cluster" / "e").write_text("a file")
    assert list(read_submissions(tmp_path)) == [made]
    assert list(read_submissions(tmp_path / "nowhere")) == []


def test_the_last_task_of_a_job_counts(tmp_path: Path) -> None:
    job, other = Job(SPEC), Job(replace(SPEC, seed=1))
    written(tmp_path, "a", job, other)
    last = written(tmp_path, "b", job)
    found = latest_tasks(all_tasks(tmp_path))
    assert found[job_key(job)].submission == last and found[job_key(other)].submission.folder.name == "a"
    assert list(latest_tasks(all_tasks(tmp_path, [other]))) == [job_key(other)]


def test_runs_are_told_apart_by_their_keys_and_stages_by_their_scenario() -> None:
    other = replace(SPEC, steps=(Step("npo", {}),), versions={"npo": 1})
    assert job_key(Job(SPEC)) != job_key(Job(other)) and job_key(Job(SPEC)) != job_key(Job(SPEC, "validate"))
    assert job_key(Job(SPEC, "target")) == job_key(Job(other, "target", {"seconds": 1}))
    assert job_key(Job(SPEC, "target")) != job_key(Job(SPEC, "oracle-0"))
    assert job_key(Job(SPEC, "target")) != job_key(Job(replace(SPEC, seed=1), "target"))
    assert job_key(Job(SPEC, "target")) != job_key(Job(replace(SPEC, task_params={"width": 4}), "target"))


def test_a_journal_is_read_line_by_line_and_from_where_it_was_left(tmp_path: Path) -> None:
    [task] = written(tmp_path, "a", Job(SPEC)).tasks()
    assert task.events() == [] and task.log() is None
    task.say({"event": "begin", "slurm": "7"})
    events, place = read_events(task.journal)
    assert [event["event"] for event in events] == ["begin"]
    with task.journal.open("a") as file:
        file.write('damaged\n[1]\n{"event": "end", "status": "done"}\n{"half')
    events, place = read_events(task.journal, place)
    assert [event["event"] for event in events] == ["end"]
    with task.journal.open("a") as file:
        file.write('": 1}\n')
    assert read_events(task.journal, place)[0] == [{"half": 1}]


def test_a_job_that_begins_anew_has_not_ended() -> None:
    begin, end = {"event": "begin"}, {"event": "end", "status": "failed"}
    assert ending([]) is None and ending([begin]) is None
    assert ending([begin, end, {"event": "left"}]) == end and ending([begin, end, begin]) is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"x": 1}',
        '{"config": {}, "arrays": [], "warning": "soon"}',
        '{"config": {}, "arrays": [3], "warning": 3}',
        '{"config": [], "arrays": [], "warning": 3}',
        '{"config": {}, "arrays": [{"name": "../a", "jobs": [], "flags": {}}], "warning": 3}',
        "[" * 100_000,
        "\0",
    ],
)
def test_a_submission_that_cannot_be_read_is_found(text: str, tmp_path: Path) -> None:
    made = written(tmp_path, "b", Job(SPEC))
    other = tmp_path / "cluster" / "20260101-000000-abcdef01"
    other.mkdir()
    (other / submission.FILE).write_text(text)
    assert list(read_submissions(tmp_path)) == [made] and submission.find_damaged(tmp_path) == [other]
    told = submission.explain_damage(other, tmp_path)
    assert told.startswith("cluster/20260101-000000-abcdef01/submission.json is damaged") and "\n" not in told
    assert "scancel --name=msa-bench-abcdef01-stages,msa-bench-abcdef01-runs" in told


@pytest.mark.parametrize(
    "line",
    [
        "3",
        '"end"',
        '{"event": "end"}',
        '{"event": "end", "status": "splendid"}',
        '{"event": "end", "status": ["done"]}',
        '{"event": "end", "status": "done", "message": 3}',
        '{"event": "begin", "node": "n1"}',
        '{"event": "begin", "slurm": 7}',
        '{"event": "left", "at_limit": "yes", "gains": null}',
        '{"event": {}}',
        '{"stage": "target", "status": "done", "seconds": "soon"}',
        '{"stage": "target", "status": "done", "seconds": NaN}',
        '{"stage": "target", "status": "done", "at": true}',
        '{"event": "begin", "slurm": "7", "at": 1%s}' % ("0" * 400),
        '{"stage": "target", "status": "done", "seconds": -1%s}' % ("0" * 400),
        '{"stage": "target", "status": "done", "total": 1e300}',
        "[" * 100_000,
        "\0\0",
    ],
)
def test_a_line_that_no_job_writes_is_passed_over(line: str, tmp_path: Path) -> None:
    [task] = written(tmp_path, "a", Job(SPEC)).tasks()
    task.say({"event": "begin", "slurm": "7"})
    assert not submission.is_damaged(task.journal)
    with task.journal.open("a") as file:
        file.write(line + "\n")
    task.say({"event": "end", "status": "done"})
    assert [event["event"] for event in task.events()] == ["begin", "end"]
    assert submission.is_damaged(task.journal)


def test_a_journal_that_is_no_file_says_nothing(tmp_path: Path) -> None:
    [task] = written(tmp_path, "a", Job(SPEC)).tasks()
    os.mkfifo(task.journal)
    assert task.events() == [] and submission.is_damaged(task.journal)


def test_a_journal_beyond_all_measure_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [task] = written(tmp_path, "a", Job(SPEC)).tasks()
    task.say({"event": "begin", "slurm": "7"})
    monkeypatch.setattr(submission, "MOST_JOURNAL", 10)
    assert task.events() == [] and submission.is_damaged(task.journal)


@pytest.mark.parametrize("way", [way for way in DAMAGES if way != "removed"])
def test_a_damaged_log_costs_its_last_line_alone(way: str, tmp_path: Path) -> None:
    [task] = written(tmp_path, "a", Job(SPEC)).tasks()
    task.say({"event": "begin", "slurm": "7"})
    task.logs.mkdir()
    log, older = task.logs / "7_0_log.err", task.logs / "7_1_log.err"
    older.write_text("older\n")
    os.utime(older, (0, 0))
    log.write_text("first\nlast\n")
    assert task.last_line() == "last"
    DAMAGES[way](log, random.Random(0))
    assert (task.last_line() == "older") == (not submission.is_file(log))


def test_of_a_long_log_the_end_alone_is_read(tmp_path: Path) -> None:
    [task] = written(tmp_path, "a", Job(SPEC)).tasks()
    task.say({"event": "begin", "slurm": "7"})
    task.logs.mkdir()
    with (task.logs / "7_0_log.err").open("wb") as log:
        log.truncate(1 << 40)  # of nothing on the disk
        log.seek(0, os.SEEK_END)
        log.write(b"\nlast\n")
    assert task.last_line() == "last"


def test_the_last_line_of_a_log_is_shown_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct horse battery")
    [task] = written(tmp_path, "a", Job(SPEC)).tasks()
    task.say({"event": "begin", "slurm": "7"})
    task.logs.mkdir()
    (task.logs / "7_0_log.err").write_text("401 for correct horse battery\n")
    assert task.last_line() == "401 for …"


def test_what_is_said_after_a_torn_line_is_heard(tmp_path: Path) -> None:
    [task] = written(tmp_path, "a", Job(SPEC)).tasks()
    task.say({"event": "begin", "slurm": "7"})
    with task.journal.open("a") as file:
        file.write('{"stage": "tar')
    task.say({"event": "begin", "slurm": "7"})
    task.say({"event": "end", "status": "done"})
    assert [event["event"] for event in task.events()] == ["begin", "begin", "end"]
