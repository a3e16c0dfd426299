"""Reading a table of a data set in the hub's layout, from a folder as it is now or from the hub."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any


def read_table(place: str, config: str, split: str = "train") -> list[dict[str, Any]]:
    """The rows of ``load_dataset(place, config, split=split)``.

    A folder is read anew each time: the library's cache goes by the folder's name and gives the rows of an earlier
    state of it, or of another folder of that name. Raises the library's ValueError or OSError.
    """
    from datasets import load_dataset

    folder = Path(place).expanduser()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # progress bars
        if not folder.is_dir():
            return [dict(row) for row in load_dataset(place, config, split=split)]
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="msa-bench-data-"))
        table = load_dataset(str(folder), config, split=split, cache_dir=cache, keep_in_memory=True)
        return [dict(row) for row in table]
