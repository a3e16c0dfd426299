"""Responses as nodes: measured once, found again, and made anew by whatever changes an answer."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest

from bench.core.contracts import Scenario
from bench.core.errors import UserError
from bench.core.types import Checkpoint, Probe, Validation
from bench.runs.context import Work
from bench.runs.responses import grade_node, load_responses, measure_node
from bench.runs.store import Store
from tests.tiny import distributed, letters_tokenizer, passage, saved

ROWS = (passage(0, "a b"), passage(1, "c c a"))
PROBE = Probe("said", "logprob", ROWS)


@pytest.fixture
def model(tmp_path: Path) -> Checkpoint:
    """Says a, b or c with 1/2, 1/4 and 1/8, whatever it has read."""
    words = letters_tokenizer()
    spread = {("a", "b", "c")[i]: share for i, share in enumerate((0.5, 0.25, 0.125))} | {words.eos_token: 0.125}
    return saved(distributed(spread), words, tmp_path / "model", "model")


def scenario(*probes: Probe) -> Scenario:
    """Nothing but probes."""

    def nothing() -> Any:
        raise AssertionError("nobody trains here")

    return Scenario(
        target=nothing,
        oracles=(),
        history=None,
        label="by hand",
        forget=(),
        retain=(),
        validation=Validation(),
        probes=probes,
        metrics=(),
        oracle_rows=(),
    )


def context(folder: Path) -> Work:
    return Work(Store(folder / "store"), seed=0, provenance={})


def test_responses_by_hand(model: Checkpoint, tmp_path: Path) -> None:
    """Log-probs ln 1/2 and ln 1/4 of "a b", ln 1/8, ln 1/8 and ln 1/2 of "c c a", and of the end where it is asked."""
    found = measure_node(model, scenario(PROBE), (), None, context(tmp_path)).responses
    one, other = (found.rows["said"][row.id]["answer"][0]["logp"] for row in ROWS)
    assert one[:2] == pytest.approx([log(1 / 2), log(1 / 4)], abs=1e-5)
    assert other[:3] == pytest.approx([log(1 / 8), log(1 / 8), log(1 / 2)], abs=1e-5)


def test_a_checkpoint_is_measured_once(model: Checkpoint, tmp_path: Path) -> None:
    one, two = context(tmp_path), context(tmp_path)
    first = measure_node(model, scenario(PROBE), (), None, one)
    again = measure_node(model, scenario(PROBE), (), None, two)
    assert again.node.key == first.node.key and again.responses == first.responses
    assert one.built == {first.node.key} and two.built == set()
    assert first.node.info["fields"]["owner"] == "measure" and first.node.info["label"] == "measure model"
    assert load_responses(Store(tmp_path / "store"), first.node.key) == first.responses


def test_whatever_changes_an_answer_is_measured_again(model: Checkpoint, tmp_path: Path) -> None:
    work = context(tmp_path)
    oracle = replace(model, hash="another", label="oracle-0")
    key = measure_node(model, scenario(PROBE), (), None, work).node.key
    others = [
        measure_node(model, scenario(replace(PROBE, examples=ROWS[:1])), (), None, work),
        measure_node(model, scenario(replace(PROBE, name="heard")), (), None, work),
        measure_node(model, scenario(PROBE), (), 1, work),
        measure_node(replace(model, hash="another"), scenario(PROBE), (), None, work),
        measure_node(model, scenario(PROBE), [oracle], None, work),
    ]
    assert len({key, *(other.node.key for other in others)}) == 6
    assert set(others[2].responses.rows["said"]) == {ROWS[0].id}, "a limit cuts each probe"
    (Path(model.path) / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    assert measure_node(model, scenario(PROBE), (), None, work).node.key != key, "it says where greedy answers stop"


def test_where_the_data_lie_changes_nothing(model: Checkpoint, tmp_path: Path) -> None:
    """An oracle's own responses aren't compared with itself, and a folder is no part of a probe."""
    work = context(tmp_path)
    keys = {
        measure_node(model, scenario(replace(PROBE, options={"data": folder})), oracles, None, work).node.key
        for folder, oracles in (("here", ()), ("there", ()), ("here", (replace(model, label="oracle-0"),)))
    }
    assert len(keys) == 1 and len(work.built) == 1


def test_where_nothing_is_judged_there_are_no_grades(model: Checkpoint, tmp_path: Path) -> None:
    work = context(tmp_path)
    found = measure_node(model, scenario(PROBE), (), None, work)
    assert grade_node(found, [found], scenario(PROBE), work) is found


def test_responses_that_have_gone_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="The store has no responses abc: run the same command again to make them"):
        load_responses(Store(tmp_path), "abc")
