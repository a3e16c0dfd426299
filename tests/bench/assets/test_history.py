"""The rules that choose a checkpoint of a history, and what is said of one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.assets.history import FORMS, choose_moment, describe_moment, hash_history, rule_problems
from bench.assets.history_sources import history_of_folder
from bench.core.errors import UserError
from bench.core.types import History
from tests.histories import history, moment


@pytest.mark.parametrize(
    ("rule", "step"),
    [
        ("last-before-exposure", 640),
        ("age=0", 0),
        ("age=1", 640),
        ("age=1.0", 640),
        ("age=0.5", 320),
        ("age=.14", 64),
        ("tokens=30K", 320),
        ("tokens=500B", 640),
        ("tokens=0", 0),
        ("step=700", 700),
        ("step=64", 64),
        ("history-64", 64),
        ("history-700", 700),
    ],
)
def test_a_rule_chooses(rule: str, step: int) -> None:
    assert rule_problems(rule) == []
    assert choose_moment(history(0, 64, 128, 320, 640, 700), rule).step == step


def test_of_two_that_are_equally_near_the_later_is_chosen() -> None:
    past = history(0, 100, 200, last=200)
    assert choose_moment(past, "age=0.25").step == 100
    assert choose_moment(past, "tokens=5000").step == 100


def test_a_revision_is_chosen_by_its_exact_name() -> None:
    past = History((moment(1, revision="step1"), moment(2, revision="step2", exposed=True)))
    assert choose_moment(past, "step2").step == 2
    with pytest.raises(UserError, match=r"no checkpoint 'step3'. Did you mean 'step2'\? It has: step1, step2"):
        choose_moment(past, "step3")


def test_a_step_that_is_not_there_names_its_neighbours() -> None:
    past = history(0, 64, 640)
    with pytest.raises(
        UserError, match=r"step=100.*neighbours are step=64 \(history-64\) and step=640 \(history-640\)"
    ):
        choose_moment(past, "step=100")
    with pytest.raises(UserError, match=r"neighbours are step=640 \(history-640\)\."):
        choose_moment(past, "step=9999")


def test_tokens_that_nobody_knows_and_a_past_that_is_all_exposed() -> None:
    with pytest.raises(UserError, match="no token counts are known"):
        choose_moment(History((moment(1), moment(2))), "tokens=4B")
    exposed = History((moment(1, exposed=True),))
    for rule in ("last-before-exposure", "age=1", "tokens=4B"):
        with pytest.raises(UserError, match="no checkpoint from before exposure"):
            choose_moment(exposed, rule)
    assert choose_moment(exposed, "step=1").exposed


@pytest.mark.parametrize(
    "rule", ["", "age", "age=", "age=2", "age=-1", "age=nan", "tokens=", "tokens=x", "step=1.5", "step", "foo=1", "a b"]
)
def test_a_badly_written_rule_gets_the_allowed_forms(rule: str) -> None:
    (sentence,) = rule_problems(rule)
    assert FORMS in sentence
    with pytest.raises(UserError, match="last-before-exposure"):
        choose_moment(history(0, 64), rule)


def test_a_place_says_which_and_how_far_away() -> None:
    past = history(0, 160, 640, 700)
    assert describe_moment(past, past.moments[1]) == {
        "which": "history-160",
        "stage": "pretraining",
        "step": 160,
        "tokens": 16_000,
        "steps_before": 480,
        "tokens_before": 48_000,
        "exposed": False,
        "age": 0.25,
    }
    after = describe_moment(past, past.moments[3])
    assert (after["steps_before"], after["exposed"], after["age"]) == (-60, True, None)
    uncounted = History((moment(1), moment(2, 5)))
    assert describe_moment(uncounted, uncounted.moments[0])["tokens_before"] is None
    json.dumps(after)


def test_a_digest_is_of_content_and_steps_and_of_no_path(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "elsewhere")
    one, other = history_of_folder(output), history_of_folder(tmp_path / "elsewhere")
    assert hash_history(one) == hash_history(other)
    state = tmp_path / "elsewhere" / "checkpoint-1000" / "trainer_state.json"
    state.write_text(json.dumps({"global_step": 999}))
    assert hash_history(history_of_folder(tmp_path / "elsewhere")) != hash_history(one)


def test_it_loads_no_torch() -> None:
    code = "import sys, pathlib, bench.assets.history, bench.cli.histories as l; l.list_history('', '', '', pathlib.Path('x')); "
    code += "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
