"""Finding a model: known names, folders and hub ids; what is refused, and the remedy that is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.assets.known_models import KNOWN
from bench.assets.models import FETCHED, canonical_name, default_models_dir, folder_name, model_of_folder, resolve_model
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint
from bench.engines.templates import TEMPLATES
from bench.lab.model import small_llama, word_tokenizer

Q4, HUB = "smollm2-135m-instruct-q4", "HuggingFaceTB/SmolLM2-135M-Instruct"


def make_model(folder: Path) -> Path:
    """A whole model folder: a one-layer Llama of width 8 and a word tokenizer."""
    tokenizer = word_tokenizer(["a", "b"])
    small_llama(len(tokenizer), 8, 1, 16, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_fetched(folder: Path) -> Path:
    """The same, described as a fetched one."""
    make_model(folder)
    (folder / FETCHED).write_text(json.dumps({"hash": hash_checkpoint(folder)}))
    return folder


def problem(name: str, models_dir: Path) -> str:
    """What `resolve` says."""
    with pytest.raises(UserError) as error:
        resolve_model(name, models_dir)
    return str(error.value)


def test_a_local_folder_resolves_to_its_own_name_and_hash(tmp_path: Path) -> None:
    found = resolve_model(str(make_model(tmp_path / "mine")), tmp_path / "models")
    assert found.name == "mine"
    assert found.path == tmp_path / "mine"
    assert found.hash == hash_checkpoint(tmp_path / "mine")


def test_a_fetched_known_name_resolves_below_the_models_folder(tmp_path: Path) -> None:
    folder = make_fetched(tmp_path / Q4)
    assert resolve_model(Q4, tmp_path).path == folder


def test_the_two_smollm_names_are_never_exchanged(tmp_path: Path) -> None:
    make_fetched(tmp_path / Q4)
    for name in ("smollm2-135m-instruct", HUB):
        assert "python -m bench fetch smollm2-135m-instruct`" in problem(name, tmp_path)


def test_a_hub_id_of_a_known_model_is_that_model(tmp_path: Path) -> None:
    make_fetched(tmp_path / "smollm2-135m-instruct")
    assert resolve_model(HUB, tmp_path) == resolve_model("smollm2-135m-instruct", tmp_path)


def test_a_known_name_that_is_not_fetched_names_the_command(tmp_path: Path) -> None:
    assert f"`python -m bench fetch {Q4}`" in problem(Q4, tmp_path)


def test_another_hub_id_resolves_only_when_fetched(tmp_path: Path) -> None:
    assert "`python -m bench fetch some/model`" in problem("some/model", tmp_path)
    make_fetched(tmp_path / "some--model")
    assert resolve_model("some/model", tmp_path).name == "some/model"


def test_a_revision_is_a_model_of_its_own(tmp_path: Path) -> None:
    folder = make_fetched(tmp_path / "olmo-2-1b@stage1-step100000-tokens210B")
    for name in ("olmo-2-1b", "allenai/OLMo-2-0425-1B"):
        found = resolve_model(f"{name}@stage1-step100000-tokens210B", tmp_path)
        assert (found.name, found.path) == ("olmo-2-1b@stage1-step100000-tokens210B", folder)
        assert "`python -m bench fetch olmo-2-1b --revision step1`" in problem(f"{name}@step1", tmp_path)
        assert "`python -m bench fetch olmo-2-1b`" in problem(name, tmp_path)
    assert "Unknown model 'olmo2-1b'. Did you mean 'olmo-2-1b'?" in problem("olmo2-1b@step1", tmp_path)
    assert "comes from no hub" in problem(f"{Q4}@step1", tmp_path)
    assert "'../x' is no revision" in problem("olmo-2-1b@../x", tmp_path)


@pytest.mark.parametrize("name", ["olmo-2-1b", "allenai/OLMo-2-0425-1B@step1", "some/model@step1", "some/model", Q4])
def test_a_fetched_folder_says_whose_it_is(name: str) -> None:
    assert model_of_folder(Path("models") / folder_name(name)) == canonical_name(name)


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    assert "Did you mean 'smollm2-135m-instruct'?" in problem("smollm2-135m-instrukt", tmp_path)


def test_a_changed_fetched_model_is_refused(tmp_path: Path) -> None:
    folder = make_fetched(tmp_path / Q4)
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert "is damaged" in problem(Q4, tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickled weights only" in problem(str(folder), tmp_path)


def test_a_missing_shard_and_a_missing_tokenizer_are_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-00002-of-00002.safetensors" in problem(str(folder), tmp_path)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in problem(str(folder), tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no *.safetensors" in problem(str(tmp_path / "empty"), tmp_path)


def test_the_models_folder_is_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSA_BENCH_STORE", str(tmp_path))
    assert default_models_dir() == tmp_path / "models"


def test_every_known_model_says_where_it_comes_from() -> None:
    for name, model in KNOWN.items():
        assert name == model.name
        assert bool(model.hub) != bool(model.wheel), "one source each"
        assert model.licence and model.summary and model.micro > 0 and model.batch > 0


def test_base_models_are_asked_as_base_models_and_instruct_models_in_their_chat() -> None:
    assert {model.template for model in KNOWN.values()} == {"chat", "base"} <= set(TEMPLATES)
    for name, model in KNOWN.items():
        assert (model.template == "chat") == ("instruct" in name or name.endswith("-chat")), name


def test_muses_models_are_known_by_name_and_by_hub_id() -> None:
    for name, part in (("muse-books-llama2-7b", "target"), ("muse-books-llama2-7b-retrain", "retrain")):
        assert canonical_name(f"muse-bench/MUSE-Books_{part}") == name
        assert canonical_name(KNOWN[name].tokenizer) == canonical_name(KNOWN[name].past[-1]) == "llama-2-7b"


def test_the_table_loads_no_torch() -> None:
    heavy = "{'torch', 'transformers', 'huggingface_hub', 'datasets'}"
    light = "bench.assets.models, bench.assets.fetch, bench.assets.data_sets, bench.cli.verify"
    code = f"import sys, {light}; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
