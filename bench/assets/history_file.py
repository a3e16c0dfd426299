"""A model's history from a file that its user wrote, every entry checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.assets import history_names, history_sources
from bench.assets.history import moment_name
from bench.assets.history_names import ParsedName, count_from_first_weights, counted, parse_revision
from bench.assets.models import check_model_folder, check_model_name, default_models_dir
from bench.core.errors import UserError, collecting, mistakes_in, report_mistake, unknown_name
from bench.core.types import Checkpoint, History, Moment

ENTRY = ("path", "model", "revision", "step", "tokens", "stage", "exposed")

FIRST = ("step", "tokens", "revision")
"""What a file may say of the first exposure: one of these."""


# Sources


def load_history(source: str | Path, models_dir: Path | None = None) -> History:
    """The history that a file or a folder holds."""
    path = Path(source).expanduser()
    if path.is_dir():
        return history_sources.history_of_folder(path)
    if path.is_file():
        return read_history_file(path, models_dir)
    raise UserError(f"There is no history '{source}': name a JSON file, or a folder with checkpoint-500 and the like.")


# A history file


@dataclasses.dataclass(frozen=True)
class Draft:
    """One entry of a history file, as far as it is understood."""

    checkpoint: Checkpoint
    revision: str
    model: str
    name: str
    """Of the revision or the folder, if it is understood."""
    parsed: ParsedName
    """As the name says, counted within its stage."""
    stated: tuple[int | None, int | None]
    """Step and tokens that the file or the Trainer states, counted from the first weights."""
    exposed: bool | None


def read_history_file(path: Path, models_dir: Path | None = None) -> History:
    """The history that a user's JSON file describes (see the module); one `UserError` with every mistake in it."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"The history file '{path}' is not readable JSON ({error}): correct it.") from None
    entries = data.get("checkpoints") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(
            f"The history file '{path}' needs a list \"checkpoints\" with at least one entry, such as "
            '{"checkpoints": [{"path": "ckpt-1000", "step": 1000}]}.'
        )
    fields, drafts = ("model", "exposure", "checkpoints"), list[Draft]()
    with collecting():
        report_mistake(*(unknown_name(f"field of {path.name}", key, fields) for key in data if key not in fields))
        model = checked(data, "model", path.name)
        for number, entry in enumerate(entries, 1):
            where = f"{path.name}, checkpoint {number}"
            with mistakes_in():
                drafts.append(read_entry(entry, where, model, path.parent, models_dir or default_models_dir()))
    ordered = order_drafts(drafts, model)
    names = [moment_name(moment) for moment, _ in ordered]
    with collecting():
        report_mistake(
            *(
                f"{path.name} has two checkpoints named '{name}': give each a \"revision\" of its own."
                for name in names
                if names.count(name) > 1
            ),
            *falling_tokens([moment for moment, _ in ordered], path.name),
        )
        moments = mark_exposed(ordered, data.get("exposure"), path.name)
    return History(moments)


def read_entry(entry: Any, where: str, model: str, beside: Path, models_dir: Path) -> Draft:
    """One entry; `UserError` with all that is wrong with it."""
    if not isinstance(entry, dict):
        raise UserError(f'{where}: write it as {{"path": ..., "step": ...}}.')
    checkpoint: Checkpoint | None = None
    known: tuple[int | None, int | None] = (None, None)
    with collecting():
        report_mistake(*(unknown_name(f"field of {where}", key, ENTRY) for key in entry if key not in ENTRY))
        path, revision, stage, own = (checked(entry, key, where) for key in ("path", "revision", "stage", "model"))
        step, exposed = entry.get("step"), entry.get("exposed")
        if step is not None and not is_whole_number(step):
            report_mistake(f"{where}: its step is {json.dumps(step)}; a step is a whole number, 0 or more.")
        if exposed is not None and not isinstance(exposed, bool):
            report_mistake(f'{where}: "exposed" is true or false, not {json.dumps(exposed)}.')
        tokens = counted(entry.get("tokens"), where)
        folder = beside / Path(path).expanduser()
        if path and not folder.is_dir():
            report_mistake(f"{where}: there is no folder '{path}'; a path is relative to the file.")
        elif path:
            with mistakes_in(f"{where}: "):
                check_model_folder(folder, path, own_tokenizer=False)
                label = revision or folder.resolve().name
                checkpoint = history_sources.checkpoint_in_folder(folder, label, parent=folder.parent)
                known = history_sources.read_trainer_state(folder)
        elif own or (model and revision):
            name = (own or model) + (f"@{revision}" if revision else "")
            with mistakes_in(f"{where}: "):
                check_model_name(name)
                checkpoint = history_sources.checkpoint_of_model(name, revision or name, models_dir)
        else:
            report_mistake(f'{where}: it names no weights; give a "path", or a "model" and a "revision".')
        name = next((each for each in (revision, Path(path).name) if parse_revision(each)), "")
        said = parse_revision(name)
        if checkpoint and step is None and known[0] is None and said is None:
            report_mistake(f'{where}: it has no step, and its name tells none; add "step".')
    assert checkpoint is not None
    stated = (known[0] if step is None else step, known[1] if tokens is None else tokens)
    parsed = said or ParsedName(0, None, "pretraining")
    parsed = parsed._replace(stage=stage or parsed.stage)
    return Draft(checkpoint, revision, own or model, name, parsed, stated, exposed)


def is_whole_number(value: Any) -> bool:
    """Whether a value of a JSON file can be a step."""
    return type(value) is int and value >= 0


def checked(data: Mapping[str, Any], key: str, where: str) -> str:
    """A field that is a text, or empty when it is left out."""
    value = data.get(key, "")
    if isinstance(value, str) and (value.strip() or key not in data):
        return value.strip()
    report_mistake(f'{where}: "{key}" is a text, not {json.dumps(value)}.')
    return ""


def order_drafts(drafts: Sequence[Draft], model: str) -> list[tuple[Moment, bool | None]]:
    """The moments by step, each with what the file says of its exposure; a name counts within its stage."""
    names, known = [each.parsed for each in drafts], history_names.published_stages(model)
    by_name = count_from_first_weights(names, known)
    placed = count_from_first_weights(names, known, [each.stated for each in drafts])
    found = []
    for each, told, at_ in zip(drafts, by_name, placed, strict=True):
        tokens = history_names.tokens_at(each.model, each.name, at_) if told.step == at_.step else at_.tokens
        found.append((Moment(each.checkpoint, at_.step, tokens, at_.stage, revision=each.revision), each.exposed))
    return sorted(found, key=lambda pair: pair[0].step)


def falling_tokens(moments: Sequence[Moment], where: str) -> list[str]:
    """A sentence about the first two moments, ordered by step, whose tokens can't both be true.

    The ingredients of one stage are trained side by side and aren't compared.
    """
    counted_ = [(moment, moment.tokens) for moment in moments if moment.tokens is not None]
    for (one, before), (other, after) in combinations(counted_, 2):
        beside = one.stage != other.stage and 0 < history_names.stage_number(one.stage) == history_names.stage_number(
            other.stage
        )
        if not beside and (after < before or (after != before and one.step == other.step)):
            return [
                f"{where}: '{moment_name(one)}' has {before:,} tokens at step {one.step} and '{moment_name(other)}' {after:,} at "
                f"step {other.step}: tokens grow with the steps, both counted from the first weights; correct one."
            ]
    return []


def mark_exposed(ordered: Sequence[tuple[Moment, bool | None]], exposure: Any, where: str) -> tuple[Moment, ...]:
    """The moments, exposed from the first exposure on: the file's, or the first checkpoint that is said to be exposed."""
    first = next((index for index, (_, exposed) in enumerate(ordered) if exposed), len(ordered))
    if exposure is not None:
        first = find_first_exposure([moment for moment, _ in ordered], exposure, where)
        early = [moment_name(moment) for moment, exposed in ordered[:first] if exposed]
        for name in early:
            report_mistake(f"{where}: '{name}' is said to be exposed, but lies before \"exposure\": correct one.")
    late = [moment_name(moment) for moment, exposed in ordered[first:] if exposed is False]
    for name in late:
        report_mistake(f"{where}: '{name}' is said not to be exposed, but lies after the first exposure: correct it.")
    return tuple(dataclasses.replace(moment, exposed=index >= first) for index, (moment, _) in enumerate(ordered))


def find_first_exposure(moments: Sequence[Moment], exposure: Any, where: str) -> int:
    """Index of the first exposed moment; their number when none is."""
    if not isinstance(exposure, dict) or len(exposure) != 1 or next(iter(exposure)) not in FIRST:
        report_mistake(
            f'{where}: write "exposure" as {{"step": 12000}}, {{"tokens": "4B"}} or {{"revision": "step12000"}}.'
        )
        return len(moments)
    kind, value = next(iter(exposure.items()))
    if kind == "revision":
        names = [moment_name(moment) for moment in moments]
        if value not in names:
            report_mistake(f"{where}: " + unknown_name("revision of the exposure", str(value), names))
        return names.index(value) if value in names else len(moments)
    if kind == "step" and not is_whole_number(value):
        report_mistake(f"{where}: the exposure's step is {json.dumps(value)}; a step is a whole number, 0 or more.")
        return len(moments)
    if kind == "step":
        return next((index for index, moment in enumerate(moments) if moment.step >= value), len(moments))
    number = counted(value, f"{where}, exposure")
    unknown_tokens = [moment_name(moment) for moment in moments if moment.tokens is None]
    if unknown_tokens:
        report_mistake(
            f"{where}: the exposure is given in tokens, but no tokens are known of {', '.join(unknown_tokens)}: "
            "give it by step or by revision, or add their tokens."
        )
    if number is None or unknown_tokens:
        return len(moments)
    return next((index for index, moment in enumerate(moments) if (moment.tokens or 0) >= number), len(moments))
