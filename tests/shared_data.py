"""Tests that need what lies in ``../shared``: skipped where it is absent, counted, and failed where it was promised."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.paths import SHARED

REQUIRE = "MSA_BENCH_REQUIRE_DATA"
"""Environment variable: set (as in ``.ci/run``), a test whose data are absent fails."""
REASON = "needs ../shared/"
"""How the reason of every such skip begins."""


def needs_data(*places: str) -> pytest.MarkDecorator:
    """A mark for tests (or a module's ``pytestmark``) that need these places below ``../shared``."""
    return pytest.mark.shared_data(*places)


def shared(place: str) -> Path:
    """The folder or file ``place`` below ``../shared``; without it the test that asks is skipped, or fails (`REQUIRE`)."""
    path = SHARED / place
    if path.exists():
        return path
    if os.environ.get(REQUIRE):
        pytest.fail(f"{REASON}{place}, which isn't there, and {REQUIRE} is set", pytrace=False)
    pytest.skip(f"{REASON}{place}")


def skipped_for_data(reports: list[Any]) -> int:
    """How many of pytest's reports of skipped tests are `shared`'s."""
    reasons = [report.longrepr[2] for report in reports if isinstance(report.longrepr, tuple)]
    return sum(f"Skipped: {REASON}" in reason for reason in reasons)
