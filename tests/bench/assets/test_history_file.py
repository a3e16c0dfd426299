"""History files that a user wrote: what they state, and every mistake in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.assets.history import moment_name
from bench.assets.history_file import load_history, read_history_file
from bench.assets.history_sources import history_of_revisions
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint
from tests.histories import BILLION, mistakes, written


def test_a_file_gives_paths_revisions_and_the_exposure(output: Path, weights: list[Path], tmp_path: Path) -> None:
    models = tmp_path / "models"
    path = written(
        tmp_path,
        model="olmo-2-1b",
        exposure={"step": 1_000_000},
        checkpoints=[
            {"revision": "stage1-step1000000-tokens2098B"},
            {"path": "output/checkpoint-500"},
            {"path": "output/checkpoint-1000", "step": 700, "tokens": "1.5M", "stage": "warm-up", "exposed": False},
        ],
    )
    past = load_history(path, models)
    assert [(moment_name(m), m.step, m.tokens, m.stage, m.exposed) for m in past.moments] == [
        ("checkpoint-500", 500, None, "training", False),
        ("checkpoint-1000", 700, 1_500_000, "warm-up", False),
        ("stage1-step1000000-tokens2098B", 1_000_000, 2098 * BILLION, "stage1", True),
    ]
    assert past.last.checkpoint.hash == hash_checkpoint(output / "checkpoint-1000")
    assert past.moments[2].checkpoint.path == str(models / "olmo-2-1b@stage1-step1000000-tokens2098B")


OLMO = {"revision": "stage1-step1900000-tokens3985B"}
INGREDIENT = "stage2-ingredient1-step11000-tokens24B"


@pytest.mark.parametrize(
    ("stated", "step", "tokens"),
    [
        ({}, 1_918_359, 4025),
        ({"tokens": "4025B"}, 1_918_359, 4025),
        ({"tokens": "4026B"}, 1_918_359, 4026),
        ({"step": 1_918_359}, 1_918_359, 4025),
        ({"step": 1_918_000, "tokens": "4020B"}, 1_918_000, 4020),
    ],
)
def test_what_a_file_states_is_not_counted_within_the_stage(
    stated: dict[str, Any], step: int, tokens: int, tmp_path: Path
) -> None:
    """Stage 1 ends at step 1,907,359 and 4001B: only what the name says has that added."""
    entries = [OLMO, {"revision": INGREDIENT, **stated}]
    past = read_history_file(written(tmp_path, model="olmo-2-1b", checkpoints=entries), tmp_path)
    assert [(m.step, m.tokens) for m in past.moments] == [(1_900_000, 3985 * BILLION), (step, tokens * BILLION)]


def test_a_step_that_is_stated_as_well_changes_no_later_stage(tmp_path: Path) -> None:
    for more in ({}, {"step": 1000}, {"step": 1000, "tokens": "2B"}):
        entries = [{"revision": "stage1-step1000-tokens2B", **more}, {"revision": "stage2-step10-tokens1B"}]
        past = read_history_file(written(tmp_path, model="some/model", checkpoints=entries), tmp_path)
        assert [(m.step, m.tokens) for m in past.moments] == [(1000, 2 * BILLION), (1010, 3 * BILLION)]


@pytest.mark.parametrize(
    ("entry", "tokens"),
    [
        ({"revision": "step1000"}, 2_097_152_000),
        ({"revision": "step1000", "step": 1000}, 2_097_152_000),
        ({"revision": "step1000", "tokens": "2B"}, 2 * BILLION),
        ({"revision": "step1000", "step": 999}, None),
        ({"revision": "ckpt_358"}, None),
        ({"revision": "ckpt_358", "step": 358}, None),
        ({"revision": "checkpoint-500"}, None),
        ({"revision": "step1000", "model": "some/model"}, None),
    ],
)
def test_tokens_follow_from_a_models_own_steps_alone(entry: dict[str, Any], tokens: int | None, tmp_path: Path) -> None:
    past = read_history_file(written(tmp_path, model="pythia-160m", checkpoints=[entry]), tmp_path)
    assert past.moments[0].tokens == tokens
    if "model" not in entry and len(entry) == 1:
        assert history_of_revisions("pythia-160m", [entry["revision"]], tmp_path).moments[0].tokens == tokens


@pytest.mark.parametrize("steps", [(500, 500), (500, 600)])
def test_tokens_that_fall_are_refused_in_one_sentence(steps: tuple[int, int], tmp_path: Path) -> None:
    entries = [
        {"revision": name, "step": step, "tokens": tokens}
        for name, step, tokens in (("a", steps[0], "4B"), ("b", steps[1], "2B"), ("c", 700, "1B"))
    ]
    assert mistakes(tmp_path, model="some/model", checkpoints=entries) == (
        f"history.json: 'a' has 4,000,000,000 tokens at step 500 and 'b' 2,000,000,000 at step {steps[1]}: tokens grow "
        "with the steps, both counted from the first weights; correct one.",
    )


def test_two_counts_at_one_step_are_refused_in_either_order(tmp_path: Path) -> None:
    entries = [{"revision": name, "step": 500, "tokens": tokens} for name, tokens in (("a", "2B"), ("b", "4B"))]
    assert len(mistakes(tmp_path, model="some/model", checkpoints=entries)) == 1


@pytest.mark.parametrize(
    "exposure", [{"step": 600}, {"tokens": "2B"}, {"revision": "step1000"}, {"step": 1000}, {"tokens": 2_000_000_000}]
)
def test_exposure_by_step_tokens_or_revision(exposure: dict[str, Any], tmp_path: Path) -> None:
    entries = [
        {"revision": f"step{step}", "tokens": tokens} for step, tokens in ((1000, "2B"), (500, "1B"), (2000, "4B"))
    ]
    past = read_history_file(written(tmp_path, model="some/model", exposure=exposure, checkpoints=entries), tmp_path)
    assert [(m.step, m.exposed) for m in past.moments] == [(500, False), (1000, True), (2000, True)]


def test_what_comes_after_an_exposed_checkpoint_is_exposed(tmp_path: Path) -> None:
    entries = [{"revision": "step1"}, {"revision": "step2", "exposed": True}, {"revision": "step3"}]
    past = read_history_file(written(tmp_path, model="some/model", checkpoints=entries), tmp_path)
    assert [m.exposed for m in past.moments] == [False, True, True]


def test_every_mistake_in_a_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = mistakes(
        tmp_path,
        modle="x",
        checkpoints=[
            {"path": "nowhere", "step": 1},
            {"path": "empty", "step": -2, "tokens": "many", "exposed": "no"},
            {"revision": "step4"},
            {"model": "not a model", "step": 1},
            {"model": "some/model", "revision": "main"},
            {"model": "some/model", "revision": "step5", "stpe": 4},
            "ckpt-1000",
        ],
    )
    for number, sentence in enumerate(
        (
            "Unknown field of history.json 'modle'. Did you mean 'model'?",
            "checkpoint 1: there is no folder 'nowhere'; a path is relative to the file",
            "checkpoint 2: its step is -2; a step is a whole number",
            'checkpoint 2: "exposed" is true or false, not "no"',
            'checkpoint 2: its tokens are "many"; write 500B',
            "checkpoint 2: The folder of 'empty' holds no *.safetensors",
            'checkpoint 3: it names no weights; give a "path", or a "model" and a "revision"',
            "checkpoint 4: Unknown model 'not a model'",
            'checkpoint 5: it has no step, and its name tells none; add "step"',
            "Unknown field of history.json, checkpoint 6 'stpe'. Did you mean 'step'?",
            "checkpoint 7: write it as",
        )
    ):
        assert sentence in found[number], sentence
    assert len(found) == 11


@pytest.mark.parametrize(
    ("exposure", "sentence"),
    [
        ({"step": 1, "tokens": "4B"}, 'write "exposure" as {"step": 12000}'),
        (12, 'write "exposure" as'),
        ({"step": "early"}, 'the exposure\'s step is "early"'),
        ({"tokens": "4B"}, "no tokens are known of step1, step2"),
        ({"tokens": "x"}, 'exposure: its tokens are "x"'),
        ({"revision": "step3"}, "Unknown revision of the exposure 'step3'. Did you mean"),
        ({"step": 1}, "'step1' is said not to be exposed, but lies after the first exposure"),
        ({"step": 9}, "'step2' is said to be exposed, but lies before \"exposure\""),
    ],
)
def test_a_wrong_exposure_is_told(exposure: Any, sentence: str, tmp_path: Path) -> None:
    entries = [{"revision": "step1", "exposed": False}, {"revision": "step2", "exposed": True}]
    assert sentence in " ".join(mistakes(tmp_path, model="some/model", exposure=exposure, checkpoints=entries))


def test_two_checkpoints_need_two_names(tmp_path: Path) -> None:
    entries = [{"revision": "step1"}, {"model": "other/model", "revision": "step1"}]
    assert "two checkpoints named 'step1'" in mistakes(tmp_path, model="some/model", checkpoints=entries)[0]


def test_a_file_without_checkpoints_and_one_that_is_no_json(tmp_path: Path) -> None:
    assert 'needs a list "checkpoints"' in mistakes(tmp_path, checkpoints=[])[0]
    (tmp_path / "history.json").write_text("{")
    with pytest.raises(UserError, match="is not readable JSON"):
        load_history(tmp_path / "history.json")
    with pytest.raises(UserError, match="There is no history"):
        load_history(tmp_path / "nowhere")
