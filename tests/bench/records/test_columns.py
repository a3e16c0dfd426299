"""Published responses give back every bit of what was measured, whatever the probe, and a damaged file is a sentence."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from bench.core.errors import UserError
from bench.core.types import Responses
from bench.records import columns, files
from bench.records.columns import pack_responses, unpack_responses

SCORED = {"logp": [-9.324694, -2.980228e-06], "hit": [0, 1], "eos": True}
ODD = [0.1 + 0.2, -1 / 3, 5e-324, 1.7976931348623157e308, -0.0, float("-inf")]
ROWS: dict[str, dict[str, Any]] = {
    "logprob": {
        "a": {"answer": [SCORED | {"mu": [-0.5, -1e-4], "sigma": [1.5, 0.03], "zlib": 17}], "wrong": [SCORED, SCORED]},
        "b": {"answer": [{"logp": [], "hit": [], "eos": False, "mu": [], "sigma": [], "zlib": 0}], "wrong": []},
    },
    "odd": {"z": {"answer": [{"logp": ODD, "hit": [1, 0] * 3, "eos": True}]}},
    "classes": {"image": {"answer": [SCORED], "classes": [-7.146343, float("-inf"), -0.03204796]}},
    "divergence": {"a": {"oracle-0": [7.018736], "oracle-1": []}, "b": {"oracle-0": [], "oracle-1": [1e-7, 2.0]}},
    "reference": {"a": {"loss": 6.0479367021699995}},
    "gradnorm": {"a": {"norm": 19.59541}},
    "depth": {"a": {"patching": [0.1, 0.2], "linear": [0, 1]}},
    "generate": {
        "a": {"counts": {"lcs": 3, "words": 300}},
        "b": {},
        "c": {"counts": {"lcs": -70000, "words": 1 << 40}},
    },
    "sampled": {"a": {"counts_each": [{"lcs": 1}], "matches": [{"exact": 1}, {"exact": 0, "lenient": 1}]}},
    "lm-eval": {"a": {"acc": 1.0}, "b": {"acc": 0.0}},
    "judge": {"a": {"grades": {"truth": 0.5, "wrong-0": 1}}, "b": {"grades": [{"Paris": True}], "accepts": 0.5}},
    "wholly mixed": {"a": {"x": 1}, "b": {"x": 1.5}, "c": {"x": [1]}, "d": {"x": {"y": [[2]]}}},
    "none": {},
}
KEPT = Responses("abc", ROWS, 1.5, {"positions": 16.0}, {"judge": "it broke"}, "sdpa")


@pytest.mark.parametrize("probe", [*ROWS, ""])
def test_every_kind_of_probe_comes_back_to_the_bit_and_in_its_order(probe: str) -> None:
    one = KEPT if not probe else Responses("abc", {probe: ROWS[probe]})
    content = pack_responses(one)
    back = unpack_responses(content)
    assert json.dumps(back.to_json()) == json.dumps(one.to_json()), "order and kinds of numbers too"
    assert pack_responses(back) == content


def test_what_was_measured_in_float32_takes_four_bytes_a_number_and_no_other() -> None:
    values = [float(f"{x:.7g}") for x in np.random.default_rng(0).normal(0, 9, 500).astype("float32").tolist()]
    finer = [*values[1:], 1 / 3]
    for logp, kind in ((values, "F32"), (finer, "F64")):
        content = pack_responses(Responses("a", {"p": {"x": {"classes": logp}}}))
        assert load(lzma.decompress(content))["p.classes[]"].dtype == {"F32": np.float32, "F64": np.float64}[kind]
        assert unpack_responses(content).rows["p"]["x"]["classes"] == logp


def test_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="they hold str among numbers"):
        pack_responses(Responses("a", {"p": {"x": {"text": "what was said"}}}))


def spoil(content: bytes, how: str) -> bytes:
    """A published file with one thing wrong."""
    plain = lzma.decompress(content)
    found = load(plain)
    about = json.loads(plain[8 : 8 + int.from_bytes(plain[:8], "little")])["__metadata__"]["responses"]
    name = "p.classes"
    if how == "cut":
        return content[:-9]
    if how == "flipped":
        return content[:40] + bytes([content[40] ^ 255]) + content[41:]
    if how == "tail":
        return content + b"x"
    if how == "old":
        return gzip.compress(json.dumps(KEPT.to_json()).encode())
    if how == "bomb":
        return lzma.compress(bytes(columns.MOST_UNPACKED + 1), preset=0)
    if how == "inside":
        return lzma.compress(b"{}")
    if how == "nan":
        found[f"{name}[]"] = np.full_like(found[f"{name}[]"], np.nan)
    elif how == "longer":
        found[f"{name}#"] = found[f"{name}#"] + 1
    elif how == "negative":
        found[f"{name}#"] = found[f"{name}#"].astype("int16") * -1
    elif how == "huge":
        found[f"{name}#"] = found[f"{name}#"].astype("int64") + (1 << 60)
    elif how == "gone":
        del found[f"{name}[]"]
    elif how == "form":
        found["p?"] = found["p?"] + 1
    elif how == "layout":
        about = about.replace('"p":[', '"p":[7')
    return lzma.compress(save(found, {"other": about} if how == "about" else {"responses": about}))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut", "it is cut short"),
        ("flipped", "it is damaged, or not packed by xz"),
        ("tail", "something stands behind its end"),
        ("old", "it is damaged, or not packed by xz"),
        ("bomb", "it unpacks to more than"),
        ("inside", "it is no safetensors inside"),
        ("nan", r"p\.classes\[\] holds something else than finite numbers"),
        ("longer", r"p\.classes\[\] has not the 6 values of its layout"),
        ("negative", "a column of lengths holds something else"),
        ("huge", "a column of lengths asks for more values than any file has"),
        ("gone", "its columns aren't those of its layout: KeyError"),
        ("form", "its columns aren't those of its layout: IndexError"),
        ("layout", "its columns aren't those of its layout: IndexError"),
        ("about", "its columns aren't those of its layout: KeyError"),
    ],
)
def test_a_damaged_file_is_one_sentence_with_the_remedy(how: str, reason: str, tmp_path: Path) -> None:
    path = files.responses_path(tmp_path, "key")
    files.write_responses(Responses("a", {"p": {"x": {"classes": [-1.5, -2.5, -3.5]}, "y": {"classes": [-4.5]}}}), path)
    assert files.read_responses(path).rows["p"]["y"] == {"classes": [-4.5]}
    path.write_bytes(spoil(path.read_bytes(), how))
    said = rf"key\.safetensors\.xz holds no readable responses \({reason}.*\): delete it and run again"
    with pytest.raises(UserError, match=said):
        files.read_responses(path)
