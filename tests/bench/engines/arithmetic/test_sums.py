"""The arithmetic engine: sums worked by hand, in the files' own form, and nothing else touched."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.assets.tensors import TensorFiles
from bench.core.contracts import Term
from bench.core.errors import Absent, UserError
from bench.core.hashing import file_hash, folder_hash
from bench.core.types import Checkpoint
from bench.engines.arithmetic import sums as arithmetic
from bench.engines.arithmetic import writer as arithmetic_output
from bench.engines.arithmetic.sums import (
    Geometry,
    combine,
    combine_grid,
    cosine,
    distance,
    geometry,
    scrambled,
    transform,
)
from bench.engines.loaders import open_checkpoint
from tests.processes import environment
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


def drawn(path: Path, seed: int, dtype: torch.dtype = torch.float32, shards: int = 1, **shapes: int) -> Checkpoint:
    """Random tensors of these numbers of entries, spread over files."""
    torch.manual_seed(seed)
    tensors = {name: torch.randn(count).to(dtype) for name, count in shapes.items()}
    return folder(path, *({name: tensors[name] for name in list(shapes)[i::shards]} for i in range(shards)))


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder."""
    return {name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same_files(one: Path, other: Path) -> None:
    """Two folders with the same names and bytes."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


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


def test_a_resized_embedding_is_named_with_both_sizes(tmp_path: Path) -> None:
    plain = folder(tmp_path / "plain", {"model.embed_tokens.weight": torch.zeros(4, 2)})
    padded = folder(tmp_path / "padded", {"model.embed_tokens.weight": torch.zeros(8, 2)})
    with pytest.raises(UserError, match=r"'model.embed_tokens.weight' has shape \(4, 2\) in 'plain' and \(8, 2\) in"):
        combine([(1, plain), (1, padded)], tmp_path / "out")


def test_one_token_with_two_numbers_is_refused(tmp_path: Path) -> None:
    """The embeddings have one size, and row 1 of the one is another word than row 1 of the other."""
    words = {"one": {"a": 0, "b": 1}, "other": {"a": 0, "c": 1, "b": 2}, "longer": {"a": 0, "b": 1, "c": 2}}
    made = {name: folder(tmp_path / name, {"embed": torch.zeros(3, 2)}) for name in words}
    for name, vocabulary in words.items():
        (tmp_path / name / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    with pytest.raises(UserError, match="Token 'b' is number 1 in 'one' and 2 in 'other'"):
        combine([(1, made["one"]), (1, made["other"])], tmp_path / "out")
    combine([(1, made["one"]), (1, made["longer"])], tmp_path / "out")


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


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_is_product_by_product_and_sum_by_sum_in_float32(
    tmp_path: Path, dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the same written down with whole tensors, over more than one piece and with an odd last one."""
    monkeypatch.setattr(arithmetic, "CHUNK", 1 << 15)
    monkeypatch.setattr(arithmetic, "cores", lambda: threads)
    coefficients, count = (1.0, -1.15, 0.25, 0.9), 9 * arithmetic.CHUNK + 7
    terms = [(c, drawn(tmp_path / str(i), i, dtype, w=count, v=3)) for i, c in enumerate(coefficients)]
    written = combine(terms, tmp_path / "out")
    assert written.files == {"model.safetensors": sha256(tmp_path / "out" / "model.safetensors")}
    for name, tensor in tensors_of(tmp_path / "out").items():
        total = torch.zeros(len(tensor))
        for coefficient, checkpoint in terms:
            total = total + tensors_of(Path(checkpoint.path))[name].float() * torch.tensor(coefficient)
        assert tensor.dtype == dtype and torch.equal(tensor, total.to(dtype))


def test_terms_may_differ_in_type_and_in_sharding(tmp_path: Path) -> None:
    """1 * 1.5 + 2 * .25 + 4 * .125 = 2.5, in the first term's type."""
    names = {"a": 5, "b": 2, "c": 4}
    values = ((1.5, torch.bfloat16, 1), (0.25, torch.float32, 2), (0.125, torch.float16, 3))
    terms = []
    for i, (value, dtype, shards) in enumerate(values):
        made = drawn(tmp_path / str(i), 0, dtype, shards, **names)
        for file in Path(made.path).glob("*.safetensors"):
            save_file({name: torch.full_like(tensor, value) for name, tensor in load_file(file).items()}, file)
        terms.append((float(2**i), made))
    made_of = summed(terms, tmp_path / "out")
    assert {name: tensor.tolist() for name, tensor in made_of.items()} == {
        n: [2.5] * count for n, count in names.items()
    }
    assert {tensor.dtype for tensor in made_of.values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_another_dtype_is_rounded_to_once_and_stands_in_the_config(tmp_path: Path, name: str) -> None:
    """1 + 2^-8 + 2^-17 is above the middle between 1 and 1 + 2^-7, bfloat16's next: rounded up, and down in two steps."""
    dtype = getattr(torch, name)
    one = folder(tmp_path / "one", {"w": vector(1 + 2**-8), "ids": torch.tensor([3])})
    rest = folder(tmp_path / "rest", {"w": vector(2**-17), "ids": torch.tensor([4])})
    config = {"dtype": "float32", "text_config": {"torch_dtype": "float32", "hidden": 3}, "name": "float32"}
    (tmp_path / "one" / "config.json").write_text(json.dumps(config))
    combine([(1, one), (1, rest)], tmp_path / "out", dtype=name)
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(made["w"], vector(1 + 2**-8 + 2**-17).to(dtype)) and made["w"].dtype == dtype
    assert made["ids"].tolist() == [3]
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written == {"dtype": name, "text_config": {"torch_dtype": name, "hidden": 3}, "name": "float32"}


def test_an_unknown_dtype_is_a_users_mistake(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"w": vector(1)})
    with pytest.raises(UserError, match="Unknown dtype 'bf16'. Did you mean 'bfloat16'"):
        combine([(1, one)], tmp_path / "out", dtype="bf16")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_one_are_the_plain_sum_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    """alpha = 1.15, beta = .25: theta_D - a w (theta_1 - theta_0) + b w (theta_2 - theta_0) with w = 1."""
    a, b, shapes = 1.15, 0.25, {"w": arithmetic.CHUNK + 5, "v": 1001}
    target, one, two, zero = (drawn(tmp_path / name, i, dtype, **shapes) for i, name in enumerate("D120"))
    ones = folder(tmp_path / "ones", {name: torch.ones(count) for name, count in shapes.items()})
    weighted = [Term(1.0, target), Term(0, one, -a), Term(0, two, b), Term(0, zero, a - b)]
    combine(weighted, tmp_path / "weighted", weights=ones)
    combine([(1.0, target), (-a, one), (b, two), (a - b, zero)], tmp_path / "plain")
    same_files(tmp_path / "weighted", tmp_path / "plain")


def test_weights_by_hand(tmp_path: Path) -> None:
    """w = 0, 1, 2: 10 + (1 + .5 w) * 4 = 14, 16, 18. Whole numbers need no weights."""
    one = folder(tmp_path / "one", {"w": vector(10, 10, 10), "ids": torch.tensor([1])})
    two = folder(tmp_path / "two", {"w": vector(4, 4, 4), "ids": torch.tensor([2])})
    weights = folder(tmp_path / "weights", {"w": vector(0, 1, 2)})
    combine([(1.0, one), Term(1.0, two, 0.5)], tmp_path / "out", weights=weights)
    assert load_file(tmp_path / "out" / "model.safetensors")["w"].tolist() == [14.0, 16.0, 18.0]


def test_weights_must_be_complete_and_float32(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"w": vector(1, 2), "v": vector(1)})
    for name, tensors, sentence in (
        ("fewer", {"w": vector(1, 1)}, "'fewer' has no weights for the tensor 'v'"),
        ("shorter", {"w": vector(1), "v": vector(1)}, r"The weights of 'w' have shape \(1,\) in 'shorter', not \(2,\)"),
        ("half", {"w": vector(1, 1).half(), "v": vector(1)}, "The weights of 'w' are F16 in 'half'"),
    ):
        with pytest.raises(UserError, match=sentence):
            combine([Term(1, one, 1)], tmp_path / "out", weights=folder(tmp_path / name, tensors))


def test_a_grid_is_its_single_sums_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "SHARD_BYTES", 5000)
    checkpoints = [drawn(tmp_path / str(i), i, torch.bfloat16, i + 1, w=3000, v=70000, u=10) for i in range(3)]
    grid = [(1.0, -1.15, 0.9), (1.0, 0.3, 0.0), (0.7, 1.0, 1.0)]
    outs = [tmp_path / f"grid-{k}" for k in range(3)]
    made = combine_grid(checkpoints, grid, outs)
    for row, out, written in zip(grid, outs, made, strict=True):
        single = tmp_path / f"single-{out.name}"
        combine(list(zip(row, checkpoints, strict=True)), single)
        same_files(out, single)
        assert written.files == {path.name: file_hash(path) for path in out.glob("*.safetensors")}
        assert written.bytes == sum(path.stat().st_size for path in out.glob("*.safetensors"))


def test_the_hash_of_what_was_written_is_known_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = drawn(tmp_path / "one", 0, w=100_000)
    made = combine([(2, one)], tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    truth = sha256(path)
    assert made.files == {"model.safetensors": truth}
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was read again"))
    assert file_hash(path) == truth


def test_safetensors_reads_what_is_written_and_it_is_aligned(tmp_path: Path) -> None:
    """A byte before float64s: the wide types come first, or they would lie at odd places."""
    tensors = {"a": torch.tensor([True]), "b": vector(1.0, dtype=torch.float64), "empty": torch.zeros(0, 3)}
    tensors |= {"scalar": torch.tensor(2.0), "z": vector(1, 2, 3, dtype=torch.bfloat16)}
    made = summed([(1, folder(tmp_path / "one", tensors))], tmp_path / "out")
    for name, tensor in tensors.items():
        assert torch.equal(made[name], tensor) and made[name].dtype == tensor.dtype
    for entry in TensorFiles(tmp_path / "out").entries.values():
        assert entry.bytes == 0 or entry.begin % (entry.bytes // max(1, entry.count)) == 0


def test_a_head_stored_beside_the_embedding_it_is_tied_to_is_dropped(tmp_path: Path) -> None:
    embedding, other = torch.randn(8, 2), torch.randn(8, 2)
    once = folder(tmp_path / "once", {"model.embed_tokens.weight": other})
    twice = folder(tmp_path / "twice", {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding.clone()})
    for name in ("once", "twice"):
        (tmp_path / name / "config.json").write_text(json.dumps({"tie_word_embeddings": True}))
    assert set(summed([(1, twice), (1, once)], tmp_path / "both")) == {"model.embed_tokens.weight"}
    assert set(summed([(1, once), (1, twice)], tmp_path / "turned")) == {"model.embed_tokens.weight"}
    untied = folder(tmp_path / "untied", {"model.embed_tokens.weight": embedding, "lm_head.weight": other})
    assert set(summed([(1, untied)], tmp_path / "all")) == {"model.embed_tokens.weight", "lm_head.weight"}
    with pytest.raises(UserError, match="the first is 'lm_head.weight' .'lm_head.weight' is there when a model's head"):
        combine([(1, untied), (1, once)], tmp_path / "out")


def test_buffers_that_follow_from_the_config_are_copied_and_may_lack(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    old = folder(tmp_path / "old", {"w": vector(1), name: vector(0.5)})
    new = folder(tmp_path / "new", {"w": vector(1)})
    made = summed([(1, old), (-3, new)], tmp_path / "out")
    assert made["w"].tolist() == [-2] and made[name].tolist() == [0.5]
    assert set(summed([(1, new), (1, old)], tmp_path / "turned")) == {"w"}


@pytest.mark.parametrize("most", [0, 3, 1000])
def test_pieces_are_hashed_in_order_whoever_brings_them(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Ten threads with a piece of two bytes each, the last ones first; so many bytes may lie and wait."""
    monkeypatch.setattr(arithmetic_output, "MOST_EARLY", most)
    pieces = [bytes([i, 255 - i]) for i in range(10)]
    hashed = arithmetic_output.InOrder(b"start")
    crew = [threading.Thread(target=hashed.add, args=(i, memoryview(pieces[i]))) for i in reversed(range(10))]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(20)
    assert hashed.hexdigest() == hashlib.sha256(b"start" + b"".join(pieces)).hexdigest()


# --- places, kills and damage


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    one, two = (folder(tmp_path / name, {"w": vector(1)}) for name in ("one", "two"))
    (tmp_path / "link").symlink_to(tmp_path / "two")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    for place, relation in (("one", "is"), ("link", "is"), ("two/below", "lies in"), (".", "holds")):
        with pytest.raises(UserError, match=f"{relation} the input '.*: choose a folder apart from it"):
            combine([(1, one), (1, two)], tmp_path / place)
    with pytest.raises(UserError, match="lies in the input"):
        combine([(1, one)], tmp_path / "out", scratch=tmp_path / "one" / "scratch")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "one", "two"]


def test_an_older_result_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = drawn(tmp_path / "one", 0, w=100, v=100)
    monkeypatch.setattr(arithmetic, "SHARD_BYTES", 100)
    combine([(2, one)], tmp_path / "out")
    monkeypatch.undo()
    combine([(3, one)], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(tensors_of(tmp_path / "out")["w"], 3 * tensors_of(tmp_path / "one")["w"])


KILLED = """
import os, signal, sys
from pathlib import Path
from bench import arithmetic, arithmetic_output
from bench.core.types import Checkpoint

arithmetic.SHARD_BYTES = 1000
keep = arithmetic_output.Output.keep_journal
def keep_and_die(output):
    keep(output)
    if len(output.done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
arithmetic_output.Output.keep_journal = keep_and_die
arithmetic.combine([(c, Checkpoint(p, p)) for c, p in ((1.0, sys.argv[1]), (-0.5, sys.argv[2]))], Path(sys.argv[3]))
"""
"""Killed by the kernel when the second shard's entry in the journal is written."""


def test_after_a_kill_the_same_call_goes_on_and_another_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "SHARD_BYTES", 1000)
    one, two = (drawn(tmp_path / str(i), i, a=300, b=300, c=300, d=300) for i in range(2))
    combine([(1.0, one), (-0.5, two)], tmp_path / "whole")
    out, partial = tmp_path / "out", tmp_path / "out.partial"

    def kill() -> dict[str, int]:
        words = [sys.executable, "-c", KILLED, one.path, two.path, str(out)]
        assert subprocess.run(words, env=environment()).returncode == -signal.SIGKILL
        assert not out.exists()
        return {path.name: path.stat().st_ino for path in partial.glob("*.safetensors")}

    finished = kill()
    assert len(finished) == 2
    assert combine([(1.0, one), (-0.5, two)], out).resumed == 2
    same_files(out, tmp_path / "whole")
    assert not partial.exists()
    assert {name: (out / name).stat().st_ino for name in finished} == finished, "they weren't written again"

    shutil.rmtree(out)
    damaged = partial / sorted(kill())[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert combine([(1.0, one), (-0.5, two)], out).resumed == 1, "a damaged shard is written again"
    same_files(out, tmp_path / "whole")

    shutil.rmtree(out)
    kill()
    assert combine([(1.0, one), (-0.25, two)], out).resumed == 0, "another coefficient"
    combine([(1.0, one), (-0.25, two)], tmp_path / "other")
    same_files(out, tmp_path / "other")

    shutil.rmtree(out)
    kill()
    os.utime(Path(two.path) / "part-0.safetensors", (1, 1))
    assert combine([(1.0, one), (-0.5, two)], out).resumed == 0, "an input changed"


def test_two_at_once_on_one_folder_is_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"w": vector(1)})
    inside, release = threading.Event(), threading.Event()

    def wait(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        inside.set()
        assert release.wait(20)
        return tensors[0]

    slow = threading.Thread(target=transform, args=([one], tmp_path / "out", wait))
    slow.start()
    try:
        assert inside.wait(20)
        with pytest.raises(UserError, match="Another process is writing 'out' at the moment"):
            combine([(1, one)], tmp_path / "out")
    finally:
        release.set()
        slow.join()
    assert tensors_of(tmp_path / "out")["w"].tolist() == [1]


def test_a_failure_leaves_nothing_in_place_and_the_threads_as_they_were(tmp_path: Path) -> None:
    one = drawn(tmp_path / "one", 0, **{f"w{i}": 100 for i in range(40)})
    threads, running = torch.get_num_threads(), threading.active_count()

    def fail(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        if name == "w7":
            raise ZeroDivisionError(name)
        return tensors[0]

    with pytest.raises(ZeroDivisionError, match="w7"):
        transform([one], tmp_path / "out", fail)
    assert not (tmp_path / "out").exists()
    assert torch.get_num_threads() == threads and threading.active_count() == running
    transform([one], tmp_path / "out", lambda name, tensors: tensors[0])
    assert len(tensors_of(tmp_path / "out")) == 40


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda data: data[:-1], "bad/model.safetensors is truncated: 91 bytes, and its header speaks of 92"),
        (lambda data: data + b"x", "bad/model.safetensors is damaged: 93 bytes"),
        (lambda data: data[:5], "is no whole safetensors file .5 bytes.: it is truncated, copy it again"),
        (lambda data: b"\xff" * 8 + data[8:], "is no whole safetensors file"),
        (lambda data: data[:8] + b"x" + data[9:], "has a damaged safetensors header: copy it again"),
        (lambda data: data.replace(b"[3]", b"[4]"), "has a damaged safetensors header"),
        (lambda data: data.replace(b'"F32"', b'"F4"\x20'), "tensor 'w' has the type F4, which can't be summed"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: object, sentence: str) -> None:
    (tmp_path / "bad").mkdir()
    file = tmp_path / "bad" / "model.safetensors"
    save_file({"w": vector(1, 2, 3)}, file, metadata={"format": "pt"})
    whole = file.read_bytes()
    sentence = (
        sentence.replace("91", str(len(whole) - 1)).replace("92", str(len(whole))).replace("93", str(len(whole) + 1))
    )
    file.write_bytes(damage(whole))  # type: ignore[operator]
    with pytest.raises(UserError, match=sentence) as caught:
        combine([(1, Checkpoint(str(tmp_path / "bad"), "bad"))], tmp_path / "out")
    assert len(caught.value.problems) == 1


def test_folders_that_cannot_be_summed_are_told_together(tmp_path: Path) -> None:
    for name in ("empty", "pickled", "adapter", "indexed", "quantised"):
        (tmp_path / name).mkdir()
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    save_file({"lora": vector(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    index = {"weight_map": {"w": "model-00001-of-00002.safetensors"}}
    (tmp_path / "indexed" / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"w": vector(1)}, tmp_path / "quantised" / "model.safetensors")
    (tmp_path / "quantised" / "config.json").write_text(json.dumps({"quantization_config": {}}))
    names = ("nowhere", "empty", "pickled", "adapter", "indexed", "quantised")
    with pytest.raises(UserError) as caught:
        combine([(1, Checkpoint(str(tmp_path / name), name)) for name in names], tmp_path / "out")
    for problem, word in zip(
        caught.value.problems,
        (
            "There is no folder",
            "give a folder that holds",
            "convert them first",
            "merge it into",
            "isn't there",
            "quantised",
        ),
        strict=True,
    ):
        assert word in problem


def test_only_the_files_that_transformers_would_load_count(tmp_path: Path) -> None:
    """A second copy of the weights (``consolidated.safetensors``) is left alone; in nameless files it is a mistake."""
    (tmp_path / "model").mkdir()
    save_file({"w": vector(1)}, tmp_path / "model" / "model.safetensors")
    save_file({"w": vector(5)}, tmp_path / "model" / "consolidated.safetensors")
    assert summed([(2, Checkpoint(str(tmp_path / "model"), ""))], tmp_path / "out")["w"].tolist() == [2]
    twice = folder(tmp_path / "twice", {"w": vector(1)}, {"w": vector(1)})
    with pytest.raises(UserError, match="'twice' holds the tensor 'w' in two files, part-0.safetensors and part-1"):
        combine([(1, twice)], tmp_path / "out2")


def test_what_tells_of_another_folder_is_not_copied(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"w": vector(1)})
    for name in (
        "node.json",
        "fetch.json",
        "merge.json",
        "generation_config.json",
        "chat_template.jinja",
        "merges.txt",
    ):
        (tmp_path / "one" / name).write_text("{}")
    combine([(1, one)], tmp_path / "out")
    copied = {"config.json", "generation_config.json", "chat_template.jinja", "merges.txt"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == copied | {"model.safetensors"}


MEMORY = """
import sys
from pathlib import Path
from bench import arithmetic, arithmetic_output
from bench.core.machine import peak
from bench.core.types import Checkpoint

arithmetic.SHARD_BYTES = 30_000_000
terms = [(c, Checkpoint(p, p)) for c, p in zip((1.0, -1.15, 0.25, 0.9), sys.argv[2:])]
arithmetic.combine(terms[:1], Path(sys.argv[1] + "-first"))  # code and threads are loaded
start = peak()
arithmetic.combine(terms, Path(sys.argv[1]))
print(peak() - start)
"""


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Four inputs of 76 MB, with mapped pages counted: a copy of one of them would already be too much."""
    shapes = {f"w{i}": 2_000_000 for i in range(19)}
    paths = [drawn(tmp_path / str(i), i, torch.bfloat16, 2, **shapes).path for i in range(4)]
    words = [sys.executable, "-c", MEMORY, str(tmp_path / "out"), *paths]
    grown = int(subprocess.run(words, env=environment(), check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert grown < 30_000_000


# --- maps and geometry


def test_transform_by_hand(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"w": vector(1, 2, dtype=torch.bfloat16), "ids": torch.tensor([7])})
    two = folder(tmp_path / "two", {"w": vector(3, 5, dtype=torch.bfloat16), "ids": torch.tensor([8])})
    transform([one, two], tmp_path / "out", lambda name, tensors: tensors[0] * tensors[1] + len(name))
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert made["w"].tolist() == [4, 11] and made["w"].dtype == torch.float32
    assert made["ids"].tolist() == [7]
    transform([one], tmp_path / "own", lambda name, tensors: tensors[0] / 3, dtype="")
    assert load_file(tmp_path / "own" / "model.safetensors")["w"].dtype == torch.bfloat16


def test_whole_tensors_keep_their_shape_and_pieces_are_flat(tmp_path: Path) -> None:
    wide = torch.arange(3.0 * arithmetic.CHUNK).view(3, -1)
    one = folder(tmp_path / "one", {"w": wide, "v": torch.ones(2, 2)})
    shapes: dict[str, set[tuple[int, ...]]] = {"w": set(), "v": set()}

    def seen(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        shapes[name].add(tuple(tensors[0].shape))
        return tensors[0].flip(0)

    transform([one], tmp_path / "whole", seen, whole=True)
    assert shapes == {"w": {(3, arithmetic.CHUNK)}, "v": {(2, 2)}}
    assert torch.equal(load_file(tmp_path / "whole" / "model.safetensors")["w"], wide.flip(0))
    shapes["w"].clear()
    transform([one], tmp_path / "pieces", seen)
    assert shapes["w"] == {(arithmetic.CHUNK,)}


def test_scrambled_vectors_keep_entries_or_length_and_nothing_else(tmp_path: Path) -> None:
    before, tuned = (drawn(tmp_path / str(i), i, torch.bfloat16, w=1000, v=50) for i in range(2))
    start, end = (tensors_of(Path(checkpoint.path)) for checkpoint in (before, tuned))
    for kind in ("shuffled", "random"):
        scrambled(before, tuned, kind, 3, tmp_path / kind)
        scrambled(before, tuned, kind, 3, tmp_path / f"{kind}-again")
        scrambled(before, tuned, kind, 4, tmp_path / f"{kind}-other")
        same_files(tmp_path / kind, tmp_path / f"{kind}-again")
        made, other = tensors_of(tmp_path / kind), tensors_of(tmp_path / f"{kind}-other")
        for name, tensor in made.items():
            vector_ = end[name].float() - start[name].float()
            control = tensor - start[name].float()
            assert tensor.dtype == torch.float32 and not torch.equal(tensor, other[name])
            assert float(control.norm()) == pytest.approx(float(vector_.norm()), rel=1e-5)
            assert abs(float(torch.cosine_similarity(control, vector_, dim=0))) < 0.4
            if kind == "shuffled":
                torch.testing.assert_close(control.sort().values, vector_.sort().values, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="Unknown control 'shuffle'. Did you mean 'shuffled'"):
        scrambled(before, tuned, "shuffle", 3, tmp_path / "out")


def test_cosine_and_geometry_by_hand(tmp_path: Path) -> None:
    """a = (3, 4, 0) - 0 and b = (0, 4, 3) - 0: 16 / 25; from (0, 4, 0), (3, 0, 0) and (0, 0, 3) are at a right angle."""
    made = {
        name: folder(
            tmp_path / name, {"w": vector(*values[:2]), "v": vector(values[2]), "ids": torch.tensor([len(name)])}
        )
        for name, values in {"a": (3, 4, 0), "b": (0, 4, 3), "zero": (0, 0, 0), "origin": (0, 4, 0)}.items()
    }
    a, b, zero, origin = made.values()
    assert cosine(a, zero, b, zero) == 16 / 25
    assert cosine(a, origin, b, origin) == 0
    assert cosine(a, zero, zero, a) == -1
    assert geometry(a, b) == Geometry(5, 5, math.sqrt(18), 16)
    assert geometry(a, b, origin) == Geometry(3, 3, math.sqrt(18), 0)
    assert geometry(a, b).cosine == 16 / 25
    with pytest.raises(Absent, match="length zero"):
        cosine(a, a, b, zero)


def test_distance_is_the_same_however_many_threads_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (drawn(tmp_path / str(i), i, w=5 * arithmetic.CHUNK + 3, v=9) for i in range(2))
    found = distance(one, other)
    true = sum(
        float((a.double() - tensors_of(Path(other.path))[name].double()).square().sum())
        for name, a in tensors_of(Path(one.path)).items()
    )
    assert found == pytest.approx(math.sqrt(true), rel=1e-13)
    for threads in (1, 2, 4):
        monkeypatch.setattr(arithmetic, "cores", lambda threads=threads: threads)
        assert distance(one, other) == found


def test_tensors_are_read_by_name(tmp_path: Path) -> None:
    tensors = {"w": torch.randn(3, 4).half(), "ids": torch.tensor([[1, 2]]), "on": torch.tensor(True)}
    files = TensorFiles(Path(replace(folder(tmp_path / "one", tensors), label="").path))
    for name, tensor in tensors.items():
        assert torch.equal(files.get(name), tensor) and files.shape(name) == tuple(tensor.shape)
        assert files.get(name).dtype == tensor.dtype
