"""The options that commands share, and how their texts are read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from typer import Option, echo

from bench.core.errors import UserError
from bench.core.files import write_text
from bench.core.places import default_root

Methods = Annotated[
    str,
    Option(
        "--methods",
        "-m",
        help="Names, comma-separated, or 'all'; name@variant for a variant; ./fade.py:Fade of a file.",
    ),
]
TaskName = Annotated[
    str, Option("--task", "-t", help="tofu, restor, muse-books, qa (your own), digits, graph; `ls tasks`: all.")
]
Model = Annotated[str, Option(help="Real tier: known name, hub id or folder. Without it: the lab.")]
Data = Annotated[
    str, Option(help="Real tier: folder in the benchmark's layout, or 'hub'; qa: forget.jsonl,retain.jsonl.")
]
Past = Annotated[
    str, Option("--history", help="Real tier: the model's past, a JSON file or a folder with checkpoint-500 ...")
]
Seeds = Annotated[str, Option(help="Whole numbers or ranges, comma-separated: 0-5,9.")]
Sets = Annotated[list[str] | None, Option("--set", "-s", help="component.parameter=value; can be repeated.")]
Limit = Annotated[int | None, Option(help="Only the first N rows of each probe: for trying out.")]
Out = Annotated[Path, Option(help="Where records go.")]
StoreAt = Annotated[Path | None, Option(help="Checkpoints; default MSA_BENCH_STORE or the user's cache.")]
Jobs = Annotated[int | None, Option("--jobs", "-j", help="Worker processes; default one per core, on a GPU one.")]
Device = Annotated[str, Option(help="cpu, cuda or cuda:N.")]
Trace = Annotated[
    int,
    Option(help="Measure N points on the way to each method's result too, and draw forgetting against utility there."),
]
Executor = Annotated[str, Option(help="local, or slurm: hand the jobs to a cluster.")]
GpusPerJob = Annotated[
    int | None, Option(help="--executor slurm: GPUs of a job (with --device cpu processes), under torchrun.")
]
Slurm = Annotated[
    list[str] | None, Option(help="A flag of sbatch, such as partition=gpu or time=120; can be repeated.")
]
Threads = Annotated[int, Option(help="Threads of each worker; more than one is slower on small models.")]
LmEval = Annotated[
    str, Option(help="lm-eval tasks, comma-separated: piqa, blimp ...; piqa:200 asks the first 200 documents.")
]
LmEvalData = Annotated[Path | None, Option(help="Folder with offline copies of lm-eval's data.")]
Track = Annotated[str, Option(help="wandb (offline when not logged in), tensorboard, a plug-in's, or none.")]
Study = Annotated[str, Option(help="A label for the records; changes no result.")]
Target = Annotated[str, Option(help="Real tier: a target trained elsewhere; known name, hub id or folder.")]
Oracles = Annotated[str, Option(help="Real tier: retrained models from elsewhere, comma-separated.")]
Then = Annotated[str, Option(help="Methods that go on where each row's method ended, such as repair.")]
Probes = Annotated[str, Option(help="Ask these kinds of probes alone, such as logprob,divergence; the rest is absent.")]
Order = Annotated[
    int, Option(help="Data order of the methods' trainings: 1 makes second runs, which tell the noise of the tables.")
]
Dtype = Annotated[str, Option(help="Real tier: float32 (default) or bfloat16, of weights in training and on disk.")]
Autocast = Annotated[
    bool, Option("--autocast", help="Real tier: train in bfloat16 autocast; the weights stay float32.")
]
Lora = Annotated[int, Option(help="Real tier: train adapters of this rank (peft), merged at the end.")]
Micro = Annotated[int, Option(help="Real tier: most rows of one forward pass; default by the model. Saves memory.")]
Checkpointing = Annotated[
    bool, Option("--checkpointing", help="Compute activations again in the backward pass: less memory, more time.")
]
Results = Annotated[Path, Option("--from", help="Folder of records.")]

MOST_SEED, MOST_SEEDS = 2**31, 1000
"""The libraries' generators take no larger one; no range is longer."""


def asking(seeds: str = "0,1,2", without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `asked_for` and `machine_of` in the place of its parameters ``asked`` and ``machine``.

    Further parameters of the command stay its own options. ``without`` names those that it doesn't take; ``seeds`` is
    the default of its own.
    """

    def options_of(maker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
        taken = inspect.signature(maker, eval_str=True).parameters
        found = {name: parameter for name, parameter in taken.items() if name not in without}
        return found | ({"seeds": found["seeds"].replace(default=seeds)} if "seeds" in found else {})

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        words, place, own = options_of(asked_for), options_of(machine_of), options_of(command)
        own = {name: parameter for name, parameter in own.items() if name not in ("asked", "machine")}

        def wrapped(**given: Any) -> None:
            asked = asked_for(**{name: given[name] for name in words})
            machine = machine_of(**{name: given[name] for name in place})
            command(asked, machine, **{name: given[name] for name in own})

        parameters = [*words.values(), *place.values(), *own.values()]
        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapped

    return decorate


def machine_of(
    jobs: Jobs = None,
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
    checkpointing: Checkpointing = False,
    track: Track = "wandb",
    trace: Trace = 0,
    executor: Executor = "local",
    gpus_per_job: GpusPerJob = None,
    slurm: Slurm = None,
) -> Any:
    """The options as one `bench.core.machine.Machine`."""
    from bench.core.machine import Machine

    machine = Machine(
        out,
        store_at(store),
        jobs,
        device,
        threads,
        checkpointing,
        track,
        trace,
        executor=executor,
        slurm=tuple(slurm or ()),
    )
    if executor == "local" and gpus_per_job is None:
        return machine
    return replace(machine, world=1 if gpus_per_job is None else gpus_per_job)


def asked_for(
    methods: Methods,
    task: TaskName,
    model: Model = "",
    data: Data = "",
    past: Past = "",
    seeds: Seeds = "0,1,2",
    sets: Sets = None,
    limit: Limit = None,
    lm_eval: LmEval = "",
    lm_eval_data: LmEvalData = None,
    study: Study = "",
    target: Target = "",
    oracle: Oracles = "",
    then: Then = "",
    probes: Probes = "",
    dtype: Dtype = "",
    autocast: Autocast = False,
    lora: Lora = 0,
    micro: Micro = 0,
    order: Order = 0,
) -> Any:
    """The options as one `bench.runs.asked.Asked`."""
    from bench.core.compute import Compute
    from bench.runs.asked import Asked

    numbers, problems = seeds_or_problems(seeds)
    names, faults = complete_methods(split_words(methods))
    return Asked(
        task=complete_name("tasks", task),
        methods=tuple(names),
        sets=tuple(sets or ()),
        seeds=numbers,
        model=model,
        data=data,
        history=past,
        limit=limit,
        lm_eval=tuple(split_words(lm_eval)),
        lm_eval_data=str(lm_eval_data or ""),
        study=study,
        target=target,
        oracles=tuple(split_words(oracle)),
        then=tuple(complete_name("methods", name) for name in split_words(then)),
        kinds=tuple(split_words(probes)),
        compute=Compute(dtype, autocast, lora, micro),
        problems=(*problems, *faults),
        order=order,
    )


def complete_methods(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The methods that words name, and what is wrong with the words.

    A word is a name, how only one name begins, or a file's class as ``./fade.py:Fade``; a variant may follow after @.
    """
    from bench.core import registry

    names: list[str] = []
    problems: list[str] = []
    for word in words:
        found = re.fullmatch(r"(.+\.py)(?::(\w*))?(@.+)?", word)
        if not found:
            names.append(complete_name("methods", word))
            continue
        try:
            name = registry.method_of_file(Path(found[1]), found[2] or "")
            names.append(name + (found[3] or ""))
        except UserError as error:
            problems += error.problems
            names.append("target")  # there is no name to be judged
    return names, problems


def complete_name(kind: str, word: str) -> str:
    """The name of a method or task that a word names or that alone begins so, with its variant; else the word."""
    from bench.core import registry

    name, at, variant = word.partition("@")
    known = [*registry.components(kind), *(["all", "target"] if kind == "methods" else [])]
    fits = [each for each in known if name and each.startswith(name)]
    return fits[0] + at + variant if len(fits) == 1 and name not in known else word


def split_words(text: str) -> list[str]:
    """The words of a comma-separated text, without blanks."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_seeds(text: str, option: str = "--seeds") -> tuple[int, ...]:
    """Comma-separated whole numbers and ranges of them (``0-5``), not negative."""
    seeds: list[int] = []
    for word in split_words(text):
        if not (found := re.fullmatch(r"(-?\d+)(?:-(\d+))?", word, re.ASCII)):
            raise UserError(f"{option} {text}: write whole numbers or ranges, comma-separated, such as 0,1,2 or 0-5.")
        first, last = int(found[1]), int(found[2] or found[1])
        if not (0 <= first < MOST_SEED and last < MOST_SEED):
            raise UserError(f"{option} {text}: a seed is 0 or more, and below {MOST_SEED}.")
        if last < first or last - first >= MOST_SEEDS:
            raise UserError(f"{option} {text}: a range goes up, over at most {MOST_SEEDS} seeds.")
        seeds += range(first, last + 1)
    return tuple(seeds)


def seeds_or_problems(text: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The seeds, or what is wrong with them, to be told with the other mistakes."""
    try:
        return parse_seeds(text), ()
    except UserError as error:
        return (), error.problems


def store_at(given: Path | None) -> Path:
    """The folder of the store: the given one, else the default."""
    return given.expanduser().resolve() if given else default_root()


def records_folder(folder: Path, option: str = "--from") -> Path:
    """The option's folder, if it is there."""
    if not folder.is_dir():
        raise UserError(
            f"There is no folder '{folder}': `python -m bench run` makes records in runs/, and {option} names a folder of them."
        )
    return folder


def warn_broken(loaded: Any, say: Callable[..., None] = echo) -> None:
    """Name every record that can't be read."""
    for broken in loaded.broken:
        say(broken.left_out, err=True)


def write_or_check(page: Path, text: str, check: bool, command: str, written: str = "written") -> bool:
    """Write a page's text; with ``check`` say instead whether it is there already, and return False where it is stale."""
    if not check:
        write_text(page, text)
        echo(f"{page}: {written}.")
        return True
    good = is_text(page, text)
    echo(f"{page} is {'up to date' if good else f'stale: run `python -m bench {command}`'}.")
    return good


def is_text(page: Path, text: str) -> bool:
    """Whether a file is there and says just this."""
    return page.is_file() and page.read_bytes() == text.encode()
