"""The ledger: retain rows that training can have seen, and checkpoints of the past that anything was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.core.contracts import Recipe, Stream
from bench.core.types import Checkpoint, Example
from bench.engines.training.losses import Ascent, NextToken
from bench.runs.context import Work
from bench.runs.method_context import Ledger, MethodContext
from bench.runs.store import Store
from tests.tiny import llama, qa, saved, tokenizer

FORGET = tuple(qa(i, f"w{i} ?", f"w{i + 1}") for i in range(4))
RETAIN = tuple(qa(10 + i, f"w{i} w{i} ?", f"w{i + 2}") for i in range(10))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, ...]:
    """A target and two checkpoints of its past."""
    folder = tmp_path_factory.mktemp("models")
    names = ("target", "early", "late")
    return tuple(saved(llama(seed), tokenizer(), folder / name, name) for seed, name in enumerate(names))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(Store(tmp_path), seed=0, provenance={})


def ledger_of(models: tuple[Checkpoint, ...]) -> Ledger:
    return Ledger({row.id for row in RETAIN}, {each.hash for each in models[1:]})


def ids(rows: tuple[Example, ...]) -> set[str]:
    return {row.id for row in rows}


def test_a_method_that_did_nothing_used_nothing(models: tuple[Checkpoint, ...], work: Work) -> None:
    ledger = ledger_of(models)
    context = MethodContext(work, ledger)
    assert context.seed == 0
    assert ledger == ledger_of(models) and work.nodes == {}


@pytest.mark.parametrize(("steps", "batch", "seen"), [(1, 3, 3), (2, 3, 6), (3, 4, 10)])
def test_retain_rows_count_as_far_as_training_can_have_come(
    steps: int, batch: int, seen: int, models: tuple[Checkpoint, ...], work: Work
) -> None:
    """Steps times batch rows from the first on, at most all ten; forget rows are never counted."""
    ledger = ledger_of(models)
    streams = [Stream(FORGET, 2, Ascent()), Stream(RETAIN, batch, NextToken())]
    MethodContext(work, ledger).train(models[0], streams, Recipe(steps, 1e-3), "tuned")
    assert ledger.retain_seen == ids(RETAIN[:seen]) and ledger.past_used == set()


def test_rows_add_up_over_several_trainings(models: tuple[Checkpoint, ...], work: Work) -> None:
    ledger = ledger_of(models)
    context = MethodContext(work, ledger)
    for part in (RETAIN[:2], RETAIN[1:3], FORGET):
        context.train(models[0], [Stream(part, 2, NextToken())], Recipe(1, 1e-3), "tuned")
    assert ledger.retain_seen == ids(RETAIN[:3])


def train(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.train(past, [Stream(FORGET, 4, NextToken())], Recipe(1, 1e-3), "theta_1")


def combine(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.combine([(1.0, target), (-0.5, past)], "sum")


def cast(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.cast(past, "bfloat16")


def scramble(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.scrambled(past, target, "shuffled")


def quantise(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.quantise(past, "int4")


def compare(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.compare_rounded(target, past, "nf4")


def describe(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.describe_update(past, target)


def weigh(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.influence(past, FORGET, RETAIN[:5], "fisher")


def sample(context: Any, target: Checkpoint, past: Checkpoint) -> None:
    context.sample(past, RETAIN[:3], 2, 4)


@pytest.mark.parametrize(
    ("use", "rows"),
    [*((use, 0) for use in (train, combine, cast, scramble, quantise, compare, describe)), (weigh, 5), (sample, 3)],
)
def test_each_way_of_using_the_past_is_entered(use: Any, rows: int, models: tuple[Checkpoint, ...], work: Work) -> None:
    target, early, late = models
    ledger = ledger_of(models)
    use(MethodContext(work, ledger), target, late)
    assert ledger.past_used == {late.hash} and ledger.retain_seen == ids(RETAIN[:rows])


def test_work_on_the_target_alone_uses_no_past(models: tuple[Checkpoint, ...], work: Work) -> None:
    ledger = ledger_of(models)
    for use in (train, combine, cast):
        use(MethodContext(work, ledger), models[0], models[0])
    assert ledger.past_used == set()


def test_what_is_cached_already_is_entered_all_the_same(models: tuple[Checkpoint, ...], work: Work) -> None:
    """A second seed of a method finds the sum in the store, and has used the past for it nonetheless."""
    for _ in range(2):
        ledger = ledger_of(models)
        combine(MethodContext(work, ledger), *models[:2])
        assert ledger.past_used == {models[1].hash}
    assert len(work.built) == 1


def test_a_methods_nodes_are_its_own(models: tuple[Checkpoint, ...], work: Work) -> None:
    """Asking for the task's own training gives another node, whose weights are the same."""
    asked = (models[0], [Stream(FORGET, 4, NextToken())], Recipe(1, 1e-3), "target")
    tasks, methods = work.train(*asked), MethodContext(work, ledger_of(models)).train(*asked)
    assert tasks.path != methods.path and tasks.hash == methods.hash
    assert sorted(node.info["fields"]["owner"] for node in work.nodes.values()) == ["method", "task"]


def test_notes_and_folders_of_a_method(models: tuple[Checkpoint, ...], work: Work) -> None:
    ledger = ledger_of(models)
    context = MethodContext(work, ledger)
    context.note(rank=3, kept=[1, 2])
    context.note(rank=4)
    assert ledger.notes == {"rank": 4, "kept": [1, 2]}

    def make(folder: Path) -> None:
        (folder / "mask").write_text("0101")

    folder = context.cached({"mask": "of forget rows"}, make, "mask")
    assert (folder / "mask").read_text() == "0101"
    assert context.cached({"mask": "of forget rows"}, make, "mask") == folder


def test_answers_are_sampled_by_the_seed_and_kept(models: tuple[Checkpoint, ...], tmp_path: Path) -> None:
    """Each prompt's answers differ among each other and with the seed, and come from the store the second time."""
    works = [
        Work(Store(tmp_path / name), seed=seed, provenance={})
        for name, seed in (("a", 0), ("a", 0), ("b", 0), ("c", 1))
    ]
    said = [MethodContext(work, ledger_of(models)).sample(models[0], FORGET, 3, 6) for work in works]
    assert said[0] == said[1] == said[2] != said[3]
    assert [len(each) for each in said[0]] == [3] * 4 and len({text for each in said[0] for text in each}) > 6
    assert [len(work.built) for work in works] == [1, 0, 1, 1]
    assert max(len(text.split()) for each in said[0] for text in each) <= 6


def test_sampled_answers_end_at_the_stops_and_do_not_see_the_true_one(
    models: tuple[Checkpoint, ...], work: Work
) -> None:
    context = MethodContext(work, ledger_of(models))
    plain = context.sample(models[0], FORGET[:1], 8, 12)[0]
    word = next(text for text in plain if len(text.split()) > 2).split()[1]
    cut = context.sample(models[0], FORGET[:1], 8, 12, [word])[0]
    assert cut == [text[: text.find(word)] if word in text else text for text in plain] and cut != plain
    others = tuple(qa(i, f"w{i} ?", "w30") for i in range(1))
    assert context.sample(models[0], others, 8, 12)[0] == plain and len(work.built) == 2
