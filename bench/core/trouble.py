"""What the machine refuses (a full disk, a place that can't be written, no memory) as one sentence with the remedy."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from bench.core.errors import shorten_reason

KEPT = "what was finished is kept"
AGAIN = "then give the same command again"
ELSEWHERE = "or choose another place"
REFUSALS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", f"make room there {ELSEWHERE}"),
    errno.EDQUOT: ("your quota of that disk is used up", f"make room there {ELSEWHERE}"),
    errno.EROFS: ("the file system is read-only", f"make it writable {ELSEWHERE}"),
    errno.EACCES: ("permission is denied", f"allow it {ELSEWHERE}"),
    errno.EPERM: ("it is not permitted", f"allow it {ELSEWHERE}"),
    errno.EFBIG: ("the file gets larger than is allowed there", f"raise the limit (ulimit -f) {ELSEWHERE}"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.ESTALE: ("the network file system has lost the file", "wait until it is back"),
    errno.EIO: ("the disk gave an error", f"check it {ELSEWHERE}"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n) or use fewer --jobs"),
    errno.ENFILE: ("too many files are open on this machine", "close some programs or use fewer --jobs"),
    errno.EAGAIN: ("no further process or thread can start", "raise the limit (ulimit -u) or use fewer --jobs"),
}
"""Number of the error -> what it means, and the remedy."""
IN_THE_WAY: dict[int, tuple[str, str]] = {
    errno.EISDIR: ("a folder is in the way of a file", "move or delete it"),
    errno.ENOTDIR: ("a file is in the way of a folder", "move or delete it"),
    errno.ELOOP: ("links lead round in circles there", "delete them"),
}
"""The same of what stands in the place of something that is to be written."""
NO_FILES = "no more files fit on the disk (its inodes are used up)"
TELLING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENFILE)
"""Errors that are the cause wherever they appear: other errors of the system may be caught on purpose and come to nothing."""
FROM_RUST = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust, such as safetensors, end the sentence of such an error."""
NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|bad_?\s?alloc|failed to allocate|can't start new thread"
    r"|failed to map segment from shared object(?!: operation not permitted)|could not create a primitive",
    re.IGNORECASE,
)
"""What the system, Python, torch and oneDNN say then; a library that is not permitted lies where nothing may run."""
NEED_LESS = "use fewer --jobs, a smaller --micro or --checkpointing"
"""How a command takes less memory."""
MEMORY = f"memory has run out; {KEPT}: {NEED_LESS}, {AGAIN}."
SPENT = 0.95
"""Share of a limit of memory from which it is as good as used up."""
FULL_BYTES, FULL_FILES = 1 << 16, 64
"""A disk with less room than this, or for no more files, is the full one: what failed has been tidied up meanwhile."""


def explain_trouble(error: BaseException, places: Mapping[str, Path] | None = None) -> str:
    """One sentence about an error of the system, or about memory that has run out; empty for any other error.

    ``places``: option -> folder, to say which of them the error is about.
    """
    for link in links_of(error):
        if (
            isinstance(link, MemoryError)
            or NO_MEMORY.search(str(link))
            and isinstance(link, RuntimeError | ImportError | OSError)
        ):
            return f"{MEMORY[0].upper()}{MEMORY[1:]}"
        if isinstance(link, OSError) and (link is error or link.errno in TELLING or link is error.__cause__):
            return explain_os_error(link, places or {})
        if found := os_error_in(str(link)):
            return explain_os_error(found, places or {})
    return ""


def lacks_memory() -> bool:
    """Whether this process has used up its limit of memory (``ulimit -v``): whatever fails then may fail for that."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return limit != resource.RLIM_INFINITY and pages * resource.getpagesize() > SPENT * limit


def links_of(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it came from."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def os_error_in(text: str) -> OSError | None:
    """The error of the system that a library tells in words of its own."""
    if match := FROM_RUST.search(text):
        number = int(match[1])
        return OSError(number, os.strerror(number))
    number = next((each for each in (errno.ENOSPC, errno.EDQUOT) if os.strerror(each) in text), 0)
    return OSError(number, os.strerror(number)) if number else None


def raise_told(text: str, folder: Path) -> None:
    """Raise the error of the system that a program tells of its work in a folder; nothing where it tells of none."""
    if found := os_error_in(text):
        raise OSError(found.errno, found.strerror, str(folder))


def explain_os_error(error: OSError, places: Mapping[str, Path]) -> str:
    """One sentence: which place, what is wrong with it, that nothing is lost, and how to go on."""
    if error.errno is None:  # a library's own error, which says itself what it is about
        return f"{shorten_reason(error)}; {KEPT}: mend that, {AGAIN}."
    file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | os.PathLike) else None
    option, place = place_of(file, error.errno, places)
    what, remedy = (REFUSALS | IN_THE_WAY).get(error.errno, (error.strerror or os.strerror(error.errno), "mend that"))
    if error.errno == errno.ENOSPC and lacks_inodes(place or file):
        what, remedy = NO_FILES, f"remove files there {ELSEWHERE}"
    about = ": ".join(filter(None, (f"{option} {show_path(place)}" if place else "", file_below(file, place))))
    return f"{about or 'A file or standard output'}: {what}; {KEPT}: {remedy}, {AGAIN}."


def place_of(file: Path | None, number: int, places: Mapping[str, Path]) -> tuple[str, Path | None]:
    """Which option's folder holds the file, the innermost of several, or is full where no file is named."""
    if file is not None:
        around = [each for each in places.items() if file.absolute().is_relative_to(each[1].absolute())]
        return max(around, key=lambda each: len(each[1].absolute().parts), default=("", None))
    if number in (errno.ENOSPC, errno.EDQUOT):
        return next(((option, place) for option, place in places.items() if is_full(place)), ("", None))
    return "", None


def file_below(file: Path | None, place: Path | None) -> str:
    """The file as a sentence names it, after its place if that has been said."""
    if file is None:
        return ""
    if place is None:
        return show_path(file)
    below = file.absolute().relative_to(place.absolute()).as_posix()
    return "" if below == "." else below


def show_path(path: Path) -> str:
    """A path as a user would write it: from the working directory, or from the home folder."""
    with suppress(OSError, ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    with suppress(ValueError, RuntimeError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)


def is_full(place: Path) -> bool:
    """Whether the disk of a place has no room, or no inodes, left."""
    room = room_at(place)
    return room is not None and (room.f_bavail * room.f_frsize < FULL_BYTES or lacks_inodes(place))


def lacks_inodes(place: Path | None) -> bool:
    """Whether no further file fits on the disk of a place; a file system without such a limit says that it has none."""
    room = room_at(place) if place else None
    return room is not None and room.f_files > 0 and room.f_favail < FULL_FILES


def room_at(place: Path) -> os.statvfs_result | None:
    """What the file system of a place, or of the nearest folder above it, says of its room."""
    for folder in (place.absolute(), *place.absolute().parents):
        with suppress(OSError):
            return os.statvfs(folder)
    return None
