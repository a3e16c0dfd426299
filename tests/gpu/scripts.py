"""The scripts of this folder, as a shell runs them."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT
from tests.processes import environment

FOLDER = ROOT / "tests" / "gpu"


def run_script(name: str, *words: str, **given: str) -> subprocess.CompletedProcess[str]:
    """A script run to its end with this Python and ``given`` in its environment."""
    return subprocess.run(
        ["bash", str(FOLDER / name), *words],
        env=environment() | {"PYTHON": sys.executable} | given,
        capture_output=True,
        text=True,
    )
