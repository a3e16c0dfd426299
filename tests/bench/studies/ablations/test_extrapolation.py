"""Costs at sizes that nobody has measured, by hand."""

from __future__ import annotations

import pytest

from bench.studies.ablations.extrapolation import WORKLOAD


def test_the_extrapolation_by_hand() -> None:
    """MSA at a billion: two vectors of 10 passes over 400 rows of 80 tokens are 640,000 tokens, at 6e9 each 3.84e15, and
    8 more for each parameter; at .4 of 990e12 a second 9.7 s. The merge reads four and writes one of 2e9 bytes."""
    work, loads = WORKLOAD, WORKLOAD.loads
    msa = loads["msa"]
    assert work.tokens(msa) == 640_000 and work.flops(msa, 1e9, 6) == pytest.approx(3.84e15 + 8e9)
    assert work.gpu_seconds(3.84e15) == pytest.approx(9.697, abs=1e-3)
    assert work.disk_seconds(msa, 1e9) == 5 and work.disk_seconds(loads["npo"], 1e9) == 0
    assert work.tokens(loads["oracle"]) == 2_880_000 and work.tokens(loads["target"]) == 3_200_000
