"""A model's history from where it lies: folders of a training run, revisions of a hub repository, known models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from bench.assets import history_names
from bench.assets.history import moment_name
from bench.assets.history_names import count_from_first_weights, parse_revision
from bench.assets.known_models import KNOWN
from bench.assets.models import TOKENIZERS, check_model_folder, folder_name, model_of_folder, read_fetched_hash
from bench.core.errors import UserError, raise_problems
from bench.core.hashing import hash_checkpoint, hash_tokenizer
from bench.core.types import Checkpoint, History, Json, Moment

SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
"""In which the checkpoints of one history must agree, as weights are added and subtracted one by one."""


def history_of_folder(folder: Path, hashed: bool = True) -> History:
    """The history that the Trainer left in its output folder: its whole ``checkpoint-N``, then the folder itself if
    it is a model.

    Without ``hashed`` nothing large is read, and the hashes are empty: for a listing.
    """
    moments = []
    for path in folder.iterdir():
        if (name := history_names.TRAINER.fullmatch(path.name)) and is_whole_model(path):
            step, tokens = read_trainer_state(path)
            moments.append(
                Moment(checkpoint_in_folder(path, path.name, hashed, folder), step or int(name[1]), tokens, "training")
            )
    moments.sort(key=lambda moment: moment.step)
    if is_whole_model(folder):
        step, tokens = read_trainer_state(folder)
        last = moments[-1] if moments else None
        if last and (step is None or step <= last.step):  # saved at the end of the same training
            step, tokens = last.step, last.tokens
        moments.append(Moment(checkpoint_in_folder(folder, "final", hashed), step or 0, tokens, "training"))
    if not moments:
        raise UserError(
            f"The folder '{folder}' holds no whole checkpoint: name one with checkpoint-500 and the like, each with "
            "config.json and *.safetensors (the Trainer's save_safetensors), or a history file."
        )
    return History(tuple(dataclasses.replace(moment, revision=moment.checkpoint.label) for moment in moments))


def is_whole_model(folder: Path) -> bool:
    """Whether a whole model lies there; a save that was cut short is none."""
    try:
        check_model_folder(folder, folder.name, own_tokenizer=False)
    except (UserError, OSError):
        return False
    return True


def checkpoint_in_folder(folder: Path, label: str, hashed: bool = True, parent: Path | None = None) -> Checkpoint:
    """The checkpoint in a folder; with its parent's tokenizer where it has none of its own."""
    borrow = parent is not None and not has_tokenizer(folder) and has_tokenizer(parent)
    where = folder.resolve()
    return Checkpoint(
        str(where), hash_checkpoint(where) if hashed else "", label=label, tokenizer=str(where.parent) if borrow else ""
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer lies there."""
    return any((folder / file).is_file() for file in TOKENIZERS)


def read_trainer_state(folder: Path) -> tuple[int | None, int | None]:
    """Steps and tokens that a Trainer has noted in a folder; it notes 0 tokens when it was not told to count."""
    try:
        state = json.loads((folder / "trainer_state.json").read_text())
        return int(state["global_step"]), int(state.get("num_input_tokens_seen") or 0) or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None


def history_of_revisions(model: str, names: Iterable[str], models_dir: Path) -> History:
    """Revisions of a hub model, ordered; names that say no step are left out. What isn't fetched has no hash."""
    understood = [(name, parsed) for name in names if (parsed := parse_revision(name))]
    if not understood:
        raise UserError(
            f"No revision of '{model}' is named after its step (as step1000 or stage1-step1000-tokens4B are): "
            "write a history file that says which is which."
        )
    placed = count_from_first_weights([parsed for _, parsed in understood], history_names.published_stages(model))
    moments = []
    for (name, _), at in zip(understood, placed, strict=True):
        checkpoint = checkpoint_of_model(f"{model}@{name}", name, models_dir)
        tokens = history_names.tokens_at(model, name, at)
        moments.append(Moment(checkpoint, at.step, tokens, at.stage, revision=name))
    moments.sort(key=lambda moment: (moment.step, history_names.stage_number(moment.stage), moment.revision))
    return History(tuple(moments))


def history_of_known_model(name: str, models_dir: Path) -> History:
    """The history of a known model, as far as it is known here: revisions, or the models that it was made from and itself."""
    known = KNOWN[name]
    if known.revisions:
        return history_of_revisions(name, known.revisions, models_dir)
    if not known.past:
        raise UserError(f"No past of '{name}' is known here: name a folder or another model, or write a history file.")
    made_from = [Moment(checkpoint_of_model(hub, hub, models_dir), 0, None, "base") for hub in known.past]
    return History((*made_from, Moment(checkpoint_of_model(name, name, models_dir), 0, None, "released")))


def checkpoint_of_model(name: str, label: str, models_dir: Path) -> Checkpoint:
    """A fetched model as the checkpoint that it says it is; without a hash where it isn't fetched."""
    folder = models_dir / folder_name(name)
    return Checkpoint(str(folder), read_fetched_hash(folder), label=label)


# The history of a run's model


def end_at_model(history: History, model: Checkpoint) -> History:
    """The history up to the model that a run starts from, which is its last moment before exposure.

    A model that the history doesn't name is added there. Where nothing says its step, it gets that of the checkpoint
    before it, the least that it can be. Checkpoints with another tokenizer than the model's, or another chat template,
    get the model's: what is trained from them must read the same prompts that the target was taught.
    """
    itself = next((m for m in reversed(history.moments) if m.checkpoint.hash == model.hash), None)
    raise_problems(find_misfits(history, model, itself))
    if itself is None:
        itself = moment_of_model(history, model)
        after = [moment for moment in history.before if moment.step > itself.step]
        if after:
            raise UserError(
                f"The history's '{moment_name(after[0])}' lies after the model itself ({moment_name(itself)}): "
                "leave it out, or say that it is exposed."
            )
        history = History((*history.before, itself, *(moment for moment in history.moments if moment.exposed)))
    wanted = hash_tokenizer(Path(model.path))
    moments = []
    for moment in history.moments:
        own = moment.checkpoint
        if own.hash and hash_tokenizer(Path(own.tokenizer or own.path)) != wanted:
            moment = dataclasses.replace(moment, checkpoint=dataclasses.replace(own, tokenizer=model.path))
        moments.append(moment)
    return History(tuple(moments))


def find_misfits(history: History, model: Checkpoint, itself: Moment | None) -> list[str]:
    """Why this can't be the history of that model."""
    found = []
    if itself and itself.exposed:
        found.append(
            f"The model itself is '{moment_name(itself)}' in the history, which is exposed: target and oracle start from the "
            "model, so it must not have seen the forget set. Name an earlier model, or correct the history."
        )
    elif itself:
        after = history.before[history.before.index(itself) + 1 :]
        found += [
            f"The history's '{moment_name(moment)}' lies after the model itself ('{moment_name(itself)}'): leave it out, or say "
            "that it is exposed."
            for moment in after
        ]
    wanted = architecture_of(Path(model.path))
    for moment in history.moments:
        if moment.checkpoint.hash and (own := architecture_of(Path(moment.checkpoint.path))) != wanted:
            differing = next(key for key in SHAPE if own[key] != wanted[key])
            found.append(
                f"The history's '{moment_name(moment)}' is another architecture than the model ({differing} "
                f"{own[differing]}, not {wanted[differing]}): name a checkpoint of the model's own past."
            )
    return found


def architecture_of(folder: Path) -> Json:
    """The entries of the config that must agree among a history's checkpoints."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        config = {}
    return {key: config.get(key) for key in SHAPE}


def moment_of_model(history: History, model: Checkpoint) -> Moment:
    """The model that a run starts from, after the history's last checkpoint before exposure."""
    last = history.last if history.before else None
    base, _, revision = model_of_folder(Path(model.path)).partition("@")
    if said := parse_revision(revision):
        placed = count_from_first_weights([said], history_names.published_stages(base))[0]
        where = dataclasses.replace(model, label=revision)
        return Moment(
            where, placed.step, history_names.tokens_at(base, revision, placed), placed.stage, revision=revision
        )
    step, tokens = read_trainer_state(Path(model.path))
    if step is None or (last and step < last.step):
        step, tokens = (last.step, None) if last else (0, None)
    return Moment(dataclasses.replace(model, label="model"), step, tokens, "released")
