"""The files of one commit of a git repository, without its history."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


class GitFailed(Exception):
    """What git says, on one line."""


def check_out(address: str, revision: str, folder: Path) -> str:
    """Put the files of a commit, branch or tag of ``address`` into the empty ``folder``; the commit.

    It is fetched and not cloned, as a clone can't name a commit. Raises `GitFailed`.
    """
    fetching = ["fetch", "--quiet", "--depth=1", address, revision]
    for arguments in (["init", "--quiet"], fetching, ["checkout", "--quiet", "FETCH_HEAD"]):
        git(folder, *arguments)
    commit = git(folder, "rev-parse", "HEAD").strip()
    shutil.rmtree(folder / ".git")  # it differs from clone to clone, and the content is what is hashed
    return commit


def git(folder: Path, *arguments: str) -> str:
    """What one git command in ``folder`` prints; it never asks for a password."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, env=environment, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise GitFailed(next((line for line in said if line.startswith("fatal:")), said[-1])) from error
    return done.stdout
