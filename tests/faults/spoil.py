"""Records spoilt a field at a time: every branch and leaf of some JSON replaced by what it must not be, or dropped,
or told twice.

Each is one wrong file as a disk, an editor or a stranger may leave it. Where a record's spec is spoilt, a second file
has the key that fits it, as a key that is wrong would hide what else is wrong.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from bench.core.hashing import hash_json

DEEP = 3000
"""Levels of nesting: more than Python's stack holds."""
RAW = "\0raw:"
"""What stands before JSON that `json.dumps` wouldn't write."""
NAMED_BY_DATA = (
    *("scores", "metrics", "absent", "floors", "oracle_values", "versions", "hashes", "task_params", "params"),
    *("scenario_seconds", "stages"),
)
"""Objects with many members that are all alike."""
WRONG: Mapping[str, Any] = {
    "null": None,
    "true": True,
    "a number": 7,
    "a negative number": -1,
    "a fraction": 0.5,
    "a text": "text",
    "an empty text": "",
    "a number in a text": "1",
    "an empty list": [],
    "a list": [1, "a", None],
    "an empty object": {},
    "an object": {"a": {"b": 1}},
    "NaN": f"{RAW}NaN",
    "infinity": f"{RAW}Infinity",
    "more than a float holds": f"{RAW}1e400",
    "an integer beyond float": f"{RAW}1{'0' * 400}",
    "an integer beyond Python's limit": f"{RAW}1{'0' * 5000}",
    "deep nesting": f"{RAW}{'[' * DEEP}{']' * DEEP}",
    "a long text": "x" * 100_000,
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a heading": "a\n\n# Heading\n\n| a | b |\n| --- | --- |\n",
    "a link": "[click](javascript:alert(1)) ![](http://host/a.png) `code` | cell",
    "marks": "**bold** __slanted__ &lt;b&gt; https://evil.example \\*x\\*",
    "markup of the terminal": "[red]a[/red] [link=http://host]b[/link] [/]",
    "formulas": r"$\frac{1}{0$ $x^2$ \alpha",
    "control characters": "a\x1b[31m\x1b]0;title\x07\x00\u202eb\u2066\r\x85\u2028",
    "half a character": f'{RAW}"\\ud800"',
    "a path upwards": "../../../outside",
    "an absolute path": "/outside/of/it",
    "a name with blanks": "a b/c d",
}
"""What takes the place of a value: description -> the value."""


def spoil_record(content: bytes, most: int = 2) -> Iterator[tuple[str, bytes]]:
    """Every wrong file that one change in a record makes, with what was done: ``scores.acc.low: NaN``.

    Of the members of a list, and of objects under names that only data know, the first ``most`` are spoilt.
    """
    whole = json.loads(content)
    for path in paths_in(whole, most):
        for what, wrong in WRONG.items():
            yield from spoilt_at(whole, path, what, wrong)
        if path:
            yield f"{in_words(path)}: dropped", with_fitting_key(dropped(whole, path))
            if isinstance(path[-1], str):
                yield f"{in_words(path)}: told twice", told_twice(whole, path)
        if isinstance(member(whole, path), dict):
            more = replaced(whole, path, {**member(whole, path), "unheard of": 1, "<b>": "|"})
            yield f"{in_words(path)}: unknown members", with_fitting_key(more)
    yield "cut in half", content[: len(content) // 2]
    yield "emptied", b""
    yield "zeros in its place", bytes(len(content))
    yield "a bit flipped", content[:100] + bytes([content[100] ^ 0x80]) + content[101:]
    yield "a byte order mark", b"\xef\xbb\xbf" + content
    yield "another encoding", content.decode().encode("utf-16")
    yield "something behind its end", content + b"{}"


def spoilt_at(whole: Any, path: tuple[str | int, ...], what: str, wrong: Any) -> Iterator[tuple[str, bytes]]:
    """The file with ``wrong`` at ``path``; and again with the key that fits it, where the spec is what was spoilt."""
    made = replaced(whole, path, wrong)
    yield f"{in_words(path)}: {what}", as_bytes(made)
    if len(path) > 1 and path[0] == "spec" and path[1] != "key" and not str(wrong).startswith(RAW):
        yield f"{in_words(path)}: {what}, with its key", with_fitting_key(made)


def paths_in(value: Any, most: int, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every branch and leaf; of a list, and of an object of many, the first ``most``."""
    yield path
    if isinstance(value, dict):
        for name in list(value)[: most if path and path[-1] in NAMED_BY_DATA else None]:
            yield from paths_in(value[name], most, (*path, name))
    elif isinstance(value, list):
        for index in range(min(most, len(value))):
            yield from paths_in(value[index], most, (*path, index))


def in_words(path: tuple[str | int, ...]) -> str:
    """``spec.steps.0.params``."""
    return ".".join(map(str, path)) or "the whole"


def member(whole: Any, path: tuple[str | int, ...]) -> Any:
    """What stands at ``path``."""
    for part in path:
        whole = whole[part]
    return whole


def replaced(whole: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy with ``value`` at ``path``."""
    if not path:
        return value
    made = copy.deepcopy(whole)
    member(made, path[:-1])[path[-1]] = value
    return made


def dropped(whole: Any, path: tuple[str | int, ...]) -> Any:
    """A copy without what stands at ``path``."""
    made = copy.deepcopy(whole)
    del member(made, path[:-1])[path[-1]]
    return made


def told_twice(whole: Any, path: tuple[str | int, ...]) -> bytes:
    """A file in which an object names the same member twice, with another value each time."""
    name, value = str(path[-1]), member(whole, path)
    around = {key: each for key, each in member(whole, path[:-1]).items() if key != name}
    inner = json.dumps(around)[1:-1]
    twice = f"{json.dumps(name)}: {json.dumps(value)}, {json.dumps(name)}: 0{', ' if inner else ''}{inner}"
    return as_bytes(replaced(whole, path[:-1], f"{RAW}{{{twice}}}"))


def with_fitting_key(data: Any) -> bytes:
    """The file with the key that its spec has, where that can be told."""
    made = copy.deepcopy(data)
    try:
        spec = {name: value for name, value in made["spec"].items() if name not in ("key", "study", "data")}
        made["spec"]["key"] = hash_json(spec)[:16]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        pass
    return as_bytes(made)


def as_bytes(data: Any) -> bytes:
    """JSON in which raw parts stand as they are."""
    text, raw = json.dumps(data), json.dumps(RAW)[1:-1]
    if raw not in text:
        return text.encode()
    before, _, rest = text.partition(f'"{raw}')
    inside, tail = json.JSONDecoder().raw_decode(f'"{rest}')
    return f"{before}{inside}{rest[tail - 1 :]}".encode()


def own_place(content: bytes) -> str:
    """Where a record of these bytes says that it belongs, below the results folder; empty where nobody can tell."""
    try:
        spec = json.loads(content)["spec"]
        steps = [f"{s['method']}@{s['variant']}" if s["variant"] else s["method"] for s in spec["steps"]]
        name = f"{'rewound-' if spec['start'] else ''}{'+'.join(steps) or 'target'}"
        return f"{spec['tier']}/{spec['task']}/{spec['model'].replace('/', '--')}/{name}-{spec['key']}.json"
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return ""
