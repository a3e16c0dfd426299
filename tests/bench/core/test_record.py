"""Specs: what decides a run's key, and that a new field leaves the keys of older specs alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.core.record import RunSpec, Step

SPECS = {
    "5aadde593543d3ae": RunSpec(
        "tofu",
        {"authors": 150, "forget_share": 0.1},
        "lab",
        "lab",
        (Step("msa", {"alpha": 1.15, "beta": 0.25}),),
        3,
        versions={"training": 1, "tofu": 2},
        study="main",
    ),
    "3479fa5f89a57bd3": RunSpec(
        "tofu",
        {"authors": 20},
        "real",
        "smollm2",
        (Step("npo", {"beta": 0.1}, "small-retain"),),
        0,
        limit=5,
        data="hub",
        hashes={"model": "ab"},
        lm_eval=("arc_easy",),
    ),
}
"""By the keys that these specs have in schema 2."""


@pytest.mark.parametrize("key", SPECS)
def test_a_spec_keeps_its_key(key: str) -> None:
    assert SPECS[key].key == key
    assert {"start", "lean", "kinds", "compute"} <= set(SPECS[key].to_json()), "every field is said"


@pytest.mark.parametrize("changed", [{"start": "age=0.5"}, {"lean": True}, {"seed": 9}, {"limit": 1}])
def test_whatever_decides_the_result_is_in_the_key(changed: dict[str, object]) -> None:
    for key, spec in SPECS.items():
        other = replace(spec, **changed)  # type: ignore[arg-type]
        assert other.key != key and set(changed) <= set(other.to_json())
        assert RunSpec.from_json(other.to_json()) == other and RunSpec.from_json(spec.to_json()) == spec
    assert replace(spec, study="another", data="elsewhere").key == key, "labels aren't"


def test_a_run_that_begins_elsewhere_has_a_row_of_its_own() -> None:
    spec = SPECS["5aadde593543d3ae"]
    assert spec.method == "msa" and replace(spec, lean=True).method == "msa"
    assert replace(spec, start="last-before-exposure").method == "rewound-msa"
    assert replace(spec, steps=(), start="step=3").method == "rewound-target"
