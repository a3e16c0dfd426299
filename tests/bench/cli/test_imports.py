"""What commands import: those that need no model load none of the packages that take long to import."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.processes import Place, environment, tiny_run

HEAVY = {
    "torch",
    "numpy",
    "transformers",
    "datasets",
    "pandas",
    "sklearn",
    "scipy",
    "nltk",
    "lm_eval",
    "wandb",
    "matplotlib",
}
"""Each takes a tenth of a second or more."""
IMPORTED = re.compile(r"^import time:.*\|\s+([\w.]+)$", re.MULTILINE)


def packages_of(words: Sequence[str], folder: Path) -> set[str]:
    """The packages that ``python -m bench WORDS`` imports."""
    command = [sys.executable, "-X", "importtime", "-m", "bench", *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout)
    return {name.partition(".")[0] for name in IMPORTED.findall(done.stderr)}


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("run", "--help"),
        ("ls", "methods"),
        ("ls", "tasks"),
        ("ls", "models"),
        ("ls", "metrics"),
        ("ls", "history"),
        ("ls", "attacks"),
        ("ablate", "--list"),
        ("reproduce", "--list"),
        ("new", "method", "fade"),
        ("doctor", "--store", "store"),
        ("plan", "--methods", "all", "--task", "tofu", "--store", "store", "--out", "out"),
    ],
)
def test_help_lists_and_plans_import_nothing_heavy(words: Sequence[str], tmp_path: Path) -> None:
    found = packages_of(words, tmp_path)
    assert "bench" in found and not found & HEAVY - ({"numpy"} if words == ("ls", "metrics") else set())


@pytest.mark.slow(15)
def test_what_reads_records_imports_nothing_heavy(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    source, store = ("--from", str(place.out)), ("--store", str(place.store))
    for words in (
        ("ls", "runs", *source),
        ("show", "msa", *source, *store),
        ("leaderboard", *source, "--to", "page.md"),
        ("leaderboard", *source, "--to", "page.md", "--check"),
        ("prune", "--dry-run", *place.words),
        (*tiny_run(command="plan"), *place.words),
    ):
        assert not packages_of(words, tmp_path) & HEAVY, words
    for words in (
        ("compare", "msa", "target", *source, *store),
        ("table", "-t", "muse-books", *source),
        ("report", *source, *store, "--to", "report.html"),
        ("claims", *source, "--to", "claims.md"),
    ):
        assert packages_of(words, tmp_path) & HEAVY <= {"numpy", "scipy"}, words
    assert packages_of(("rescore", *source, *store, "--jobs", "1"), tmp_path) & HEAVY == {"numpy"}
    assert packages_of(("plot", *source, "--to", "plots"), tmp_path) & HEAVY == {"matplotlib", "numpy"}


def test_a_cached_run_imports_nothing_but_what_draws(finished: Place, tmp_path: Path) -> None:
    """Where its pictures are there, not even that."""
    place = finished.copy(tmp_path)
    packages_of([*tiny_run(), *place.words], tmp_path)
    assert not packages_of([*tiny_run(), *place.words], tmp_path) & HEAVY
