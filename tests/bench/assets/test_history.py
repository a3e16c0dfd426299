"""Histories: names of revisions, sources, the user's mistakes, the rules that choose, the table, and a run's history."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.assets.history import FORMS, choose_moment, describe_moment, hash_history, moment_name, rule_problems
from bench.assets.history_file import load_history, read_history_file
from bench.assets.history_names import format_tokens, parse_revision, parse_tokens
from bench.assets.history_sources import end_at_model, history_of_folder, history_of_known_model, history_of_revisions
from bench.assets.known_models import KNOWN, PYTHIA_REVISIONS
from bench.assets.models import FETCHED
from bench.cli.listing import describe
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint
from bench.core.types import Checkpoint, History, Moment
from bench.lab.model import small_llama, word_tokenizer

BILLION = 10**9


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four whole models of one shape, and a wider one."""
    folders = [tmp_path_factory.mktemp("weights") / str(seed) for seed in range(5)]
    tokenizer = word_tokenizer(["a", "b"])
    for seed, folder in enumerate(folders):
        small_llama(len(tokenizer), 16 if seed == 4 else 8, 1, 16, seed=seed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folders


@pytest.fixture
def output(weights: list[Path], tmp_path: Path) -> Path:
    """A Trainer's output folder: two whole checkpoints, one that was cut short, and the model at the end."""
    folder = tmp_path / "output"
    shutil.copytree(weights[0], folder)
    for step, source, tokens in ((500, 1, 0), (1000, 2, 64_000)):
        at = folder / f"checkpoint-{step}"
        shutil.copytree(source := weights[source], at)
        (at / "trainer_state.json").write_text(json.dumps({"global_step": step, "num_input_tokens_seen": tokens}))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (at / file).unlink()
    (folder / "checkpoint-1500").mkdir()
    (folder / "checkpoint-1500" / "config.json").write_text("{}")
    (folder / "checkpoint-old").mkdir()
    return folder


def moment(step: int, tokens: int | None = None, exposed: bool = False, revision: str = "") -> Moment:
    checkpoint = Checkpoint(f"/nowhere/{step}", f"hash-{step}", label=f"history-{step}")
    return Moment(checkpoint, step, tokens, "pretraining", exposed, revision)


def history(*steps: int, last: int = 640) -> History:
    return History(tuple(moment(step, step * 100, step > last) for step in steps))


def written(folder: Path, **data: Any) -> Path:
    path = folder / "history.json"
    path.write_text(json.dumps(data))
    return path


def mistakes(folder: Path, **data: Any) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        read_history_file(written(folder, **data), folder / "models")
    return error.value.problems


def fetched(models: Path, name: str, source: Path) -> Path:
    folder = models / name.replace("/", "--")
    shutil.copytree(source, folder)
    (folder / FETCHED).write_text(json.dumps({"hash": hash_checkpoint(folder)}))
    return folder


# Names and numbers


@pytest.mark.parametrize(
    ("name", "step", "tokens", "stage"),
    [
        ("stage1-step119000-tokens500B", 119_000, 500 * BILLION, "stage1"),
        ("stage2-ingredient1-step11000-tokens47B", 11_000, 47 * BILLION, "stage2-ingredient1"),
        ("step1000-tokens4B", 1000, 4 * BILLION, "pretraining"),
        ("step143000", 143_000, None, "pretraining"),
        ("stage1-step-40000", 40_000, None, "stage1"),
        ("ckpt_358", 358, None, "pretraining"),
        ("checkpoint-500", 500, None, "training"),
    ],
)
def test_the_names_of_the_suites_are_understood(name: str, step: int, tokens: int | None, stage: str) -> None:
    assert parse_revision(name) == (step, tokens, stage)


@pytest.mark.parametrize("name", ["main", "ckpt_final", "step", "checkpoint-last", "stage1-tokens4B", "step10-tokens4"])
def test_other_names_say_nothing(name: str) -> None:
    assert parse_revision(name) is None


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("500B", 500 * BILLION), ("4.2T", 4200 * BILLION), ("800M", 800_000_000), ("2097152", 2_097_152), ("1.5k", 1500)],
)
def test_tokens_are_read_exactly(text: str, tokens: int) -> None:
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "B", "-4B", "4 billion", "1.5", "0.0001K", "1e9"])
def test_what_is_no_number_of_tokens_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="500B, 4.2T, 800M"):
        parse_tokens(text)


def test_tokens_for_people() -> None:
    shown = [format_tokens(n) for n in (None, 0, 12, 64_000, 4 * BILLION, 3985 * BILLION, 299_892_736_000)]
    assert shown == ["?", "0", "12", "64K", "4B", "3985B", "299.9B"]


# Revisions


def test_pythias_rule_is_154_revisions_of_two_to_the_21_tokens_a_step(tmp_path: Path) -> None:
    """143,000 steps of 2,097,152 tokens are the 299,892,736,000 that its README gives."""
    past = history_of_known_model("pythia-160m", tmp_path)
    assert len(past.moments) == len(set(PYTHIA_REVISIONS)) == 154
    assert [m.step for m in past.moments[:12]] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
    assert (past.last.revision, past.last.tokens) == ("step143000", 299_892_736_000)


def test_a_second_stage_is_counted_from_the_end_of_the_first(tmp_path: Path) -> None:
    """Stage 1 of OLMo-2-1B ends at step 1,907,359 and 4001B: step 1000 of stage 2 is 1,908,359, at 4003B."""
    names = ["stage2-ingredient2-step1000-tokens2B", "main", "stage2-ingredient1-step1000-tokens2B"]
    past = history_of_revisions("olmo-2-1b", [*names, "stage1-step100000-tokens210B"], tmp_path)
    assert [(m.revision, m.step, m.tokens) for m in past.moments] == [
        ("stage1-step100000-tokens210B", 100_000, 210 * BILLION),
        ("stage2-ingredient1-step1000-tokens2B", 1_908_359, 4003 * BILLION),
        ("stage2-ingredient2-step1000-tokens2B", 1_908_359, 4003 * BILLION),
    ]


def test_stages_keep_their_order_where_the_end_of_the_first_is_not_known(tmp_path: Path) -> None:
    names = ["stage2-ingredient1-step10-tokens4B", "stage1-step1000-tokens900B", "stage1-step10"]
    past = history_of_revisions("some/model", names, tmp_path)
    assert [m.step for m in past.moments] == [10, 1000, 1010]
    assert [m.tokens for m in past.moments] == [None, 900 * BILLION, 904 * BILLION]


def test_a_revision_that_is_not_fetched_has_no_hash_and_names_the_command(weights: list[Path], tmp_path: Path) -> None:
    folder = fetched(tmp_path, "olmo-2-1b@stage1-step500000-tokens1049B", weights[0])
    past = history_of_revisions("allenai/OLMo-2-0425-1B", KNOWN["olmo-2-1b"].revisions, tmp_path)
    there, missing = past.moments[1], past.moments[0]
    assert (there.checkpoint.hash, there.checkpoint.path) == (hash_checkpoint(folder), str(folder))
    assert missing.checkpoint.hash == ""
    assert choose_moment(past, "tokens=1T") == there
    command = "`python -m bench fetch olmo-2-1b --revision stage1-step100000-tokens210B`"
    with pytest.raises(UserError, match=f"isn't fetched: run {command}"):
        choose_moment(past, "step=100000")
    table = describe(past).splitlines()
    assert table[1].endswith("no") and table[2].endswith("yes")


def test_a_fetched_revision_that_has_changed_is_not_chosen(weights: list[Path], tmp_path: Path) -> None:
    folder = fetched(tmp_path, "olmo-2-1b@stage1-step500000-tokens1049B", weights[0])
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    past = history_of_revisions("olmo-2-1b", KNOWN["olmo-2-1b"].revisions, tmp_path)
    with pytest.raises(UserError, match="fetch olmo-2-1b --revision stage1-step500000-tokens1049B` to fetch it again"):
        choose_moment(past, "step=500000")


def test_names_without_steps_ask_for_a_history_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write a history file"):
        history_of_revisions("some/model", ["main", "v1.0"], tmp_path)


def test_the_known_names_of_revisions_are_understood_and_in_order() -> None:
    for model in KNOWN.values():
        steps = [parsed.step for name in model.revisions if (parsed := parse_revision(name))]
        assert len(steps) == len(model.revisions) and steps == sorted(steps)
        assert set(model.derived) <= set(model.revisions)


def test_a_llama_has_the_base_model_in_its_past(tmp_path: Path) -> None:
    past = history_of_known_model("llama-3.2-1b-instruct", tmp_path)
    assert [moment_name(m) for m in past.moments] == ["meta-llama/Llama-3.2-1B", "llama-3.2-1b-instruct"]
    assert [describe_moment(past, m)["age"] for m in past.moments] == [0.0, 1.0]
    with pytest.raises(UserError, match="`python -m bench fetch meta-llama/Llama-3.2-1B`"):
        choose_moment(past, "age=0")


# Folders


def test_a_trainers_folder_gives_its_whole_checkpoints_and_itself(output: Path) -> None:
    past = history_of_folder(output)
    assert [(moment_name(m), m.step, m.tokens) for m in past.moments] == [
        ("checkpoint-500", 500, None),
        ("checkpoint-1000", 1000, 64_000),
        ("final", 1000, 64_000),
    ]
    assert past.moments[0].checkpoint.hash == hash_checkpoint(output / "checkpoint-500")
    assert past.moments[0].checkpoint.tokenizer == str(output), "the Trainer saves no tokenizer unless told to"
    assert past.moments[2].checkpoint.tokenizer == ""
    assert not any(m.exposed for m in past.moments)


def test_a_checkpoint_of_a_folder_is_opened_with_its_tokenizer(output: Path) -> None:
    from bench.engines.loaders import open_checkpoint

    opened = open_checkpoint(choose_moment(history_of_folder(output), "step=500").checkpoint)
    assert len(opened.tokenizer) == opened.model.config.vocab_size


def test_a_listing_of_a_folder_reads_no_weights(output: Path) -> None:
    past = history_of_folder(output, hashed=False)
    assert {m.checkpoint.hash for m in past.moments} == {""}
    assert [line.split()[-1] for line in describe(past).splitlines()[1:4]] == ["yes"] * 3


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        history_of_folder(tmp_path)


# Files


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


# Rules


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


def test_the_table_marks_the_first_exposure() -> None:
    lines = describe(history(0, 320, 640, 700)).splitlines()
    assert lines[0].split() == ["checkpoint", "stage", "step", "tokens", "share", "exposed", "on", "disk"]
    assert lines[2].split() == ["history-320", "pretraining", "320", "32K", "0.500", "no", "no"]
    assert "first exposure to the forget set" in lines[4] and lines[5].startswith("history-700")
    assert len(lines) == 6
    assert "is not in this history" in describe(history(0, 64)).splitlines()[-1]


def test_the_table_says_that_ambers_numbers_are_no_steps(tmp_path: Path) -> None:
    assert "number the checkpoints" in describe(
        history_of_revisions("LLM360/Amber", ["ckpt_000", "ckpt_358"], tmp_path)
    )


# The history of a run's model


def model_at(folder: Path) -> Checkpoint:
    return Checkpoint(str(folder), hash_checkpoint(folder), label="history-0")


def test_a_model_that_the_history_does_not_name_is_its_last_moment(output: Path, weights: list[Path]) -> None:
    (output / "config.json").unlink()  # the folder itself is no model now
    past = end_at_model(history_of_folder(output), model_at(weights[3]))
    assert [moment_name(m) for m in past.moments] == ["checkpoint-500", "checkpoint-1000", "model"]
    assert past.last.checkpoint.hash == hash_checkpoint(weights[3])
    assert choose_moment(past, "age=1") == past.last, "at the same step the later"


def test_the_model_comes_before_what_is_exposed(output: Path, weights: list[Path], tmp_path: Path) -> None:
    entries = [{"path": f"output/checkpoint-{step}", "exposed": step == 1000} for step in (500, 1000)]
    past = end_at_model(read_history_file(written(tmp_path, checkpoints=entries)), model_at(weights[3]))
    assert [moment_name(m) for m in past.moments] == ["checkpoint-500", "model", "checkpoint-1000"]


def test_checkpoints_without_a_tokenizer_get_the_models(output: Path, weights: list[Path]) -> None:
    for file in ("tokenizer.json", "config.json"):
        (output / file).unlink()
    past = end_at_model(history_of_folder(output), model_at(weights[3]))
    assert [m.checkpoint.tokenizer for m in past.moments] == [str(weights[3])] * 2 + [""]


def test_checkpoints_with_another_chat_template_get_the_models(output: Path, weights: list[Path]) -> None:
    """A base model's tokenizer has no template: its vectors would be trained on other prompts than the target's."""
    (weights[3] / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    past = end_at_model(history_of_folder(output), model_at(weights[3]))
    assert {m.checkpoint.tokenizer for m in past.moments[:2]} == {str(weights[3])}


def test_a_model_in_the_history_must_be_its_last_before_exposure(output: Path, tmp_path: Path) -> None:
    past = history_of_folder(output)
    assert end_at_model(past, model_at(output)) == past
    with pytest.raises(UserError, match="'final' lies after the model itself"):
        end_at_model(past, model_at(output / "checkpoint-1000"))
    entries = [{"path": f"output/checkpoint-{step}", "exposed": step == 1000} for step in (500, 1000)]
    with pytest.raises(UserError, match="'checkpoint-1000' in the history, which is exposed"):
        end_at_model(read_history_file(written(tmp_path, checkpoints=entries)), model_at(output / "checkpoint-1000"))


def test_a_fetched_model_knows_its_step_and_what_lies_after_it(weights: list[Path], tmp_path: Path) -> None:
    model = model_at(fetched(tmp_path, "olmo-2-1b@stage1-step1900000-tokens3985B", weights[0]))
    entries = [{"revision": name} for name in KNOWN["olmo-2-1b"].revisions[:5]]
    past = end_at_model(read_history_file(written(tmp_path, model="olmo-2-1b", checkpoints=entries), tmp_path), model)
    assert (past.last.step, past.last.tokens) == (1_900_000, 3985 * BILLION)
    assert describe_moment(past, past.moments[0])["tokens_before"] == 3775 * BILLION
    entries = [{"revision": "stage1-step1907359-tokens4001B"}]
    with pytest.raises(UserError, match="'stage1-step1907359-tokens4001B' lies after the model itself"):
        end_at_model(read_history_file(written(tmp_path, model="olmo-2-1b", checkpoints=entries), tmp_path), model)


def test_another_architecture_is_no_past_of_the_model(output: Path, weights: list[Path]) -> None:
    with pytest.raises(UserError, match=r"another architecture than the model \(hidden_size 8, not 16\)"):
        end_at_model(history_of_folder(output), model_at(weights[4]))


def test_it_loads_no_torch() -> None:
    code = "import sys, pathlib, bench.assets.history, bench.cli.listing as l; l.list_history('', '', '', pathlib.Path('x')); "
    code += "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
