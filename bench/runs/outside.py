"""Looking at what a command needs from outside: model, data, history, lm-eval's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.core.errors import UserError
from bench.runs.asked import LAB, Asked
from bench.runs.setting import Paths


def fetch_model(name: str) -> str:
    """The command that fetches a model, with its size where that is known."""
    from bench.assets.models import canonical, how_to_fetch
    from bench.assets.shapes import download_bytes
    from bench.core.machine import gigabytes

    size = download_bytes(name)
    return f"{how_to_fetch(canonical(name))} ({gigabytes(size) if size else 'nobody here knows its size'})"


def fetch_data(task: str) -> str:
    """The command that fetches a task's data."""
    from bench.assets.models import how_to_fetch

    return f"{how_to_fetch(task)} (some MB of text)"


def outside(
    asked: Asked,
    tier: str,
    models: Path,
    problems: list[str],
    takes_files: bool = False,
    absent: list[str] | None = None,
) -> tuple[dict[str, str], Paths, str]:
    """Content hashes and places of the model and the data that come from outside the harness, and the model's name.

    ``takes_files``: whether the task's data are files of the user's, with commas between them. ``absent`` collects the
    commands for what isn't fetched, which is a mistake where it is None.
    """
    if tier == LAB:
        return {}, Paths(), LAB
    from bench.assets.data_sets import data_set
    from bench.assets.data_sets import resolve as resolve_data
    from bench.assets.models import canonical, resolve

    hashes: dict[str, str] = {}
    elsewhere: dict[str, list[str]] = {"target": [], "oracle": []}
    model, name = "", asked.model
    try:
        reference = resolve(asked.model, models)
        hashes["model"], model, name = reference.hash, str(reference.path), reference.name
    except UserError as error:
        if absent is not None and isnt_fetched(asked.model, models):
            name = canonical(asked.model)
            absent.append(fetch_model(name))
        else:
            problems.extend(error.problems)
    data = "hub"
    try:
        rows = resolve_data(asked.task, asked.data, takes_files, models.parent / "data")
        data = rows.path
        hashes |= {"data": rows.hash} if rows.hash else {}
    except UserError as error:
        known = data_set(asked.task)
        if absent is None or known is None or not known.source or asked.data not in ("", "hub"):
            problems.extend(error.problems)
        else:
            absent.append(fetch_data(asked.task))
    for i, (option, given) in enumerate([("target", asked.target), *(("oracle", oracle) for oracle in asked.oracles)]):
        if given:
            try:
                other = resolve(given, models)
                hashes["target" if option == "target" else f"oracle-{i - 1}"] = other.hash
                elsewhere[option].append(str(other.path))
            except UserError as error:
                if absent is not None and isnt_fetched(given, models):
                    absent.append(fetch_model(given))
                    continue
                problems.extend(f"--{option}: {problem}" for problem in error.problems)
    past = ""
    if asked.history and model:
        past, hashes["history"] = past_of(asked.history, model, hashes["model"], models, problems)
    elif asked.history:
        past_of(asked.history, "", "", models, problems)
    found = Paths(model, data, history=past, target="".join(elsewhere["target"]), oracles=tuple(elsewhere["oracle"]))
    return hashes, found, name


def isnt_fetched(name: str, models: Path) -> bool:
    """Whether this names a model that could be fetched and isn't."""
    from bench.assets.known_models import KNOWN
    from bench.assets.models import canonical, check_name, folder_name

    try:
        check_name(canonical(name))
    except UserError:
        return False
    is_local = name not in KNOWN and Path(name).expanduser().is_dir()
    return not is_local and not (models / folder_name(name)).exists()


def past_of(source: str, model: str, model_hash: str, models: Path, problems: list[str]) -> tuple[str, str]:
    """Where the model's history lies, and its digest; without a model only the history's own mistakes are looked for."""
    from bench.assets.history import history_digest
    from bench.assets.history_file import load
    from bench.assets.history_sources import with_model
    from bench.core.types import Checkpoint

    try:
        past = load(source, models)
        if model:
            past = with_model(past, Checkpoint(model, model_hash))
    except UserError as error:
        problems.extend(f"--history {source}: {problem}" for problem in error.problems)
        return "", ""
    return str(Path(source).expanduser().resolve()), history_digest(past)


def check_lm_eval(names_: Sequence[str], data: str, problems: list[str]) -> None:
    """A sentence for every lm-eval task that isn't there."""
    from bench.engines.measuring.lm_eval import first_of, leaves

    for name in names_:
        try:
            leaves(first_of(name)[0], Path(data) if data else None)
        except UserError as error:
            problems.extend(error.problems)


def data_name(data: str) -> str:
    """How the data are called in a record: a folder's or the files' own names, not where they lie."""
    return ",".join(Path(part.strip()).name for part in data.split(",")) if data and data != "hub" else "hub"
