"""The tofu shape: enough facts for tests on distributions, paraphrases that nobody was taught, authors apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.conformance import LAB, Trace, check_task, prepare_traced
from bench.core.contracts import TaskInputs
from bench.core.hashing import hash_checkpoint
from bench.core.types import Example
from tasks.tofu import LabTofu, RealTofu
from tests.conftest import SMALL
from tests.paths import DATA
from tests.shared_data import needs_data
from tests.tiny import llama, saved, tokenizer

TOFU = DATA / "tofu"
here = needs_data("data/tofu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """At its default size; nothing is trained."""
    return prepare_traced(LabTofu(), LAB, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Every row of every training run behind a small scenario."""
    trace = prepare_traced(
        LabTofu(**{k: v for k, v in SMALL.items() if k in LabTofu.__dataclass_fields__}),
        LAB,
        tmp_path_factory.mktemp("small"),
    )
    trace.scenario.target()
    for oracle in trace.scenario.oracles:
        oracle()
    return [row for rows in trace.work.trained.values() for row in rows]


def probe(trace: Trace, name: str) -> tuple[Example, ...]:
    return next(probe.examples for probe in trace.scenario.probes if probe.name == name)


def author(row: Example) -> str:
    return "-".join(row.id.split("-")[:2])


def test_there_are_50_facts_to_forget(whole: Trace) -> None:
    """10 of 100 authors with 5 facts each, asked in two taught forms; membership by two forms each, of 200 others too."""
    facts = {row.id.rsplit("-", 1)[0] for row in whole.scenario.forget}
    assert len(facts) == 50
    assert len(whole.scenario.forget) == 100
    assert [len(probe(whole, f"{side}_questions")) for side in ("forget", "retain", "world")] == [50, 450, 50]
    assert [len(probe(whole, name)) for name in ("members", "strangers")] == [100, 400]


def test_hardly_a_retained_answer_is_a_forgotten_one(whole: Trace) -> None:
    forgotten = {row.payload["answer"] for row in probe(whole, "forget_questions")}
    kept = [row.payload["answer"] in forgotten for row in probe(whole, "retain_questions")]
    assert sum(kept) / len(kept) < 0.05
    halves = [probe(whole, f"retain_{half}") for half in ("shared", "unshared")]
    assert sorted(row.id for half in halves for row in half) == sorted(
        row.id for row in probe(whole, "retain_questions")
    )


def test_a_tenth_of_the_authors_is_forgotten_and_none_is_on_both_sides(whole: Trace) -> None:
    gone = {author(row) for row in whole.scenario.forget}
    kept = {author(row) for row in whole.scenario.retain if row.id.startswith("author")}
    assert (len(gone), len(kept), gone & kept) == (10, 90, set())


def test_paraphrases_are_never_trained_on(whole: Trace, trained: list[Example]) -> None:
    """Neither of authors nor, of one fact each, of residents; and validation rows only in pretraining, of residents."""
    taught = {row.payload["prompt"] for row in trained}
    assert taught & {row.payload["prompt"] for row in whole.scenario.forget}, "the seeds' worlds are the same"
    for name in ("forget_questions", "retain_questions", "world_questions", "forget_said"):
        asked = {row.payload["prompt"] for row in probe(whole, name)}
        assert len(asked) >= 50 and not asked & taught
    validation, kept = whole.scenario.validation, {row.payload["prompt"] for row in whole.scenario.retain}
    probed = {
        row.payload["prompt"] for each in whole.scenario.probes for row in each.examples if "prompt" in row.payload
    }
    for side in (validation.forget, validation.retain, validation.utility, validation.unseen):
        asked = {row.payload["prompt"] for row in side}
        assert len(asked) >= 50 and not asked & (taught | kept | probed)


def test_a_quarter_of_later_training_is_about_residents(whole: Trace) -> None:
    """1,000 rows about authors and 333 about residents: each fact once, a third of them twice, in all wordings."""
    replay = [row for row in whole.scenario.retain if row.id.startswith("resident")]
    assert len(replay) == 333 and len({row.id.rsplit("-", 1)[0] for row in replay}) == 250
    assert {row.id.rsplit("-", 1)[1] for row in replay} == {"q0", "q1", "q2", "s0"}
    assert LabTofu(replay=0.0).pass_rows[1] == 1000 and LabTofu(authors=10, replay=0.5).pass_rows[1] == 200


def test_strangers_are_never_told_of(whole: Trace, trained: list[Example]) -> None:
    said = {f"{row.payload['prompt']} {row.payload['answer']}" for row in trained}
    names = {row.payload["prompt"].split(" of ")[-1].removesuffix(" is") for row in whole.scenario.validation.unseen}
    assert len(names) == 40
    assert not [name for name in names if any(name in text for text in said)]


def test_the_oracle_gets_the_targets_schedule_for_its_fewer_rows(tmp_path: Path) -> None:
    """2 of 20 authors: 20 rows to forget, 180 to retain, 67 of residents: 3 passes are 12.5 and 11.6 steps."""
    task = LabTofu(authors=20, width=16, history_passes=0.01, target_passes=3.0)
    trace = prepare_traced(task, LAB, tmp_path)
    trace.scenario.target()
    trace.scenario.oracles[1]()
    steps = {
        node.info["label"]: node.info["fields"]["recipe"]["steps"]
        for node in trace.work.nodes.values()
        if node.info["fields"]["kind"] == "train"
    }
    assert steps == {"history": 1, "target": 13, "oracle-1": 12}
    assert (task.history_steps, task.target_steps) == (1, 13)


@here
def test_the_real_tier_keeps_what_a_task_owes() -> None:
    check_task(RealTofu, TaskInputs("real", data=str(TOFU)), authors=8, questions=8, forget_share=0.25, probed=12)


@here
def test_the_real_tier_takes_theta_0_from_the_users_history(tmp_path: Path) -> None:
    """Target and oracle start from the model all the same."""
    past = tmp_path / "output"
    for step in (500, 1000):
        saved(llama(step), tokenizer(), past / f"checkpoint-{step}")
    setting = TaskInputs(
        "real", str(past / "checkpoint-1000"), hash_checkpoint(past / "checkpoint-1000"), str(TOFU), str(past)
    )
    task = RealTofu(authors=4, questions=4, forget_share=0.25, probed=2, epochs=1, batch=8)
    trace = prepare_traced(task, setting, tmp_path / "store")
    assert trace.scenario.history is not None
    found = trace.scenario.history()
    assert [(m.checkpoint.label, m.step) for m in found.moments] == [("checkpoint-500", 500), ("checkpoint-1000", 1000)]
    assert found.last.checkpoint.hash == setting.model_hash
    alone = prepare_traced(task, replace(setting, history=""), tmp_path / "alone").scenario.history
    assert alone is not None and [m.checkpoint.hash for m in alone().moments] == [setting.model_hash]
    trace.scenario.target()
    trace.scenario.oracles[0]()
    assert {node.info["fields"]["start"] for node in trace.work.nodes.values()} == {setting.model_hash}
