from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.assets.shapes import (
    SHAPES,
    Shape,
    read_shape,
)
from bench.core import machine as memory
from bench.core.compute import Compute
from bench.core.contracts import Outline, Recipe
from bench.core.machine import MEASURE_BYTES, Machine
from bench.core.record import RunSpec, Step
from bench.lab.model import small_llama
from bench.runs.estimate import (
    PROCESS_BYTES,
    Estimate,
    Size,
    default_rate,
    estimate,
    known_rate,
    measuring_bytes,
    merging_bytes,
    operations,
    round_seconds,
    seen_rates,
    state_bytes,
    training_bytes,
)
from bench.runs.store import NodeRequest, Store
from methods.ga import GradientAscent

SMALL = Shape(hidden=4, layers=2, inner=8, vocabulary=10, heads=2, groups=1, parameters=1000)
KEPT = 12 * 4 + 4 * 8
"""Numbers that a layer of `SMALL` keeps for each token: 80."""


def way(checkpointing: bool = False, world: int = 1, **compute: Any) -> tuple[Compute, Machine]:
    """How training computes, and where: on one worker, as usual but for what is given."""
    return Compute(**compute), Machine(jobs=1, checkpointing=checkpointing, world=world)


# Memory, by hand


def test_training_takes_weights_gradients_moments_and_activations() -> None:
    """1000 parameters; 8 rows of 5 tokens: 40 positions, each 2 layers of 80 numbers and three times 10 logits."""
    ends = 2 * 10 * 4 * 4
    assert training_bytes(SMALL, *way(), 5) == PROCESS_BYTES + 16_000 + ends + 40 * (2 * KEPT * 4 + 3 * 4 * 10)
    twice = training_bytes(SMALL, *way(), 5, streams=2) - training_bytes(SMALL, *way(), 5)
    assert twice == 40 * (2 * KEPT * 4 + 120)


def test_each_flag_takes_less_in_its_own_way() -> None:
    def without_process(**changes: Any) -> int:
        return training_bytes(SMALL, *way(micro=1, **changes), 1) - PROCESS_BYTES

    whole = 16_000 + 320 + 2 * KEPT * 4 + 120
    assert without_process() == whole
    # two layers' inputs of 4 numbers, and one layer's 80
    assert without_process(checkpointing=True) == whole - 2 * KEPT * 4 + (2 * 4 * 4 + KEPT * 4)
    # half of everything but the loss, which is float32
    assert without_process(dtype="bfloat16") == 8_000 + 160 + 2 * KEPT * 2 + 120
    # frozen weights; rank 1: q and o 8 each, k and v 4 + 2, gate, up and down 12 each: 64 a layer
    assert SMALL.adapters(1) == 2 * (8 + 8 + 6 + 6 + 36)
    # a layer's outputs once more: q and o 4 each, k and v 2, gate and up 8, down 4
    assert without_process(lora=1) == 4_000 + 128 * 16 + 2 * (KEPT + 32) * 4 + 120
    # bfloat16 copies of the weights; halved activations but for the norms' 2 x 4 numbers in float32
    assert without_process(autocast=True) == 16_000 + 320 + 2_000 + 2 * (KEPT * 2 + 2 * 4 * 4) + 120
    # a half of each; four times a block of 3 * 16 + 96, and the 1000 - 2 * 144 outside of them whole
    assert SMALL.block == 144
    assert without_process(world=2) == 8_000 + (4 * 144 + 712) * 4 + 320 + 2 * KEPT * 4 + 120


def test_measuring_holds_two_oracles_at_a_time_and_merging_no_model() -> None:
    assert measuring_bytes(SMALL, Compute(), 2) - measuring_bytes(SMALL, Compute(), 1) == 4_000
    assert measuring_bytes(SMALL, Compute(), 5) == measuring_bytes(SMALL, Compute(), 2)
    assert measuring_bytes(SMALL, Compute(), 1) == measuring_bytes(SMALL, Compute(), 0), (
        "a gradient is as large as a model"
    )
    assert measuring_bytes(SMALL, Compute(), 1, gpu=10**9) == measuring_bytes(SMALL, Compute(), 1)
    larger = measuring_bytes(SMALL, Compute(), 1, gpu=25 * 10**9) - measuring_bytes(SMALL, Compute(), 1)
    assert larger == 7 * MEASURE_BYTES, "eight times a CPU's batches, in a third of the GPU's 25 GB"
    assert merging_bytes(SMALL) == PROCESS_BYTES + 3 * 4 * 40


def test_disk_is_checkpoints_and_resumable_states() -> None:
    """Five checkpoints of 4 kB; a state is weights and two moments, and three of them lie there for each worker."""
    size = Size(SMALL, 5, 1, 2, checkpoints=5)
    assert state_bytes(SMALL, Compute()) == 12_000
    assert size.disk(Compute(), Machine(jobs=2)) == 5 * 4_000 + 2 * 3 * 12_000
    assert size.disk(*way(dtype="bfloat16")) == 5 * 2_000 + 3 * 6_000
    assert size.disk(*way(lora=1)) == 5 * 4_000 + 3 * 128 * 12
    assert replace(size, trains=False).disk(Compute(), Machine(jobs=2)) == 5 * 4_000


def test_the_largest_thing_that_a_worker_does_counts() -> None:
    size = Size(SMALL, 5, 1, 2, 5)
    assert size.worker(*way()) == max(size.parts(*way()).values()) == measuring_bytes(SMALL, Compute(), 2)
    assert size.worker(*way(micro=10**6)) == training_bytes(SMALL, *way(micro=10**6), 5)
    assert "training" not in replace(size, trains=False).parts(*way())


def test_the_estimate_of_a_real_step_is_near_what_it_takes() -> None:
    """SmolLM2-135M, peak of two optimiser steps on rows of 128 tokens, one thread, torch 2.x on a CPU (GB).

    Where a step is one pass (micro = batch) gradients come as activations go, so that less is held at once.
    """
    shape = SHAPES["smollm2-135m-instruct-q4"]
    measured = {
        way(micro=1): 3.344,  # batch 2
        way(micro=4): 4.032,  # batch 8
        way(): 4.539,
        way(checkpointing=True): 3.333,
        way(autocast=True): 4.190,
        way(lora=8): 4.052,
        way(dtype="bfloat16"): 3.068,
    }
    for how, fact in measured.items():
        assert 0.98 < training_bytes(shape, *how, 128) / 1e9 / fact < 1.2, how


def test_a_tiny_step_takes_what_is_estimated(tmp_path: Path) -> None:
    """The formula's own part, without the process: parameters and activations of a model made for it, within a half."""
    from bench.core.contracts import Stream
    from bench.engines.coding import Texts
    from bench.engines.training.losses import descent
    from bench.engines.training.trainer import train
    from tests.tiny import passage, tokenizer

    words = tokenizer()
    model = small_llama(len(words), 512, layers=4, positions=128, seed=0)
    model.save_pretrained(tmp_path / "model")
    shape = read_shape(tmp_path / "model")
    assert shape is not None
    text = " ".join(words.decode([i]) for i in range(4, 12)) + " "
    rows = tuple(passage(i, (text * 12).strip()) for i in range(16))
    tokens = Texts(words).encode(rows[0].payload).length
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this kernel doesn't let a process forget its peak")
    memory.reset_peak()
    before = memory.peak_memory()
    train(
        model,
        Texts(words),
        [Stream(rows, 16, descent())],
        Recipe(2, 1e-4),
        seed=0,
        out=tmp_path / "out",
        scratch=tmp_path / "scratch",
        micro=8,
    )
    expected = training_bytes(shape, *way(), tokens) - PROCESS_BYTES - 4 * shape.parameters  # weights are there already
    assert 0.5 < (memory.peak_memory() - before) / expected < 1.5


# Time


def node(root: Path, number: int, seconds: float, device: str = "cpu", parameters: int = 1000) -> None:
    meta = {"tokens": 500, "parameters": parameters, "train_seconds": seconds}
    Store(root).build(NodeRequest({"number": number}, "trained", {"device": device}), lambda _: meta)


def test_rates_are_those_of_all_nodes_of_the_size_whatever_else_is_there(tmp_path: Path) -> None:
    for number in range(3):
        node(tmp_path, number, 2.0)
    for number in range(3, 600):
        node(tmp_path, number, 2.0, parameters=10**9)
    node(tmp_path, 600, 4.0)
    node(tmp_path, 601, 4.0, "cuda")
    assert seen_rates(Store(tmp_path), 1000) == [1.5e6] * 3 + [0.75e6]


def test_a_gpus_rate_is_its_own(tmp_path: Path) -> None:
    """6 * 1000 * 500 operations in 2 s and in 3 s."""
    node(tmp_path, 0, 2.0)
    node(tmp_path, 1, 3.0, "cuda:1")
    assert known_rate(Store(tmp_path), 1000) == 1.5e6 and seen_rates(Store(tmp_path), 1000, "cuda:0") == [1e6]
    assert seen_rates(Store(tmp_path / "empty"), 10**9, "cuda") == []
    assert default_rate(10**9, "cuda", "bfloat16", "NVIDIA H100 80GB HBM3") == 0.35 * 989e12
    assert default_rate(10**9, "cuda", "float32", "NVIDIA A100-SXM4-40GB") == 0.03 * 312e12
    assert default_rate(10**9, "cuda", "bfloat16", "a card of tomorrow") == 0.35 * 100e12


def test_operations_follow_what_is_computed() -> None:
    ways = (way(), way(checkpointing=True), way(lora=8), way(lora=8, checkpointing=True))
    assert [operations(*each) for each in ways] == [6, 8, 4, 6]


# A plan's work, by hand

STAGES = {"history": 100, "target": 50, "oracle-0": 40, "oracle-1": 40}
WORK = Outline(1000, 10, STAGES, forget=8, retain=30, probe_rows=50)
"""Rows of 10 tokens and 1,000 parameters: 60,000 operations to train on one."""
A_ROW = 60_000 / 25e9
"""Seconds of it at the default rate of small models."""


def run_of(*steps: Step, **fields: Any) -> RunSpec:
    return RunSpec("tofu", {}, "lab", "lab", steps, **{"seed": 0, **fields})


GA = run_of(Step("ga", {"steps": 2}))
"""Two steps of at most 32 rows: 16 of the 8 forget rows."""
NPO = run_of(Step("npo", {"steps": 3}))
"""Three steps of 8 forget and 8 retain rows, and a third of a pass for the reference: 48 + 2 rows."""


def test_the_work_of_a_plan_is_its_stages_and_its_runs(tmp_path: Path) -> None:
    """A row that is asked takes .4 of one that is trained: 20 of 50; --limit 2 cuts each of 10 probes, so 8 of 20."""
    todo = [run_of(), GA, NPO, replace(GA, limit=2), replace(GA, steps=(*GA.steps, *NPO.steps))]
    made = estimate(todo, WORK, *way(), Store(tmp_path))
    assert made.stages == pytest.approx({name: rows * A_ROW for name, rows in STAGES.items()})
    rows = [20, 16 + 20, 50 + 20, 16 + 8, 16 + 50 + 20]
    assert made.runs == pytest.approx({spec.key: n * A_ROW for spec, n in zip(todo, rows, strict=True)})
    assert made.memory == PROCESS_BYTES + 16 * 1000 and made.size is None and made.guessed
    assert estimate([], WORK, *way(), Store(tmp_path)).runs == {}


def test_time_follows_the_rate_of_the_store_and_the_way_of_training(tmp_path: Path) -> None:
    """3e6 operations in 2 s, where 25e9 a second are the default; checkpointing takes 8 for 6; two processes half."""
    node(tmp_path, 0, 2.0)
    store = Store(tmp_path)
    made = estimate([GA], WORK, *way(), store)
    assert not made.guessed and made.runs[GA.key] == pytest.approx(36 * 60_000 / 1.5e6)
    slower = estimate([GA], WORK, *way(checkpointing=True), store)
    assert slower.runs[GA.key] == pytest.approx(made.runs[GA.key] * 8 / 6)
    both = estimate([GA], WORK, *way(world=2), store)
    assert both.stages["target"] == pytest.approx(made.stages["target"] / 2)


def test_on_a_gpu_that_nobody_has_trained_on_its_name_tells_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Machine(jobs=1, device="cuda:1", world=1)
    for name, peak in (("NVIDIA A100-SXM4-40GB", 312e12), (None, 100e12)):
        gpu = memory.Gpu(name, 40 * 10**9) if name else None
        monkeypatch.setattr(memory, "ask_gpu", lambda device, gpu=gpu: gpu)
        made = estimate([GA], WORK, Compute("bfloat16"), card, Store(tmp_path))
        assert made.runs[GA.key] == pytest.approx(36 * 60_000 / (0.35 * peak))


def test_what_lies_beside_the_model_counts_and_with_adapters_the_target_is_the_model_itself() -> None:
    """1,000 parameters of 4 bytes each: the target one model more, another checkpoint one more in any case."""
    alone, target, both = (Size(SMALL, 5, 1, 2, 5, target=t, beside=n) for t, n in ((False, 0), (True, 0), (True, 1)))

    def training(size: Size, **asked: Any) -> int:
        return size.parts(*way(**asked))["training"]

    assert [training(size) - training(alone) for size in (target, both)] == [4_000, 8_000]
    assert [training(size, lora=1) - training(alone, lora=1) for size in (target, both)] == [0, 4_000]


def test_what_is_trained_lies_in_memory_twice_under_sharpness_aware_minimisation(tmp_path: Path) -> None:
    """One copy of the weights, or of the adapters alone."""
    alone, sharp = (
        estimate([run_of(Step("npo", {"steps": 3, "sharpness": rho}))], WORK, *way(), Store(tmp_path), shape=SMALL).size
        for rho in (0.0, 0.05)
    )
    assert alone and sharp and sharp == replace(alone, twice=True)

    def training(size: Size, **asked: Any) -> int:
        return size.parts(*way(**asked))["training"]

    assert training(sharp) - training(alone) == SMALL.parameters * 4
    assert training(sharp, lora=1) - training(alone, lora=1) == SMALL.adapters(1) * 4


def test_a_trace_measures_its_points_and_keeps_their_checkpoints(tmp_path: Path) -> None:
    """Four points have three checkpoints between target and result; what makes nothing has none."""
    compute, machine = way()
    plain, traced = (
        estimate([GA, run_of()], WORK, compute, replace(machine, trace=points), Store(tmp_path), shape=SMALL)
        for points in (0, 4)
    )
    assert plain.size and traced.size and traced.size.checkpoints - plain.size.checkpoints == 3
    assert traced.runs[GA.key] - plain.runs[GA.key] == pytest.approx(3 * 20 * A_ROW)
    assert traced.runs[run_of().key] == plain.runs[run_of().key]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (("target",), {"history", "oracle-0", "oracle-1"}),
        (("oracle-0",), {"history", "target"}),
        (("target", "oracle-0", "oracle-1"), {"history"}),
    ],
)
def test_what_was_trained_elsewhere_is_left_out(given: tuple[str, ...], left: set[str], tmp_path: Path) -> None:
    """One oracle from elsewhere takes the place of all that would have been trained."""
    made = estimate([GA], WORK, *way(), Store(tmp_path), given, SMALL)
    assert set(made.stages) == left and made.size is not None
    assert made.size.oracles == sum("oracle" in name for name in {*given, *left})


def test_a_real_models_size_is_counted_over_seeds_and_steps(tmp_path: Path) -> None:
    """Four stages on each of two seeds, and one checkpoint of each method's step."""
    todo = [GA, NPO, replace(GA, seed=1), run_of()]
    made = estimate(todo, WORK, *way(), Store(tmp_path), shape=SMALL)
    assert made.size == Size(SMALL, 10, streams=2, oracles=2, checkpoints=2 * 4 + 3, trains=True)
    assert made.memory == made.size.worker(*way())
    assert estimate([], WORK, *way(), Store(tmp_path), shape=SMALL).size == Size(SMALL, 10, 1, 2, 0, trains=False)


def test_the_way_that_takes_the_most_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages with a recipe of their own in bfloat16, and a method that trains adapters by itself."""
    large = replace(SMALL, parameters=10**9)
    own = replace(WORK, recipe=Recipe(1, 1e-3, dtype="bfloat16"))

    def most(outline: Outline, todo: list[RunSpec]) -> Compute:
        return estimate(todo, outline, *way(), Store(tmp_path), shape=large).compute

    assert most(own, [run_of()]) == Compute("bfloat16"), "nothing but the stages is trained"
    assert most(own, [GA]) == Compute(), "the method trains in float32"
    monkeypatch.setattr(GradientAscent, "adapters", lambda self: 4)
    assert most(own, [GA]) == Compute("bfloat16") and most(WORK, [GA]) == Compute()
    assert most(replace(WORK, stages={}), [GA]) == Compute(lora=4)
    assert most(replace(WORK, stages={}), [run_of()]) == Compute(), "nothing is trained at all"


def test_what_lies_beside_a_training_is_of_that_training_alone(tmp_path: Path) -> None:
    """Stages of all weights hold no target: beside a training of adapters, whose base it is, none is counted."""
    large = replace(SMALL, parameters=10**9)

    def made(step: Step) -> Estimate:
        return estimate([run_of(step)], WORK, *way(), Store(tmp_path), shape=large)

    plain = made(Step("ga", {"steps": 2}))
    adapted = made(Step("undial", {"steps": 2, "lora": 8}))
    assert adapted.compute == Compute() and adapted.memory == plain.memory
    assert made(Step("undial", {"steps": 2})).memory >= plain.memory + 4 * 10**9


def test_every_process_holds_its_part_of_the_weights_and_the_adapters_whole() -> None:
    """For rows of no tokens, where weights, gradients and moments are all there is beside the process."""
    size = SHAPES["smollm2-135m-instruct-q4"]
    outside = size.parameters - size.layers * size.block
    for lora, trained in ((0, 12 * size.parameters), (8, 16 * size.adapters(8))):
        ends = 0 if lora else 8 * size.vocabulary * size.hidden
        undivided = 4 * (outside + (2 if lora else 4) * size.block)
        for world in (1, 2, 4):
            found = training_bytes(size, Compute(lora=lora), Machine(jobs=1, world=world), 0)
            parts = 4 * size.parameters / world + (undivided if world > 1 else 0)
            assert found == pytest.approx(700_000_000 + parts + (trained if lora else trained / world) + ends, abs=2)


# The machine


def test_a_containers_limit_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.total_memory()
    assert whole > 10**8
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    for text, found in (("1000000", 10**6), ("max", whole), (str(2**62), whole)):
        (tmp_path / "memory.max").write_text(f"{text}\n")
        assert abs(memory.total_memory() - found) < 10**6


def test_a_gpu_is_asked_of_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "nvidia-smi"
    asked.write_text('#!/bin/sh\n[ "$1" = "--id=1" ] && echo "NVIDIA H100 80GB HBM3, 81559"\n')
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert memory.ask_gpu("cuda:1") == memory.Gpu("NVIDIA H100 80GB HBM3", 81559 * 2**20)
    assert memory.ask_gpu("cuda") is None, "a driver that says nothing"
    monkeypatch.setenv("PATH", "")
    assert memory.ask_gpu("cuda:1") is None, "no driver"


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 0.0), (0.004, 0.1), (0.26, 0.3), (12.34, 12.3)])
def test_a_short_time_is_told_from_one_that_nobody_knows(seconds: float, told: float) -> None:
    assert round_seconds(seconds) == told
