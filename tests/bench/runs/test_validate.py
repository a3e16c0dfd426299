"""One setting of a search: where it begins, and the signals that are taken without an oracle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.record import RunSpec, Step
from bench.core.types import BROKEN_DOWN, Json, Responses, Validation
from bench.runs.jobs import Job
from bench.runs.setting import Paths
from bench.runs.validate import is_current, read_row, row_file, tuning_signals, validate_setting, write_row
from tests.lab_runs import STILL, Lab, spec, step
from tests.stores import WRONG_KINDS, Wreck
from tests.tiny import qa


@pytest.mark.parametrize(("start", "which"), [("last-before-exposure", 4), ("age=0", 0), ("step=2", 2)])
def test_a_run_begins_at_the_checkpoint_that_its_spec_names(lab: Lab, start: str, which: int) -> None:
    work = lab.work()
    made = validate_setting(spec(step("finetune", steps=2), start=start), Paths(), work)
    assert made["seed"] == 0
    [node] = [node for node in work.nodes.values() if node.info["label"] == "theta_1"]
    assert node.info["fields"]["start"] == lab.moments()[which].checkpoint.hash


def test_the_signals_of_the_checkpoint_itself_are_theta_0s(lab: Lab) -> None:
    """Nothing to speak of is learnt from theta_0, so that its loss on the forget rows is the loss; not so at the target."""
    rewound = validate_setting(spec(STILL, start="last-before-exposure"), Paths(), lab.work())["signals"]
    assert rewound["forget_loss"] == pytest.approx(rewound["theta_0_forget_loss"], abs=1e-5)
    there = validate_setting(spec(STILL), Paths(), lab.work())["signals"]
    assert there["theta_0_forget_loss"] == rewound["theta_0_forget_loss"]
    assert there["forget_loss"] < rewound["forget_loss"] - 0.003, "the target has seen them"


def test_signals_by_hand(lab: Lab) -> None:
    """Losses 1 and 3 of forget rows, 2 and 4 of never-trained ones: mean 2; of 4 pairs the forget row's is lower in 3."""
    held = Validation((qa(0, "a", "b"), qa(1, "a", "b")), (), (), (qa(2, "a", "b"), qa(3, "a", "b")))
    rows = {
        "validation_forget": {"row-0": [-0.5, -1.5], "row-1": [-3.0]},
        "validation_unseen": {"row-2": [-2.0], "row-3": [-4.0, -4.0, -4.0]},
    }
    found = Responses(
        "x",
        {side: {name: {"answer": [{"logp": logp}]} for name, logp in each.items()} for side, each in rows.items()},
        0.0,
    )
    alone = replace(lab.scenario(), history=None, validation=held)
    assert tuning_signals(found, alone, lab.work()) == {"forget_loss": 2.0, "auc": 0.75}


def test_a_row_has_the_targets_own_scores_and_the_tokens_of_the_method_alone(lab: Lab) -> None:
    """Four steps of two rows are trained on; the target's stages are not counted, nor those that are there already."""
    work = lab.work()
    row = validate_setting(spec(step("ga", steps=4, batch=2)), Paths(), work)
    [node] = [node for node in work.nodes.values() if node.info["label"] == "ga"]
    assert row["tokens"] == node.info["meta"]["tokens"] > 0
    assert row["seconds"] == round(node.info["seconds"], 2) and row["nodes"] == {node.key: node.info["seconds"]}
    again = validate_setting(spec(step("ga", steps=4, batch=2)), Paths(), lab.work())
    assert again["tokens"] == row["tokens"], "what the store has already counts as well"
    still = validate_setting(spec(STILL), Paths(), lab.work())
    assert still["target"] == {"retain": still["retain"], "world": still["world"]} and still["level"].keys() == {
        "continue"
    }


DIVERGED = step("ga", steps=2, lr=1e30)


def test_a_setting_that_diverges_is_a_row_that_says_so(lab: Lab) -> None:
    row = validate_setting(spec(DIVERGED), Paths(), lab.work())
    assert row["broken"] == BROKEN_DOWN and row["params"]["lr"] == 1e30 and row["seconds"] >= 0
    assert not {"forget", "retain", "world", "signals"} & set(row) and {"level", "target"} <= set(row)
    json.dumps(row, allow_nan=False)


def test_nothing_is_tuned_on_a_target_that_has_broken_down(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.runs import validate

    rows = ("forget", "retain", "utility", "unseen")
    wreck = Responses("x", {}, broken={f"validation_{side}": BROKEN_DOWN for side in rows})
    monkeypatch.setattr(validate, "ask_validation", lambda *_: wreck)
    with pytest.raises(UserError, match=f"Nothing can be tuned on this target, as {BROKEN_DOWN}."):
        validate_setting(spec(STILL), Paths(), lab.work())


SOUND: Json = {
    "params": {},
    "versions": {},
    "seed": 5,
    "seconds": 2.0,
    "provenance": {"commits": ["abc"], "dirty": False},
    "level": {"qa": 0.2},
    "forget": {"qa": 0.1},
    "retain": 0.5,
    "world": 0.5,
    "target": {"retain": 0.75, "world": 1.0},
    "tokens": 10,
}


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{half",
        json.dumps(SOUND | {"seed": 6}),
        json.dumps(SOUND | {"retain": "0.5"}),
        json.dumps(SOUND | {"forget": {"qa": None}}),
        json.dumps(SOUND).replace("0.75", "NaN"),
        json.dumps({name: value for name, value in SOUND.items() if name != "world"}),
        json.dumps({name: value for name, value in SOUND.items() if name != "tokens"}),
        json.dumps(SOUND | {"tokens": 1.5}),
    ],
)
def test_a_damaged_row_is_none_and_made_again(damage: str, tmp_path: Path) -> None:
    spec = RunSpec("digits", {}, "lab", "lab", (Step("ga", {}),), 5)
    file = row_file(tmp_path, spec)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(SOUND))
    assert read_row(tmp_path, spec) == SOUND
    file.write_text(damage)
    assert read_row(tmp_path, spec) is None and not is_current(tmp_path, Job(spec, "validate"))


@pytest.mark.parametrize("wreck", [*WRONG_KINDS, lambda place: place.write_text("somebody's notes")])
def test_what_is_no_row_is_read_without_waiting_and_set_aside_by_name(wreck: Wreck, tmp_path: Path) -> None:
    spec = RunSpec("digits", {}, "lab", "lab", (Step("ga", {}),), 5)
    file, told = row_file(tmp_path, spec), list[str]()
    file.parent.mkdir(parents=True)
    wreck(file)
    assert read_row(tmp_path, spec) is None and not is_current(tmp_path, Job(spec, "validate"))
    write_row(tmp_path, spec, SOUND, told.append)
    [kept] = [path for path in file.parent.iterdir() if path != file]
    assert read_row(tmp_path, spec) == SOUND and ".damaged-" in kept.name
    assert told == [f"{file.name} is no row of this search: set aside as {kept.name} and made again."]
    if kept.is_file() and not kept.is_symlink():
        assert kept.read_text() == "somebody's notes"


def test_an_outdated_row_is_written_again_without_a_word(tmp_path: Path) -> None:
    spec, told = RunSpec("digits", {}, "lab", "lab", (Step("ga", {}),), 5), list[str]()
    for seconds in (1.0, 2.0):
        write_row(tmp_path, spec, SOUND | {"seconds": seconds}, told.append)
    assert told == [] and (read_row(tmp_path, spec) or {})["seconds"] == 2.0
    assert len(list((tmp_path / "tune" / "rows").iterdir())) == 1
