"""Records spoilt a field at a time (`tests.faults.spoil`): named with the field and left out, or read as what they say.

Most are read in this process, as thousands are tried; a sample goes through the commands.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import traceback
from functools import cache
from pathlib import Path
from typing import Any

from bench.cli.run_list import Filter, list_runs
from bench.core.errors import UserError
from bench.records.files import LoadedRecords, load_records
from tests.faults.campaign import Case, Kind
from tests.faults.compare import judge
from tests.faults.ground import Ground, copy
from tests.faults.spoil import own_place, spoil_record
from tests.pages import all_pages

INJECTED = re.compile(
    r"(?<!\\)<script|(?<!\\)<img src=x|^# Heading|(?<!\\)\[click(?<!\\)\]\(|(?<!\\)!\[\]\(|(?<!\\)\*\*bold|(?<!\\)__slanted"
    r"|https://evil|&lt;b&gt;",
    re.M,
)
"""What a page may not take over from a record."""
CODE = re.compile(r"(?<!\\)`[^`\n]*`")
"""Where marks say themselves."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\u2028]")
"""What neither a page nor a terminal may."""
NO_NUMBER = re.compile(r"\|\s*[-+]?(nan|inf|infinity|None)\b", re.I)
MOST_REASON = 400
SAMPLE = 50
"""One in so many goes through the commands."""


@cache
def spoilt(folder: Path) -> list[tuple[str, str, bytes]]:
    """Every spoilt record: the sound one's name, what was done, and the bytes; in a random order that is always the same."""
    made = [
        (file.relative_to(folder).as_posix(), what, data)
        for file in sorted(folder.glob("lab/*/*/*.json"))
        for what, data in spoil_record(file.read_bytes())
    ]
    random.Random(0).shuffle(made)
    return made


def sound_records(ground: Ground) -> Path:
    """The records of a run."""
    return ground.made("run").folder / "out"


def attempt(case: Case) -> None:
    """One spoilt record among sound ones."""
    made = spoilt(sound_records(case.ground))
    name, what, data = made[case.number % len(made)]
    case.what = f"{name}: {what}"
    out = case.folder / "out"
    shutil.copytree(sound_records(case.ground) / "lab", out / "lab")
    file = place_of(out, name, data)
    try:
        loaded = load_records(out)
        page = all_pages(loaded.records, loaded.broken)
        listed = list_runs(out, Filter())
    except UserError as error:
        case.unhelpful(f"one record stops the reader: {error}")
        return
    except Exception as error:
        case.unhelpful(f"{type(error).__name__}: {error} in {traceback.extract_tb(error.__traceback__)[-1].name}"[:300])
        return
    judge_loaded(case, loaded, file.relative_to(out).as_posix(), data)
    if injected := INJECTED.search(CODE.sub("", page)) or CONTROL.search(page + listed):
        case.wrong(f"page or list take over {injected[0]!r}")
    if number := NO_NUMBER.search(page):
        case.wrong(f"the page has {number[0]!r} in the place of a number")
    if case.number % SAMPLE == SAMPLE // 2:
        judge_commands(case, out)


def place_of(out: Path, name: str, data: bytes) -> Path:
    """Write the record in the sound one's place, or where it says that it belongs if that is in the folder."""
    own = own_place(data)
    try:
        inside = bool(own) and (out / own).resolve().is_relative_to(out.resolve() / "lab")
        if inside and own != name:
            (out / name).unlink()
            (out / own).parent.mkdir(parents=True, exist_ok=True)
            (out / own).write_bytes(data)
            return out / own
    except (OSError, ValueError):
        pass
    (out / name).write_bytes(data)
    return out / name


def judge_loaded(case: Case, loaded: LoadedRecords, name: str, data: bytes) -> None:
    """The sound ones are there; the spoilt one is left out and named, or says what its file says."""
    sound = {record.name for record in loaded.records} - {name}
    if len(sound) < 2:
        case.lost(f"sound records are left out: {[broken.path for broken in loaded.broken]}")
    reasons = [broken.reason for broken in loaded.broken]
    accepted = [record for record in loaded.records if record.name == name]
    if len(reasons) + len(accepted) != 1:
        case.unhelpful(f"it is read {len(accepted)} times and named {len(reasons)} times")
    for record in accepted:
        if not is_same(record.to_json(), json.loads(data)):
            case.wrong("it is read as something else than it says")
    for reason in reasons:
        if len(reason) > MOST_REASON or "\n" in reason:
            case.unhelpful(f"a reason of {len(reason)} letters")
        fields = case.what.partition(": ")[2].partition(":")[0].split(".")
        if is_json(data) and len(fields) > 1 and not any(f in reason for f in (*fields, "belongs at", "names itself")):
            case.unhelpful(f"the field isn't named: {reason!r}")


def is_json(data: bytes) -> bool:
    """Whether it can be read as JSON at all, so that there is a field to be named."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(data, parse_constant=refuse)["spec"]["key"].encode()
        return b"\\ud800" not in data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def is_same(one: Any, other: Any) -> bool:
    """Whether two pieces of JSON say the same: 1 and 1.0 do, 1 and true don't."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def judge_commands(case: Case, out: Path) -> None:
    """What the commands make of the folder."""
    place = copy(case.ground.made("run").folder, case.folder / "place")
    shutil.rmtree(place / "out")
    shutil.copytree(out, place / "out")
    for words in (
        ("leaderboard", "--from", "out", "--to", "page.md"),
        ("plot", "--from", "out", "--to", "plots"),
        ("ls", "runs", "--from", "out"),
        ("publish", "--from", "out", "--to", "results", "--store", "store"),
        ("rescore", "--from", "out", "--store", "store"),
    ):
        judge(case, [case.ground.run(words, place, mark=case.folder.name)], (0, 1, 2))


KIND = Kind("records", short=range(60), long=5200, attempt=attempt)
