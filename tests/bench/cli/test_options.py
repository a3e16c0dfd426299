"""Options that commands share: what the texts become, and which options a command has."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from bench.cli.options import (
    MOST_SEED,
    asked_for,
    asking,
    machine_of,
    parse_seeds,
    records_folder,
    seeds_or_problems,
    split_words,
    store_at,
    warn_broken,
)
from bench.core.compute import UNSAID, Compute
from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.records.files import BrokenFile, LoadedRecords
from bench.runs.asked import Asked


@pytest.mark.parametrize(
    ("text", "words"), [("", []), (" , ", []), ("msa", ["msa"]), (" npo@x , ga,, msa ", ["npo@x", "ga", "msa"])]
)
def test_words_are_told_apart_by_commas(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_seeds_are_whole_numbers_from_zero_up_to_what_generators_take() -> None:
    assert parse_seeds("3, 0 ,3") == (3, 0, 3), "whoever asks twice is told later"
    assert parse_seeds("") == () and parse_seeds(str(MOST_SEED - 1)) == (2**31 - 1,)
    for text in ("-1", "0,2147483648"):
        with pytest.raises(UserError, match=f"--seeds {text}: a seed is 0 or more, and below 2147483648"):
            parse_seeds(text)
    for text in ("1.0", "a", "1 2"):
        with pytest.raises(UserError, match=f"--seeds {text}: write whole numbers"):
            parse_seeds(text)
    assert parse_seeds("0-5") == tuple(range(6)) and parse_seeds("7, 2-3 ,2") == (7, 2, 3, 2)
    for text in ("5-4", "0-1000"):
        with pytest.raises(UserError, match=f"--seeds {text}: a range goes up, over at most 1000 seeds"):
            parse_seeds(text)
    assert seeds_or_problems("1,2") == ((1, 2), ())
    assert seeds_or_problems("x") == (
        (),
        ("--seeds x: write whole numbers or ranges, comma-separated, such as 0,1,2 or 0-5.",),
    )


def test_options_become_one_request_with_its_mistakes() -> None:
    assert asked_for("msa", "tofu") == Asked("tofu", ("msa",), compute=UNSAID)
    made = asked_for(
        *("msa, npo", "qa", "m", "f,r", "past", "0,x", ["msa.alpha=1"], 5, "piqa:9,blimp", Path("/d"), "label"),
        *("t", "a,b", "repair", "logprob,generate", "bfloat16", True, 4, 2),
    )
    assert made == Asked(
        "qa",
        ("msa", "npo"),
        ("msa.alpha=1",),
        (),
        "m",
        "f,r",
        "past",
        5,
        ("piqa:9", "blimp"),
        "/d",
        "label",
        "t",
        ("a", "b"),
        ("repair",),
        ("logprob", "generate"),
        Compute("bfloat16", True, 4, 2),
        ("--seeds 0,x: write whole numbers or ranges, comma-separated, such as 0,1,2 or 0-5.",),
    )


def test_a_machines_store_is_the_given_one_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSA_BENCH_STORE", str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    assert store_at(None) == tmp_path / "kept" and store_at(Path("here")) == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store_at(Path("~/there")) == tmp_path / "home" / "there"
    found = machine_of(3, Path("o"), Path("here"), "cuda:1", 2, True, "none")
    assert found == Machine(Path("o"), tmp_path / "here", 3, "cuda:1", 2, True, "none")
    assert machine_of().track == "wandb" and machine_of().jobs is None


def test_a_command_gets_the_options_in_the_place_of_its_two_parameters() -> None:
    got: list[Any] = []

    def command(asked: Any, machine: Any, write: bool = False) -> None:
        """Do it."""
        got.append((asked, machine, write))

    made = asking(seeds="100,101", without=("limit", "track"))(command)
    taken = inspect.signature(made).parameters
    every = {*inspect.signature(asked_for).parameters, *inspect.signature(machine_of).parameters}
    assert set(taken) == every - {"limit", "track"} | {"write"}
    assert list(taken)[:2] == ["methods", "task"] and list(taken)[-1] == "write"
    assert (made.__name__, made.__doc__) == ("command", "Do it.") and set(made.__annotations__) == set(taken)
    given = {name: parameter.default for name, parameter in taken.items()}
    made(**given | {"methods": "ga", "task": "tofu", "jobs": 7, "write": True})
    [(asked, machine, write)] = got
    assert (asked.methods, asked.seeds, asked.limit, machine.jobs, write) == (("ga",), (100, 101), None, 7, True)
    assert inspect.signature(asking()(command)).parameters["seeds"].default == "0,1,2"


def test_a_folder_of_records_must_be_there(tmp_path: Path) -> None:
    assert records_folder(tmp_path) == tmp_path
    (tmp_path / "file").write_text("")
    for wrong in ("file", "nowhere"):
        with pytest.raises(UserError, match=f"There is no folder '.*{wrong}': `python -m bench run` makes records"):
            records_folder(tmp_path / wrong)


def test_every_record_that_cannot_be_read_is_named_on_the_error_stream() -> None:
    said: list[tuple[str, bool]] = []
    broken = [BrokenFile("a.json", "it is empty"), BrokenFile("b.json", "it is b", "move it")]
    warn_broken(LoadedRecords([], broken), lambda text, err: said.append((text, err)))
    assert said == [
        ("left out: a.json: it is empty: delete it and run again.", True),
        ("left out: b.json: it is b: move it.", True),
    ]
