"""The user's own settings: ``~/.config/msa-bench.toml``, whose table ``[slurm]`` holds flags of sbatch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.core.errors import UserError, unknown_name
from bench.core.files import read_toml

TABLES = ("slurm",)


def profile_file() -> Path:
    """Where the settings lie, whether or not there are some."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "msa-bench.toml"


def read_profile(table: str) -> dict[str, str]:
    """A table of the user's settings as texts; empty where there is none, `UserError` where the file is damaged."""
    file = profile_file()
    try:
        tables = read_toml(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read ({error}): mend it, or take it away.") from None
    for name, found in tables.items():
        if name not in TABLES:
            raise UserError(f"{file}: {unknown_name('table', name, TABLES)}")
        if not isinstance(found, dict):
            raise UserError(
                f"{file}: '{name}' is no table: write [{name}], and below it lines such as key = \"value\"."
            )
    return {key: as_text(file, table, key, value) for key, value in tables.get(table, {}).items()}


def as_text(file: Path, table: str, key: str, value: Any) -> str:
    """A value of the table as it would stand on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int)):
        return str(value)
    raise UserError(f'{file}: {key} of [{table}] is neither text nor a whole number: write {key} = "...".')
