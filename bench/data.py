"""Reading a table of a data set in the hub's layout, from a folder as it is now or from the hub."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.core.errors import UserError


@contextlib.contextmanager
def told(place: str, config: str, broken: type[Exception]) -> Iterator[None]:
    """A broken file as a `UserError`."""
    try:
        yield
    except broken as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"A file of the configuration '{config}' of '{Path(place).name}' can't be read ({cause}): get it again."
        ) from error


def read_table(place: str, config: str, split: str = "train") -> list[dict[str, Any]]:
    """The rows of ``load_dataset(place, config, split=split)``.

    A folder is read anew each time: the library's cache goes by the folder's name and gives the rows of an earlier
    state of it, or of another folder of that name. Raises the library's ValueError or OSError where there is no such
    table, and `UserError` where its file is broken.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    folder = Path(place).expanduser()
    with contextlib.ExitStack() as stack:
        stack.enter_context(told(place, config, DatasetGenerationError))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # progress bars
        if not folder.is_dir():
            return [dict(row) for row in load_dataset(place, config, split=split)]
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="msa-bench-data-"))
        table = load_dataset(str(folder), config, split=split, cache_dir=cache, keep_in_memory=True)
        return [dict(row) for row in table]
