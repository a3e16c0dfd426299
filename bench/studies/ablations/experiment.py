"""Ablations that aren't runs of methods on a task: an experiment of its own, a function of the seed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from bench.core.errors import UNUSABLE, UserError, say_once, shorten_reason
from bench.core.files import set_aside, write_text
from bench.core.hashing import hash_json
from bench.core.processes import open_pool
from bench.core.provenance import get_provenance
from bench.core.registry import default_params, load_task
from bench.core.schema import OPEN, STRICT, Line, Provenance, Real, Whole, read_as
from bench.core.texts import one_line
from bench.core.typed_toml import named_object
from bench.core.types import Json
from bench.records.figures import CODE, plot_style, save_figure
from bench.records.markdown import as_cell
from bench.records.plain import MOST_STUDY, read_plain
from bench.records.stamps import Stamps
from bench.studies.ablations.base import AblationPlace, tell_few

SCHEMA = 1
KIND = "experiment"


class ExperimentShape(TypedDict):
    """An experiment's file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    schema: int
    kind: str
    name: Line
    version: Whole
    seeds: list[Whole]
    command: Line
    minutes: Real
    results: list[dict[str, Any]]
    provenance: list[dict[str, Any]]
    place: NotRequired[AblationPlace]


class ResultShape(TypedDict):
    """What every experiment says of a seed."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    seed: Whole
    wall_seconds: Real


class SeedShape(TypedDict):
    """A seed's file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    result: ResultShape
    provenance: Provenance


@dataclass(frozen=True)
class Experiment:
    """One question, and a function of the seed that answers it."""

    name: str
    question: str
    reading: str
    version: int
    """Raised when the same seed gives other numbers."""
    run: str
    """Its function of the seed, ``module:name`` in this folder: looked up by the processes that run it, as it loads torch."""
    draw: Callable[[list[Json]], Any]
    """A figure of matplotlib, made in `bench.records.figures.plot_style`."""
    table: Callable[[list[Json]], str]
    """Markdown."""
    tasks: tuple[str, ...] = ("tofu", "restor", "muse-books")
    """It has a small world of its own, and so stands beside every task; one with `asks` is for these alone."""
    asks: Callable[[AblationPlace, int], Json] | None = None
    """What is made of a task on a seed, with versions: its function then gets that and the store's folder after the seed,
    and what is kept of other questions doesn't count. None: nothing of any task."""


@dataclass(frozen=True)
class Ground:
    """The task and the store that an experiment with `Experiment.asks` is run on."""

    place: AblationPlace
    store: Path
    sets: tuple[str, ...] = ()
    """``task.parameter=value``, as typed."""


def run_experiment(
    experiment: Experiment, seeds: Sequence[int], folder: Path, workers: int, ground: Ground | None = None
) -> list[Path]:
    """Run every seed that isn't stored yet, and write result, page and picture into ``folder``."""
    stem, about, more = f"{experiment.name}-v{experiment.version}", dict[str, Any](), ""
    asked: dict[int, tuple[Any, ...]] = {seed: () for seed in seeds}
    kept = {seed: folder / "runs" / KIND / f"{stem}-{seed}.json" for seed in seeds}
    if experiment.asks:
        assert ground is not None, "it is made of a task"
        asked = {seed: (experiment.asks(ground.place, seed), ground.store) for seed in seeds}
        kept = {s: folder / "runs" / KIND / f"{stem}-{hash_json(asked[s][0])[:8]}-{s}.json" for s in seeds}
        about = {"place": vars(ground.place) | {"params": dict(ground.place.params)}}
        more = "".join(f" --set {text}" for text in ground.sets)
        more = f" --task {ground.place.task}{more}"
    todo = [seed for seed in seeds if read_seed(experiment, seed, kept[seed]) is None]
    print(f"{experiment.name}, seeds {','.join(map(str, seeds))}: {len(todo)} to do")
    if todo:
        with open_pool(workers) as pool:
            each = [asked[seed] for seed in todo]
            made_by_seed = pool.map(run_seed_alone, [experiment.run] * len(todo), todo, each)
            for seed, result in zip(todo, made_by_seed, strict=True):
                made = {"result": result, "provenance": get_provenance("cpu") | {"threads": 1}}
                set_aside(kept[seed], f"result of seed {seed} of {experiment.name}", say_once)
                write_json(made, kept[seed])
    found = [said for seed in seeds if (said := read_seed(experiment, seed, kept[seed]))]
    if len(found) < len(seeds):
        raise UserError(
            f"Some seed's result of {experiment.name} can't be shown or has gone: run the same command again."
        )
    results = [item["result"] for item in found]
    data = {
        "schema": SCHEMA,
        "kind": KIND,
        "name": experiment.name,
        "version": experiment.version,
        "seeds": list(seeds),
        "command": f"python -m bench ablate {experiment.name} --seeds {','.join(map(str, seeds))}{more}",
        "minutes": round(sum(result["wall_seconds"] for result in results) / 60, 1),
        "results": results,
        "provenance": [item["provenance"] for item in found],
        **about,
    }
    return write_experiment(data, experiment, folder)


def read_seed(experiment: Experiment, seed: int, file: Path) -> Json | None:
    """A seed's kept result with its provenance; None where there is none, or one that no page can be made of."""
    try:
        made: Json = read_plain(file)
        read_as(SeedShape, made)
        experiment.table([made["result"]])
    except UNUSABLE:
        return None
    return made if made["result"]["seed"] == seed else None


def run_seed_alone(name: str, seed: int, asked: tuple[Any, ...] = ()) -> Json:
    """One seed of an experiment's function ``module:name``, in a process of its own with one thread.

    ``asked``: what `Experiment.asks` says of the seed and the store's folder, where it has that.
    """
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    result: Json = named_object(f"{__package__}.{name}")(seed, *asked)
    return result | {"seed": seed, "wall_seconds": round(time.perf_counter() - began, 1)}


def write_experiment(data: Json, experiment: Experiment, folder: Path) -> list[Path]:
    """Result, page and picture."""
    return [
        write_json(data, folder / f"{experiment_stem(data)}.json"),
        *write_experiment_page(data, experiment, folder),
    ]


def experiment_stem(data: Json) -> str:
    """``lab-sgd-influence``, or with its task ``lab-tofu-metrics``: the name of its files."""
    return f"lab-{data['place']['task']}-{data['name']}" if "place" in data else f"lab-{data['name']}"


def write_experiment_page(data: Json, experiment: Experiment, folder: Path) -> list[Path]:
    """Page and picture, from the results alone."""
    text = render_experiment(data, experiment)
    return write_page(folder / f"{experiment_stem(data)}.md", text, data, lambda: experiment.draw(data["results"]))


def render_experiment(data: Json, experiment: Experiment) -> str:
    """The page of an experiment's results, Markdown."""
    parts = [
        f"# {experiment.name}: {data['place']['task']} (lab)" if "place" in data else f"# {experiment.name} (lab)",
        f"{experiment.question} {experiment.reading}",
        f"Tier lab: a small model on generated data.{tell_older(data.get('place', {}))} "
        f"Seeds {', '.join(map(str, data['seeds']))}.{tell_few(data['seeds'])} Made by "
        f"`{as_cell(data['command'])}`; {data['minutes']:.0f} minutes of one core.",
        f"![{experiment.name}]({experiment_stem(data)}.svg)",
        experiment.table(data["results"]),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def older_lab(place: Json) -> dict[str, Any]:
    """Parameters of an experiment on an earlier version of its lab, without those that today's has by default.

    Empty where today's task knows them all.
    """
    if not place.get("params"):
        return {}
    try:
        today = default_params(load_task(place["task"], place["tier"]))
    except UserError:  # a plug-in's task, which isn't here
        return {}
    other = {name: value for name, value in place["params"].items() if name not in today or today[name] != value}
    return {} if other.keys() <= today.keys() else other


def tell_older(place: Json) -> str:
    """That the lab was another one, with its parameters, where today's task doesn't know some of them."""
    told = ", ".join(f"{name}={value}" for name, value in older_lab(place).items())
    return f" An older version of the lab: {as_cell(told)}." if told else ""


def write_json(data: Json, file: Path) -> Path:
    """Write the results behind a page; returns the file."""
    write_text(file, json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return file


def write_page(page: Path, text: str, shows: Json, draw: Callable[[], Any]) -> list[Path]:
    """Write an ablation's page, and its picture beside it unless that is there and ``shows`` this; returns the files."""

    def make(stem: Path) -> list[Path]:
        with plot_style():
            return save_figure(draw(), stem)

    write_text(page, text)
    code = (*CODE, *sorted(Path(__file__).parent.glob("[!.]*.py")))
    with Stamps(page.parent, *code) as stamps:
        return [page, *stamps.files(page.stem, shows, make)]


def load_experiments(folder: Path) -> list[Json]:
    """Every experiment's results in a folder; what can't be read is named and left out."""
    found: list[Json] = []
    for file in sorted(folder.glob("[!.]*.json")):
        with leaving_out(file):
            data = read_study_or_experiment(file)
            if data.get("kind") == KIND:
                read_as(ExperimentShape, data)
                found.append(data)
    return found


@contextmanager
def leaving_out(file: Path) -> Iterator[None]:
    """Name a file of results that can't be read or shown, and go on without it."""
    try:
        yield
    except UserError as error:
        say_once(f"left out: {one_line(' '.join(error.problems))}")
    except UNUSABLE as error:  # it has the form of a study, and not what its page is made of
        said = f"{type(error).__name__}: {shorten_reason(error)}"
        say_once(
            one_line(
                f"left out: {file.name} holds nothing that its page can be made of ({said}): run the ablation again."
            )
        )


def read_study_or_experiment(file: Path) -> Json:
    """A study's or an experiment's file."""
    try:
        return dict(read_plain(file, MOST_STUDY))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file.name} is not readable ({error}): run the ablation again.") from error


def experiment_faults(data: Json) -> list[str]:
    """Why it can't be published."""
    dirty = sum(made.get("dirty") is not False for made in data["provenance"])
    return [f"{dirty} of its seeds were run by code that is no commit's; commit and run it again."] if dirty else []
