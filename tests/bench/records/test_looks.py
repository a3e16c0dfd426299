"""One look for a method, whatever stands beside it."""

from __future__ import annotations

import pytest

from bench.core.registry import own_table
from bench.records.looks import KNOWN, Look, is_known, look_of, looks_of

NO_ROWS = {"repair", "relearn", "quantise", "retrain"}
"""Steps and attacks, and the oracle's."""


def test_our_methods_have_looks_of_their_own_that_differ() -> None:
    names = set(own_table("methods")) - NO_ROWS
    assert names <= KNOWN.keys()
    assert len({look_of(name) for name in names | {"target", "retrain"}}) == len(names) + 2


def test_a_new_method_has_a_look_that_no_other_has_and_changes_none() -> None:
    """A look is a function of the name, so that nothing that is added can change another's."""
    made_up = [f"method-{i:02}" for i in range(40)] + ["", "<script>", "наука", "a" * 9000]
    looks = [look_of(name) for name in made_up]
    assert len({*looks, *map(look_of, KNOWN)}) >= len(looks) + len(KNOWN) - 1  # "oracle" and "retrain" are one
    assert looks == [look_of(name) for name in made_up] and not any(map(is_known, made_up))


def test_a_variant_is_a_shade_with_its_methods_mark() -> None:
    npo, small = look_of("npo"), look_of("npo@small-retain")
    assert npo.marker == small.marker and npo.colour != small.colour
    assert sum(int(small.colour[i : i + 2], 16) for i in (1, 3, 5)) > sum(
        int(npo.colour[i : i + 2], 16) for i in (1, 3, 5)
    )
    assert look_of("npo@per-token") == npo and look_of("npo@small-retain+per-token") == small
    assert look_of("rewound-npo") == npo and look_of("npo+repair").marker == npo.marker
    assert len({look_of(f"rewind@{share}") for share in (10, 25, 50)}) == 3
    assert is_known("rewind@25") and is_known("target") and not is_known("identity")


def test_two_settings_of_a_method_in_one_picture_differ() -> None:
    found = looks_of([("msa (alpha=1)", "msa"), ("msa (alpha=2)", "msa"), ("npo", "npo")])
    assert found["msa (alpha=1)"] == look_of("msa") != found["msa (alpha=2)"]
    assert found == looks_of([("npo", "npo"), ("msa (alpha=2)", "msa"), ("msa (alpha=1)", "msa")])


@pytest.mark.parametrize("colour", ["#000000", "#FFFFFF", "#0072B2"])
def test_the_ink_of_a_name_is_darker(colour: str) -> None:
    assert all(
        ink <= int(colour[at : at + 2], 16) / 255 for ink, at in zip(Look(colour, "o").ink, (1, 3, 5), strict=True)
    )
