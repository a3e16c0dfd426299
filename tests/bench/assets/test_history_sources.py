"""Histories from where they lie: revisions, known models, a Trainer's folder; and the history of a run's model."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.assets.history import choose_moment, describe_moment, moment_name
from bench.assets.history_file import read_history_file
from bench.assets.history_sources import end_at_model, history_of_folder, history_of_known_model, history_of_revisions
from bench.assets.known_models import KNOWN, PYTHIA_REVISIONS
from bench.cli.histories import describe
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint
from bench.core.types import Checkpoint
from tests.histories import BILLION, fetched, written


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


def test_a_llama_has_the_base_model_in_its_past(tmp_path: Path) -> None:
    past = history_of_known_model("llama-3.2-1b-instruct", tmp_path)
    assert [moment_name(m) for m in past.moments] == ["meta-llama/Llama-3.2-1B", "llama-3.2-1b-instruct"]
    assert [describe_moment(past, m)["age"] for m in past.moments] == [0.0, 1.0]
    with pytest.raises(UserError, match="`python -m bench fetch meta-llama/Llama-3.2-1B`"):
        choose_moment(past, "age=0")


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
