"""The README's first line as a newcomer waits for it: seconds until the first seed's table stands there, and until the end.

    python -m tests.speed.demo

Wall-clock seconds with every core, from an empty store, so that only an idle machine says something.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.processes import environment

LINE = ("run", "--methods", "msa,npo", "--task", "muse-books", "--track", "none")
"""The README's, without tracking."""
TABLE = "muse-books (lab), seed "
"""How the table of one seed begins."""


def main() -> None:
    """The command: two rows of a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.speed.demo", description=__doc__.partition("\n")[0])
    parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="demo-") as scratch:
        first, whole = wait_for_tables(LINE, Path(scratch))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| the README's first line | seconds | aim |\n| --- | --: | --- |")
    print(f"| first seed's table | {first:.0f} | a third of 377 |\n| the whole run | {whole:.0f} | 240 |")


def wait_for_tables(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds until the command prints its first table, and until it ends."""
    command = [sys.executable, "-m", "bench", *words, "--store", "store", "--out", "out"]
    given = environment() | {"PYTHONUNBUFFERED": "1"}
    began, first = time.perf_counter(), 0.0
    with subprocess.Popen(command, cwd=folder, env=given, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith(TABLE) and not first:
                first = time.perf_counter() - began
    if running.returncode or not first:
        raise SystemExit(f"`python -m bench {' '.join(words)}` ended with code {running.returncode}")
    return first, time.perf_counter() - began


if __name__ == "__main__":
    main()
