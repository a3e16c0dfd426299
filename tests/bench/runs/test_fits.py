from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.assets.shapes import SHAPES
from bench.core.compute import Compute
from bench.core.machine import Machine
from bench.core.types import Json
from bench.runs import estimate
from bench.runs.estimate import MARGIN, Room, Size, list_refusals, proposals, room_of
from bench.runs.nodes import node_text
from bench.runs.store import NodeRequest, Store

GB = 10**9
SMALL = Size(SHAPES["smollm2-135m-instruct-q4"], 90, 1, 2, checkpoints=5)
LARGE = Size(SHAPES["llama-3.1-8b-instruct"], 90, 1, 1, checkpoints=5)
PLENTY = Room(1000 * GB, 10_000 * GB)
TWO = (Compute(), Machine(jobs=2))
ONE = (Compute(), Machine(jobs=1))


def test_what_fits_is_not_refused() -> None:
    assert list_refusals(SMALL, *TWO, PLENTY) == []
    assert list_refusals(None, *TWO, Room(1, 1)) == [], "the lab, and what nobody knows"
    exactly = Room(SMALL.memory(*TWO), SMALL.disk(*TWO))
    assert list_refusals(SMALL, *TWO, exactly) == []
    assert len(list_refusals(SMALL, *TWO, replace(exactly, memory=exactly.memory - 1, disk=exactly.disk - 1))) == 2
    assert list_refusals(SMALL, *TWO, replace(exactly, memory=0)) == [], "nothing says how much there is"


def test_workers_share_a_machine_and_not_a_gpu() -> None:
    one, ranks = SMALL.worker(*ONE), Machine(jobs=1, world=2)
    assert SMALL.memory(*TWO) == 2 * one and SMALL.memory(Compute(), ranks) == 2 * SMALL.worker(Compute(), ranks)
    assert SMALL.memory(Compute(), Machine(device="cuda", jobs=2)) == one
    assert SMALL.memory(Compute(), replace(ranks, device="cuda")) < one


def test_the_refusal_names_the_least_flag() -> None:
    [said] = list_refusals(SMALL, *TWO, replace(PLENTY, memory=6 * GB))
    assert said == "Training with 2 workers needs about 9.3 GB, and this machine has 6.0 GB: add --jobs 1 (4.6 GB)."
    [said] = list_refusals(SMALL, *ONE, replace(PLENTY, memory=4 * GB + GB // 2))
    assert said.endswith("add --checkpointing (3.6 GB).")


def test_what_changes_the_weights_comes_after_more_gpus() -> None:
    card = Room(80 * GB, 10_000 * GB, where="the NVIDIA H100")
    [said] = list_refusals(LARGE, Compute(micro=1), Machine(device="cuda"), card)
    assert said == (
        "Training needs about 135 GB, and the NVIDIA H100 has 80 GB: add --checkpointing and start it on 4 such GPUs, "
        "`torchrun --nproc-per-node 4 -m bench run ...` (66 GB)."
    )
    texts = [change.text for change in proposals(*TWO)]
    assert texts[:3] == ["--jobs 1", "--checkpointing", "--micro 1"] and len(set(texts)) == len(texts) == 2**5 - 1
    assert "torchrun" not in " ".join(texts)
    lossy = ["--lora" in text or "--dtype" in text for text in texts]
    assert lossy == sorted(lossy)


def test_what_is_proposed_fits_with_room_to_spare_and_no_smaller_change_does() -> None:
    for memory in (10, 20, 40, 60, 90):
        room = replace(PLENTY, memory=memory * GB)
        fitting = [c.text for c in proposals(*TWO) if MARGIN * LARGE.memory(*c.applied(*TWO)) <= room.memory]
        [said] = list_refusals(LARGE, *TWO, room)
        assert (
            f": add {fitting[0]} (" in said if fitting else said.endswith("take a smaller model or a larger machine.")
        )
    assert fitting, "one of them fits"


def test_bfloat16_takes_the_place_of_autocast() -> None:
    given = (Compute(autocast=True), Machine(jobs=1))
    found = {change.text: change.applied(*given) for change in proposals(*given)}
    assert found["--dtype bfloat16 in the place of --autocast"] == (Compute("bfloat16"), given[1])


def test_disk_has_its_own_remedy() -> None:
    """Five checkpoints of 0.54 GB and, for each of two trainings, three states of 1.61 GB."""
    [said] = list_refusals(SMALL, *TWO, replace(PLENTY, disk=10 * GB))
    assert said.startswith("The checkpoints need about 12 GB of disk, and 10 GB are free where the store is: ")
    assert said.endswith("or add --jobs 1 (7.5 GB).")
    [said] = list_refusals(SMALL, *ONE, replace(PLENTY, disk=GB))
    assert said.endswith("make room, or run fewer methods and seeds.")
    assert list_refusals(SMALL, *TWO, replace(PLENTY, disk=8 * GB, held=5 * GB)) == [], (
        "what is there isn't written again"
    )


def test_room_is_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = SMALL.shape.parameters * 4
    for size in (one, one // 10, 10 * one):
        info: Json = {"fields": {"size": size}, "label": "", "seconds": 0, "expected_seconds": 0, "bytes": size}
        info |= {"hash": "0" * 64, "provenance": {}, "meta": {}}
        folder = Store(tmp_path / "store").path(NodeRequest(info["fields"], "", {}).key)
        folder.mkdir(parents=True)
        (folder / "node.json").write_text(node_text(info))
    found = room_of(*ONE, SMALL, Store(tmp_path / "store"))
    assert found.memory > 10**8 and found.disk > 0 and found.held == one, "a checkpoint of this size, and no other node"
    monkeypatch.setattr(estimate.memory, "ask_gpu", lambda device: estimate.memory.Gpu("NVIDIA L4", 24 * GB))
    found = room_of(Compute(), Machine(device="cuda:0"), None, Store(tmp_path / "none"))
    assert (found.memory, found.where, found.held) == (24 * GB, "the NVIDIA L4", 0)
    assert not (tmp_path / "none").exists(), "looking makes nothing"
