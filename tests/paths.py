"""Where things lie: this checkout, and what is kept beside it for tests."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
"""Beside the checkout: what is too large for it or isn't ours to publish."""
DATA = SHARED / "data"
"""Offline copies of the benchmarks' rows."""
OFFLINE = ROOT / "tests" / "offline"
"""First on the path of every Python that a test starts: it closes the network there."""
