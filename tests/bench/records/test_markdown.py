"""Numbers with prefixes, and durations, as pages show them."""

from __future__ import annotations

import pytest

from bench.records.markdown import format_duration, format_scaled


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "—"), (0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5.4e8, "540 MB"), (9.996e8, "1 GB")],
)
def test_quantities_have_prefixes(value: float | None, said: str) -> None:
    assert format_scaled(value, "B") == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "—"), (9.7, "9.7 s"), (150, "2.5 min"), (9000, "2.5 h"), (2e6, "23.1 days")]
)
def test_durations_are_in_the_unit_that_reads_best(seconds: float | None, said: str) -> None:
    assert format_duration(seconds) == said
