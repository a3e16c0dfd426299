"""Values along a parameter: from one end of the box to the other at equal ratios, with the place's own."""

from __future__ import annotations

import pytest

from bench.core.errors import UserError
from bench.studies.ablations.grids import lengths, scale_of, small_search, space_evenly, values_of
from tests.factories import place


def test_numbers_of_equal_ratios() -> None:
    """1 to 8 in four: each twice the one before. Three digits, or whole numbers."""
    assert space_evenly(1, 8, 4) == [1, 2, 4, 8]
    assert space_evenly(0.1, 1, 3) == [0.1, 0.316, 1]
    assert space_evenly(5, 90, 3, whole=True) == [5, 21, 90]


def test_the_ends_of_the_box_and_the_places_own_are_tried() -> None:
    where = place()
    own = where.step("msa").params["alpha"]
    values = values_of(where, "msa", "alpha", 3)
    assert values == sorted({0.25, 0.612, 1.5, own})
    found = [choice["alpha"] for choice in lengths(where)]
    assert min(found) == 0.25 and {3.0, own} <= set(found) and 8 <= len(found) <= 9, "to twice the box's longest"


def test_a_parameter_that_is_not_searched_has_no_range() -> None:
    with pytest.raises(UserError, match="msa searches no range of beta at lab-tofu: state one in its box"):
        scale_of(place(), "msa", "beta")


def test_a_small_search_is_the_first_of_the_methods_own() -> None:
    found = small_search(place(), "msa")
    assert len(found) == 8 and all(0.25 <= each["alpha"] <= 1.5 and each["batch"] == 8 for each in found)
    assert found == small_search(place(), "msa")
