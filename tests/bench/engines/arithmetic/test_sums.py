"""The arithmetic engine: sums worked by hand, in the files' own form, and nothing else touched."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.core.contracts import Term
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint, hash_file
from bench.core.types import Checkpoint
from bench.engines.arithmetic import chunks, sums
from bench.engines.arithmetic.sums import (
    combine,
    combine_grid,
    distance,
    relative_distance,
    transform,
    write_scrambled,
)
from bench.engines.loaders import open_checkpoint
from tests.processes import environment
from tests.tiny import llama, saved, tokenizer
from tests.weights import drawn, folder, same_files, sha256, summed, tensors_of, vector


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


def test_a_sharded_llama_opens_and_is_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (saved(llama(seed), tokenizer(), tmp_path / str(seed)) for seed in (0, 1))
    combine([(0.5, one), (0.5, other)], tmp_path / "whole")
    monkeypatch.setattr(sums, "SHARD_BYTES", 2000)
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
    before = [hash_checkpoint(Path(checkpoint.path), ("*",)) for checkpoint in (target, tuned)]
    combine([(1.0, target), (-1.0, tuned)], tmp_path / "out")
    assert [hash_checkpoint(Path(checkpoint.path), ("*",)) for checkpoint in (target, tuned)] == before
    assert open_checkpoint(Checkpoint(str(tmp_path / "out"), "out")).tokenizer.eos_token == "<eos>"


def test_distance_by_hand(tmp_path: Path) -> None:
    """Differences (3, 4) and (12): sqrt(9 + 16 + 144) = 13. Whole numbers don't count."""
    one = folder(tmp_path / "one", {"w": vector(3, 4), "v": vector(0), "ids": torch.tensor([1])})
    other = folder(tmp_path / "other", {"w": vector(0, 0), "v": vector(12), "ids": torch.tensor([9])})
    assert distance(one, other) == distance(other, one) == 13.0
    assert distance(one, one) == 0.0


def test_relative_distance_by_hand(tmp_path: Path) -> None:
    """13 of a norm of 5 or of 12; nothing is a share of nothing."""
    one = folder(tmp_path / "one", {"w": vector(3, 4), "v": vector(0), "ids": torch.tensor([1])})
    other = folder(tmp_path / "other", {"w": vector(0, 0), "v": vector(12), "ids": torch.tensor([9])})
    assert relative_distance(one, other) == pytest.approx(13 / 5) and relative_distance(other, one) == 13 / 12
    nothing = folder(tmp_path / "nothing", {"w": vector(0, 0), "v": vector(0), "ids": torch.tensor([1])})
    assert relative_distance(nothing, one) is None and relative_distance(one, one) == 0.0


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_is_product_by_product_and_sum_by_sum_in_float32(
    tmp_path: Path, dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the same written down with whole tensors, over more than one piece and with an odd last one."""
    monkeypatch.setattr(sums, "CHUNK", 1 << 15)
    monkeypatch.setattr(chunks, "count_cores", lambda: threads)
    coefficients, count = (1.0, -1.15, 0.25, 0.9), 9 * sums.CHUNK + 7
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
    a, b, shapes = 1.15, 0.25, {"w": sums.CHUNK + 5, "v": 1001}
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
    monkeypatch.setattr(sums, "SHARD_BYTES", 5000)
    checkpoints = [drawn(tmp_path / str(i), i, torch.bfloat16, i + 1, w=3000, v=70000, u=10) for i in range(3)]
    grid = [(1.0, -1.15, 0.9), (1.0, 0.3, 0.0), (0.7, 1.0, 1.0)]
    outs = [tmp_path / f"grid-{k}" for k in range(3)]
    made = combine_grid(checkpoints, grid, outs)
    for row, out, written in zip(grid, outs, made, strict=True):
        single = tmp_path / f"single-{out.name}"
        combine(list(zip(row, checkpoints, strict=True)), single)
        same_files(out, single)
        assert written.files == {path.name: hash_file(path) for path in out.glob("*.safetensors")}
        assert written.bytes == sum(path.stat().st_size for path in out.glob("*.safetensors"))


def test_buffers_that_follow_from_the_config_are_copied_and_may_lack(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    old = folder(tmp_path / "old", {"w": vector(1), name: vector(0.5)})
    new = folder(tmp_path / "new", {"w": vector(1)})
    made = summed([(1, old), (-3, new)], tmp_path / "out")
    assert made["w"].tolist() == [-2] and made[name].tolist() == [0.5]
    assert set(summed([(1, new), (1, old)], tmp_path / "turned")) == {"w"}


MEMORY = """
import sys
from pathlib import Path
from bench.engines.arithmetic import sums, writer
from bench.core.machine import peak_memory
from bench.core.types import Checkpoint

sums.SHARD_BYTES = 30_000_000
terms = [(c, Checkpoint(p, p)) for c, p in zip((1.0, -1.15, 0.25, 0.9), sys.argv[2:])]
sums.combine(terms[:1], Path(sys.argv[1] + "-first"))  # code and threads are loaded
start = peak_memory()
sums.combine(terms, Path(sys.argv[1]))
print(peak_memory() - start)
"""


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Four inputs of 76 MB, with mapped pages counted: a copy of one of them would already be too much."""
    shapes = {f"w{i}": 2_000_000 for i in range(19)}
    paths = [drawn(tmp_path / str(i), i, torch.bfloat16, 2, **shapes).path for i in range(4)]
    words = [sys.executable, "-c", MEMORY, str(tmp_path / "out"), *paths]
    grown = int(subprocess.run(words, env=environment(), check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert grown < 30_000_000


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
    wide = torch.arange(3.0 * sums.CHUNK).view(3, -1)
    one = folder(tmp_path / "one", {"w": wide, "v": torch.ones(2, 2)})
    shapes: dict[str, set[tuple[int, ...]]] = {"w": set(), "v": set()}

    def seen(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        shapes[name].add(tuple(tensors[0].shape))
        return tensors[0].flip(0)

    transform([one], tmp_path / "whole", seen, whole=True)
    assert shapes == {"w": {(3, sums.CHUNK)}, "v": {(2, 2)}}
    assert torch.equal(load_file(tmp_path / "whole" / "model.safetensors")["w"], wide.flip(0))
    shapes["w"].clear()
    transform([one], tmp_path / "pieces", seen)
    assert shapes["w"] == {(sums.CHUNK,)}


def test_scrambled_vectors_keep_entries_or_length_and_nothing_else(tmp_path: Path) -> None:
    before, tuned = (drawn(tmp_path / str(i), i, torch.bfloat16, w=1000, v=50) for i in range(2))
    start, end = (tensors_of(Path(checkpoint.path)) for checkpoint in (before, tuned))
    for kind in ("shuffled", "random"):
        write_scrambled(before, tuned, kind, 3, tmp_path / kind)
        write_scrambled(before, tuned, kind, 3, tmp_path / f"{kind}-again")
        write_scrambled(before, tuned, kind, 4, tmp_path / f"{kind}-other")
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
        write_scrambled(before, tuned, "shuffle", 3, tmp_path / "out")


def test_distance_is_the_same_however_many_threads_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (drawn(tmp_path / str(i), i, w=5 * sums.CHUNK + 3, v=9) for i in range(2))
    found = distance(one, other)
    true = sum(
        float((a.double() - tensors_of(Path(other.path))[name].double()).square().sum())
        for name, a in tensors_of(Path(one.path)).items()
    )
    assert found == pytest.approx(math.sqrt(true), rel=1e-13)
    for threads in (1, 2, 4):
        monkeypatch.setattr(chunks, "count_cores", lambda threads=threads: threads)
        assert distance(one, other) == found
