"""`bench ls history`: the checkpoints of a model's past; loads no torch."""

from __future__ import annotations

from pathlib import Path

from bench.assets.history import age_of, moment_name
from bench.assets.history_file import load_history
from bench.assets.history_names import NUMBERED, format_tokens
from bench.assets.history_sources import history_of_folder, history_of_known_model, history_of_revisions
from bench.assets.known_models import KNOWN, PYTHIA
from bench.assets.models import HUB_ID, canonical_name, published_revisions
from bench.core import registry
from bench.core.errors import UserError, unknown_name
from bench.core.types import Checkpoint, History, Moment


def list_history(model: str, task: str, file: str, models_dir: Path) -> str:
    """The checkpoints of a model's past (`describe`): the lab's, a model's by name, a folder's, a file's."""
    if file and model:
        raise UserError("ls history takes --model or --history, not both: a history file names its model itself.")
    if task and (file or model not in ("", "lab")):
        raise UserError("--task goes with the lab's history: leave it out, or leave out --model and --history.")
    if file:
        return describe(load_history(file, models_dir))
    if model in ("", "lab"):
        return lab_history(task or "tofu")
    if model in KNOWN:
        return "\n".join([describe(history_of_known_model(model, models_dir)), *remarks(model)])
    if Path(model).expanduser().is_dir():
        return describe(history_of_folder(Path(model).expanduser(), hashed=False))
    if not HUB_ID.fullmatch(model):
        raise UserError(
            unknown_name("model", model, KNOWN, "models") + " A folder or a hub id (owner/name) works as well."
        )
    name = canonical_name(model)
    if by_rule(model):
        return describe(history_of_revisions(name, published_revisions(name), models_dir))
    from bench.assets.hub import list_hub_revisions

    try:
        found = list_hub_revisions(model)
    except UserError as error:
        known = f"`python -m bench ls history --model {name}` needs no hub and lists what is known here."
        raise UserError(*error.problems, *([known] if name in KNOWN else [])) from error
    return describe(history_of_revisions(name, found, models_dir))


def remarks(name: str) -> list[str]:
    """Remarks on a known model's list of revisions."""
    known = KNOWN[name]
    lines = []
    if known.derived:
        lines.append(f"Derived from steps times tokens a step, and seen in no listing: {', '.join(known.derived)}.")
    if known.revisions and not by_rule(known.hub):
        lines.append(
            "These are the revisions of the MSA paper and the end of the stage; the hub's whole list: "
            f"python -m bench ls history --model {known.hub}"
        )
    return lines


def by_rule(hub: str) -> bool:
    """Whether a rule says all revisions of a hub model, so that the hub need not be asked."""
    return bool(PYTHIA.fullmatch(hub))


def lab_history(task: str) -> str:
    """The checkpoints that a task's lab keeps at its default parameters; builds nothing."""
    from bench.lab.build import LabOptions

    made = registry.load_task(task, "lab")() if "lab" in registry.components("tasks").get(task, {"lab": ""}) else None
    if not isinstance(made, LabOptions):
        raise UserError(f"{task} has no lab with a history: `python -m bench ls tasks` says which parameters it has.")
    kept = (0, *made.history_kept)
    moments = tuple(Moment(Checkpoint("", "", label=f"history-{step}"), step, None, "pretraining") for step in kept)
    return describe(History(moments)) + (
        f"\nThe lab of {task}, as --set {task}.history_passes={made.history_passes:g} and "
        f"{task}.history_points={made.history_points} make it; tokens are counted when a run builds it. "
        f"The target's training on the forget set begins at history-{kept[-1]}, and "
        f"--set {task}.exposed=N keeps N checkpoints of that."
    )


def describe(history: History) -> str:
    """The table of `bench ls history`."""
    rows = [("checkpoint", "stage", "step", "tokens", "share", "exposed", "on disk")]
    for moment in history.moments:
        rows.append(
            (
                moment_name(moment),
                moment.stage,
                str(moment.step),
                format_tokens(moment.tokens),
                "" if moment.exposed else f"{age_of(history, moment):.3f}",
                "yes" if moment.exposed else "no",
                on_disk(moment.checkpoint),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    formats = [f"{side}{width}" for side, width in zip("<<>>><<", widths, strict=True)]
    lines = ["  ".join(map(format, row, formats)).rstrip() for row in rows]
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
