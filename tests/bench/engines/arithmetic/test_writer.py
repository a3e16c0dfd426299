"""A checkpoint folder being written: places, shards, hashes, kills and failures."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.assets.tensors import TensorFiles
from bench.core.errors import UserError
from bench.core.hashing import hash_file
from bench.engines.arithmetic import sums, writer
from bench.engines.arithmetic.sums import (
    combine,
    transform,
)
from tests.processes import environment
from tests.stores import WRONG_KINDS, Wreck
from tests.weights import drawn, folder, same_files, sha256, summed, tensors_of, vector


def test_shards_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tensors of 8 bytes in shards of at least 16: two and one, named as transformers looks for them."""
    monkeypatch.setattr(sums, "SHARD_BYTES", 16)
    whole = folder(tmp_path / "whole", {"a": vector(1, 2), "b": vector(3, 4), "c": vector(5, 6)})
    parts = folder(tmp_path / "parts", {"c": vector(1, 1), "a": vector(1, 1)}, {"b": vector(1, 1)})
    out = tmp_path / "out"
    combine([(1, parts), (10, whole)], out)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert index == {"metadata": {"total_size": 24}, "weight_map": {"a": one, "b": one, "c": two}}
    assert sorted(path.name for path in out.glob("*.safetensors")) == [one, two]
    made = load_file(out / one) | load_file(out / two)
    assert {name: tensor.tolist() for name, tensor in made.items()} == {"a": [11, 21], "b": [31, 41], "c": [51, 61]}
    assert json.loads((out / "config.json").read_text()) == {"of": "parts"}, "companions come from the first term"


def test_the_hash_of_what_was_written_is_known_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = drawn(tmp_path / "one", 0, w=100_000)
    made = combine([(2, one)], tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    truth = sha256(path)
    assert made.files == {"model.safetensors": truth}
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was read again"))
    assert hash_file(path) == truth


def test_safetensors_reads_what_is_written_and_it_is_aligned(tmp_path: Path) -> None:
    """A byte before float64s: the wide types come first, or they would lie at odd places."""
    tensors = {"a": torch.tensor([True]), "b": vector(1.0, dtype=torch.float64), "empty": torch.zeros(0, 3)}
    tensors |= {"scalar": torch.tensor(2.0), "z": vector(1, 2, 3, dtype=torch.bfloat16)}
    made = summed([(1, folder(tmp_path / "one", tensors))], tmp_path / "out")
    for name, tensor in tensors.items():
        assert torch.equal(made[name], tensor) and made[name].dtype == tensor.dtype
    for entry in TensorFiles(tmp_path / "out").entries.values():
        assert entry.bytes == 0 or entry.begin % (entry.bytes // max(1, entry.count)) == 0


@pytest.mark.parametrize("most", [0, 3, 1000])
def test_pieces_are_hashed_in_order_whoever_brings_them(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Ten threads with a piece of two bytes each, the last ones first; so many bytes may lie and wait."""
    monkeypatch.setattr(writer, "MOST_EARLY", most)
    pieces = [bytes([i, 255 - i]) for i in range(10)]
    hashed = writer.OrderedHash(b"start")
    crew = [threading.Thread(target=hashed.add, args=(i, memoryview(pieces[i]))) for i in reversed(range(10))]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(20)
    assert hashed.hexdigest() == hashlib.sha256(b"start" + b"".join(pieces)).hexdigest()


def test_early_pieces_of_any_length_share_their_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one thread: two pieces wait, the next one lets them be hashed, and their space serves two others."""
    made: list[int] = []
    monkeypatch.setattr(writer, "bytearray", lambda size=0: made.append(size) or bytearray(size), raising=False)
    pieces = [b"abc", b"d", b"efghi", b"jk", b"lmn", b"o"]
    hashed = writer.OrderedHash(b"")
    for number in (2, 1, 0, 4, 5, 3):
        space = bytearray(pieces[number])
        hashed.add(number, memoryview(space))
        space[:] = b"?" * len(space)  # the caller uses its buffer again
    assert hashed.hexdigest() == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert [size for size in made if size] == [5, 1], "made once"


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    one, two = (folder(tmp_path / name, {"w": vector(1)}) for name in ("one", "two"))
    (tmp_path / "link").symlink_to(tmp_path / "two")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    for place, relation in (("one", "is"), ("link", "is"), ("two/below", "lies in"), (".", "holds")):
        with pytest.raises(UserError, match=f"{relation} the input '.*: choose a folder apart from it"):
            combine([(1, one), (1, two)], tmp_path / place)
    with pytest.raises(UserError, match="lies in the input"):
        combine([(1, one)], tmp_path / "out", scratch=tmp_path / "one" / "scratch")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "one", "two"]


def test_an_older_result_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = drawn(tmp_path / "one", 0, w=100, v=100)
    monkeypatch.setattr(sums, "SHARD_BYTES", 100)
    combine([(2, one)], tmp_path / "out")
    monkeypatch.undo()
    combine([(3, one)], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(tensors_of(tmp_path / "out")["w"], 3 * tensors_of(tmp_path / "one")["w"])


KILLED = """
import os, signal, sys
from pathlib import Path
from bench.engines.arithmetic import sums, writer
from bench.core.types import Checkpoint

sums.SHARD_BYTES = 1000
keep = writer.Output.keep_journal
def keep_and_die(output):
    keep(output)
    if len(output.done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
writer.Output.keep_journal = keep_and_die
sums.combine([(c, Checkpoint(p, p)) for c, p in ((1.0, sys.argv[1]), (-0.5, sys.argv[2]))], Path(sys.argv[3]))
"""
"""Killed by the kernel when the second shard's entry in the journal is written."""


def test_after_a_kill_the_same_call_goes_on_and_another_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "SHARD_BYTES", 1000)
    one, two = (drawn(tmp_path / str(i), i, a=300, b=300, c=300, d=300) for i in range(2))
    combine([(1.0, one), (-0.5, two)], tmp_path / "whole")
    out, partial = tmp_path / "out", tmp_path / "out.partial"

    def kill() -> dict[str, int]:
        words = [sys.executable, "-c", KILLED, one.path, two.path, str(out)]
        assert subprocess.run(words, env=environment()).returncode == -signal.SIGKILL
        assert not out.exists()
        return {path.name: path.stat().st_ino for path in partial.glob("*.safetensors")}

    finished = kill()
    assert len(finished) == 2
    assert combine([(1.0, one), (-0.5, two)], out).resumed == 2
    same_files(out, tmp_path / "whole")
    assert not partial.exists()
    assert {name: (out / name).stat().st_ino for name in finished} == finished, "they weren't written again"

    shutil.rmtree(out)
    damaged = partial / sorted(kill())[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert combine([(1.0, one), (-0.5, two)], out).resumed == 1, "a damaged shard is written again"
    same_files(out, tmp_path / "whole")

    shutil.rmtree(out)
    kill()
    assert combine([(1.0, one), (-0.25, two)], out).resumed == 0, "another coefficient"
    combine([(1.0, one), (-0.25, two)], tmp_path / "other")
    same_files(out, tmp_path / "other")

    shutil.rmtree(out)
    kill()
    os.utime(Path(two.path) / "part-0.safetensors", (1, 1))
    assert combine([(1.0, one), (-0.5, two)], out).resumed == 0, "an input changed"


def test_whatever_stands_in_a_file_s_place_after_a_kill_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "SHARD_BYTES", 1000)
    one, two = (drawn(tmp_path / str(i), i, a=300, b=300, c=300, d=300) for i in range(2))
    combine([(1.0, one), (-0.5, two)], tmp_path / "whole")
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    subprocess.run([sys.executable, "-c", KILLED, one.path, two.path, str(out)], env=environment())
    shutil.copytree(partial, tmp_path / "left")

    def go_on(harm: Callable[[Path], object]) -> int:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tmp_path / "left", partial, dirs_exist_ok=True)
        harm(partial)
        resumed = combine([(1.0, one), (-0.5, two)], out).resumed
        same_files(out, tmp_path / "whole")
        return resumed

    def replaced(name: str, wreck: Wreck) -> Callable[[Path], None]:
        def harm(place: Path) -> None:
            (place / name).unlink()
            wreck(place / name)

        return harm

    assert go_on(lambda place: None) == 2
    shard = sorted(path.name for path in (tmp_path / "left").glob("*.safetensors"))[0]
    for name, resumed in ((shard, 1), ("lock", 2), ("journal.json", 0)):
        assert [go_on(replaced(name, wreck)) for wreck in WRONG_KINDS] == [resumed] * len(WRONG_KINDS)
    changed = (tmp_path / "left" / "journal.json").read_text().replace('"unsound": {}', '"unsound": {"x": ["a"]}')
    assert go_on(lambda place: (place / "journal.json").write_text(changed)) == 0, "what was changed is no journal"


def test_two_at_once_on_one_folder_is_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"w": vector(1)})
    inside, release = threading.Event(), threading.Event()

    def wait(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        inside.set()
        assert release.wait(20)
        return tensors[0]

    slow = threading.Thread(target=transform, args=([one], tmp_path / "out", wait))
    slow.start()
    try:
        assert inside.wait(20)
        with pytest.raises(UserError, match="Another process is writing 'out' at the moment"):
            combine([(1, one)], tmp_path / "out")
    finally:
        release.set()
        slow.join()
    assert tensors_of(tmp_path / "out")["w"].tolist() == [1]


def test_a_failure_leaves_nothing_in_place_and_the_threads_as_they_were(tmp_path: Path) -> None:
    one = drawn(tmp_path / "one", 0, **{f"w{i}": 100 for i in range(40)})
    threads, running = torch.get_num_threads(), threading.active_count()

    def fail(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        if name == "w7":
            raise ZeroDivisionError(name)
        return tensors[0]

    with pytest.raises(ZeroDivisionError, match="w7"):
        transform([one], tmp_path / "out", fail)
    assert not (tmp_path / "out").exists()
    assert torch.get_num_threads() == threads and threading.active_count() == running
    transform([one], tmp_path / "out", lambda name, tensors: tensors[0])
    assert len(tensors_of(tmp_path / "out")) == 40


def test_what_tells_of_another_folder_is_not_copied(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"w": vector(1)})
    for name in (
        "node.json",
        "fetch.json",
        "merge.json",
        "generation_config.json",
        "chat_template.jinja",
        "merges.txt",
    ):
        (tmp_path / "one" / name).write_text("{}")
    combine([(1, one)], tmp_path / "out")
    copied = {"config.json", "generation_config.json", "chat_template.jinja", "merges.txt"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == copied | {"model.safetensors"}
