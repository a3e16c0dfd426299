"""`bench msa`: the formula on real folders, a grid in one pass, and every mistake in one sentence."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.assets.models import check_model_folder
from bench.assets.tensors import TensorFiles
from bench.core.hashing import hash_checkpoint, hash_file
from bench.core.types import Checkpoint
from bench.engines.loaders import open_checkpoint
from tests.shell import Said, Shell
from tests.tiny import llama, saved, tokenizer

ROLES = ("target", "forget-tuned", "retain-tuned", "before")


@pytest.fixture
def models(shell: Shell) -> Shell:
    """Four tiny Llamas in the shell's folder, named by their role."""
    for seed, role in enumerate(ROLES):
        saved(llama(seed), tokenizer(), shell.folder / role)
    return shell


def words(*more: str, retain: bool = True, out: str = "out") -> list[str]:
    given = [word for role in ROLES if retain or role != "retain-tuned" for word in (f"--{role}", role)]
    return ["msa", *given, "--out", out, *more]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def expected(place: Path, alpha: float, beta: float) -> dict[str, torch.Tensor]:
    """Term by term in float32: target, - alpha theta_1, + beta theta_2, + (alpha - beta) theta_0."""
    target, one, two, zero = (weights(place / role) for role in ROLES)
    a, b, c = torch.tensor(-alpha), torch.tensor(beta), torch.tensor(alpha - beta)
    return {name: target[name] + one[name] * a + two[name] * b + zero[name] * c for name in target}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_merged_llama_is_the_formula_and_opens(models: Shell) -> None:
    place = models.folder
    inputs = {role: hash_checkpoint(place / role, ("*",)) for role in ROLES}
    said = models(*words("--alpha", "1.15", "--beta", "0.25"))
    assert said.code == 0, said.err
    assert same(weights(place / "out"), expected(place, 1.15, 0.25))
    opened = open_checkpoint(Checkpoint(str(place / "out"), "out"))
    assert opened.tokenizer.eos_token == "<eos>"
    assert torch.isfinite(opened.model(torch.tensor([[1, 5, 9]])).logits).all()
    assert {role: hash_checkpoint(place / role, ("*",)) for role in ROLES} == inputs
    size = (place / "out" / "model.safetensors").stat().st_size
    lines = said.out.splitlines()
    assert lines[0] == f"out: alpha-1.15-beta-0.25, 1 file(s), {size:,} bytes"
    assert lines[1] == f"  {hash_file(place / 'out' / 'model.safetensors')}  model.safetensors"
    assert re.fullmatch(r"\d+\.\d s; read [\d,]+ bytes once\.", lines[2])
    note = json.loads((place / "out" / "merge.json").read_text())
    assert (note["alpha"], note["beta"], note["target"], note["before"]) == (1.15, 0.25, "target", "before")
    assert str(place) not in (place / "out" / "merge.json").read_text()


def test_without_a_retain_vector_it_is_three_terms(models: Shell) -> None:
    assert models(*words("--alpha", "0.75", retain=False)).code == 0
    target, one, _, zero = (weights(models.folder / role) for role in ROLES)
    made = weights(models.folder / "out")
    for name, tensor in made.items():
        assert torch.equal(tensor, target[name] + one[name] * -0.75 + zero[name] * 0.75)


def test_a_grid_of_folders_and_the_same_again(models: Shell) -> None:
    """Two alphas with two betas; what is there stays, what is missing is made."""
    place = models.folder
    grid = words("--alpha", "1,0.5", "--beta", "0.25,0")
    assert models(*grid).code == 0
    names = ["alpha-0.5-beta-0", "alpha-0.5-beta-0.25", "alpha-1-beta-0", "alpha-1-beta-0.25"]
    assert sorted(path.name for path in (place / "out").iterdir()) == names
    for alpha, beta in ((0.5, 0.0), (0.5, 0.25), (1.0, 0.0), (1.0, 0.25)):
        made = weights(place / "out" / f"alpha-{alpha:g}-beta-{beta:g}")
        assert same(made, expected(place, alpha, beta))
    kept = {name: (place / "out" / name / "model.safetensors").stat().st_ino for name in names[1:]}
    shutil.rmtree(place / "out" / names[0])
    said = models(*grid)
    assert said.code == 0 and said.out.count("is there already, the same") == 3
    assert {name: (place / "out" / name / "model.safetensors").stat().st_ino for name in names[1:]} == kept
    assert same(weights(place / "out" / names[0]), expected(place, 0.5, 0.0))


def test_the_same_again_says_so_and_another_result_is_refused(models: Shell) -> None:
    place = models.folder
    command = words("--alpha", "1", retain=False)
    assert models(*command).code == 0
    before = hash_checkpoint(place / "out", ("*",))
    again = models(*command)
    assert again.code == 0 and "is there already, the same" in again.out and "bytes once" not in again.out
    for refused in (words("--alpha", "2", retain=False), words("--alpha", "1", "--dtype", "bfloat16", retain=False)):
        said = models(*refused)
        assert said.code == 2 and "is there already and is another result: remove it" in said.errors[0]
    assert hash_checkpoint(place / "out", ("*",)) == before
    file = place / "out" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    assert models(*command).code == 2, "its bytes aren't what was written"


def test_an_input_with_another_time_and_the_same_bytes_changes_nothing(models: Shell) -> None:
    """Also where part of the results is still missing; the folders that are there stay to the byte."""
    place = models.folder
    command = words("--alpha", "1,0.5", retain=False)
    assert models(*command).code == 0
    before = hash_checkpoint(place / "out", ("*/*",))
    for number, role in enumerate(("target", "before"), 1):
        os.utime(place / role / "model.safetensors", ns=(number, number))
    again = models(*command)
    assert again.code == 0 and again.out.count("is there already, the same") == 2
    assert "computed again to compare" in again.out and "bytes once" in again.out
    assert hash_checkpoint(place / "out", ("*/*",)) == before
    shutil.rmtree(place / "out" / "alpha-0.5")
    resumed = models(*command)
    assert resumed.code == 0 and resumed.out.count("is there already, the same") == 1 and "bytes twice" in resumed.out
    target, one, _, zero = (weights(place / role) for role in ROLES)
    made = weights(place / "out" / "alpha-0.5")
    assert same(made, {name: target[name] + one[name] * -0.5 + zero[name] * 0.5 for name in target})


def test_an_input_with_one_other_byte_is_another_result(models: Shell) -> None:
    """Of the same size and with the same header, so that only the content tells."""
    place = models.folder
    command = words("--alpha", "1,0.5", retain=False)
    assert models(*command).code == 0
    shutil.rmtree(place / "out" / "alpha-0.5")
    before = hash_checkpoint(place / "out", ("*/*",))
    file = place / "target" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 0x40
    file.write_bytes(content)
    said = models(*command)
    assert said.code == 2 and len(said.errors) == 1
    assert "alpha-1' is there already and is another result: remove it" in said.errors[0]
    assert hash_checkpoint(place / "out", ("*/*",)) == before and len(list((place / "out").iterdir())) == 1


def test_dtype_is_the_targets_or_what_is_asked_for(models: Shell) -> None:
    place = models.folder
    assert models(*words("--alpha", "1", "--beta", "0", "--dtype", "bfloat16")).code == 0
    made = weights(place / "out")
    assert same(made, {name: tensor.bfloat16() for name, tensor in expected(place, 1, 0).items()})
    assert json.loads((place / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    shutil.rmtree(place / "target")
    shutil.move(place / "out", place / "target")
    assert models(*words("--alpha", "1", "--beta", "0")).code == 0
    assert {tensor.dtype for tensor in weights(place / "out").values()} == {torch.bfloat16}


def test_folders_of_weights_alone_and_sharded_do(models: Shell) -> None:
    place = models.folder
    for role in ROLES:
        tensors = weights(place / role)
        shutil.rmtree(place / role)
        (place / role).mkdir()
        for i, name in enumerate(tensors):
            save_file({name: tensors[name]}, place / role / f"model-{i}.safetensors")
    assert models(*words("--alpha", "1", "--beta", "0.5")).code == 0
    assert sorted(path.name for path in (place / "out").iterdir()) == ["merge.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--alpha", "-0.5", "--beta", "1"), "--alpha -0.5: it is 0 or more"),
        (("--alpha", "1", "--beta", "-1"), "--beta -1: it is 0 or more"),
        (("--alpha", "one", "--beta", "1"), "--alpha one: write a number, or several with commas"),
        (("--alpha", "1_0", "--beta", "1"), "--alpha 1_0: write a number"),
        (("--alpha", "1", "--beta", "0.5,\u0661"), "--beta 0.5,\u0661: write a number"),
        (("--alpha", "nan", "--beta", "1"), "--alpha nan: write a number"),
        (("--alpha", ",", "--beta", "1"), "--alpha ,: write a number"),
        (("--alpha", "1,1.0", "--beta", "1"), "--alpha 1,1.0 names a number twice"),
        (("--alpha", "1"), "--retain-tuned goes with --beta"),
        (("--alpha", "1", "--beta", "1", "--dtype", "bf16"), "Unknown dtype 'bf16'. Did you mean 'bfloat16'?"),
        (("--alpha", "1", "--beta", "1", "--out", "target"), "The output 'target' is the input"),
        (("--alpha", "1", "--beta", "1", "--out", "target/new"), "The output 'target/new' lies in the input"),
        (
            ("--alpha", "1", "--beta", "1", "--out", "target/config.json"),
            "The output 'target/config.json' lies in the input",
        ),
        (("--alpha", "1", "--beta", "1", "--before", "nowhere"), "There is no folder 'nowhere'"),
    ],
)
def test_a_users_mistake_is_one_sentence(models: Shell, more: tuple[str, ...], sentence: str) -> None:
    said = models(*words(*more))
    assert said.code == 2 and any(sentence in error for error in said.errors), said.err
    assert models.written() == sorted(ROLES)


def test_all_mistakes_are_told_together(models: Shell) -> None:
    place = models.folder
    shutil.rmtree(place / "before")
    (place / "before").mkdir()
    torch.save({}, place / "before" / "pytorch_model.bin")
    (place / "forget-tuned" / "model.safetensors").rename(place / "forget-tuned" / "adapter_model.safetensors")
    said = models(*words("--alpha", "-1", "--beta", "1", "--dtype", "int8", retain=False))
    assert said.code == 2
    for word in (
        "--alpha -1",
        "--beta goes with --retain-tuned",
        "int8",
        "a peft adapter only",
        "pickled weights only",
    ):
        assert sum(word in error for error in said.errors) == 1, word
    assert len(said.errors) == 5


def test_another_vocabulary_is_named_with_both_sizes(models: Shell) -> None:
    place = models.folder
    model = llama()
    rows = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(rows + 3)
    shutil.rmtree(place / "before")
    saved(model, tokenizer(), place / "before")
    said = models(*words("--alpha", "1", "--beta", "1"))
    assert said.code == 2
    assert said.errors == [
        f"Tensor 'model.embed_tokens.weight' has shape ({rows}, 16) in 'target (target)' and ({rows + 3}, 16) in 'before "
        "(before)'. A resized embedding is the usual cause: use checkpoints with one vocabulary."
    ]


def test_vectors_that_rounding_swallowed_are_warned_of(models: Shell) -> None:
    place = models.folder
    before = weights(place / "before")

    def tuned(share: float) -> Said:
        for role, factor in (("before", 0.0), ("forget-tuned", 1.0)):
            changed = {name: t.bfloat16() for name, t in before.items()}
            for tensor in changed.values():
                tensor.view(-1)[: round(share * tensor.numel())] += factor
            save_file(changed, place / role / "model.safetensors")
        shutil.rmtree(place / "out", ignore_errors=True)
        return models(*words("--alpha", "1", "--beta", "0"))

    few, many = tuned(0.2), tuned(0.9)
    assert few.code == many.code == 0
    assert re.search(r"warning: forget-tuned and before are bfloat16 and only (19|20)\.\d% of", few.err)
    assert "warning" not in many.err


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_term_that_is_no_number_is_said_with_its_tensor(models: Shell, role: str, wrong: float) -> None:
    """Also by a second call, which finds the result there already."""
    place = models.folder
    tensors = weights(place / role)
    tensors["model.norm.weight"][3] = wrong
    save_file(tensors, place / role / "model.safetensors", metadata={"format": "pt"})
    for _ in range(2):
        said = models(*words("--alpha", "0.5,1", "--beta", "0.25"))
        assert said.code == 0
        assert said.err.count("warning") == 1, said.err
        assert (
            f"{role} ({role}) has NaN or infinite entries in 1 tensor(s), the first is 'model.norm.weight'" in said.err
        )
    assert not torch.isfinite(weights(place / "out" / "alpha-1-beta-0.25")["model.norm.weight"]).all()


def test_sound_terms_are_not_warned_of_however_large(models: Shell) -> None:
    """Entries whose sum is beyond float32 are finite all the same."""
    for role in ROLES:
        tensors = weights(models.folder / role)
        tensors["model.norm.weight"].fill_(1e38 if role == "target" else 0)
        save_file(tensors, models.folder / role / "model.safetensors", metadata={"format": "pt"})
    said = models(*words("--alpha", "1", "--beta", "0.25"))
    assert said.code == 0 and "warning" not in said.err
    assert "unsound" not in (models.folder / "out" / "merge.json").read_text()


def test_a_place_that_cannot_be_written_is_one_sentence(models: Shell) -> None:
    (models.folder / "file").write_text("")
    (models.folder / "link").symlink_to("nowhere")
    for out, sentence in (
        ("file", "'file' is a file and no folder"),
        ("file/x/y", "'file' is a file and no folder"),
        ("link", "'link' is a link to nothing and no folder"),
        ("/proc/out", "nothing can be written there"),
        ("x" * 250, "is too long"),
    ):
        said = models(*words("--alpha", "1", "--beta", "1", out=out))
        assert said.code == 2 and len(said.errors) == 1 and sentence in said.errors[0], said.err
    assert models.written() == sorted([*ROLES, "file", "link"])


def test_files_beside_the_weights_are_copied_or_named(models: Shell) -> None:
    target = models.folder / "target"
    (target / "additional_chat_templates").mkdir()
    copied = (
        "additional_chat_templates/rag.jinja",
        "qwen.tiktoken",
        "modeling_x.py",
        "chat_template.json",
        "merges.txt",
    )
    for name in (*copied, "README.md", "codes.bpe", "pytorch_model.bin"):
        (target / name).write_text(f'"{name}"')
    said = models(*words("--alpha", "1", "--beta", "1"))
    assert said.code == 0, said.err
    assert all((models.folder / "out" / name).read_text() == f'"{name}"' for name in copied)
    assert "nor code: README.md, codes.bpe.\n" in said.out


def test_terms_in_several_files_and_a_result_in_several_open_as_one(
    models: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.engines.arithmetic.sums.SHARD_BYTES", 2000)
    assert models(*words("--alpha", "1", "--beta", "0.25")).code == 0
    check_model_folder(models.folder / "out", "out")
    assert (models.folder / "out" / "model.safetensors.index.json").is_file()
    again = models(
        "msa", "--target", "out", "--before", "before", "--forget-tuned", "before", "--alpha", "1", "--out", "two"
    )
    assert again.code == 0, again.err
    assert TensorFiles(models.folder / "two").names == TensorFiles(models.folder / "out").names
