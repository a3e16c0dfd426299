"""The files of one commit of a git repository, without its history."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from bench.core.errors import UserError
from bench.core.files import new_folder
from bench.core.processes import run_program
from bench.core.trouble import raise_told


class GitFailed(Exception):
    """A git command failed; the text is git's own, on one line."""


def check_out(address: str, revision: str, folder: Path) -> str:
    """Put the files of a commit, branch or tag of ``address`` into the empty ``folder``; the commit.

    It is fetched and not cloned, as a clone can't name a commit. Raises `GitFailed`.
    """
    fetching = ["fetch", "--quiet", "--depth=1", "--", address, revision]
    for arguments in (["init", "--quiet"], fetching, ["checkout", "--quiet", "FETCH_HEAD"]):
        git_output(folder, *arguments)
    commit = git_output(folder, "rev-parse", "HEAD").strip()
    shutil.rmtree(folder / ".git")  # it differs from clone to clone, and the content is what is hashed
    return commit


def git_output(folder: Path, *arguments: str) -> str:
    """Run one git command in ``folder`` and give what it prints; it never asks for a password.

    A link in a repository becomes a file with its text: it could lead anywhere on this machine.
    """
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = run_program(["git", "-c", "core.symlinks=false", "-C", str(folder), *arguments], environment)
    except OSError as error:
        raise GitFailed(str(error)) from error
    if done.returncode:
        raise_told(done.stderr, folder)
        said = done.stderr.strip().splitlines() or [f"git ended with code {done.returncode}"]
        raise GitFailed(next((line for line in said if line.startswith("fatal:")), said[-1]))
    return done.stdout


def clone_once(url: str, root: Path) -> Path:
    """The folder below ``root`` with the files of a git repository, fetched once: ``https://...[@COMMIT]``, or ``git+URL``.

    A branch or tag in the place of the commit, or nothing for the default branch, is what it was on the first day: what
    decides a run's key is the content. Raises `UserError` where it can't be had.
    """
    place, _, name = url.removeprefix("git+").rpartition("/")
    name, _, commit = name.partition("@")
    source = f"{place}/{name}"
    folder = root / re.sub(r"[^\w.@-]+", "--", "@".join(filter(None, (source.partition("://")[2].strip("/"), commit))))
    if folder.is_dir():
        return folder
    try:
        with new_folder(folder) as made:
            check_out(source, commit or "HEAD", made)
    except GitFailed as error:
        raise UserError(
            f"The repository {source}{commit and f' at {commit}'} can't be fetched ({error}): check the name and the "
            "network, or bring a copy here and name its folder with --data."
        ) from error
    return folder


def git_blob(path: Path) -> str:
    """Git's name of a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
