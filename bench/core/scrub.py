"""Taking what concerns nobody else out of a text: secrets, the machine's name, and its folders.

Whatever leaves the process as a log, a failed record's reason or an error on the terminal goes through here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

HIDDEN = "…"
SECRET_NAMES = re.compile(r"(^|_)(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
"""Environment variables whose values are secrets."""
SHORTEST = 6
"""Characters of a secret; what is shorter is a switch such as ``false``, and would be found in any word."""
SECRETS = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{8,}|sk-[\w-]{8,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{8,}"
    r"|AKIA[A-Z0-9]{12,}|xox[a-z]-[\w-]{8,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
"""Tokens that are known by how they begin: of the hub, OpenAI, GitHub, GitLab, AWS, Slack, and JSON web tokens."""
BEARER = re.compile(
    r"(?i)\b((?:bearer|basic|token)\s+|(?:api[-_]?key|access[-_]?token|password)['\"]?\s*[=:]\s*['\"]?)[\w.+/=~-]{6,}"
)
"""What a header or a query says before a secret, and the secret."""
LOGIN = re.compile(r"(?<=://)[^/\s@'\"]+@")
"""User and password of an address."""


def hide_secrets(text: str) -> str:
    """A text without tokens, passwords of addresses and the machine's name; the home folder is ``~``."""
    for value in secret_values():
        text = text.replace(value, HIDDEN)
    text = LOGIN.sub(f"{HIDDEN}@", BEARER.sub(rf"\1{HIDDEN}", SECRETS.sub(HIDDEN, text)))
    host = os.uname().nodename
    text = hide_names(text, [host, host.partition(".")[0], os.environ.get("SLURMD_NODENAME", "")])
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=[/\s'\",:;)]|$)", "~", text) if len(home) > 1 else text


def secret_values() -> list[str]:
    """The values of environment variables that hold secrets, the longest first."""
    found = {value for name, value in os.environ.items() if SECRET_NAMES.search(name) and len(value) >= SHORTEST}
    return sorted(found, key=len, reverse=True)


def hide_paths(text: str, folders: Sequence[str] = ()) -> str:
    """A text without the folders of this machine: the known ones, and of any other absolute path all but its end."""
    for folder in sorted({*folders, *sys.path, str(Path.home()), working_folder()}, key=len, reverse=True):
        if len(folder) > 1:
            text = text.replace(folder, HIDDEN)
    return re.sub(r"(?<![\w.…/])/(?:[\w.+@~-]+/)+", f"{HIDDEN}/", text)


def hide_names(text: str, names: Iterable[str]) -> str:
    """A text without these names of machines, where they stand as words; one letter is no name, and may be any word."""
    told = {name for name in names if len(name) > 1} - {"localhost"}
    known = "|".join(map(re.escape, sorted(told, key=len, reverse=True)))
    return re.sub(rf"(?<![\w-])(?:{known})(?![\w-])", HIDDEN, text) if known else text


def scrub(text: str, folders: Sequence[str] = ()) -> str:
    """A text without secrets, the machine's name and its folders: what may be kept or shown to others."""
    return hide_secrets(hide_paths(text, folders))


def working_folder() -> str:
    """The working directory; empty where it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""
