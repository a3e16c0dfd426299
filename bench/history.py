"""A model's own past as data: where its checkpoints come from, which of them a rule chooses, how far away that is.

A history comes from the lab, a folder of Trainer outputs, the revisions of a hub model, or a small JSON file:

    {"model": "olmo-2-1b", "exposure": {"tokens": "3985B"},
     "checkpoints": [{"revision": "stage1-step100000-tokens210B"},
                     {"path": "ckpt-1000", "step": 1000, "tokens": "4B", "stage": "stage1", "exposed": false}]}

A path is relative to the file. What a name such as ``checkpoint-500`` or a ``trainer_state.json`` says may be left out.
A step or tokens that the file states count from the first weights, whatever the stage.
Loads no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from bench.core.errors import UserError, collect, unknown
from bench.core.hashing import digest, folder_hash, tokenizer_digest
from bench.core.types import Checkpoint, History, Json, Moment
from bench.models import (
    FETCHED,
    KNOWN,
    TOKENIZERS,
    check_folder,
    check_name,
    default_models_dir,
    fetched,
    fetched_hash,
    folder_name,
    how_to_fetch,
    model_of,
    published,
    tokens_a_step,
)

LAST = "last-before-exposure"
FORMS = f"{LAST}, tokens=500B, age=0.5 (0 to 1), step=300, or the exact name of a revision or checkpoint"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([KMBT]?)", re.IGNORECASE)
REVISION = re.compile(
    r"(?:(?P<stage>stage(?P<number>\d+)(?:-ingredient\d+)?)-)?(?:global_)?step-?(?P<step>\d+)"
    r"(?:-tokens(?P<tokens>\d+(?:\.\d+)?[KMBT]))?"
)
"""OLMo-2, OLMo, Pythia; SmolLM writes ``step-125000``, BLOOM ``global_step1000``."""
NUMBERED = re.compile(r"ckpt_(\d+)")
"""Amber and its like number their checkpoints; the number isn't a step."""
TRAINER = re.compile(r"checkpoint-(\d+)")
NAME = re.compile(r"[\w./@+-]+")
ENTRY = ("path", "model", "revision", "step", "tokens", "stage", "exposed")
FIRST = ("step", "tokens", "revision")
"""What a file may say of the first exposure: one of these."""
SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
"""In which the checkpoints of one history must agree, as weights are added and subtracted one by one."""


# Rules


def choose(history: History, rule: str) -> Moment:
    """The moment that the rule names (`FORMS`); of two that are equally near, the later.

    A step or an exact name also finds an exposed checkpoint; the other rules choose among those from before exposure.
    """
    collect(problems(rule))
    found = chosen(history, rule)
    if not found.checkpoint.hash:
        raise UserError(not_there(found))
    folder = Path(found.checkpoint.path)
    if (folder / FETCHED).is_file():
        fetched(model_of(folder), folder)  # the one that is used must be as it was fetched
    return found


def chosen(history: History, rule: str) -> Moment:
    """As `choose`, without asking whether its weights are there."""
    kind, _, value = rule.partition("=")
    if kind == "step":
        return at_step(history, int(value))
    if kind not in ("age", "tokens", LAST):
        return named(history, rule)
    if not history.before:
        raise UserError(f"The history has no checkpoint from before exposure, so {rule} finds none: add one.")
    if kind == "age":
        return nearest(history.before, lambda moment: abs(share(history, moment) - float(value)))
    if kind == "tokens":
        counted = [moment for moment in history.before if moment.tokens is not None]
        if not counted:
            raise UserError(
                f"{rule}: no token counts are known of this history's checkpoints from before exposure; "
                "choose by age=, by step= or by name, or state the tokens in a history file."
            )
        wanted = parse_tokens(value)
        return nearest(counted, lambda moment: abs((moment.tokens or 0) - wanted))
    return history.last


def problems(rule: str) -> list[str]:
    """What is wrong with how a rule is written; needs no history."""
    kind, equals, value = rule.partition("=")
    good = False
    if not equals:
        good = rule not in ("age", "tokens", "step") and bool(NAME.fullmatch(rule))
    elif kind == "age":
        good = bool(re.fullmatch(r"\d+(\.\d*)?|\.\d+", value)) and 0 <= float(value) <= 1
    elif kind == "tokens":
        good = whole_tokens(value) is not None
    elif kind == "step":
        good = bool(re.fullmatch(r"\d+", value))
    return [] if good else [f"'{rule}' chooses no checkpoint; write {FORMS}."]


def nearest(moments: Sequence[Moment], distance: Callable[[Moment], float]) -> Moment:
    """The nearest; of equals the later."""
    return min(reversed(moments), key=distance)


def at_step(history: History, step: int) -> Moment:
    """The moment with exactly this step."""
    same = [moment for moment in history.moments if moment.step == step]
    if same:
        return same[-1]
    around = [
        *[moment for moment in history.moments if moment.step < step][-1:],
        *[moment for moment in history.moments if moment.step > step][:1],
    ]
    near = " and ".join(f"step={moment.step} ({name_of(moment)})" for moment in around)
    raise UserError(f"step={step}: the history has no such checkpoint; its neighbours are {near}.")


def named(history: History, name: str) -> Moment:
    """The moment of this revision or label."""
    for moment in reversed(history.moments):
        if name in (moment.revision, moment.checkpoint.label):
            return moment
    names = [name_of(moment) for moment in history.moments]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    shown = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])} ... {', '.join(names[-3:])}"
    raise UserError(f"The history has no checkpoint '{name}'.{hint} It has: {shown}. Allowed: {FORMS}.")


def not_there(moment: Moment) -> str:
    """What to do about a moment without weights."""
    if not moment.checkpoint.path:
        return f"The checkpoint '{name_of(moment)}' isn't built yet: `python -m bench run` builds it."
    remedy = how_to_fetch(model_of(Path(moment.checkpoint.path)))
    return f"The checkpoint '{name_of(moment)}' isn't fetched: run `{remedy}`."


# Where a moment lies


def name_of(moment: Moment) -> str:
    """Its revision, else its label."""
    return moment.revision or moment.checkpoint.label


def share(history: History, moment: Moment) -> float:
    """Share of the steps before exposure: 0 the first weights, 1 the last checkpoint before exposure, above 1 after it.

    Where no steps are known (a base model and what was made from it) it is the share of the order.
    """
    if history.before and not history.last.step and not moment.exposed:
        return history.before.index(moment) / (len(history.before) - 1) if len(history.before) > 1 else 1.0
    return moment.step / history.last.step if history.before and history.last.step else 1.0


def place(history: History, moment: Moment) -> Json:
    """Which checkpoint this is and how far from the last one before exposure; negative distances lie after that one."""
    last = history.last if history.before else None
    known = last is not None and last.tokens is not None and moment.tokens is not None
    return {
        "which": name_of(moment),
        "stage": moment.stage,
        "step": moment.step,
        "tokens": moment.tokens,
        "steps_before": last.step - moment.step if last else None,
        "tokens_before": (last.tokens or 0) - (moment.tokens or 0) if known and last else None,
        "exposed": moment.exposed,
        "age": None if moment.exposed else round(share(history, moment), 6),
    }


def history_digest(history: History) -> str:
    """Hash for a run's key: names, content, steps and exposure, never where anything lies."""
    return digest([[name_of(m), m.checkpoint.hash, m.step, m.tokens, m.stage, m.exposed] for m in history.moments])


# Numbers and names


def parse_tokens(text: str) -> int:
    """``500B``, ``4.2T``, ``800M`` or a plain number, exactly."""
    found = whole_tokens(text)
    if found is None:
        raise UserError(f"'{text}' is no number of tokens: write it as 500B, 4.2T, 800M or 2097152.")
    return found


def whole_tokens(text: str) -> int | None:
    """The number, if the text is one and whole."""
    found = NUMBER.fullmatch(text.strip())
    if not found:
        return None
    number = Decimal(found[1]) * UNITS[found[2].upper()]
    return int(number) if number == number.to_integral_value() else None


def human_tokens(tokens: int | None) -> str:
    """For people, in the unit that OLMo's names have: ``3985B``, ``800M``; ``?`` where nobody knows."""
    if tokens is None:
        return "?"
    unit = next((unit for unit in "BMK" if tokens >= UNITS[unit]), "")
    number = tokens / UNITS[unit]
    return f"{number:.0f}{unit}" if number >= 1000 or number == int(number) else f"{number:.4g}{unit}"


class Parsed(NamedTuple):
    """What a name says."""

    step: int
    """Within its stage."""
    tokens: int | None
    stage: str


def parse_revision(name: str) -> Parsed | None:
    """What the name of a revision or folder says; None for a name that isn't understood.

    ``stage1-step119000-tokens500B``, ``stage2-ingredient1-step11000-tokens47B``, ``step1000-tokens4B``, ``step143000``,
    ``ckpt_358`` (a number, not a step), ``checkpoint-500``.
    """
    if found := REVISION.fullmatch(name):
        tokens = parse_tokens(found["tokens"]) if found["tokens"] else None
        return Parsed(int(found["step"]), tokens, found["stage"] or "pretraining")
    if found := NUMBERED.fullmatch(name):
        return Parsed(int(found[1]), None, "pretraining")
    if found := TRAINER.fullmatch(name):
        return Parsed(int(found[1]), None, "training")
    return None


def absolute(
    parsed: Sequence[Parsed],
    known: Iterable[Parsed] = (),
    stated: Sequence[tuple[int | None, int | None]] = (),
) -> list[Parsed]:
    """The same with steps and tokens counted from the first weights: those of a later stage start again.

    A stage begins where the latest name of the stage before it ends, among these names and ``known`` ones. The
    ingredients of a stage are trained side by side, so all of them begin there. ``stated`` has for each of ``parsed``
    the step and the tokens that are counted from the first weights already; None: as its name says.
    """
    names = [*parsed, *known]
    fixed = [*(stated or [(None, None)] * len(parsed)), *[(None, None)] * (len(names) - len(parsed))]
    found = list(names)
    begin = Parsed(0, 0, "")
    for number in sorted({stage_number(each.stage) for each in names}):
        ends = []
        for index, (each, (step, tokens)) in enumerate(zip(names, fixed, strict=True)):
            if stage_number(each.stage) != number:
                continue
            if tokens is None and begin.tokens is not None and each.tokens is not None:
                tokens = begin.tokens + each.tokens
            found[index] = Parsed(begin.step + each.step if step is None else step, tokens, each.stage)
            if number or step is None:  # a stated step outside the numbered stages says nothing of where they begin
                ends.append(found[index])
        begin = max((*ends, begin), key=lambda end: end.step)
    return found[: len(parsed)]


def stages_of(model: str) -> list[Parsed]:
    """What the published names of a model's revisions say: where its stages end."""
    return [parsed for name in published(model) if (parsed := parse_revision(name))]


def tokens_at(model: str, name: str, placed: Parsed) -> int | None:
    """Tokens as the name counts them; where it names a step, else by the model's tokens a step."""
    each = tokens_a_step(model) if REVISION.fullmatch(name) else None
    return placed.step * each if each and placed.tokens is None else placed.tokens


def stage_number(stage: str) -> int:
    """1 for ``stage1``, 2 for ``stage2-ingredient3``; 0 for a stage without a number."""
    found = re.match(r"stage(\d+)", stage)
    return int(found[1]) if found else 0


# Sources


def load(source: str | Path, models_dir: Path | None = None) -> History:
    """The history that a file or a folder holds."""
    path = Path(source).expanduser()
    if path.is_dir():
        return from_folder(path)
    if path.is_file():
        return from_file(path, models_dir)
    raise UserError(f"There is no history '{source}': name a JSON file, or a folder with checkpoint-500 and the like.")


def from_folder(folder: Path, hashed: bool = True) -> History:
    """What the Trainer left in its output folder: its whole ``checkpoint-N``, then the folder itself if it is a model.

    Without ``hashed`` nothing large is read, and the hashes are empty: for a listing.
    """
    moments = []
    for path in folder.iterdir():
        if (name := TRAINER.fullmatch(path.name)) and is_model(path):
            step, tokens = trained(path)
            moments.append(Moment(at(path, path.name, hashed, folder), step or int(name[1]), tokens, "training"))
    moments.sort(key=lambda moment: moment.step)
    if is_model(folder):
        step, tokens = trained(folder)
        last = moments[-1] if moments else None
        if last and (step is None or step <= last.step):  # saved at the end of the same training
            step, tokens = last.step, last.tokens
        moments.append(Moment(at(folder, "final", hashed), step or 0, tokens, "training"))
    if not moments:
        raise UserError(
            f"The folder '{folder}' holds no whole checkpoint: name one with checkpoint-500 and the like, each with "
            "config.json and *.safetensors (the Trainer's save_safetensors), or a history file."
        )
    return History(tuple(dataclasses.replace(moment, revision=moment.checkpoint.label) for moment in moments))


def is_model(folder: Path) -> bool:
    """Whether a whole model lies there; a save that was cut short is none."""
    try:
        check_folder(folder, folder.name, own_tokenizer=False)
    except (UserError, OSError):
        return False
    return True


def at(folder: Path, label: str, hashed: bool = True, parent: Path | None = None) -> Checkpoint:
    """The checkpoint in a folder; with its parent's tokenizer where it has none of its own."""
    borrow = parent is not None and not has_tokenizer(folder) and has_tokenizer(parent)
    where = folder.resolve()
    return Checkpoint(
        str(where), folder_hash(where) if hashed else "", label=label, tokenizer=str(where.parent) if borrow else ""
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer lies there."""
    return any((folder / file).is_file() for file in TOKENIZERS)


def trained(folder: Path) -> tuple[int | None, int | None]:
    """Steps and tokens that a Trainer has noted in a folder; it notes 0 tokens when it was not told to count."""
    try:
        state = json.loads((folder / "trainer_state.json").read_text())
        return int(state["global_step"]), int(state.get("num_input_tokens_seen") or 0) or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None


def from_revisions(model: str, names: Iterable[str], models_dir: Path) -> History:
    """Revisions of a hub model, ordered; names that say no step are left out. What isn't fetched has no hash."""
    understood = [(name, parsed) for name in names if (parsed := parse_revision(name))]
    if not understood:
        raise UserError(
            f"No revision of '{model}' is named after its step (as step1000 or stage1-step1000-tokens4B are): "
            "write a history file that says which is which."
        )
    placed = absolute([parsed for _, parsed in understood], stages_of(model))
    order = sorted(
        zip((name for name, _ in understood), placed, strict=True),
        key=lambda pair: (pair[1].step, stage_number(pair[1].stage), pair[0]),
    )
    return History(
        tuple(
            Moment(
                of_model(f"{model}@{name}", name, models_dir),
                parsed.step,
                tokens_at(model, name, parsed),
                parsed.stage,
                revision=name,
            )
            for name, parsed in order
        )
    )


def of_known(name: str, models_dir: Path) -> History:
    """What is known here of a known model's past: revisions, or the models that it was made from and itself."""
    known = KNOWN[name]
    if known.revisions:
        return from_revisions(name, known.revisions, models_dir)
    if not known.past:
        raise UserError(f"No past of '{name}' is known here: name a folder or another model, or write a history file.")
    made_from = [Moment(of_model(hub, hub, models_dir), 0, None, "base") for hub in known.past]
    return History((*made_from, Moment(of_model(name, name, models_dir), 0, None, "released")))


def of_model(name: str, label: str, models_dir: Path) -> Checkpoint:
    """A fetched model as the checkpoint that it says it is; without a hash where it isn't fetched."""
    folder = models_dir / folder_name(name)
    return Checkpoint(str(folder), fetched_hash(folder), label=label)


# A history file


@dataclasses.dataclass(frozen=True)
class Draft:
    """One entry of a history file, as far as it is understood."""

    checkpoint: Checkpoint
    revision: str
    model: str
    name: str
    """Of the revision or the folder, if it is understood."""
    parsed: Parsed
    """As the name says, counted within its stage."""
    stated: tuple[int | None, int | None]
    """Step and tokens that the file or the Trainer states, counted from the first weights."""
    exposed: bool | None


def from_file(path: Path, models_dir: Path | None = None) -> History:
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
    fields, found = ("model", "exposure", "checkpoints"), list[str]()
    found += [unknown(f"field of {path.name}", key, fields) for key in data if key not in fields]
    model = checked(data, "model", path.name, found)
    drafts = [
        draft(entry, f"{path.name}, checkpoint {number}", model, path.parent, models_dir or default_models_dir(), found)
        for number, entry in enumerate(entries, 1)
    ]
    collect(found)
    ordered = in_order([each for each in drafts if each], model)
    names = [name_of(moment) for moment, _ in ordered]
    found += [
        f"{path.name} has two checkpoints named '{name}': give each a \"revision\" of its own."
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    found += falling([moment for moment, _ in ordered], path.name)
    moments = exposed_from(ordered, data.get("exposure"), path.name, found)
    collect(found)
    return History(moments)


def draft(entry: Any, where: str, model: str, beside: Path, models_dir: Path, found: list[str]) -> Draft | None:
    """One entry; what is wrong with it goes into ``found``."""
    if not isinstance(entry, dict):
        found.append(f'{where}: write it as {{"path": ..., "step": ...}}.')
        return None
    before = len(found)
    found += [unknown(f"field of {where}", key, ENTRY) for key in entry if key not in ENTRY]
    path, revision, stage = (checked(entry, key, where, found) for key in ("path", "revision", "stage"))
    own = checked(entry, "model", where, found)
    step, exposed = entry.get("step"), entry.get("exposed")
    if step is not None and (not isinstance(step, int) or isinstance(step, bool) or step < 0):
        found.append(f"{where}: its step is {json.dumps(step)}; a step is a whole number, 0 or more.")
    if exposed is not None and not isinstance(exposed, bool):
        found.append(f'{where}: "exposed" is true or false, not {json.dumps(exposed)}.')
    tokens = counted(entry.get("tokens"), where, found)
    checkpoint: Checkpoint | None = None
    known: tuple[int | None, int | None] = (None, None)
    if path:
        folder = beside / Path(path).expanduser()
        if not folder.is_dir():
            found.append(f"{where}: there is no folder '{path}'; a path is relative to the file.")
        else:
            try:
                check_folder(folder, path, own_tokenizer=False)
                checkpoint, known = at(folder, revision or folder.resolve().name, parent=folder.parent), trained(folder)
            except UserError as error:
                found += [f"{where}: {problem}" for problem in error.problems]
    elif own or (model and revision):
        name = (own or model) + (f"@{revision}" if revision else "")
        try:
            check_name(name)
            checkpoint = of_model(name, revision or name, models_dir)
        except UserError as error:
            found += [f"{where}: {problem}" for problem in error.problems]
    else:
        found.append(f'{where}: it names no weights; give a "path", or a "model" and a "revision".')
    name = next((each for each in (revision, Path(path).name) if parse_revision(each)), "")
    said = parse_revision(name)
    if checkpoint and step is None and known[0] is None and said is None:
        found.append(f'{where}: it has no step, and its name tells none; add "step".')
    if len(found) > before or checkpoint is None:
        return None
    step, tokens = (noted if said_ is None else said_ for said_, noted in zip((step, tokens), known, strict=True))
    parsed = said or Parsed(0, None, "pretraining")
    parsed = parsed._replace(stage=stage or parsed.stage)
    return Draft(checkpoint, revision, own or model, name, parsed, (step, tokens), exposed)


def checked(data: Mapping[str, Any], key: str, where: str, found: list[str]) -> str:
    """A field that is a text, or empty when it is left out."""
    value = data.get(key, "")
    if isinstance(value, str) and (value.strip() or key not in data):
        return value.strip()
    found.append(f'{where}: "{key}" is a text, not {json.dumps(value)}.')
    return ""


def counted(value: Any, where: str, found: list[str]) -> int | None:
    """A number of tokens, as a number or as ``4B``."""
    if value is None:
        return None
    number = whole_tokens(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if number is None:
        found.append(f"{where}: its tokens are {json.dumps(value)}; write 500B, 4.2T, 800M or a whole number.")
    return number


def in_order(drafts: Sequence[Draft], model: str) -> list[tuple[Moment, bool | None]]:
    """The moments by step, each with what the file says of its exposure; a name counts within its stage."""
    names, known = [each.parsed for each in drafts], stages_of(model)
    by_name = absolute(names, known)
    placed = absolute(names, known, [each.stated for each in drafts])
    found = []
    for each, told, at_ in zip(drafts, by_name, placed, strict=True):
        tokens = tokens_at(each.model, each.name, at_) if told.step == at_.step else at_.tokens
        found.append((Moment(each.checkpoint, at_.step, tokens, at_.stage, revision=each.revision), each.exposed))
    return sorted(found, key=lambda pair: pair[0].step)


def falling(moments: Sequence[Moment], where: str) -> list[str]:
    """A sentence about the first two moments, ordered by step, whose tokens can't both be true.

    The ingredients of one stage are trained side by side and aren't compared.
    """
    counted_ = [(moment, moment.tokens) for moment in moments if moment.tokens is not None]
    for (one, before), (other, after) in combinations(counted_, 2):
        beside = one.stage != other.stage and 0 < stage_number(one.stage) == stage_number(other.stage)
        if not beside and (after < before or (after != before and one.step == other.step)):
            return [
                f"{where}: '{name_of(one)}' has {before:,} tokens at step {one.step} and '{name_of(other)}' {after:,} at "
                f"step {other.step}: tokens grow with the steps, both counted from the first weights; correct one."
            ]
    return []


def exposed_from(
    ordered: Sequence[tuple[Moment, bool | None]], exposure: Any, where: str, found: list[str]
) -> tuple[Moment, ...]:
    """The moments, exposed from the first exposure on: the file's, or the first checkpoint that is said to be exposed."""
    first = next((index for index, (_, exposed) in enumerate(ordered) if exposed), len(ordered))
    if exposure is not None:
        first = first_exposure([moment for moment, _ in ordered], exposure, where, found)
        early = [name_of(moment) for moment, exposed in ordered[:first] if exposed]
        found += [
            f"{where}: '{name}' is said to be exposed, but lies before \"exposure\": correct one." for name in early
        ]
    late = [name_of(moment) for moment, exposed in ordered[first:] if exposed is False]
    found += [
        f"{where}: '{name}' is said not to be exposed, but lies after the first exposure: correct it." for name in late
    ]
    return tuple(dataclasses.replace(moment, exposed=index >= first) for index, (moment, _) in enumerate(ordered))


def first_exposure(moments: Sequence[Moment], exposure: Any, where: str, found: list[str]) -> int:
    """Index of the first exposed moment; their number when none is."""
    if not isinstance(exposure, dict) or len(exposure) != 1 or next(iter(exposure)) not in FIRST:
        found.append(
            f'{where}: write "exposure" as {{"step": 12000}}, {{"tokens": "4B"}} or {{"revision": "step12000"}}.'
        )
        return len(moments)
    kind, value = next(iter(exposure.items()))
    if kind == "revision":
        names = [name_of(moment) for moment in moments]
        if value not in names:
            found.append(f"{where}: " + unknown("revision of the exposure", str(value), names))
        return names.index(value) if value in names else len(moments)
    if kind == "step" and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        found.append(f"{where}: the exposure's step is {json.dumps(value)}; a step is a whole number, 0 or more.")
        return len(moments)
    if kind == "step":
        return next((index for index, moment in enumerate(moments) if moment.step >= value), len(moments))
    number = counted(value, f"{where}, exposure", found)
    unknown_tokens = [name_of(moment) for moment in moments if moment.tokens is None]
    if unknown_tokens:
        found.append(
            f"{where}: the exposure is given in tokens, but no tokens are known of {', '.join(unknown_tokens)}: "
            "give it by step or by revision, or add their tokens."
        )
    if number is None or unknown_tokens:
        return len(moments)
    return next((index for index, moment in enumerate(moments) if (moment.tokens or 0) >= number), len(moments))


# The history of a run's model


def with_model(history: History, model: Checkpoint) -> History:
    """The history up to the model that a run starts from, which is its last moment before exposure.

    A model that the history doesn't name is added there. Where nothing says its step, it gets that of the checkpoint
    before it, the least that it can be. Checkpoints with another tokenizer than the model's, or another chat template,
    get the model's: what is trained from them must read the same prompts that the target was taught.
    """
    itself = next((m for m in reversed(history.moments) if m.checkpoint.hash == model.hash), None)
    collect(misfits(history, model, itself))
    if itself is None:
        itself = released(history, model)
        after = [moment for moment in history.before if moment.step > itself.step]
        if after:
            raise UserError(
                f"The history's '{name_of(after[0])}' lies after the model itself ({name_of(itself)}): "
                "leave it out, or say that it is exposed."
            )
        history = History((*history.before, itself, *(moment for moment in history.moments if moment.exposed)))
    wanted = tokenizer_digest(Path(model.path))
    moments = [
        dataclasses.replace(moment, checkpoint=dataclasses.replace(moment.checkpoint, tokenizer=model.path))
        if moment.checkpoint.hash and tokenizer_digest(read_with(moment.checkpoint)) != wanted
        else moment
        for moment in history.moments
    ]
    return History(tuple(moments))


def read_with(checkpoint: Checkpoint) -> Path:
    """The folder of the tokenizer that a checkpoint is opened with."""
    return Path(checkpoint.tokenizer or checkpoint.path)


def misfits(history: History, model: Checkpoint, itself: Moment | None) -> list[str]:
    """Why this can't be the history of that model."""
    found = []
    if itself and itself.exposed:
        found.append(
            f"The model itself is '{name_of(itself)}' in the history, which is exposed: target and oracle start from the "
            "model, so it must not have seen the forget set. Name an earlier model, or correct the history."
        )
    elif itself:
        after = history.before[history.before.index(itself) + 1 :]
        found += [
            f"The history's '{name_of(moment)}' lies after the model itself ('{name_of(itself)}'): leave it out, or say "
            "that it is exposed."
            for moment in after
        ]
    wanted = shape(Path(model.path))
    for moment in history.moments:
        if moment.checkpoint.hash and (own := shape(Path(moment.checkpoint.path))) != wanted:
            differing = next(key for key in SHAPE if own[key] != wanted[key])
            found.append(
                f"The history's '{name_of(moment)}' is another architecture than the model ({differing} "
                f"{own[differing]}, not {wanted[differing]}): name a checkpoint of the model's own past."
            )
    return found


def shape(folder: Path) -> Json:
    """What must agree among a history's checkpoints, from the config."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        config = {}
    return {key: config.get(key) for key in SHAPE}


def released(history: History, model: Checkpoint) -> Moment:
    """The model that a run starts from, after the history's last checkpoint before exposure."""
    last = history.last if history.before else None
    base, _, revision = model_of(Path(model.path)).partition("@")
    if said := parse_revision(revision):
        placed = absolute([said], stages_of(base))[0]
        where = dataclasses.replace(model, label=revision)
        return Moment(where, placed.step, tokens_at(base, revision, placed), placed.stage, revision=revision)
    step, tokens = trained(Path(model.path))
    if step is None or (last and step < last.step):
        step, tokens = (last.step, None) if last else (0, None)
    return Moment(dataclasses.replace(model, label="model"), step, tokens, "released")


# For people


def describe(history: History) -> str:
    """The table of `bench ls history`."""
    rows = [("checkpoint", "stage", "step", "tokens", "share", "exposed", "on disk")]
    for moment in history.moments:
        rows.append(
            (
                name_of(moment),
                moment.stage,
                str(moment.step),
                human_tokens(moment.tokens),
                "" if moment.exposed else f"{share(history, moment):.3f}",
                "yes" if moment.exposed else "no",
                on_disk(moment.checkpoint),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = (2, 3, 4)
    lines = [
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    first = next((index for index, moment in enumerate(history.moments) if moment.exposed), None)
    if first is not None:
        mark = " first exposure to the forget set "
        lines.insert(first + 1, mark.center(len(lines[0]), "-"))
    else:
        lines.append(
            "The first exposure to the forget set is not in this history: every checkpoint counts as before it."
        )
    if any(NUMBERED.fullmatch(moment.revision) for moment in history.moments):
        lines.append("Names such as ckpt_358 number the checkpoints: what stands under step is that number.")
    return "\n".join(lines)


def on_disk(checkpoint: Checkpoint) -> str:
    """Whether the weights lie there."""
    if not checkpoint.path:
        return "built by the run"
    return "yes" if any(Path(checkpoint.path).glob("*.safetensors")) else "no"
