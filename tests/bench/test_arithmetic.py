"""The arithmetic engine: sums worked by hand, in the files' own form, and nothing else touched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench import arithmetic
from bench.arithmetic import combine, distance
from bench.errors import UserError
from bench.hashing import folder_hash
from bench.loaders import open_checkpoint
from bench.types import Checkpoint
from tests.tiny import llama, saved, tokenizer

Tensors = Mapping[str, torch.Tensor]


def folder(path: Path, *files: Tensors) -> Checkpoint:
    """A checkpoint with one safetensors file for each of ``files``."""
    path.mkdir()
    for i, tensors in enumerate(files):
        save_file(dict(tensors), path / f"part-{i}.safetensors")
    (path / "config.json").write_text(json.dumps({"of": path.name}))
    return Checkpoint(str(path), path.name, label=path.name)


def vector(*values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def summed(terms: list[tuple[float, Checkpoint]], out: Path) -> dict[str, torch.Tensor]:
    combine(terms, out)
    return dict(load_file(out / "model.safetensors"))


def test_msa_by_hand(tmp_path: Path) -> None:
    """theta_D - a (theta_1 - theta_0) + b (theta_2 - theta_0) with a = .75, b = .25.

    First weight: 4 - .75 (3 - 1) + .25 (5 - 1) = 4 - 1.5 + 1 = 3.5; second: -2 - .75 (0 - 2) + .25 (2 - 2) = -.5.
    """
    target, one, two, zero = (
        folder(tmp_path / name, {"w": vector(*values)})
        for name, values in {"D": (4, -2), "1": (3, 0), "2": (5, 2), "0": (1, 2)}.items()
    )
    a, b = 0.75, 0.25
    made = summed([(1, target), (-a, one), (b, two), (a - b, zero)], tmp_path / "out")
    assert torch.equal(made["w"], vector(3.5, -0.5))


def test_bfloat16_is_summed_in_float32_and_rounded_once(tmp_path: Path) -> None:
    """bfloat16 has 7 bits after the point: next to 1 it can't hold 1 + 2^-8, which rounds to even, to 1.

    1 + 2^-8 + 2^-8 = 1 + 2^-7 = 1.0078125 can be held, but a sum that rounds after each term stays at 1.
    """
    big, small = (
        folder(tmp_path / name, {"w": vector(value, dtype=torch.bfloat16)})
        for name, value in {"big": 1.0, "small": 2**-8}.items()
    )
    assert vector(1.0, dtype=torch.bfloat16) + vector(2**-8, dtype=torch.bfloat16) == 1.0
    made = summed([(1, big), (1, small), (1, small)], tmp_path / "out")
    assert made["w"].dtype == torch.bfloat16
    assert made["w"].tolist() == [1.0078125]


def test_coefficients_are_not_rounded_to_bfloat16(tmp_path: Path) -> None:
    """100 * 0.3 = 30. In bfloat16 the coefficient would be 0.30078125 and the product 30.078, held as 30.125."""
    only = folder(tmp_path / "only", {"w": vector(100, dtype=torch.bfloat16)})
    assert summed([(0.3, only)], tmp_path / "out")["w"].tolist() == [30.0]
    assert (vector(100, dtype=torch.bfloat16) * vector(0.3, dtype=torch.bfloat16)).tolist() == [30.125]


def test_float64_stays_float64(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"w": vector(1.0, dtype=torch.float64)})
    tiny = folder(tmp_path / "tiny", {"w": vector(1e-12, dtype=torch.float64)})
    made = summed([(1, one), (1, tiny)], tmp_path / "out")["w"]
    assert made.dtype == torch.float64 and made.item() == 1 + 1e-12


def test_buffers_of_whole_numbers_are_copied_from_the_first(tmp_path: Path) -> None:
    first = folder(tmp_path / "a", {"w": vector(1.0), "ids": torch.tensor([3, 4]), "on": torch.tensor([True])})
    other = folder(tmp_path / "b", {"w": vector(1.0), "ids": torch.tensor([9, 9]), "on": torch.tensor([False])})
    made = summed([(2, first), (-1, other)], tmp_path / "out")
    assert made["w"].tolist() == [1.0]
    assert made["ids"].tolist() == [3, 4] and made["ids"].dtype == torch.int64
    assert made["on"].tolist() == [True]


def test_shards_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tensors of 8 bytes in shards of at least 16: two and one, named as transformers looks for them."""
    monkeypatch.setattr(arithmetic, "SHARD_BYTES", 16)
    whole = folder(tmp_path / "whole", {"a": vector(1, 2), "b": vector(3, 4), "c": vector(5, 6)})
    parts = folder(tmp_path / "parts", {"c": vector(1, 1), "a": vector(1, 1)}, {"b": vector(1, 1)})
    out = tmp_path / "out"
    combine([(1, parts), (10, whole)], out)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert index == {"metadata": {"total_size": 24}, "weight_map": {"a": one, "b": one, "c": two}}
    assert sorted(path.name for path in out.glob("*.safetensors")) == [one, two]
    made = load_file(out / one) | load_file(out / two)
    assert {name: tensor.tolist() for name, tensor in made.items()} == {"a": [11, 21], "b": [31, 41], "c": [51, 61]}
    assert json.loads((out / "config.json").read_text()) == {"of": "parts"}, "companions come from the first term"


def test_a_sharded_llama_opens_and_is_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (saved(llama(seed), tokenizer(), tmp_path / str(seed)) for seed in (0, 1))
    combine([(0.5, one), (0.5, other)], tmp_path / "whole")
    monkeypatch.setattr(arithmetic, "SHARD_BYTES", 2000)
    combine([(0.5, one), (0.5, other)], tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    ids = torch.tensor([[1, 5, 9]])
    models = [open_checkpoint(Checkpoint(str(tmp_path / name), name)).model for name in ("whole", "sharded")]
    assert torch.equal(models[0](ids).logits, models[1](ids).logits)


def test_tied_weights_are_summed_once_and_stay_tied(tmp_path: Path) -> None:
    """Target 2 theta - theta = theta: with the embedding counted twice it would be something else."""
    checkpoint = saved(llama(), tokenizer(), tmp_path / "model")
    made = summed([(2.0, checkpoint), (-1.0, checkpoint)], tmp_path / "out")
    assert "lm_head.weight" not in made
    for name, tensor in load_file(Path(checkpoint.path) / "model.safetensors").items():
        torch.testing.assert_close(made[name], tensor, rtol=0, atol=0)
    model = open_checkpoint(Checkpoint(str(tmp_path / "out"), "out")).model
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_msa_before_the_target_itself_is_task_arithmetic(tmp_path: Path) -> None:
    """theta_0 = theta_D: theta_D - a theta_1 + a theta_D = (1 + a) theta_D - a theta_1, to float32 rounding."""
    target, tuned = (saved(llama(seed), tokenizer(), tmp_path / str(seed)) for seed in (0, 1))
    a = 0.9
    msa = summed([(1.0, target), (-a, tuned), (a, target)], tmp_path / "msa")
    negated = summed([(1 + a, target), (-a, tuned)], tmp_path / "negated")
    for name, tensor in msa.items():
        torch.testing.assert_close(tensor, negated[name], rtol=1e-6, atol=1e-7)


def test_nothing_of_the_terms_changes_on_disk(tmp_path: Path) -> None:
    target, tuned = (saved(llama(seed), tokenizer(), tmp_path / str(seed)) for seed in (0, 1))
    before = [folder_hash(Path(checkpoint.path), ("*",)) for checkpoint in (target, tuned)]
    combine([(1.0, target), (-1.0, tuned)], tmp_path / "out")
    assert [folder_hash(Path(checkpoint.path), ("*",)) for checkpoint in (target, tuned)] == before
    assert open_checkpoint(Checkpoint(str(tmp_path / "out"), "out")).tokenizer.eos_token == "<eos>"


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


def test_a_folder_without_safetensors_is_a_users_mistake(tmp_path: Path) -> None:
    good = folder(tmp_path / "good", {"w": vector(1)})
    (tmp_path / "pickled").mkdir()
    torch.save({"w": vector(1)}, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(UserError, match="No safetensors in 'pickled': weights are read from safetensors only"):
        combine([(1, good), (1, Checkpoint(str(tmp_path / "pickled"), "x"))], tmp_path / "out")


def test_distance_by_hand(tmp_path: Path) -> None:
    """Differences (3, 4) and (12): sqrt(9 + 16 + 144) = 13. Whole numbers don't count."""
    one = folder(tmp_path / "one", {"w": vector(3, 4), "v": vector(0), "ids": torch.tensor([1])})
    other = folder(tmp_path / "other", {"w": vector(0, 0), "v": vector(12), "ids": torch.tensor([9])})
    assert distance(one, other) == distance(other, one) == 13.0
    assert distance(one, one) == 0.0
