"""Simulated quantisation: by hand, against a naive reference, and in checkpoints where all else stays to the bit."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.errors import Unmet, UserError
from bench.core.types import Checkpoint
from bench.engines.arithmetic import rounding, sums
from bench.engines.arithmetic.layers import LinearLayer
from bench.engines.arithmetic.rounding import KINDS, count_differing, round_weight, write_rounded
from bench.engines.loaders import open_checkpoint
from tests.families import random_model
from tests.processes import environment
from tests.tiny import llama, saved, tokenizer
from tests.weights import folder, tensors_of, vector

PLAIN, TURNED = LinearLayer(0, False), LinearLayer(0, True)
NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]
FP4 = [0.0, 0.0052083333, 0.16666667, 0.25, 0.33333333, 0.5, 0.66666667, 1.0]
NAME = "model.layers.0.mlp.up_proj.weight"


def rounded(weight: torch.Tensor, kind: str, group: int = 0, layer: LinearLayer = PLAIN) -> torch.Tensor:
    return round_weight(weight.clone(), kind, group, layer)


# --- by hand


def test_int4_by_hand() -> None:
    """The largest is 7, so that the scale is 1: halves go to the even number, and nothing beyond 7 levels a side."""
    given_ = vector(7, 0.5, 1.5, 2.5, -0.5, -1.5, 3.4999, -6.7)[None]
    assert rounded(given_, "int4").tolist() == [[7, 0, 2, 2, 0, -2, 3, -7]]
    assert rounded(given_ / 2, "int4").tolist() == [[3.5, 0, 1, 1, 0, -1, 1.5, -3.5]]


def test_int8_by_hand() -> None:
    assert rounded(vector(-127, 0.5, 1.5, 126.5, 0.2)[None], "int8").tolist() == [[-127, 0, 2, 126, 0]]


def test_every_output_has_its_own_scale_and_so_has_every_group() -> None:
    """Rows (7, 3.2) and (.7, .32) have the scales 1 and .1; in groups of 2 the short last one keeps its entry."""
    weight = torch.stack([vector(7, 3.2, 70, 14.9, 3.2), vector(0.7, 0.32, 0, 0, 0.32)])
    whole = torch.stack([vector(10, 0, 70, 10, 0), vector(0.7, 0.3, 0, 0, 0.3)])
    torch.testing.assert_close(rounded(weight, "int4"), whole)
    grouped = torch.stack([vector(7, 3, 70, 10, 3.2), vector(0.7, 0.3, 0, 0, 0.32)])
    torch.testing.assert_close(rounded(weight, "int4", 2), grouped)
    assert torch.equal(rounded(weight, "int4", 99), rounded(weight, "int4"))


def test_the_outputs_of_a_conv1d_are_its_columns() -> None:
    weight = torch.randn(30, 50)
    for kind in KINDS:
        turned = rounded(weight, kind, 0, TURNED)
        assert turned.is_contiguous() and torch.equal(turned, rounded(weight.T.contiguous(), kind).T), kind
        assert not torch.equal(turned, rounded(weight, kind))


def test_fused_experts_are_rounded_one_by_one() -> None:
    weight = torch.randn(3, 8, 64)
    for kind, group in (("int4", 0), ("int8", 24), ("nf4", 0)):
        assert torch.equal(rounded(weight, kind, group), torch.stack([rounded(one, kind, group) for one in weight]))
        turned = rounded(weight.mT.contiguous(), kind, group, TURNED)
        assert torch.equal(turned, rounded(weight, kind, group).mT)


@pytest.mark.parametrize(("kind", "book"), [("nf4", NF4), ("fp4", [*(-value for value in FP4[:0:-1]), *FP4])])
def test_code_books_to_the_bit(kind: str, book: list[float]) -> None:
    """What is in the book stays, and an entry goes to the nearer of its neighbours; the scale is the block's largest."""
    codes = torch.tensor(book)
    assert len(rounding.BOOKS[kind]) == len(NF4 if kind == "nf4" else FP4)
    assert torch.equal(torch.tensor(rounding.BOOKS[kind]), torch.tensor(NF4 if kind == "nf4" else FP4))
    for scale in (1.0, 0.25, 3.0):
        assert torch.equal(rounded(codes[None] * scale, kind), codes[None] * scale)
    for low, high in zip(book, book[1:], strict=False):
        near = torch.tensor([low + 0.49 * (high - low), low + 0.51 * (high - low), -1.0, 1.0])
        assert torch.equal(rounded(near[None], kind)[0, :2], torch.tensor([low, high]))


def test_a_tie_in_a_code_book_goes_to_the_smaller_size() -> None:
    """11/128 is half-way between .0052083333 and .16666667, as bfloat16 weights really are at times."""
    assert rounded(vector(1, 11 / 128, -11 / 128)[None], "fp4").tolist() == [
        [1, *torch.tensor([FP4[1], -FP4[1]]).tolist()]
    ]


def test_a_block_has_64_entries_across_outputs_and_the_last_may_be_shorter() -> None:
    weight = torch.full((3, 30), 0.3)
    weight[0, 0], weight[2, 4] = 1.0, 10.0  # entries 0 and 64
    made = rounded(weight, "nf4").flatten()
    near, far = torch.tensor(NF4[11]), torch.tensor(NF4[7])  # .3 of 1, and of 10
    assert torch.equal(made[1:64], near.expand(63)) and torch.equal(made[65:], far.expand(25))


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros(kind: str) -> None:
    weight = torch.zeros(4, 70)
    assert not rounded(weight, kind).any() and not rounded(weight, kind, 0, TURNED).any()
    weight[3, 69] = -2.0  # the only one of its output and its block
    assert torch.equal(rounded(weight, kind), weight)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_finite_number_is_refused_with_its_name(kind: str, number: float, tmp_path: Path) -> None:
    weight = torch.randn(2, 70)
    weight[1, 69] = number
    made = folder(tmp_path / "made", {NAME: weight})
    sentence = f"'{NAME}' of 'made' has entries that are no finite numbers"
    with pytest.raises(Unmet, match=sentence):
        write_rounded(made, kind, 0, tmp_path / "out")
    with pytest.raises(Unmet, match=sentence):
        count_differing(made, made, kind, 0)
    assert not (tmp_path / "out").exists()


# --- against a naive reference


def naive_levels(weight: Any, levels: int, group: int) -> Any:
    """One entry at a time, in float64; NumPy's ``rint`` is half to even."""
    out = np.zeros_like(weight)
    for i, row in enumerate(weight):
        for begin in range(0, len(row), group or len(row)):
            part = row[begin : begin + (group or len(row))]
            scale = max(abs(value) for value in part) / levels
            for j, value in enumerate(part):
                out[i, begin + j] = np.rint(value / scale) * scale if scale else 0.0
    return out


def naive_codes(weight: Any, book: list[float]) -> Any:
    """Distances to every entry of the book, block by block."""
    flat = weight.flatten()
    out = np.zeros_like(flat)
    codes = np.array(book, np.float32).astype(np.float64)
    for begin in range(0, len(flat), 64):
        part = flat[begin : begin + 64]
        scale = max(abs(part))
        if scale:
            at = np.abs(part[:, None] / scale - codes[None]).argmin(1)
            out[begin : begin + 64] = codes[at] * scale
    return out.reshape(weight.shape)


WEIGHTS = st.tuples(st.integers(1, 5), st.integers(1, 150), st.integers(0, 10_000), st.sampled_from([1e-4, 1.0, 300.0]))


def draw_weight(rows: int, columns: int, seed: int, size: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normal entries of which some are 0."""
    torch.manual_seed(seed)
    return (torch.randn(rows, columns) * size * (torch.rand(rows, columns) > 0.1)).to(dtype)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.sampled_from(["int8", "int4"]), st.sampled_from([0, 1, 7, 64, 128]))
def test_levels_are_those_of_a_naive_reference(given_: tuple[int, int, int, float], kind: str, group: int) -> None:
    weight = draw_weight(*given_)
    wanted = naive_levels(weight.double().numpy(), {"int8": 127, "int4": 7}[kind], group)
    assert np.array_equal(rounded(weight, kind, group).numpy(), wanted.astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.sampled_from(["nf4", "fp4"]))
def test_codes_are_those_of_a_naive_reference(given_: tuple[int, int, int, float], kind: str) -> None:
    weight = draw_weight(*given_)
    book = NF4 if kind == "nf4" else [*FP4, *(-value for value in FP4)]
    assert np.array_equal(rounded(weight, kind).numpy(), naive_codes(weight.double().numpy(), book).astype(np.float32))


@settings(max_examples=80, deadline=None)
@given(
    WEIGHTS,
    st.sampled_from([("int8", 0), ("int4", 0), ("int4", 128), ("int8", 5), ("nf4", 0), ("fp4", 0)]),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_rounding_twice_is_rounding_once(
    given_: tuple[int, int, int, float], how: tuple[str, int], dtype: torch.dtype
) -> None:
    once = rounded(draw_weight(*given_, dtype).float(), *how).to(dtype)
    assert torch.equal(rounded(once.float(), *how).to(dtype), once)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_code_books_as_in_bitsandbytes(kind: str, dtype: torch.dtype) -> None:
    """Of its kernels on the GPU, or on the CPU where there is none; not of entries half-way between codes, which go
    either way."""
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes isn't installed")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight = draw_weight(64, 130, 0, 0.02, dtype)
    codes, state = functional.quantize_4bit(weight.to(device), blocksize=64, quant_type=kind)
    theirs = functional.dequantize_4bit(codes, state).cpu()
    blocks, book = weight.float().view(-1, 64), torch.tensor(rounding.BOOKS[kind])
    units = (blocks / blocks.abs().amax(1, keepdim=True)).view(weight.shape)
    units = units.abs() if kind == "fp4" else units
    tied = ((units[..., None] - (book[1:] + book[:-1]) / 2).abs() < 1e-6).any(-1)
    ours = rounded(weight.float(), kind).to(dtype)
    assert torch.equal(ours[~tied], theirs[~tied]) and tied.float().mean() < 0.01


def test_eight_bits_are_those_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes isn't installed")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight = draw_weight(16, 130, 0, 0.02, torch.float16)
    codes, largest, _ = functional.int8_vectorwise_quant(weight.to(device))
    theirs = codes.cpu().float() * largest.cpu()[:, None] / 127
    torch.testing.assert_close(rounded(weight.float(), "int8"), theirs, rtol=1e-6, atol=0)


# --- checkpoints


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_the_blocks_linear_layers_stays_to_the_bit(kind: str, tmp_path: Path) -> None:
    model = saved(llama(), tokenizer(), tmp_path / "model")
    write_rounded(model, kind, 0, tmp_path / "out")
    before, after = tensors_of(Path(model.path)), tensors_of(tmp_path / "out")
    assert before.keys() == after.keys()
    linear = {name for name in before if "proj" in name}
    assert len(linear) == 14
    for name, tensor in after.items():
        wanted = rounded(before[name], kind) if name in linear else before[name]
        assert torch.equal(tensor, wanted), name
    opened = open_checkpoint(Checkpoint(str(tmp_path / "out"), "out"))
    assert opened.model(torch.tensor([[1, 5, 9]])).logits.isfinite().all()
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == json.loads(
        (Path(model.path) / "config.json").read_text()
    )


def test_what_is_not_rounded_may_be_anything(tmp_path: Path) -> None:
    """NaN in an embedding with its own bits, whole numbers, float64: none of them goes through float32."""
    odd = torch.tensor([0x7FC1, 0x7F80], dtype=torch.int16).view(torch.bfloat16)
    exact = torch.tensor([1 + 1e-12], dtype=torch.float64)
    made = folder(
        tmp_path / "made", {"embed.weight": odd, "x": exact, "ids": torch.tensor([2**40]), NAME: torch.ones(1, 2)}
    )
    write_rounded(made, "int4", 0, tmp_path / "out")
    after = tensors_of(tmp_path / "out")
    assert torch.equal(after["embed.weight"].view(torch.int16), odd.view(torch.int16))
    assert torch.equal(after["x"], exact) and after["ids"].item() == 2**40


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_values_are_rounded_once_to_the_tensors_own_type(dtype: torch.dtype, tmp_path: Path) -> None:
    weight = torch.randn(5, 200).to(dtype)
    made = folder(tmp_path / "made", {NAME: weight})
    for kind in KINDS:
        write_rounded(made, kind, 0, tmp_path / kind)
        assert torch.equal(tensors_of(tmp_path / kind)[NAME], rounded(weight.float(), kind).to(dtype))


def test_files_and_shards_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {f"model.layers.{i}.mlp.up_proj.weight": torch.randn(20, 70).bfloat16() for i in range(6)}
    tensors["lm_head.weight"] = torch.randn(30, 70).bfloat16()
    one = folder(tmp_path / "one", tensors)
    several = folder(tmp_path / "several", *({name: tensors[name] for name in list(tensors)[i::3]} for i in range(3)))
    write_rounded(one, "int4", 16, tmp_path / "whole")
    monkeypatch.setattr(sums, "SHARD_BYTES", 6000)
    written = write_rounded(several, "int4", 16, tmp_path / "shards")
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())
    assert len(written.files) == 3 and set(index["weight_map"]) == set(tensors)
    whole, shards = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "shards")
    assert all(torch.equal(whole[name], shards[name]) for name in tensors)


def test_large_weights_are_cut_into_pieces_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(37, 300)
    whole = {(kind, group): rounded(weight, kind, group) for kind in KINDS for group in (0, 128)}
    monkeypatch.setattr(rounding, "TILE", 640)
    for (kind, group), made in whole.items():
        assert torch.equal(rounded(weight, kind, group), made), kind


def test_gpt2_is_rounded_by_outputs(tmp_path: Path) -> None:
    random_model("GPT-2").save_pretrained(tmp_path / "model")
    made = Checkpoint(str(tmp_path / "model"), "gpt2")
    write_rounded(made, "int4", 0, tmp_path / "out")
    name = "transformer.h.0.attn.c_attn.weight"
    after = tensors_of(tmp_path / "out")[name]
    assert all(len(column.unique()) <= 15 for column in after.T) and not all(len(row.unique()) <= 15 for row in after)


def test_an_output_inside_the_model_is_refused(tmp_path: Path) -> None:
    made = folder(tmp_path / "made", {NAME: torch.ones(2, 2)})
    with pytest.raises(UserError, match="lies in the input"):
        write_rounded(made, "int4", 0, tmp_path / "made" / "out")


MEMORY = """
import sys
from pathlib import Path
from bench.core.machine import peak_memory
from bench.core.types import Checkpoint
from bench.engines.arithmetic import rounding, updates

small, large = ([Checkpoint(path, path) for path in sys.argv[at : at + 2]] for at in (1, 3))
def work(one, other):
    rounding.write_rounded(one, "int4", 128, Path(one.path + "-out"))
    rounding.count_differing(one, other, "nf4", 0)
    updates.describe_update(one, other)
work(*small)  # all code is loaded
start = peak_memory()
work(*large)
print(peak_memory() - start)
"""


@pytest.mark.slow(11)
def test_memory_is_that_of_a_weight_and_not_of_the_model(tmp_path: Path) -> None:
    """Two models of 80 MB in 40 weights of 1 million entries, 4 MB each in float32: a copy of one would be too much."""
    made = []
    for size, count in ((10, 1), (1000, 40)):
        for seed in range(2):
            torch.manual_seed(seed)
            tensors = {f"model.layers.{i}.mlp.up_proj.weight": torch.randn(size, size).bfloat16() for i in range(count)}
            made.append(folder(tmp_path / f"{size}-{seed}", tensors).path)
    words = [sys.executable, "-c", MEMORY, *made]
    grown = int(subprocess.run(words, env=environment(), check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert grown < 50_000_000


# --- what differs


def test_equal_models_differ_nowhere(tmp_path: Path) -> None:
    model = saved(llama(), tokenizer(), tmp_path / "model")
    for kind in KINDS:
        found = count_differing(model, model, kind, 0)
        assert (found["values"], found["codes"]) == (0, 0)
    assert found["entries"] == sum(t.numel() for n, t in tensors_of(Path(model.path)).items() if "proj" in n)


def test_what_differs_by_hand(tmp_path: Path) -> None:
    """Scales 1, 1 and 1.1: of eight entries one has another code in the first row, and the second row all other values."""
    one = folder(tmp_path / "one", {NAME: torch.stack([vector(7, 3, 0, 1), vector(7, 3, 1, 1)])})
    two = folder(tmp_path / "two", {NAME: torch.stack([vector(7, 3.4, 0, 2), vector(7.7, 3.3, 1.1, 1.1)])})
    assert count_differing(one, two, "int4", 0) == {"values": 5 / 8, "codes": 1 / 8, "entries": 8}


def test_a_change_far_below_a_level_is_rounded_away(tmp_path: Path) -> None:
    """A thousandth of a level of int4 (a seventh of an output's largest) leaves all codes but those near a boundary."""
    torch.manual_seed(0)
    weight = torch.randn(50, 200)
    step = weight.abs().amax(1, keepdim=True) / 7
    one = folder(tmp_path / "one", {NAME: weight})
    two = folder(tmp_path / "two", {NAME: weight + 1e-3 * step * torch.randn_like(weight)})
    far = folder(tmp_path / "far", {NAME: weight + step * torch.randn_like(weight)})
    assert count_differing(one, two, "int4", 0)["codes"] < 0.005
    assert count_differing(one, far, "int4", 0)["codes"] > 0.4


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {NAME: torch.ones(2, 2)})
    two = folder(tmp_path / "two", {NAME: torch.ones(2, 3)})
    with pytest.raises(UserError, match="shape"):
        count_differing(one, two, "int4", 0)
