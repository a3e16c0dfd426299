"""What of a scenario's stages a store has: none at first, all after a run, and what was lost is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.core.record import Record
from bench.runs.at_hand import find_stages, told_stages
from bench.runs.nodes import read_node
from bench.runs.setting import Paths
from bench.runs.store import Store
from tests.factories import record
from tests.processes import Place, bench, tiny_run

ALL = {"history", "target", "oracle-0", "oracle-1", "oracle-2"}


def test_a_lab_is_looked_up_in_the_store(finished: Place, tmp_path: Path) -> None:
    spec = Record.from_json(finished.records()["msa"]).spec
    place = finished.copy(tmp_path)
    store = Store(place.store)
    assert find_stages([spec], Paths(), place.out, Store(tmp_path / "none"), "cpu") == {0: set()}
    assert find_stages([spec], Paths(), place.out, store, "cpu") == {0: ALL}
    for key in list(store.keys()):
        node = read_node(store.path(key))
        if node and node.info["label"] == "target":
            shutil.rmtree(node.path)
    assert find_stages([spec], Paths(), place.out, store, "cpu") == {0: ALL - {"target"}}
    assert find_stages([], Paths(), place.out, store, "cpu") == {}


def test_a_plan_says_it(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    done = bench([*tiny_run("msa,ga", "plan"), *place.words], tmp_path)
    assert "seed 0: the store has history, target, oracle-0, oracle-1, oracle-2; to be made: nothing" in done.stdout


def test_of_a_real_model_the_records_say_what_was_made() -> None:
    """Of the same task, parameters, model and seed; what the store has no more is not there."""
    made = record("msa", 0, tier="real", model="m", lineage={"target": "t", "oracles": ["o", "p"]})
    other = record("npo", 0, tier="real", model="m", lineage={})
    assert told_stages(other.spec, [made], {"t", "p"}) == {"target", "oracle-1"}
    for changed in ({"seed": 1}, {"model": "n"}, {"task_params": {"gap": 1}}, {"hashes": {"data": "d"}}):
        fields = {"tier": "real", "model": "m"} | changed
        seed = int(fields.pop("seed", 0))  # type: ignore[call-overload]
        assert told_stages(record("npo", seed, **fields).spec, [made], {"t", "p"}) == set()
