"""Commands on a disk that is full or has no inodes left, in a small file system of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import Place, bench, environment, result_of, tiny_run


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs; the test is skipped where it can't be mounted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip() or 'not allowed'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("full", "limit", "words"),
    [("out", "size=256k", "the disk is full"), ("store", "nr_inodes=12", "no more files fit")],
)
def test_a_full_disk_is_a_sentence_for_each_run_and_nothing_is_lost(
    full: str, limit: str, words: str, finished: Place, tmp_path: Path
) -> None:
    """The same command goes on when there is room, to the same end."""
    before = finished.nodes()
    place = Place(tmp_path)
    if full == "out":
        shutil.copytree(finished.store, place.store)
    with small_disk(tmp_path / full, limit) as disk:
        if full == "out" and limit.startswith("size"):
            (disk / "filler").write_bytes(bytes((256 << 10) - 4096))
        done = place.run()
        said = done.stdout + done.stderr
        assert done.returncode in (1, 2) and "Traceback" not in said, said
        assert f"--{full} {full}: " in said and words in said and "give the same command again" in said
        assert list(disk.rglob(".*.json.*")) == []
        if full == "out":
            assert place.nodes() == before, "the store has lost something"
    shutil.rmtree(tmp_path / full)
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    results = {method: result_of(record) for method, record in place.records().items()}
    assert results == {method: result_of(record) for method, record in finished.records().items()}


def test_pages_and_plots_of_a_full_disk_are_a_sentence(finished: Place, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=64k") as disk:
        (disk / "filler").write_bytes(bytes(64 << 10))
        source = ["--from", str(finished.out)]
        for words in (
            ["leaderboard", *source, "--to", "small/page.md"],
            ["report", *source, "--to", "small/report.html"],
            ["plot", *source, "--to", "small/plots"],
        ):
            done = bench(words, tmp_path)
            [line] = done.stderr.splitlines()
            assert (
                done.returncode == 2 and line.startswith("error: ") and "small/" in line and "the disk is full" in line
            ), line
        assert json.dumps(sorted(path.name for path in disk.rglob("*") if path.is_file())) == '["filler"]'


def test_standard_output_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *tiny_run(command="plan"), "--out", "o", "--store", "s"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment(),
            check=False,
        )
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and "standard output" in line.lower()
