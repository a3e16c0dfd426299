"""The arithmetic's speed benchmark: the set is what it says, all sides agree, and the file has its fields. No seconds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench.assets.tensors import TensorFiles
from tests.processes import environment
from tests.speed import arithmetic as speed_arithmetic


@pytest.mark.parametrize("parameters", [0.05e9, 1e9, 8e9])
def test_the_set_has_about_the_parameters_asked_for(parameters: float) -> None:
    found = sum(math.prod(shape) for shape in speed_arithmetic.shapes(parameters).values())
    assert abs(found / parameters - 1) < 0.1


@pytest.mark.slow(20)
def test_all_sides_run_agree_and_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "speed.json"
    words = ["--parameters", "3e6", "--folder", str(tmp_path / "set"), "--repeats", "1", "--out", str(out)]
    assert speed_arithmetic.main(words) == 0
    assert list((tmp_path / "set").iterdir()) == [], "the set is deleted"
    said = capsys.readouterr().out
    assert "The results agree to the bit." in said
    result = json.loads(out.read_text())
    assert result["agrees"] and set(result["sides"]) == set(speed_arithmetic.SIDES)
    for side, line in result["sides"].items():
        assert side in said
        assert line.keys() == {
            "seconds", "cpu_seconds", "fastest_seconds", "peak_bytes", "grown_bytes", "load", "ratio",
        }  # fmt: skip
    assert result["goals"]["grown_bytes"] == 2 * 4 * speed_arithmetic.VOCABULARY * 64


def test_the_four_checkpoints_match_and_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_arithmetic, "SHARD_BYTES", 3_000_000)
    count = speed_arithmetic.generate(tmp_path, 3e6)
    readers = [TensorFiles(tmp_path / name) for name in speed_arithmetic.NAMES]
    assert all(reader.names == readers[0].names and len(reader.files) > 1 for reader in readers)
    assert all(reader.bytes == 2 * count for reader in readers)
    norms = [reader.get("model.norm.weight").float() for reader in readers]
    assert all(not norms[0].equal(norm) for norm in norms[1:])
