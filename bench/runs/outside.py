"""Looking at what a command needs from outside: model, data, history, lm-eval's tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.assets.data_sets import find_data_set, resolve_data
from bench.assets.history import hash_history
from bench.assets.history_file import load_history
from bench.assets.history_sources import end_at_model
from bench.assets.known_models import KNOWN
from bench.assets.models import canonical_name, check_model_name, command_to_fetch, folder_name, resolve_model
from bench.assets.shapes import download_bytes
from bench.core.errors import UserError, mistakes_in, report_mistake
from bench.core.hashing import hash_tree
from bench.core.machine import format_bytes
from bench.core.types import Checkpoint
from bench.runs.asked import LAB, Asked
from bench.runs.setting import Paths


@dataclass(frozen=True)
class Outside:
    """Model, data and history from outside the harness, by content and by place."""

    model: str = LAB
    """The model's name."""
    paths: Paths = field(default_factory=Paths)
    hashes: dict[str, str] = field(default_factory=dict)
    """Content hashes of model, data, history and the like, for the key."""
    fetch: tuple[str, ...] = ()
    """Commands for what isn't fetched, with its size, where that is no mistake."""
    is_complete: bool = True
    """Whether the model and the data are here, to be looked at."""


def look_outside(asked: Asked, models: Path, takes_files: bool = False, only: bool = False) -> Outside:
    """Find and hash what the user names; ``takes_files``: whether the task's data are files, with commas between them.

    ``only``: nothing is to be run yet, so what isn't fetched is no mistake, and `Outside.fetch` has its commands.
    """
    lm_eval = str(Path(asked.lm_eval_data).resolve()) if asked.lm_eval_data else ""
    found = OutsideSearch(models, only)
    if asked.tier == LAB:
        return Outside(paths=Paths(lm_eval=lm_eval), hashes=found.hashes | hash_lm_eval(asked))
    name, model = found.model(asked.model, "model") or (canonical_name(asked.model), "")
    data = found.data(asked, takes_files)
    target = found.model(asked.target, "target", "--target: ") if asked.target else None
    oracles = [found.model(oracle, f"oracle-{i}", "--oracle: ") for i, oracle in enumerate(asked.oracles)]
    history = found.history(asked.history, model) if asked.history else ""
    folders = tuple(oracle[1] for oracle in oracles if oracle)
    paths = Paths(model, data, lm_eval, history, target[1] if target else "", folders)
    fetch = [*found.fetch, *([command_to_fetch_data(asked.task)] if only and data == "hub" else [])]
    return Outside(name, paths, found.hashes | hash_lm_eval(asked), tuple(dict.fromkeys(fetch)), not fetch)


@dataclass
class OutsideSearch:
    """Looking for models and data, and what was found so far."""

    models: Path
    only: bool
    hashes: dict[str, str] = field(default_factory=dict)
    fetch: list[str] = field(default_factory=list)

    def model(self, given: str, role: str, option: str = "") -> tuple[str, str] | None:
        """Name and folder of a model, whose hash is kept under ``role``; None where it isn't here."""
        try:
            found = resolve_model(given, self.models)
        except UserError as error:
            if self.only and isnt_fetched(given, self.models):
                self.fetch.append(command_to_fetch_model(canonical_name(given) if role == "model" else given))
            else:
                report_mistake(*(f"{option}{problem}" for problem in error.problems))
            return None
        self.hashes[role] = found.hash
        return found.name, str(found.path)

    def data(self, asked: Asked, takes_files: bool) -> str:
        """Where the data lie; ``hub`` where they aren't here."""
        try:
            rows = resolve_data(asked.task, asked.data, takes_files, self.models.parent / "data")
        except UserError as error:
            known = find_data_set(asked.task)
            if self.only and known and known.source and asked.data in ("", "hub"):
                self.fetch.append(command_to_fetch_data(asked.task))
            else:
                report_mistake(*error.problems)
            return "hub"
        if rows.hash:
            self.hashes["data"] = rows.hash
        return rows.path

    def history(self, source: str, model: str) -> str:
        """Where the model's past lies; without the model only the past's own mistakes are looked for."""
        with mistakes_in(f"--history {source}: "):
            past = load_history(source, self.models)
            if model:
                past = end_at_model(past, Checkpoint(model, self.hashes["model"]))
                self.hashes["history"] = hash_history(past)
                return str(Path(source).expanduser().resolve())
        return ""


def isnt_fetched(name: str, models: Path) -> bool:
    """Whether this names a model that could be fetched and isn't."""
    try:
        check_model_name(canonical_name(name))
    except UserError:
        return False
    is_local = name not in KNOWN and Path(name).expanduser().is_dir()
    return not is_local and not (models / folder_name(name)).exists()


def command_to_fetch_model(name: str) -> str:
    """The command that fetches a model, with its size where that is known."""
    size = download_bytes(name)
    return f"{command_to_fetch(canonical_name(name))} ({format_bytes(size) if size else 'nobody here knows its size'})"


def command_to_fetch_data(task: str) -> str:
    """The command that fetches a task's data."""
    return f"{command_to_fetch(task)} (some MB of text)"


def check_lm_eval(asked: Asked, answers: frozenset[str]) -> None:
    """Report lm-eval tasks that aren't there, or that the task's models (``answers``: kinds of probes) can't be asked."""
    if asked.lm_eval_data and not Path(asked.lm_eval_data).is_dir():
        report_mistake(f"--lm-eval-data {asked.lm_eval_data}: there is no such folder.")
        return
    if not asked.lm_eval:
        return
    if "lm-eval" not in answers:
        report_mistake(f"--lm-eval asks language models, and those of {asked.task} are none: leave it out.")
        return
    from bench.engines.measuring.lm_eval import first_of, single_tasks

    for name in asked.lm_eval:
        with mistakes_in():
            single_tasks(first_of(name)[0], Path(asked.lm_eval_data) if asked.lm_eval_data else None)


def hash_lm_eval(asked: Asked) -> dict[str, str]:
    """The hash of lm-eval's offline data, where tasks of it are asked."""
    folder = Path(asked.lm_eval_data)
    return {"lm_eval": hash_tree(folder)} if asked.lm_eval and asked.lm_eval_data and folder.is_dir() else {}


def data_name(data: str) -> str:
    """The name of the data in a record: a folder's or the files' own names, not where they lie."""
    return ",".join(Path(part.strip()).name for part in data.split(",")) if data and data != "hub" else "hub"
