"""Two processes under torchrun do what one does: losses, weights, records; and a failure ends both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.core import distributed
from bench.core.errors import UserError
from bench.core.types import Example, Probe
from bench.engines.measuring.measure import merged, shared, total_cost
from bench.engines.training.trainer import StepData, check_processes, resumable
from bench.lab.networks import ConvNet
from tests import ranks
from tests.processes import bench
from tests.ranks import torchrun


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left of every case of `tests.ranks.everything`."""
    place: Path = tmp_path_factory.mktemp("two")
    done = torchrun(["tests.ranks", "everything", str(place)], place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def each(folder: Path) -> Any:
    """What each of the two processes saw."""
    return json.loads((folder / "facts.json").read_text())


def losses(curve: Any) -> list[float]:
    return [point["loss"] for point in curve]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def assert_close(a: Path, b: Path, most: float) -> None:
    one, two = weights(a), weights(b)
    assert sorted(one) == sorted(two), "tied weights stand in a file once"
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=most, rtol=0)


def test_two_processes_train_as_one_does(folder: Path, each: Any, tmp_path: Path) -> None:
    """Rows that don't divide by two, micro-batches in which a process has none, NPO's reference, clipped gradients."""
    parts = [part for item in StepData(ranks.STREAMS, 6, 0, 2 * 2).items for part in item]
    assert len(parts) == 6 * 2 * 2 and {len(part.rows) for part in parts} == {1, 2, 3}
    alone = ranks.trained(tmp_path)
    for facts in each:
        assert losses(facts["curve"]) == pytest.approx(losses(alone.curve), abs=1e-5)
        assert facts["tokens"] == alone.tokens
    assert_close(tmp_path / "out", folder / "whole" / "out", 1e-5)
    names = [{file.name for file in (place / "out").iterdir()} for place in (tmp_path, folder / "whole")]
    assert names[0] == names[1]
    config = "out/config.json"
    assert (tmp_path / config).read_text() == (folder / "whole" / config).read_text()


def test_the_weights_are_in_parts_while_they_are_trained(each: Any) -> None:
    """Each holds about half of every weight: 7360 together, whole nowhere."""
    assert all(facts["weights"]["parts"] for facts in each)
    assert [facts["weights"]["whole"] for facts in each] == [7360, 7360]
    assert sum(facts["weights"]["here"] for facts in each) == 7360
    assert all(3000 < facts["weights"]["here"] < 4400 for facts in each)


def test_an_interrupted_run_goes_on_where_it_was(folder: Path, each: Any) -> None:
    """Killed in step 5 with a state every 2 steps; the snapshot of step 2 is from before, and the end is the same."""
    assert [facts["resumed"] for facts in each] == [[5, 6], [5, 6]]
    assert_close(folder / "whole" / "out", folder / "resumed" / "out", 1e-6)
    assert_close(folder / "resumed" / "out", folder / "resumed" / "out" / "step-000006", 0.0)
    with pytest.raises(AssertionError):
        assert_close(folder / "resumed" / "out", folder / "resumed" / "out" / "step-000002", 1e-6)


def test_one_process_does_not_go_on_from_the_state_of_two(folder: Path) -> None:
    with pytest.raises(UserError, match=r"interrupted while several processes .* start it as before, or delete"):
        resumable(folder / "resumed" / "scratch")


def test_the_loss_that_ends_training_is_that_of_all_rows(each: Any, tmp_path: Path) -> None:
    """Half of the 5 passages have half of the loss, so that either process alone would stop at once."""
    steps = ranks.until(tmp_path)
    assert 1 < steps < 8
    assert [facts["until"] for facts in each] == [steps, steps]


def test_autocast_keeps_float32_weights_in_parts(folder: Path, each: Any, tmp_path: Path) -> None:
    """The same arithmetic as in one process: bfloat16 rounds differently from float32, but alike in both."""
    alone = ranks.trained(tmp_path, autocast=True, checkpointing=True)
    assert losses(each[0]["autocast"]) == pytest.approx(losses(alone.curve), abs=2e-3)
    assert losses(each[0]["autocast"]) != pytest.approx(losses(each[0]["curve"]), abs=1e-5)
    assert {tensor.dtype for tensor in weights(folder / "autocast" / "out").values()} == {torch.float32}


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
SMALL = "tofu.width=16 tofu.authors=10 tofu.history_steps=4 tofu.target_steps=4 msa.steps=2 npo.steps=2"


@pytest.mark.slow
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
        assert len(values) > 10 and values == pytest.approx(expected, abs=2e-3, rel=1e-5)


def records(out: Path) -> dict[str, Any]:
    return {file.name: json.loads(file.read_text()) for file in (out / "lab" / "tofu" / "lab").glob("*.json")}


# --- without torchrun


def probe(name: str, kind: str, n: int) -> Probe:
    return Probe(name, kind, tuple(Example(f"{name}-{i}", {"prompt": "", "answer": "a"}) for i in range(n)))


def test_shares_are_merged_in_the_order_of_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 rows over 3 processes: 0 3, 1 4 and 2; a task of lm-eval is asked whole by one of them."""
    probes = [probe("rows", "logprob", 5), probe("one", "generate", 1), probe("task", "lm-eval", 2)]
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "_ring", distributed.Ring(None, rank, 3))
        parts.append({part.name: {row.id: {"by": rank} for row in part.examples} for part in shared(probes)})
    assert [list(part.get("rows", {})) for part in parts] == [["rows-0", "rows-3"], ["rows-1", "rows-4"], ["rows-2"]]
    assert [list(part) for part in parts] == [["rows", "one", "task"], ["rows"], ["rows"]]
    found = merged(probes, parts)
    assert [row["by"] for row in found["rows"].values()] == [0, 1, 2, 0, 1]
    assert {name: list(rows) for name, rows in found.items()} == {
        probe.name: [row.id for row in probe.examples] for probe in probes
    }


def test_work_is_added_up_and_seconds_are_the_longest() -> None:
    assert total_cost([{"positions": 3, "seconds_logprob": 1.0}, {"positions": 4, "seconds_logprob": 2.5}]) == {
        "positions": 7,
        "seconds_logprob": 2.5,
    }


def test_what_does_not_go_with_torchrun_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.problems("cuda:1", 4, 8) == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert distributed.problems("cpu", None, 0) == distributed.problems("cpu", 1, 0) == []
    found = distributed.problems("cuda:1", 4, 8)
    assert len(found) == 3 and "--jobs 4" in found[0] and "--lora 8" in found[1] and "say cuda" in found[2]
    with pytest.raises(UserError, match="bench run` and `reproduce`"):
        check_processes(ConvNet(4), use_cpu=True)


def test_adapters_are_refused_and_several_gpus_in_one_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Adapted(ConvNet):
        def merge_and_unload(self) -> ConvNet:
            return self

    check_processes(Adapted(4), use_cpu=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="torchrun --nproc-per-node N"):
        check_processes(ConvNet(4), use_cpu=False)
    monkeypatch.setattr(distributed, "_ring", distributed.Ring(None, 0, 2))
    with pytest.raises(UserError, match="trained in one process"):
        check_processes(Adapted(4), use_cpu=True)
