from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bench.core.compute import UNSAID, USUAL, WHOLE_STEP, Compute
from bench.core.machine import Machine
from bench.core.record import RunSpec


def test_json_names_what_is_not_as_usual() -> None:
    assert USUAL.to_json() == UNSAID.to_json() == WHOLE_STEP.to_json() == {}
    asked = Compute("bfloat16", lora=4, micro=2)
    assert asked.to_json() == {"dtype": "bfloat16", "lora": 4, "micro": 2} and Compute(**asked.to_json()) == asked


def test_what_the_user_said_is_told_from_what_is_usual() -> None:
    """Who says float32 has said something, though it is what there would be without a word."""
    assert UNSAID.said() == {}
    assert replace(UNSAID, dtype="float32").said() == {"dtype": "float32"}


def test_bytes_and_precision_follow_the_dtype_and_autocast() -> None:
    assert [c.width for c in (USUAL, Compute("bfloat16"), Compute(autocast=True))] == [4, 2, 4]
    assert [c.precision for c in (USUAL, Compute("bfloat16"), Compute(autocast=True))] == [
        "float32",
        "bfloat16",
        "bfloat16",
    ]


def test_a_spec_says_of_compute_what_is_not_as_usual() -> None:
    """A spec that says something is another run, back and forth."""
    usual = RunSpec("tofu", {}, "real", "m", (), 0)
    assert usual.to_json()["compute"] == {} and RunSpec.from_json(usual.to_json()) == usual
    other = replace(usual, compute=Compute(autocast=True))
    assert other.to_json()["compute"] == {"autocast": True} and other.key != usual.key
    assert RunSpec.from_json(json.loads(json.dumps(other.to_json()))) == other


def test_a_machine_travels_as_json(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "out", tmp_path / "store", 3, "cuda:1", 2, True, "none", 1)
    assert Machine.from_json(json.loads(json.dumps(machine.to_json()))) == machine


def test_workers_are_as_many_as_asked_and_one_under_torchrun() -> None:
    assert Machine(jobs=3).workers == 3 and Machine(device="cuda").workers == 1
    assert Machine(jobs=3, world=2).workers == 1


def test_a_machine_names_all_that_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    wrong = Machine(file, file, jobs=0, device="tpu").problems()
    assert [text.split(":")[0].split(" are")[0] for text in wrong] == [
        "--device tpu",
        "--jobs and --threads",
        f"--out {file}",
        f"--store {file}",
    ]
    assert Machine(tmp_path / "new", tmp_path).problems() == []
    assert Machine(tmp_path / "new" / "deep", tmp_path).problems() == [], "a folder that can be made"
