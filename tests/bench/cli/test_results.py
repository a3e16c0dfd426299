"""What the commands over records take from their options."""

from __future__ import annotations

from pathlib import Path

from tests.processes import Place, bench


def test_rescore_passes_over_what_is_unchanged_when_asked(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    words = ["rescore", "--from", str(place.out), "--store", str(place.store), "--jobs", "1"]
    said = [bench([*words, *more], tmp_path) for more in ((), ("--quick",))]
    assert [done.returncode for done in said] == [0, 0], said
    assert [done.stdout.strip() for done in said] == [
        "3 records computed again: all numbers the same",
        "0 records computed again, 3 unchanged since the last check: all numbers the same",
    ]
