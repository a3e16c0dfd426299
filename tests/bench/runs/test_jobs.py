"""A job is called by its stage or its method, and its seed."""

from __future__ import annotations

import pytest

from bench.core.record import RunSpec, Step
from bench.runs.jobs import Job


@pytest.mark.parametrize(
    ("steps", "start", "stage", "name"),
    [
        ((Step("npo", {}),), "", "", "npo seed 4"),
        ((Step("msa", {}), Step("repair", {})), "", "", "msa+repair seed 4"),
        ((), "", "", "target seed 4"),
        ((), "", "target", "stage-target seed 4"),
        ((Step("npo", {}),), "", "validate", "validate seed 4"),
        ((Step("msa", {}),), "step=2", "", "rewound-msa seed 4"),
        ((Step("npo", {}),), "", "oracle-1", "stage-oracle-1 seed 4"),
    ],
)
def test_names(steps: tuple[Step, ...], start: str, stage: str, name: str) -> None:
    assert Job(RunSpec("tofu", {}, "lab", "lab", steps, 4, start=start), stage).name == name
