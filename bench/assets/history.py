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

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.assets.history_names import parse_tokens, read_tokens
from bench.assets.models import FETCHED, command_to_fetch, model_of_folder, verify_fetched_model
from bench.core.errors import UserError, raise_problems
from bench.core.hashing import hash_json
from bench.core.types import History, Json, Moment

LAST = "last-before-exposure"
FORMS = f"{LAST}, tokens=500B, age=0.5 (0 to 1), step=300, or the exact name of a revision or checkpoint"
NAME = re.compile(r"[\w./@+-]+")


# Rules


def choose_moment(history: History, rule: str) -> Moment:
    """The moment that the rule names (`FORMS`); of two that are equally near, the later.

    A step or an exact name also finds an exposed checkpoint; the other rules choose among those from before exposure.
    """
    raise_problems(rule_problems(rule))
    found = find_moment(history, rule)
    if not found.checkpoint.hash:
        raise UserError(explain_missing(found))
    folder = Path(found.checkpoint.path)
    if (folder / FETCHED).is_file():
        verify_fetched_model(model_of_folder(folder), folder)  # the one that is used must be as it was fetched
    return found


def find_moment(history: History, rule: str) -> Moment:
    """As `choose_moment`, without asking whether its weights are there."""
    kind, _, value = rule.partition("=")
    if kind == "step":
        return moment_at_step(history, int(value))
    if kind not in ("age", "tokens", LAST):
        return moment_named(history, rule)
    if not history.before:
        raise UserError(f"The history has no checkpoint from before exposure, so {rule} finds none: add one.")
    if kind == "age":
        return nearest_moment(history.before, lambda moment: abs(age_of(history, moment) - float(value)))
    if kind == "tokens":
        counted = [moment for moment in history.before if moment.tokens is not None]
        if not counted:
            raise UserError(
                f"{rule}: no token counts are known of this history's checkpoints from before exposure; "
                "choose by age=, by step= or by name, or state the tokens in a history file."
            )
        wanted = parse_tokens(value)
        return nearest_moment(counted, lambda moment: abs((moment.tokens or 0) - wanted))
    return history.last


def rule_problems(rule: str) -> list[str]:
    """Sentences about how a rule is written; no history is needed."""
    kind, equals, value = rule.partition("=")
    good = False
    if not equals:
        good = rule not in ("age", "tokens", "step") and bool(NAME.fullmatch(rule))
    elif kind == "age":
        good = bool(re.fullmatch(r"\d+(\.\d*)?|\.\d+", value)) and 0 <= float(value) <= 1
    elif kind == "tokens":
        good = read_tokens(value) is not None
    elif kind == "step":
        good = bool(re.fullmatch(r"\d+", value))
    return [] if good else [f"'{rule}' chooses no checkpoint; write {FORMS}."]


def nearest_moment(moments: Sequence[Moment], distance: Callable[[Moment], float]) -> Moment:
    """The nearest; of equals the later."""
    return min(reversed(moments), key=distance)


def moment_at_step(history: History, step: int) -> Moment:
    """The moment with exactly this step."""
    same = [moment for moment in history.moments if moment.step == step]
    if same:
        return same[-1]
    around = [
        *[moment for moment in history.moments if moment.step < step][-1:],
        *[moment for moment in history.moments if moment.step > step][:1],
    ]
    near = " and ".join(f"step={moment.step} ({moment_name(moment)})" for moment in around)
    raise UserError(f"step={step}: the history has no such checkpoint; its neighbours are {near}.")


def moment_named(history: History, name: str) -> Moment:
    """The moment of this revision or label."""
    for moment in reversed(history.moments):
        if name in (moment.revision, moment.checkpoint.label):
            return moment
    names = [moment_name(moment) for moment in history.moments]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    shown = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])} ... {', '.join(names[-3:])}"
    raise UserError(f"The history has no checkpoint '{name}'.{hint} It has: {shown}. Allowed: {FORMS}.")


def explain_missing(moment: Moment) -> str:
    """The remedy for a moment whose weights aren't there."""
    if not moment.checkpoint.path:
        return f"The checkpoint '{moment_name(moment)}' isn't built yet: `python -m bench run` builds it."
    remedy = command_to_fetch(model_of_folder(Path(moment.checkpoint.path)))
    return f"The checkpoint '{moment_name(moment)}' isn't fetched: run `{remedy}`."


# Where a moment lies


def moment_name(moment: Moment) -> str:
    """Its revision, else its label."""
    return moment.revision or moment.checkpoint.label


def age_of(history: History, moment: Moment) -> float:
    """Share of the steps before exposure: 0 the first weights, 1 the last checkpoint before exposure, above 1 after it.

    Where no steps are known (a base model and what was made from it) it is the share of the order.
    """
    if history.before and not history.last.step and not moment.exposed:
        return history.before.index(moment) / (len(history.before) - 1) if len(history.before) > 1 else 1.0
    return moment.step / history.last.step if history.before and history.last.step else 1.0


def describe_moment(history: History, moment: Moment) -> Json:
    """Which checkpoint this is and how far from the last one before exposure; negative distances lie after that one."""
    last = history.last if history.before else None
    known = last is not None and last.tokens is not None and moment.tokens is not None
    return {
        "which": moment_name(moment),
        "stage": moment.stage,
        "step": moment.step,
        "tokens": moment.tokens,
        "steps_before": last.step - moment.step if last else None,
        "tokens_before": (last.tokens or 0) - (moment.tokens or 0) if known and last else None,
        "exposed": moment.exposed,
        "age": None if moment.exposed else round(age_of(history, moment), 6),
    }


def hash_history(history: History) -> str:
    """Hash for a run's key: names, content, steps and exposure, never where anything lies."""
    return hash_json(
        [[moment_name(m), m.checkpoint.hash, m.step, m.tokens, m.stage, m.exposed] for m in history.moments]
    )
