from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.core.record import RunSpec, Step
from bench.runs.cluster import asking
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.setting import Paths


@pytest.fixture(autouse=True)
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the user's settings, still empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "msa-bench.toml"


def job(seconds: float | None = None, memory: int = 0, stage: str = "") -> Job:
    estimate = {} if seconds is None else {"seconds": seconds, "memory": memory}
    return Job(RunSpec("tofu", {}, "lab", "lab", (), 0), stage, estimate)


def machine(*slurm: str, **fields: Any) -> Machine:
    return Machine(executor="slurm", slurm=slurm, **fields)


@pytest.mark.parametrize(
    ("seconds", "minutes"),
    [(0.0, 15), (60.0, 15), (600.0, 30), (601.0, 31), (None, 60)],
    ids=["nothing", "short", "ten minutes", "a second more", "unknown"],
)
def test_time_is_three_times_the_estimate_and_not_too_little(seconds: float | None, minutes: int) -> None:
    assert asking.ask_for([job(seconds)], machine()).minutes == minutes
    assert asking.ask_for([job(1), job(seconds)], machine()).minutes == minutes, "the longest of an array counts"


def test_memory_and_gpus_follow_the_number_of_processes() -> None:
    held = 10_000_000_000
    assert asking.ask_for([job(1, held)], machine()).memory == 15_000_000_000
    assert asking.ask_for([job(1, 100)], machine()).memory == 4_000_000_000
    on_gpus = asking.ask_for([job(1, held)], machine(device="cuda", world=2, threads=3))
    assert (on_gpus.memory, on_gpus.gpus, on_gpus.cpus) == (60_000_000_000, 2, 6)


def test_the_command_line_wins_over_the_profile_and_both_over_the_estimate(profile: Path) -> None:
    profile.write_text('[slurm]\npartition = "gpu"\ntime = 90\nexclusive = true\n')
    flags = asking.flags_for([job(1)], machine("time=2:00:00", "--mem-per-cpu=2G", "mail_type=END"))
    assert flags == {
        "time": "2:00:00",
        "cpus-per-task": "1",
        "partition": "gpu",
        "exclusive": True,
        "mem-per-cpu": "2G",
        "mail-type": "END",
    }
    assert "--exclusive" in asking.as_words(flags) and "--partition=gpu" in asking.as_words(flags)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition", "--slurm partition: write key=value"),
        ("=gpu", "--slurm =gpu: write key=value"),
        ("array=0-3", "the harness sets array itself"),
        ("job_name=x", "the harness sets job-name itself"),
        ("signal=TERM@30", "write the seconds of warning"),
        ("signal=soon", "write the seconds of warning"),
        ("signal=0", "write the seconds of warning"),
        ("signal=USR2@0", "write the seconds of warning"),
        ("signal=65536", "1 to 65535"),
        ("exclusive", "--slurm exclusive=true"),
    ],
)
def test_a_flag_that_cannot_be_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        asking.Flags.of([text])
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "seconds"), [("signal=300", 300), ("signal=USR2@45", 45), ("time=3", 120)])
def test_the_warning_is_said_in_seconds(text: str, seconds: int) -> None:
    assert asking.Flags.of([text]).warning == seconds and "signal" not in asking.Flags.of([text]).given


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129_600), ("1-0:30", 88_200), ("0:07", 7)],
)
def test_times_are_read_as_sbatch_does(text: str, seconds: float) -> None:
    assert asking.limit_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "UNLIMITED", "INVALID", "x-1", "1:y"])
def test_what_is_no_time_is_no_limit(text: str) -> None:
    assert asking.limit_seconds(text) == float("inf")


def test_what_is_asked_is_told_for_stages_and_runs() -> None:
    told = list(asking.describe_asked([job(2000, 100, "target"), job(10)], machine()))
    assert told[0].startswith(
        "stages, an array of 1: each asks --time=100 --mem=3815M --cpus-per-task=1 (stage-target seed 0"
    )
    assert told[1].startswith("runs, an array of 1: each asks --time=15") and "at least 15 min" in told[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition=", "--slurm partition=: it says nothing; write a value"),
        ("help=true", "leave it out"),
        ("test-only=true", "leave it out"),
        ("no_requeue=true", "leave it out"),
        ("--wait=true", "leave it out"),
        ("p=gpu", "'p' is no long flag of sbatch"),
        ("a b=3", "is no long flag of sbatch"),
        ("time=-1", "--slurm time=-1: write minutes (90)"),
        ("time=1:2:3:4", "write minutes (90)"),
        ("time=soon", "write minutes (90)"),
        ("time=true", "write minutes (90)"),
        ("comment=a\nb", "more than one line"),
    ],
)
def test_a_flag_with_which_no_job_would_run_is_one_sentence(text: str, words: str, profile: Path) -> None:
    with pytest.raises(UserError) as refused:
        asking.Flags.of([text])
    assert words in str(refused.value) and "\n" not in str(refused.value)
    key, _, value = text.partition("=")
    profile.write_text(f"[slurm]\n{json.dumps(key)} = {json.dumps(value)}\n")
    with pytest.raises(UserError) as refused:
        asking.Flags.of([])
    assert str(refused.value).startswith(f"{profile}, [slurm] {key}") and "--slurm" not in str(refused.value)


def test_a_flag_that_is_false_is_left_out(profile: Path) -> None:
    profile.write_text("[slurm]\nexclusive = false\noversubscribe = true\n")
    assert asking.Flags.of([]).values() == {"oversubscribe": True}
    assert asking.Flags.of(["oversubscribe=false"]).values() == {}


@pytest.mark.parametrize("text", ["0", "0:00", "0-0", "unlimited", "INFINITE"])
def test_a_time_that_is_none_has_no_end(text: str) -> None:
    assert asking.asked_seconds(text) == float("inf")


@pytest.mark.parametrize("text", ["-1", "1:2:3:4", "1-2-3", "", "²"])
def test_what_sbatch_would_not_take_as_a_time_is_none_that_slurm_says(text: str) -> None:
    assert asking.limit_seconds(text) == float("inf")


def test_jobs_of_any_command_ask_by_an_estimate(tmp_path: Path) -> None:
    """A search's settings and an ablation's runs carry none of their own."""
    spec = RunSpec("tofu", {}, "lab", "lab", (Step("ga", {}),), 0)
    large = replace(spec, task_params={"width": 8192})
    config = WorkerConfig.of(Machine(tmp_path / "out", tmp_path / "store", executor="slurm"), Paths())
    jobs = [Job(spec, "validate"), Job(large), Job(replace(large, steps=()), "oracle-0"), Job(spec, "", {"seconds": 7})]
    told = asking.with_estimates(jobs, config)
    assert [(each.spec, each.stage) for each in told] == [(each.spec, each.stage) for each in jobs]
    small, big, stage, own = (each.estimate for each in told)
    assert own == {"seconds": 7}
    assert 0 < small["seconds"] < big["seconds"] and small["memory"] < big["memory"] == stage["memory"]
    assert stage["seconds"] > 0
    asked = asking.ask_for([told[1]], config.machine)
    assert asked.memory > asking.LEAST_MEMORY and asked.minutes > asking.UNKNOWN_MINUTES
