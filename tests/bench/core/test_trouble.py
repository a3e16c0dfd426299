from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.trouble import IN_THE_WAY, REFUSALS, explain_trouble


@pytest.mark.parametrize("number", [*REFUSALS, *IN_THE_WAY, errno.ENOENT, errno.ETIMEDOUT])
def test_each_refusal_is_one_sentence_with_the_place_and_the_remedy(number: int, tmp_path: Path) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "out" / "lab" / "x.json"))
    said = explain_trouble(error, {"--out": tmp_path / "out", "--store": tmp_path / "store"})
    assert said.startswith(f"--out {tmp_path}/out: lab/x.json: ") and said.endswith("then give the same command again.")
    assert number in (errno.ENOENT, errno.ETIMEDOUT) or "mend that" not in said
    assert "what was finished is kept: " in said and "\n" not in said and "Errno" not in said


@pytest.mark.parametrize("turned", [False, True])
def test_the_innermost_place_is_named(turned: bool, tmp_path: Path) -> None:
    places = {"temporary files": tmp_path, "--out": tmp_path / "out", "--store": tmp_path / "out" / "st"}
    error = OSError(errno.EACCES, "no", str(tmp_path / "out" / "st" / "x"))
    said = explain_trouble(error, dict(reversed(places.items())) if turned else places)
    assert said.startswith(f"--store {tmp_path}/out/st: x: permission is denied")


def test_a_full_disk_without_a_file_is_found_by_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.statvfs(tmp_path)
    for inodes, words in ((0, "no more files fit"), (99, "the disk is full")):
        full = list(there)
        full[4], full[7] = (1 << 30, inodes) if not inodes else (0, inodes)  # f_bavail, f_favail
        full[5] = 1000  # f_files
        monkeypatch.setattr(
            os, "statvfs", lambda at, full=full: os.statvfs_result(full) if str(at).endswith("/out") else there
        )
        said = explain_trouble(OSError(errno.ENOSPC, "No space left"), {"--store": tmp_path, "--out": tmp_path / "out"})
        assert said.startswith(f"--out {tmp_path}/out: {words}"), said


def test_the_cause_is_found_where_a_library_has_its_own_error() -> None:
    rust = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "the disk is full" in explain_trouble(rust)
    assert "quota" in explain_trouble(ValueError("cannot write: Disk quota exceeded"))
    try:
        try:
            raise OSError(errno.EROFS, "Read-only file system", "x/y")
        except OSError as error:
            raise ValueError("no") from error
    except ValueError as error:
        assert explain_trouble(error).startswith("x/y: the file system is read-only")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object: Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("could not create a primitive"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_memory_that_has_run_out_is_a_sentence_with_the_remedy(error: Exception) -> None:
    said = explain_trouble(error)
    assert said.startswith("Memory has run out; ") and "fewer --jobs, a smaller --micro" in said


def test_a_mistake_of_ours_is_none_of_it() -> None:
    assert explain_trouble(ValueError("could not create a primitive")) == "", "no library says so in this kind"
    noexec = ImportError("x.so: failed to map segment from shared object: Operation not permitted")
    assert "emory" not in explain_trouble(noexec)
    try:
        try:
            {}["a"]
        except KeyError:
            raise ValueError("no") from None
    except ValueError as error:
        assert explain_trouble(error) == ""
    try:
        try:
            Path("/nowhere/x").read_text()
        except OSError:
            raise TypeError("an error of ours while another one is handled")  # noqa: B904
    except TypeError as error:
        assert explain_trouble(error) == "", "a file that may be missing is not the cause"


LIMITED = """
import resource
from bench.core.trouble import lacks_memory
print(lacks_memory())
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for share in (2, 1.01):
    resource.setrlimit(resource.RLIMIT_AS, (int(size * share), int(size * 2)))
    print(lacks_memory())
"""


def test_a_process_knows_that_its_limit_of_memory_is_used_up() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
