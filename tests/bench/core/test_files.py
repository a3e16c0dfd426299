"""Files are written whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bench.core.files import write_bytes, write_text


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "c.txt"
    write_text(file, "naïve θ₀\n")
    assert file.read_bytes() == "naïve θ₀\n".encode() and os.listdir(file.parent) == ["c.txt"]
    write_bytes(file, b"")
    assert file.read_bytes() == b""


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "record.json"
    write_text(file, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["record.json"]


def test_a_reader_never_sees_half_of_a_file(tmp_path: Path) -> None:
    """Two writers, each with its own letter, and a reader that looks all the while."""
    file = tmp_path / "page.md"
    texts = [letter * 200_000 for letter in "ab"]
    write_text(file, texts[0])
    writers = [threading.Thread(target=lambda text=text: [write_text(file, text) for _ in range(20)]) for text in texts]
    for writer in writers:
        writer.start()
    looked = 0
    while any(writer.is_alive() for writer in writers):
        assert file.read_text() in texts
        looked += 1
    assert looked and os.listdir(tmp_path) == ["page.md"]
