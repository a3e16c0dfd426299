"""The page: one file with its data, its style and its scripts in it, which asks nobody for anything.

Its content security policy lets these very scripts run and nothing else, and forbids every request. Data stand in it as
JSON, and the script shows them as text, so that nothing from a model or a name can become a part of the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bench.core.hashing import hash_file, hash_json
from bench.core.record import Record
from bench.core.types import Json

HERE = Path(__file__).parent
PLOTLY = HERE / "vendor" / "plotly-basic-4.1.1.min.js"
"""plotly.js's basic bundle as npm has it (plotly.js-basic-dist-min), MIT: its licence lies beside it."""
CODE = (HERE, HERE.parent / "records", HERE.parent / "metrics")
"""Folders of the code that decides the page."""
HEAD = 2000
"""Bytes of a page in which its stamp stands."""


def stamp_of(records: Sequence[Record]) -> str:
    """What tells a page of these records, by this code, from every other one."""
    code = [
        path for folder in CODE for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".js", ".css", ".html")
    ]
    return "msa-bench " + hash_json([[record.to_json() for record in records], list(map(hash_file, code))])


def has_stamp(page: Path, stamp: str) -> bool:
    """Whether a page is there, and bears the stamp."""
    try:
        with page.open("rb") as file:
            return f'content="{stamp}"'.encode() in file.read(HEAD)
    except OSError:
        return False


def render_page(view: Json, stamp: str) -> str:
    """The page of a view; equal views, equal bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    scripts = [script(PLOTLY), script(HERE / "app.js")]
    page = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    policy = (
        f"default-src 'none'; script-src {' '.join(map(source_hash, scripts))}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return page.get_template("page.html").render(
        policy=policy, stamp=stamp, style=(HERE / "app.css").read_text(), scripts=scripts, data=as_script_data(view)
    )


@cache
def script(path: Path) -> str:
    """A script of ours or of a library, as it stands in the page."""
    text = path.read_text(encoding="utf-8")
    assert "</script" not in text and "<!--" not in text, f"{path.name} would end its own element"
    return text


def source_hash(text: str) -> str:
    """The hash by which a browser's policy knows an inline script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def as_script_data(view: Json) -> str:
    """JSON that may stand in a script element: no tag begins in it; half a character stays an escape."""
    text = json.dumps(view, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").encode(errors="backslashreplace").decode()
