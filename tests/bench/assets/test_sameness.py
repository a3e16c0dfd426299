"""Which terms match: tensors, tokens and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.assets.sameness import check_match
from bench.assets.tensors import TensorFiles
from bench.core.errors import UserError
from bench.engines.arithmetic.sums import combine
from tests.tiny import llama, saved, tokenizer
from tests.weights import folder, vector


def test_one_token_with_two_numbers_is_refused(tmp_path: Path) -> None:
    """The embeddings have one size, and row 1 of the one is another word than row 1 of the other."""
    words = {"one": {"a": 0, "b": 1}, "other": {"a": 0, "c": 1, "b": 2}, "longer": {"a": 0, "b": 1, "c": 2}}
    made = {name: folder(tmp_path / name, {"embed": torch.zeros(3, 2)}) for name in words}
    for name, vocabulary in words.items():
        (tmp_path / name / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    with pytest.raises(UserError, match="Token 'b' is number 1 in 'one' and 2 in 'other'"):
        combine([(1, made["one"]), (1, made["other"])], tmp_path / "out")
    combine([(1, made["one"]), (1, made["longer"])], tmp_path / "out")


def test_a_resized_embedding_is_named_with_both_sizes(tmp_path: Path) -> None:
    plain = folder(tmp_path / "plain", {"model.embed_tokens.weight": torch.zeros(4, 2)})
    padded = folder(tmp_path / "padded", {"model.embed_tokens.weight": torch.zeros(8, 2)})
    with pytest.raises(UserError, match=r"'model.embed_tokens.weight' has shape \(4, 2\) in 'plain' and \(8, 2\) in"):
        combine([(1, plain), (1, padded)], tmp_path / "out")


def test_other_names_or_shapes_are_one_sentence_each(tmp_path: Path) -> None:
    target = folder(tmp_path / "target", {"embed": torch.zeros(4, 2), "w": vector(1)})
    renamed = folder(tmp_path / "renamed", {"embed": torch.zeros(4, 2), "v": vector(1)})
    resized = folder(tmp_path / "resized", {"embed": torch.zeros(5, 2), "w": vector(1, 2)})
    with pytest.raises(UserError) as caught:
        combine([(1, target), (1, renamed), (1, resized)], tmp_path / "out")
    names, shapes = caught.value.problems
    assert names == "'target' and 'renamed' don't hold the same tensors: 2 differ, the first is 'v'."
    assert shapes.startswith("Tensor 'embed' has shape (4, 2) in 'target' and (5, 2) in 'resized'.")
    assert not (tmp_path / "out").exists(), "nothing is written before all is known to match"


def edit(path: Path, change: Any) -> None:
    read = json.loads(path.read_text())
    change(read)
    path.write_text(json.dumps(read))


def test_terms_of_another_setting_or_another_tokenizer_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        saved(llama(), tokenizer(), tmp_path / name)
    two = tmp_path / "two"

    def match() -> None:
        check_match([TensorFiles(tmp_path / "one"), TensorFiles(two)])

    match()
    edit(two / "config.json", lambda c: c.update(rms_norm_eps=0.5, torch_dtype="float16"))
    with pytest.raises(
        UserError, match="The setting 'rms_norm_eps' is 1e-06 in the config of 'one' and 0.5 in that of 'two'"
    ):
        match()
    edit(two / "config.json", lambda c: c.update(rms_norm_eps=1e-6))
    match()

    def swap(read: dict[str, Any]) -> None:
        vocabulary = read["model"]["vocab"]
        first, *_, last = vocabulary
        vocabulary[first], vocabulary[last] = vocabulary[last], vocabulary[first]
        read["added_tokens"] = []

    (two / "tokenizer.json").write_text(json.dumps(json.loads((two / "tokenizer.json").read_text()), indent=3))
    match()
    edit(two / "tokenizer.json", swap)
    with pytest.raises(
        UserError, match="Token '.*' is number .+ in 'one' and .+ in 'two': their tokens are not the same"
    ):
        match()
    saved(llama(), tokenizer(), two)
    edit(two / "tokenizer.json", lambda t: t.update(normalizer={"type": "Lowercase"}))
    with pytest.raises(UserError, match="Their normalisers differ .tokenizers of 'one' and 'two'.:"):
        match()


def test_what_follows_from_the_config_may_be_absent(tmp_path: Path) -> None:
    buffer = "model.layers.0.self_attn.rotary_emb.inv_freq"
    old, new = folder(tmp_path / "old", {"w": vector(1), buffer: vector(2)}), folder(tmp_path / "new", {"w": vector(1)})
    check_match([TensorFiles(Path(each.path)) for each in (old, new)])
    check_match([TensorFiles(Path(each.path)) for each in (new, old)])
