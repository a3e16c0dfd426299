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

from bench.cli.listing import runs
from bench.core.errors import UserError
from bench.records.files import LoadedRecords, load_records
from bench.records.leaderboard import render_leaderboard
from tests.faults.campaign import Case, Kind
from tests.faults.compare import judge
from tests.faults.ground import Ground, copy
from tests.faults.spoil import own_place, spoil_record

INJECTED = re.compile(
    r"(?<!\\)<script|(?<!\\)<img src=x|^# Heading|(?<!\\)\[click(?<!\\)\]\(|(?<!\\)!\[\]\("
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\u2028]",
    re.M,
)
"""What a page may not take over from a record."""
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
        page = render_leaderboard(loaded.records, loaded.broken)
        listed = runs(out)
    except UserError as error:
        case.unhelpful(f"one record stops the reader: {error}")
        return
    except Exception as error:
        case.unhelpful(f"{type(error).__name__}: {error} in {traceback.extract_tb(error.__traceback__)[-1].name}"[:300])
        return
    judge_loaded(case, loaded, file.relative_to(out).as_posix(), data)
    for shown, text in (("the page", page), ("the list", listed)):
        if injected := INJECTED.search(text):
            case.wrong(f"{shown} takes over {injected[0]!r}")
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
    reasons = [broken.reason for broken in loaded.broken if broken.path == name]
    accepted = [record for record in loaded.records if record.name == name]
    if not reasons and not accepted:
        case.unhelpful("it is neither read nor named")
    for record in accepted:
        told = json.loads(data)
        if json.dumps(record.to_json(), sort_keys=True) != json.dumps(told, sort_keys=True):
            case.wrong("it is read as something else than it says")
    for reason in reasons:
        field = case.what.partition(": ")[2].partition(":")[0].split(".")
        if len(reason) > MOST_REASON or "\n" in reason:
            case.unhelpful(f"a reason of {len(reason)} letters")
        if len(field) > 1 and not any(part in reason for part in field) and "belongs at" not in reason:
            case.unhelpful(f"the field isn't named: {reason!r}")


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


KIND = Kind("records", short=60, long=5200, attempt=attempt)
