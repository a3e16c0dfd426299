"""A checkpoint folder being written: laid out before the first byte, shard by shard, resumable, published by rename.

While it is written it is a folder of its own (``OUT.partial``). Its journal names the finished shards with their sha256
and says what they were made from; the same call goes on behind the last finished shard, another one starts afresh. A
kill at any time leaves ``OUT`` as it was. Loads no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from bench.assets.folders import INDEX
from bench.assets.headers import SIZES, TensorEntry
from bench.core.errors import UserError
from bench.core.files import read_small, remove_path
from bench.core.hashing import hash_file, hash_json, remember_hash
from bench.core.types import Json

JOURNAL, LOCK = "journal.json", "lock"
"""In the folder while it is being written."""
MOST_JOURNAL = 64 << 20
"""Bytes of a journal."""
NOTE = "merge.json"
"""Beside the weights, where the caller gave a note: what they are, and the sha256 of each file."""
COMPANIONS = (
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "*.vocab",
    "*.py",
    "additional_chat_templates/*.jinja",
)
"""Config, generation config, tokenizer, templates and code ..."""
WEIGHTS = ("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth", "*.ckpt")
NO_COMPANIONS = ("*.index.json", "adapter_*", "node.json", "fetch.json", "trainer_state.json", NOTE)
"""... and what only tells of the folder that it lies in."""
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""torch's names of the types that a checkpoint can be asked for in -> the format's."""
SHA: Callable[[bytes], Any] = hashlib.sha256
"""Makes the hash of a shard; `tests.speed.arithmetic` measures a merge without."""
MOST_EARLY = 1 << 24
"""Bytes of pieces that wait for their turn to be hashed."""
ALIGNED = 8
"""Bytes; a header is padded to a multiple, as safetensors' own."""


@dataclass(frozen=True)
class Shard:
    """One file of the output."""

    file: str
    header: bytes
    """With the eight bytes of its length."""
    entries: Mapping[str, TensorEntry]
    """Name -> place, in the order of the file."""

    @property
    def bytes(self) -> int:
        """Size of the file in bytes."""
        return len(self.header) + sum(entry.bytes for entry in self.entries.values())


@dataclass(frozen=True)
class Written:
    """A finished checkpoint folder."""

    folder: Path
    files: Mapping[str, str]
    """Name of a weight file -> its sha256."""
    bytes: int
    """Of all weight files."""
    resumed: int = 0
    """Shards that an interrupted call had finished."""
    kept: bool = False
    """Whether it was there already."""
    compared: bool = False
    """Whether it had to be computed again to know that."""
    unsound: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Label of a term -> names of its tensors with NaN or infinite entries, which the result has as well."""


def plan_shards(entries: Mapping[str, tuple[str, tuple[int, ...]]], shard_bytes: int) -> tuple[Shard, ...]:
    """Name -> (type, shape) in order as files that are full at ``shard_bytes``, named as transformers looks for them."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, (dtype, shape) in entries.items():
        if size >= shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += TensorEntry("", dtype, shape, 0).bytes
    if len(groups) == 1:
        files = ["model.safetensors"]
    else:
        files = [f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors" for i in range(len(groups))]
    return tuple(
        lay_out_shard(file, {name: entries[name] for name in names}) for file, names in zip(files, groups, strict=True)
    )


def lay_out_shard(file: str, entries: Mapping[str, tuple[str, tuple[int, ...]]]) -> Shard:
    """One file's header and places; wide types come first, so that every tensor is aligned."""
    names = sorted(entries, key=lambda name: (-SIZES[entries[name][0]], name))
    about: Json = {"__metadata__": {"format": "pt"}}
    end = 0
    places: dict[str, TensorEntry] = {}
    for name in names:
        dtype, shape = entries[name]
        places[name] = TensorEntry(file, dtype, shape, end)
        about[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + places[name].bytes]}
        end += places[name].bytes
    text = json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNED)
    header = len(text).to_bytes(8, "little") + text
    moved = {name: TensorEntry(file, e.dtype, e.shape, len(header) + e.begin) for name, e in places.items()}
    return Shard(file, header, moved)


class OrderedHash:
    """A sha256 over pieces that come from several threads in any order.

    Whoever brings the next piece hashes it, and those behind it that lie here already; an early piece is copied and left
    behind, so that on a busy machine no thread waits for one that isn't running.
    """

    def __init__(self, start: bytes) -> None:
        self._sha = SHA(start)
        self._next = 0
        self._early: dict[int, memoryview] = {}
        self._early_bytes = 0
        self._spare: list[bytearray] = []
        """Where early pieces were kept: used again, since the kernel clears every page that it gives."""
        self._broken = False
        self._changed = threading.Condition()

    def add(self, number: int, piece: memoryview) -> None:
        """Add piece ``number``; they are counted from 0 without gaps."""
        with self._changed:
            if self._next != number and self._early_bytes + len(piece) > MOST_EARLY:
                self._changed.wait_for(lambda: self._next == number or self._broken)
            if self._next != number:
                self._early[number] = self._copy(piece)
                self._early_bytes += len(piece)
                return
        turn: memoryview | None = piece
        while turn is not None:
            self._sha.update(turn)  # outside the lock: nobody else's turn comes before the next line
            with self._changed:
                if turn is not piece:
                    self._spare.append(cast(bytearray, turn.obj))
                self._next += 1
                turn = self._early.pop(self._next, None)
                self._early_bytes -= len(turn or b"")
                self._changed.notify_all()

    def _copy(self, piece: memoryview) -> memoryview:
        space = self._spare.pop() if self._spare else bytearray()
        if len(space) < len(piece):
            space = bytearray(len(piece))
        kept = memoryview(space)[: len(piece)]
        kept[:] = piece
        return kept

    def give_up(self) -> None:
        """Let nobody wait any longer: a thread failed."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def hexdigest(self) -> str:
        """The hash of all pieces added so far, in hex."""
        return self._sha.hexdigest()


class Sink:
    """One shard being written; pieces come in any order from several threads, their hash in the file's order."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.shard = shard
        self.path = folder / shard.file
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.ftruncate(self._handle, shard.bytes)
        self._sha = OrderedHash(shard.header)
        self._write(memoryview(shard.header), 0)

    def put(self, number: int, name: str, begin: int, piece: memoryview) -> None:
        """Write piece ``number`` of the file: the tensor's bytes from its byte ``begin`` on."""
        self._write(piece, self.shard.entries[name].begin + begin)
        self._sha.add(number, piece)

    def _write(self, piece: memoryview, place: int) -> None:
        while piece:
            done = os.pwrite(self._handle, piece, place)
            piece, place = piece[done:], place + done

    def give_up(self) -> None:
        """Stop waiting for pieces that won't come."""
        self._sha.give_up()

    def close(self) -> None:
        """Close the file, whole or not."""
        os.close(self._handle)

    def sha256(self) -> str:
        """The sha256 of the whole file, in hex."""
        return self._sha.hexdigest()


class HashOnly(Sink):
    """A sink that hashes a shard and writes nothing."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._sha = OrderedHash(shard.header)

    def _write(self, piece: memoryview, place: int) -> None:
        pass


class Output:
    """A checkpoint folder under way: `begin`, a `sink` for each of `missing`, `publish`."""

    def __init__(
        self,
        out: Path,
        shards: Sequence[Shard],
        identity: Json | None,
        scratch: Path | None = None,
        note: Json | None = None,
    ) -> None:
        self.out = out.resolve()
        self.work = scratch.resolve() if scratch else self.out.with_name(f"{self.out.name}.partial")
        self.shards = shards
        self.note = note
        self.identity = hash_json(identity) if identity is not None else ""
        """Hash of everything that the bytes follow from; empty: unknown, so that nothing is resumed."""
        self.timeless = hash_json(without_times(identity))
        """Hash of that without the inputs' times: another content is likely to have another time, but needn't."""
        self.done: dict[str, str] = {}
        """Finished shards: file -> sha256."""
        self.resumed = 0
        """Shards that an interrupted call had finished."""
        self.kept = False
        """Whether ``out`` is this result already."""
        self.times_differ = False
        """Whether ``out`` is this result unless an input has changed: its time has, its size and header haven't."""
        self.unsound: dict[str, list[str]] = {}
        """Label of a term -> tensors of it with NaN or infinite entries."""
        self.refusal = (
            f"'{self.out}' is there already and is another result: remove it, or choose another folder for the output."
        )
        self._lock: int | None = None

    @property
    def missing(self) -> list[Shard]:
        """Shards that are still to be written."""
        return [shard for shard in self.shards if shard.file not in self.done]

    def begin(self) -> None:
        """Make the working folder, or find what an interrupted call left in it."""
        self.work.mkdir(parents=True, exist_ok=True)
        for name in (LOCK, JOURNAL, *(shard.file for shard in self.shards)):
            if not (self.work / name).is_file():  # a folder in a file's place, a link to nothing, a pipe
                remove_path(self.work / name)
        self._lock = os.open(self.work / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise UserError(f"Another process is writing '{self.out.name}' at the moment: wait for it.") from None
        self.done = dict(self.left_over())
        self.resumed = len(self.done)
        for path in self.work.iterdir():
            if path.name not in (*self.done, LOCK, JOURNAL):
                remove_path(path)
        self.keep_journal()
        needed = sum(shard.bytes for shard in self.missing)
        if (free := shutil.disk_usage(self.work).free) < needed:
            raise UserError(
                f"'{self.out.name}' needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free: make room or "
                "choose another folder."
            )

    def left_over(self) -> Iterator[tuple[str, str]]:
        """File and sha256 of the shards that an interrupted call with the same inputs finished, read again to be sure."""
        try:
            journal = json.loads(read_small(self.work / JOURNAL, MOST_JOURNAL))
            if journal.pop("checksum") != hash_json(journal):
                return
            finished = journal["done"] if self.identity and journal["identity"] == self.identity else {}
            unsound = journal["unsound"] if finished else {}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        self.unsound = unsound
        for shard in self.shards:
            path = self.work / shard.file
            if shard.file in finished and path.is_file() and hash_file(path) == finished[shard.file]:
                yield shard.file, finished[shard.file]

    def sink(self, shard: Shard) -> Sink:
        """Open the file that the pieces of ``shard`` go to."""
        return Sink(self.work, shard)

    def note_unsound(self, found: Mapping[str, Collection[str]]) -> None:
        """Keep which tensors of which terms aren't finite, beside what an interrupted call had found."""
        for label, names in found.items():
            self.unsound[label] = sorted({*self.unsound.get(label, ()), *names})

    def finish(self, sink: Sink) -> None:
        """Enter a shard that is whole and closed into the journal."""
        sha = sink.sha256()
        remember_hash(sink.path, sha)
        self.done[sink.shard.file] = sha
        self.keep_journal()

    def keep_journal(self) -> None:
        """Write the journal: which shards are finished, and what they were made from."""
        about = {"identity": self.identity, "done": self.done, "unsound": self.unsound}
        write_without_sync(self.work / JOURNAL, json.dumps(about | {"checksum": hash_json(about)}, indent=1))

    def publish(self, source: Path, dtype: str = "") -> Written:
        """Add index, note, config and tokenizer, and move everything into its place."""
        if len(self.shards) > 1:
            where = {name: shard.file for shard in self.shards for name in shard.entries}
            total = sum(shard.bytes - len(shard.header) for shard in self.shards)
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
            write_without_sync(self.work / INDEX, json.dumps(index, indent=1))
        copy_companions(source, self.work, dtype)
        if self.note is not None:
            about = {**self.note, "identity": self.identity, "timeless": self.timeless, "files": self.done}
            about |= {"unsound": self.unsound} if self.unsound else {}
            write_without_sync(self.work / NOTE, json.dumps(about, indent=1) + "\n")
        (self.work / JOURNAL).unlink()
        (self.work / LOCK).unlink()
        move_into_place(self.work, self.out)
        return self.written()

    def written(self) -> Written:
        """The finished folder in numbers."""
        size = sum(shard.bytes for shard in self.shards)
        return Written(self.out, dict(self.done), size, self.resumed, self.kept, self.times_differ, self.unsound)

    def check_existing(self) -> str:
        """The refusal of an ``out`` that isn't empty; empty, and ``kept`` is set, when it is this very result already.

        That is so if its note says it and its files have the note's sha256. With ``times_differ`` it is so only if
        computing it again gives the files in ``done``.
        """
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return ""
        try:
            note = json.loads((self.out / NOTE).read_text())
            same = note["identity"] == self.identity
            files: dict[str, str] = note["files"] if same or note["timeless"] == self.timeless else {}
            unharmed = all(hash_file(self.out / file) == sha for file, sha in files.items())
        except (OSError, ValueError, KeyError, TypeError):
            return self.refusal
        if not unharmed or set(files) != {shard.file for shard in self.shards}:
            return self.refusal
        self.done, self.kept, self.times_differ = files, True, not same
        self.unsound = note.get("unsound", {})
        return ""

    def release(self) -> None:
        """Let go of the folder; what is finished stays for the next call."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def without_times(data: Any) -> Any:
    """An identity without the times of its inputs' files."""
    if isinstance(data, dict):
        return {key: without_times(value) for key, value in data.items() if key != "mtime_ns"}
    return [without_times(value) for value in data] if isinstance(data, list | tuple) else data


@contextmanager
def under_way(outputs: Sequence[Output]) -> Iterator[None]:
    """All ``outputs`` begun, and released at the end, come what may."""
    try:
        for output in outputs:
            output.begin()
        yield
    finally:
        for output in outputs:
            output.release()


def check_places(places: Iterable[Path], inputs: Iterable[Path]) -> list[str]:
    """Sentences about places that are an input's folder, lie in one or hold one."""
    problems: list[str] = []
    folders = [folder.resolve() for folder in inputs]
    for place in places:
        for folder in folders:
            whole = place.resolve()
            if whole == folder or whole in folder.parents or folder in whole.parents:
                relation = "is" if whole == folder else "holds" if whole in folder.parents else "lies in"
                problems.append(f"The output '{place}' {relation} the input '{folder}': choose a folder apart from it.")
    return list(dict.fromkeys(problems))


def companions(source: Path) -> list[Path]:
    """Config, generation config, tokenizer, templates and code of a folder, as far as they are there."""
    files = sorted({file for pattern in COMPANIONS for file in source.glob(pattern) if file.is_file()})
    return [file for file in files if not any(file.match(pattern) for pattern in NO_COMPANIONS)]


def companions_of(source: Path) -> Json:
    """The same files: place in the folder -> sha256."""
    return {file.relative_to(source).as_posix(): hash_file(file) for file in companions(source)}


def left_behind(source: Path) -> list[str]:
    """Files and folders of a checkpoint that are neither weights nor copied with them."""
    copied = {file.relative_to(source).parts[0] for file in companions(source)}
    names = [path.name for path in sorted(source.iterdir()) if path.name not in copied and path.name[0] != "."]
    return [name for name in names if not any(Path(name).match(pattern) for pattern in (*WEIGHTS, *NO_COMPANIONS))]


def copy_companions(source: Path, out: Path, dtype: str = "") -> None:
    """Copy what belongs to the weights (`companions`); the config names ``dtype`` where one is given."""
    for file in companions(source):
        place = out / file.relative_to(source)
        place.parent.mkdir(exist_ok=True)
        if file.name == "config.json" and dtype:
            write_without_sync(place, json.dumps(with_dtype(json.loads(file.read_text()), dtype), indent=2) + "\n")
        else:
            shutil.copyfile(file, place)


def with_dtype(config: Json, dtype: str) -> Json:
    """A config whose entries that name a floating-point type, its parts' too, name ``dtype``."""

    def changed(key: str, value: object) -> object:
        if isinstance(value, dict):
            return with_dtype(value, dtype)
        named = key in ("dtype", "torch_dtype") and isinstance(value, str)
        return dtype if named and str(value).removeprefix("torch.") in (*DTYPES, "float64") else value

    return {key: changed(key, value) for key, value in config.items()}


def write_without_sync(path: Path, text: str) -> None:
    """Write a small file by rename, without waiting for the disk: a sync would wait for the shards' bytes as well.

    After a loss of power a finished shard may not be what the journal says; its sha256 is checked before it is used.
    """
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def move_into_place(work: Path, out: Path) -> None:
    """Rename ``work`` to ``out``; into an ``out`` that isn't empty, file by file, in place of the weights there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        work.rename(out)  # over an empty folder too
        return
    except OSError:
        out.mkdir(exist_ok=True)
    made = sorted(work.iterdir(), key=lambda path: (path.suffix != ".safetensors", path.name))
    for path in made:
        shutil.move(path, out / path.name)
    for old in [*out.glob("*.safetensors"), *out.glob("*.index.json")]:
        if old.name not in {path.name for path in made}:
            old.unlink()
    work.rmdir()
