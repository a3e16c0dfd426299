"""What this machine has and lets us do: peak memory, devices, folders; and how amounts are said."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.machine import (
    default_jobs,
    device_problems,
    format_bytes,
    peak_memory,
    reset_peak,
)

SIZE = 200_000_000


def test_the_peak_holds_what_was_given_back_until_it_is_reset() -> None:
    """200 MB are touched and freed: the peak keeps them, and a reset forgets them where the kernel lets us."""
    reset_peak()
    before = peak_memory()
    block = bytearray(SIZE)
    block[::4096] = b"x" * len(block[::4096])
    del block
    high = peak_memory()
    assert high >= before + SIZE * 0.9
    reset_peak()
    if Path("/proc/self/clear_refs").exists():
        assert peak_memory() <= high
    assert peak_memory() > 10e6, "Python alone takes more than ten megabytes"


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("cpu", None),
        ("tpu", "--device tpu: there are cpu, cuda and cuda:N."),
        ("cuda:", "--device cuda:: there are cpu, cuda and cuda:N."),
        ("cuda:1", "--device cuda:1: this machine shows no GPU; use cpu, and see `python -m bench doctor`."),
    ],
)
def test_a_device_that_is_not_there_is_a_sentence(
    device: str, sentence: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.core.machine.GPUS", ("/dev/no-such-gpu",))
    assert device_problems(device) == ([sentence] if sentence else [])


def test_a_gpu_is_believed_where_its_driver_made_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr("bench.core.machine.GPUS", (str(tmp_path / "nvidia0"),))
    assert device_problems("cuda") == device_problems("cuda:3") == []
    assert default_jobs("cuda:3") == 1 and default_jobs("cpu") >= 1


@pytest.mark.parametrize(("size", "said"), [(0, "0.0 GB"), (1.26e9, "1.3 GB"), (9.94e9, "9.9 GB"), (10e9, "10 GB")])
def test_gigabytes(size: float, said: str) -> None:
    assert format_bytes(size) == said
