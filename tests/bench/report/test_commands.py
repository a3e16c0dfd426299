"""The command that makes a row again is understood, and asks for the very runs of the row."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence

import pytest

from bench.cli.options import asked_for, parse_seeds
from bench.core.compute import Compute
from bench.core.record import Record, Step
from bench.records.tables import TableRow
from bench.report.commands import command_of, seed_ranges
from bench.runs.asked import Understood, understand
from tests.factories import record
from tests.published import published_sections

OPTIONS = {"set": "sets", "lm-eval": "lm_eval"}
ROWS = [row for section in published_sections() for row in section.rows]


def read(command: str) -> tuple[Understood, dict[str, list[str]]]:
    """What a command asks for, and its options."""
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "bench", "run"]
    given: dict[str, list[str]] = {}
    name = ""
    for word in words[4:]:
        if word.startswith("--"):
            name = word[2:]
            given[name] = []
        else:
            given[name].append(word)
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    plain = {
        name: values[0]
        for name, values in given.items()
        if name in ("methods", "task", "model", "data", "seeds", "then")
    }
    asked = asked_for(**plain, sets=sets)
    assert asked.problems == ()
    return understand(asked), given


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.records[0].label[:12]} {row.name}")
def test_a_published_rows_command_asks_for_its_runs(row: TableRow) -> None:
    understood, given = read(command_of(row.records))
    spec = row.records[0].spec
    assert spec.steps in understood.rows and understood.params == spec.task_params
    assert parse_seeds(given["seeds"][0]) == row.seeds
    flags = {
        name: True if given[name] == [] else given[name][0] for name in ("autocast", "lora", "dtype") if name in given
    }
    assert flags == spec.compute.to_json()


def steps_of(records: Sequence[Record]) -> tuple[Step, ...]:
    understood, _ = read(command_of(records))
    return next(row for row in understood.rows if row and row[0].method == records[0].spec.steps[0].method)


def test_settings_of_the_users_are_said_and_presets_are_named() -> None:
    published = next(
        row.records[0] for row in ROWS if row.name == "npo@small-retain" and row.records[0].spec.task == "tofu"
    )
    step = published.spec.steps[0]
    other = dataclasses.replace(step, params={**step.params, "beta": 0.123})
    changed = dataclasses.replace(published, spec=dataclasses.replace(published.spec, steps=(other,)))
    command = command_of([changed])
    assert "--methods npo@small-retain " in command and command.count("--set") == 1 and "npo.beta=0.123" in command
    assert steps_of([changed]) == (other,)


def test_flags_limits_and_further_steps_are_said() -> None:
    base = next(row.records[0] for row in ROWS if row.name == "npo" and row.records[0].spec.tier == "real")
    repair = Step("repair", {})
    spec = dataclasses.replace(
        base.spec, steps=(*base.spec.steps, repair), limit=5, compute=Compute(lora=8), order=1, kinds=("logprob",)
    )
    command = command_of([dataclasses.replace(base, spec=spec)])
    for part in ("--then repair", "--limit 5", "--lora 8", "--order 1", "--probes logprob", f"--model {spec.model}"):
        assert part in command
    assert "--autocast" not in command


def test_what_only_an_ablation_makes_has_no_command() -> None:
    assert command_of([record(lean=True)]) == ""
    assert command_of([record(start="age=0.5")]) == ""


def test_a_hostile_name_stays_one_word_of_the_shell() -> None:
    words = shlex.split(command_of([record("npo; rm -rf $HOME", scores={}, params={"x": "`id`"})]))
    assert "npo; rm -rf $HOME" in words and "npo; rm -rf $HOME.x=`id`" in words


def test_seeds_are_ranges() -> None:
    assert seed_ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8" and seed_ranges([3]) == "3"
