"""Responses as columns: the compact form that is published.

A file is safetensors in an xz container: ``xz -dc KEY.safetensors.xz > x; safetensors.safe_open("x", "numpy")``. Each tensor is
a column, named by its place in the rows: ``forget_questions.answer[].logp[]`` holds the log-probs of all texts of a probe one
after another, ``forget_questions.answer[].logp#`` how many each text has. The metadata's ``responses`` is JSON: ids, the layout
of the rows, and what isn't rows.

Floats that the measuring wrote with seven significant digits are kept as float32, which they were; reading writes those digits
again. A column for which this doesn't give back every bit is float64. xz takes what repeats in the exponents; the mantissas are
noise, 20 bits a number, and can't be packed by anything lossless.
"""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from bench.core.types import Responses
from bench.records.plain import MOST_UNPACKED, parse_plain, unpack_xz

if TYPE_CHECKING:
    import numpy as np

FILTERS = [
    {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20, "lc": 0, "lp": 2, "pb": 2}
]
"""Of xz: contexts by the place within four bytes, as numbers have it."""
SEVEN, TEXT = "7", "json"
"""Layouts of a column: floats of seven significant digits, and numbers of several shapes as JSON; the rest is as numpy has it."""
INTEGERS = ("uint8", "int16", "int32", "int64")
PART = "responses"


def pack_responses(responses: Responses) -> bytes:
    """The bytes of a published file; equal responses, equal bytes. ValueError where a row holds a text."""
    from safetensors.numpy import save

    columns: dict[str, np.ndarray[Any, Any]] = {}
    ids: list[list[str]] = []
    probes: dict[str, Any] = {}
    for probe, rows in responses.rows.items():
        if (names := list(rows)) not in ids:
            ids.append(names)
        probes[probe] = [ids.index(names), _split(list(rows.values()), probe, columns)]
    about = responses.to_json() | {"rows": probes, "ids": ids}
    text = json.dumps(about, separators=(",", ":"), allow_nan=False)
    return lzma.compress(save(columns, {PART: text}), lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=FILTERS)


def unpack_responses(content: bytes) -> Responses:
    """The inverse of `pack_responses`; ValueError says what is wrong with a file that no responses can be read from."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    plain = unpack_xz(content)
    try:
        columns = load(plain)
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise ValueError("it is no safetensors inside") from None
    try:
        header = json.loads(plain[8 : 8 + int.from_bytes(plain[:8], "little")])
        about = parse_plain(header["__metadata__"][PART].encode())
        ids, rows = about.pop("ids"), dict[str, Any]()
        for probe, (which, layout) in about["rows"].items():
            values = _join(layout, probe, columns, len(ids[which]))
            rows[probe] = dict(zip(ids[which], values, strict=True))
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"its columns aren't those of its layout: {type(error).__name__}") from None
    return Responses.from_json(about | {"rows": rows})


def _split(values: Sequence[Any], name: str, columns: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Add the columns of some values of one kind, and return their layout."""
    kinds = set(map(type, values))
    if kinds == {list}:
        columns[f"{name}#"] = _as_integers([len(value) for value in values])
        return [_split([each for value in values for each in value], f"{name}[]", columns)]
    if kinds == {dict}:
        forms = list(dict.fromkeys(tuple(value) for value in values))
        columns[f"{name}?"] = _as_integers([forms.index(tuple(value)) for value in values])
        keys = list(dict.fromkeys(key for form in forms for key in form))
        each = {key: _split([v[key] for v in values if key in v], f"{name}.{key}", columns) for key in keys}
        return {"forms": [list(form) for form in forms], "each": each}
    columns[name], layout = _as_column(values, kinds)
    return layout


def _as_column(values: Sequence[Any], kinds: set[type]) -> tuple[np.ndarray[Any, Any], str]:
    """The column of some numbers, and its layout."""
    import numpy as np

    if kinds == {float}:
        with np.errstate(over="ignore"):
            short = np.array(values, np.float32)
        exact = np.array(values, np.float64)
        same = exact.tobytes() == np.array(_seven_digits(short), np.float64).tobytes()
        return (short, SEVEN) if same else (exact, "")
    if kinds == {bool}:
        return np.array(values, np.bool_), ""
    if kinds == {int} and max(map(abs, values)) < 1 << 62:
        return _as_integers(values), ""
    if not kinds <= {int, float, bool, list, dict}:
        raise ValueError(f"they hold {', '.join(sorted(kind.__name__ for kind in kinds))} among numbers")
    text = json.dumps(list(values), separators=(",", ":")).encode()
    return np.frombuffer(text, np.uint8), TEXT


def _as_integers(values: Sequence[int]) -> np.ndarray[Any, Any]:
    """The smallest integers that hold all values."""
    import numpy as np

    wide = np.array(values, np.int64)
    return next(small for kind in INTEGERS if ((small := wide.astype(kind)) == wide).all())


def _seven_digits(values: np.ndarray[Any, Any]) -> list[float]:
    """What `bench.engines.measuring.measure.seven_digits` makes of them."""
    return list(map(float, ("%.7g " * len(values) % tuple(values.tolist())).split()))


def _join(layout: Any, name: str, columns: dict[str, np.ndarray[Any, Any]], count: int) -> list[Any]:
    """The ``count`` values that `_split` made columns of; ValueError where the columns hold more or fewer."""
    if isinstance(layout, list):
        lengths = _whole(columns[f"{name}#"], count)
        inner = iter(_join(layout[0], f"{name}[]", columns, sum(lengths)))
        return [list(islice(inner, length)) for length in lengths]
    if isinstance(layout, dict):
        chosen = [layout["forms"][form] for form in _whole(columns[f"{name}?"], count)]
        parts = {
            key: iter(_join(each, f"{name}.{key}", columns, sum(key in form for form in chosen)))
            for key, each in layout["each"].items()
        }
        if layout["forms"] == [list(parts)] != [[]]:  # says the same, faster
            return [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
        return [{key: next(parts[key]) for key in form} for form in chosen]
    column = columns[name]
    if column.dtype.kind not in "biuf" or (column.dtype.kind == "f" and not (column < math.inf).all()):
        raise ValueError(f"{name} holds something else than finite numbers")
    if layout == TEXT:
        found = parse_plain(column.tobytes(), measured=True)
    else:
        found = _seven_digits(column) if layout == SEVEN else column.tolist()
    if type(found) is not list or len(found) != count:
        raise ValueError(f"{name} has not the {count} values of its layout")
    return found


def _whole(column: np.ndarray[Any, Any], count: int) -> list[int]:
    """Lengths or numbers of forms; ValueError where they are not ``count`` whole numbers from 0."""
    if column.dtype.kind not in "iu" or column.shape != (count,) or (column < 0).any():
        raise ValueError("a column of lengths holds something else")
    if column.sum(dtype="float64") > MOST_UNPACKED:
        raise ValueError("a column of lengths asks for more values than any file has")
    return cast("list[int]", column.tolist())
