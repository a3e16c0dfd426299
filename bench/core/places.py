"""Whether a place that a command is to write can be written, found before any work, and folders that aren't there."""

from __future__ import annotations

import difflib
import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bench.core.trouble import NO_FILES, REFUSALS, is_full, lacks_inodes

MOST_NAME = 200
"""Bytes of a file's name; file systems take 255, and a temporary name beside it is longer."""
MOST_PATH = 3500
"""Bytes of all the names that are to be made; Linux takes 4096."""
FULL = {
    **dict(REFUSALS[number] for number in (errno.ENOSPC, errno.EDQUOT)),
    NO_FILES: "remove files there or choose another place",
}
"""What is used up on a disk -> the remedy."""
FOR_NOW = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)
"""Errors of a place that can be written once somebody allows it or makes room."""
MOST_NAMES = 6
"""Names of a folder that a sentence lists."""


def folder_problems(option: str, folder: Path, later: bool = False) -> list[str]:
    """A sentence about the option's ``folder`` where no files can be made in it, or it can't be made itself.

    ``later``: nothing is to be written yet, so that a place will do which is closed or full for now.
    """
    return explain_place(option, folder, why_no_folder(folder) or why_closed(nearest_existing(folder), later))


def new_folder_problems(option: str, folder: Path) -> list[str]:
    """The same about a folder that is made beside its place and then renamed into it."""
    return explain_place(
        option, folder, why_no_folder(folder) or why_closed(nearest_existing(folder.absolute().parent))
    )


def file_problems(option: str, file: Path) -> list[str]:
    """A sentence about the option's ``file`` where it can't be written."""
    above = file.absolute().parent
    why = why_no_folder(above) or why_long([file.name])
    if not why and os.path.lexists(file) and not os.path.isfile(file):
        why = f"'{file.name}' is {what_is(file)} and no file"
    return explain_place(option, file, why or why_closed(nearest_existing(above)))


def readable_problems(option: str, folder: Path) -> list[str]:
    """A sentence about the option's ``folder`` where there can be none, whether or not there is one yet."""
    return explain_place(option, folder, why_no_folder(folder))


def explain_place(option: str, place: Path, why: str) -> list[str]:
    """The sentence about a place, where there is a reason."""
    if not why:
        return []
    remedy = next((remedy for what, remedy in FULL.items() if why.endswith(what)), "")
    return [f"{option} {place}: {why}; {remedy or 'choose another place'}."]


def why_no_folder(folder: Path) -> str:
    """Why there can be no such folder, by what is there of it; empty where there can."""
    there = nearest_existing(folder)
    if not os.path.isdir(there):
        return f"'{there.name}' is {what_is(there)} and no folder"
    return why_long(folder.absolute().relative_to(there).parts)


def what_is(place: Path) -> str:
    """What lies at a place, in words."""
    if os.path.isdir(place):
        return "a folder"
    if os.path.isfile(place):
        return "a file"
    return "a special file" if os.path.exists(place) else "a link to nothing"


def why_long(names: Sequence[str]) -> str:
    """Which of the names that are to be made is too long; empty where none is."""
    long = next((name for name in names if len(os.fsencode(name)) > MOST_NAME), "")
    if long or len(os.fsencode(os.sep.join(names))) > MOST_PATH:
        return f"the name '{(long or names[-1])[:20]}...' is too long"
    return ""


def why_closed(folder: Path, later: bool = False) -> str:
    """Why nothing can be made in a folder that is there, found by making something; empty where it can."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".try-", dir=folder))
    except OSError as error:
        if later and error.errno in FOR_NOW:
            return ""
        full = why_full(folder, error.errno)
        return (
            f"nothing can be written there, as {full}" if full else f"nothing can be written there ({error.strerror})"
        )
    return ""


def why_full(folder: Path, number: int | None = None) -> str:
    """What is used up on the disk of a folder, by the error's number or else by what its file system says; or nothing."""
    if number is None:
        number = errno.ENOSPC if is_full(folder) else 0
    if number == errno.ENOSPC and lacks_inodes(folder):
        return NO_FILES
    return REFUSALS[number][0] if number in (errno.ENOSPC, errno.EDQUOT) else ""


def can_write(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or the folder itself be made."""
    return not folder_problems("", folder)


def nearest_existing(place: Path) -> Path:
    """The place, or the nearest one above it that is there, be it a link to nothing."""
    whole = place.absolute()
    return next(path for path in (whole, *whole.parents) if os.path.lexists(path))


def stays_below(name: str) -> bool:
    """Whether a name that comes from outside names something below the folder that it is read in, whatever is there."""
    path = PurePosixPath(name)
    return (
        bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name and "\\" not in name
    )


def is_path_like(text: str) -> bool:
    """Whether a name can only be meant as a place: ``./x``, ``~/x``, ``/x``, ``x/y/z``."""
    return text.startswith((".", "~", "/")) or os.sep in text


def missing_folder(text: str) -> str:
    """A sentence about a folder that isn't there: what is there instead, or the nearest names where it should lie."""
    place = Path(text).expanduser()
    there = nearest_existing(place)
    if os.path.isfile(place):
        return f"'{text}' is a file: name the folder that it lies in."
    if not os.path.isdir(there):
        return f"There is no folder '{text}': '{there.name}' is {what_is(there)}."
    try:
        names = sorted(path.name for path in there.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        names = []
    lost = place.absolute().relative_to(there).parts[0]
    near = difflib.get_close_matches(lost, names, n=MOST_NAMES, cutoff=0.5) or names[:MOST_NAMES]
    beside = f"the nearest folders in '{there}' are {', '.join(near)}" if near else f"'{there}' holds no folder"
    return f"There is no folder '{text}': {beside}."


def default_root() -> Path:
    """The folder of the store: ``MSA_BENCH_STORE``, or one in the user's cache."""
    if given := os.environ.get("MSA_BENCH_STORE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "msa-bench"
