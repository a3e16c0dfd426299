from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.core.record import RunSpec
from bench.runs.cluster import commands
from bench.runs.cluster.commands import Silent, State
from bench.runs.cluster.handing import one_at_a_time
from bench.runs.cluster.status import describe, status_command
from bench.runs.cluster.submission import Array, Submission, Task
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.setting import Paths

SPEC = RunSpec("tofu", {}, "lab", "lab", (), 0)


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    """Six jobs: queued, running, done, failed by themselves, cancelled, and gone without a word."""
    config = WorkerConfig.of(Machine(tmp_path, tmp_path / "store", executor="slurm"), Paths())
    jobs = tuple(Job(replace(SPEC, seed=seed)) for seed in range(6))
    made = Submission(tmp_path / "cluster" / "a", config, (Array("name", jobs),), 60)
    made.write()
    found = made.tasks()
    for task in found[1:5]:
        task.say({"event": "begin", "slurm": f"7_{task.index}", "node": "n1", "restarts": 0})
    found[1].say({"stage": "measure target", "status": "progress", "done": 3, "total": 9, "job": "x", "seconds": 4.0})
    found[2].say({"event": "end", "status": "done"})
    found[3].say({"event": "end", "status": "failed", "message": "Traceback\nValueError: no"})
    logs = found[1].logs
    logs.mkdir()
    (logs / "7_1_0_log.err").write_text("first\na [bold]warning[/bold]\n\n")
    return found


STATES = {
    ("name", 0): State("7_0", "PENDING", "Resources"),
    ("name", 1): State("7_1", "RUNNING", "None", "n1"),
    ("name", 4): State("7_4", "CANCELLED", "None"),
}


def test_each_job_has_its_state_and_its_last_line(
    tasks: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "find_states", lambda names: STATES)
    monkeypatch.setattr(commands, "find_ended", lambda names: {})
    monkeypatch.setenv("COLUMNS", "200")
    lines = [describe(task, STATES, False) for task in tasks]
    assert [line.state for line in lines] == ["queued", "running", "done", "failed", "failed", "failed"]
    assert lines[0].last == "waits: Resources"
    assert lines[1].last == "measure target: 3 of 9, 4 s | a [bold]warning[/bold]" and lines[1].where == "n1"
    assert lines[3].last == "ValueError: no" and lines[4].last == "it was cancelled"
    assert lines[5].last == "SLURM no longer knows it"
    assert (
        describe(tasks[5], {("name", 5): State("7_5", "FAILED")}, False).last
        == "it ended as FAILED before its work began"
    )
    assert status_command(tmp_path, cancel=False), "something failed"
    said = capsys.readouterr().out
    assert "1 queued, 1 running, 1 done, 3 failed" in said and "a [bold]warning[/bold]" in said


def test_without_an_answer_the_jobs_own_words_count(
    tasks: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(names: object) -> None:
        raise Silent("connect failure")

    monkeypatch.setattr(commands, "find_states", silent)
    status_command(tmp_path, cancel=False)
    said = capsys.readouterr().out
    assert "NOTE: SLURM doesn't answer (connect failure)" in said and "1 done, 1 failed, 4 unknown" in said
    with pytest.raises(UserError, match="Nothing was cancelled"):
        status_command(tmp_path, cancel=True)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """SLURM answers with `STATES`; the names of the arrays that are cancelled."""
    names: list[str] = []
    monkeypatch.setattr(commands, "find_states", lambda names: STATES)
    monkeypatch.setattr(commands, "find_ended", lambda names: {})
    monkeypatch.setattr(commands, "cancel", names.extend)
    return names


def test_cancelling_ends_what_is_left(
    tasks: list[Task], tmp_path: Path, ended: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not status_command(tmp_path, cancel=True)
    assert ended == ["name"] and "cancelled 2 jobs" in capsys.readouterr().out


def test_what_was_cancelled_here_says_so_when_slurm_has_forgotten_it(
    tasks: list[Task], tmp_path: Path, ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tasks[0].submission.folder / "name.number").write_text("7")
    status_command(tmp_path, cancel=True)
    monkeypatch.setattr(commands, "find_states", lambda names: {})
    assert [describe(task, {}, False).last for task in tasks[:2]] == [
        "it was cancelled",
        "it was cancelled; measure target: 3 of 9, 4 s | a [bold]warning[/bold]",
    ]
    assert describe(tasks[1], {}, False).state == "failed"
    tasks[0].say({"event": "begin", "slurm": "7_0"})
    assert describe(tasks[0], {}, False).last == "SLURM no longer knows it", "it has begun since"
    assert describe(tasks[2], {}, False).state == "done"


def test_where_nothing_was_handed_over_one_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        status_command(tmp_path, cancel=False)
    assert "bench run --executor slurm" in str(refused.value) and "\n" not in str(refused.value)


def test_a_damaged_submission_and_a_damaged_journal_are_named_and_the_rest_is_shown(
    tasks: list[Task], tmp_path: Path, ended: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cluster" / "20260101-000000-abcdef01"
    folder.mkdir()
    (folder / "submission.json").write_text('{"x": 1}')
    for task, line in zip(
        tasks, ('{"stage": 3}', '{"stage": "", "status": "note"}', "{}", "[1]", '{"status": "x"}'), strict=False
    ):
        with task.journal.open("a") as file:
            file.write(line + "\n")
    status_command(tmp_path, cancel=False)
    said = capsys.readouterr().out
    assert "NOTE: cluster/20260101-000000-abcdef01/submission.json is damaged" in said and "1 queued, 1 running" in said
    assert [f"name-{index}.jsonl is damaged" in said for index in range(5)] == [True, False, False, True, False]
    status_command(tmp_path, cancel=True)
    assert ended == ["msa-bench-abcdef01-runs", "msa-bench-abcdef01-stages", "name"]


def test_every_live_job_of_a_kind_is_shown_and_what_is_not_handed_over_says_so(
    tasks: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "find_states", lambda names: STATES)
    monkeypatch.setattr(commands, "find_ended", lambda names: {})
    monkeypatch.setenv("COLUMNS", "200")
    later = replace(
        tasks[0].submission, folder=tmp_path / "cluster" / "b", arrays=(Array("later", tasks[0].array.jobs),)
    )
    later.write()
    assert status_command(tmp_path, cancel=False)
    said = capsys.readouterr().out
    assert "1 queued, 1 running, 6 failed" in said, "two live ones of the first command, and the second's"
    assert said.count("its command ended before it was handed over: run the same command again") == 6
    with one_at_a_time(tmp_path, print):
        assert not status_command(tmp_path, cancel=False)
    assert "7 queued, 1 running" in capsys.readouterr().out
