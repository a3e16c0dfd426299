"""Several processes: what fails, who builds a node, and the records of a whole command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core import distributed
from bench.core.errors import UserError
from bench.engines.training.trainer import check_processes
from tests.processes import bench
from tests.ranks import torchrun

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(two_processes: Path) -> Path:
    """The folder that two processes have left of every case of `tests.ranks.everything`."""
    return two_processes


@pytest.fixture(scope="module")
def each(folder: Path) -> Any:
    """The facts that each of the two processes saw."""
    return json.loads((folder / "facts.json").read_text())


def test_what_fails_on_one_process_fails_on_both(each: Any) -> None:
    for facts in each:
        assert facts["errors"]["alone"] == "UserError: no room"
        assert facts["errors"]["need"] == "Unmet: no history"
        assert facts["errors"]["last"].startswith("RuntimeError: Process 1 failed:\nTraceback")
        assert facts["errors"]["last"].strip().endswith("KeyError: 'gone'")
        assert facts["errors"]["after"] == "nothing: 7", "they are in step again"


def test_a_node_is_built_once_and_known_to_both(folder: Path, each: Any) -> None:
    (hash_0, built_0, tokens_0), (hash_1, built_1, _) = each[0]["node"]
    assert each[0]["node"] == each[1]["node"] and hash_0 == hash_1 and tokens_0 > 0
    assert (built_0, built_1) == (1, 0)
    assert len(list((folder / "node" / "store" / "nodes").glob("*/*/node.json"))) == 1
    assert not list((folder / "node" / "store").glob("leases/*.json")) and not list(
        (folder / "node" / "store" / "partial").iterdir()
    )


@pytest.mark.slow
def test_a_failure_of_one_process_while_the_other_waits_ends_both(tmp_path: Path) -> None:
    """The first process can't know, so that the one that failed writes why."""
    done = torchrun(["tests.ranks", "failing", str(tmp_path)], tmp_path, seconds=200)
    assert done.returncode != 0
    words = "Process 1 failed, and process 0 has said nothing for 1 s"
    assert words in done.stderr and not (tmp_path / "out").exists()
    (file,) = (tmp_path / "records").rglob("*.json")
    failed = json.loads(file.read_text())
    assert failed["status"] == "failed" and words in failed["reason"] and "Killed: in step 2" in failed["reason"]


COMMAND = "run --methods msa,npo --task tofu --seeds 0 --track none --probes logprob,divergence"
SMALL = "tofu.width=16 tofu.authors=10 tofu.history_passes=0.18 tofu.target_passes=2 msa.steps=2 npo.steps=2"


@pytest.mark.slow(30)
def test_two_processes_make_the_records_that_one_makes(tmp_path: Path) -> None:
    sets = [word for setting in SMALL.split() for word in ("--set", setting)]

    def place(name: str) -> list[str]:
        return [*COMMAND.split(), *sets, "--store", str(tmp_path / name / "store"), "--out", str(tmp_path / name)]

    one, two = bench([*place("one"), "--jobs", "1"], tmp_path), torchrun(["bench", *place("two")], tmp_path)
    assert one.returncode == 0 == two.returncode, one.stderr + two.stdout + two.stderr
    assert two.stdout.count("records:") == 1, "the first process alone prints"
    alone, together = records(tmp_path / "one"), records(tmp_path / "two")
    assert sorted(alone) == sorted(together) and len(alone) == 4
    for name, record in together.items():
        assert record["status"] == "done" and record["provenance"]["processes"] == 2
        assert record["absent"] == alone[name]["absent"]
        assert record["cost"]["tokens_trained"] == alone[name]["cost"]["tokens_trained"]
        values = {score: entry["value"] for score, entry in record["scores"].items()}
        expected = {score: entry["value"] for score, entry in alone[name]["scores"].items()}
        # A distance in units of that of two oracles, nearly nothing after so few steps, and PrivLeak, in percent of an AUC.
        margins = {name: 0.1 * expected[name] if name.endswith("_floors") else 5e-3 for name in expected} | {
            "privleak": 1.0
        }
        assert len(values) > 10 and values.keys() == expected.keys()
        assert all(abs(values[name] - expected[name]) <= margins[name] for name in values)


def records(out: Path) -> dict[str, Any]:
    return {file.name: json.loads(file.read_text()) for file in (out / "lab" / "tofu" / "lab").glob("*.json")}


# --- without torchrun


def test_what_does_not_go_with_torchrun_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.torchrun_problems("cuda:1", 4) == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert distributed.torchrun_problems("cpu", None) == distributed.torchrun_problems("cpu", 1) == []
    found = distributed.torchrun_problems("cuda:1", 4)
    assert len(found) == 2 and "--jobs 4" in found[0] and "say cuda" in found[1]
    with pytest.raises(UserError, match="bench run` and `reproduce`"):
        check_processes(use_cpu=True)


def test_several_gpus_in_one_process_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_processes(use_cpu=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="torchrun --nproc-per-node N"):
        check_processes(use_cpu=False)
