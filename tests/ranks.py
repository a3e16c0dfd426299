"""What the processes of torchrun do in tests: `python -m torch.distributed.run ... -m tests.ranks CASE FOLDER`."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from bench.core import distributed
from bench.core.contracts import Recipe, Stream
from bench.core.errors import Unmet, UserError
from bench.core.machine import Machine, peak_memory, reset_peak
from bench.core.types import Checkpoint, Probe
from bench.engines.causal_lm import load_weights, read_architecture
from bench.engines.coding import Texts
from bench.engines.loaders import open_checkpoint, open_for_training
from bench.engines.measuring.measure import measure
from bench.engines.parts import is_in_parts
from bench.engines.training.gathering import write_whole
from bench.engines.training.losses import Ascent, NextToken
from bench.engines.training.trainer import Trained, train
from bench.lab.model import small_llama
from bench.runs.context import Work, add_adapters
from bench.runs.executor import Worker
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.store import NodeRequest, Store
from methods.npo import NPOLoss
from tests.factories import record
from tests.families import random_model
from tests.processes import environment, warm_python
from tests.tiny import llama, passage, qa, saved, tokenizer

QUESTIONS = tuple(qa(i, f"w{i} w{i % 4} ?", f"w{i + 3} w{i}") for i in range(12))
PASSAGES = tuple(passage(i, " ".join(f"w{(i + k) % 20}" for k in range(i + 3))) for i in range(5))
SEEN: dict[str, Any] = {}
"""How the weights lie while a loss is computed."""


class Looking(NPOLoss):
    """NPO that notes how the weights of the model lie in this process."""

    version: ClassVar[int] = 1

    def __call__(self, model: Any, batch: Any) -> Any:
        weights = list(model.parameters())
        SEEN["parts"] = all(isinstance(weight, DTensor) for weight in weights)
        SEEN["whole"] = sum(weight.numel() for weight in weights)
        SEEN["here"] = sum(weight.to_local().numel() for weight in weights) if SEEN["parts"] else SEEN["whole"]
        return super().__call__(model, batch)


STREAMS = (Stream(QUESTIONS, 5, Looking(0.1, False)), Stream(PASSAGES, 3, NextToken(), weight=0.25))
"""5 rows and 3. In two micro-batches 3 + 2 and 2 + 1, so that of the last row one process has none."""


def trained(folder: Path, streams: Sequence[Stream] = STREAMS, micro: int | None = 2, **options: Any) -> Trained:
    """Six steps from the same start; ``micro`` rows at most in one forward pass of one process."""
    recipe = options.pop("recipe", Recipe(6, 1e-2))
    given: dict[str, Any] = {"scratch": folder / "scratch", "seed": 0, "micro": micro} | options
    return train(llama(seed=7).train(), Texts(tokenizer()), streams, recipe, out=folder / "out", **given)


class Killed(Exception):
    """An interruption."""


def killed_at(step: int, rank: int | None = None) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done == step and rank in (None, distributed.rank()):
            raise Killed(f"in step {step}")

    return report


def interrupted(folder: Path) -> list[int]:
    """Killed in step 5 with a state every 2 steps; the steps that are made when it goes on."""
    steps: list[int] = []
    options: dict[str, Any] = {"scratch": folder / "scratch", "save_every": 2, "snapshots": (2, 6)}
    try:
        trained(folder / "killed", report=killed_at(5), **options)
    except Killed:
        trained(folder, report=lambda done, total: steps.append(done), **options)
    return steps


def start_in(folder: Path, model: Callable[[], Any] = lambda: llama(seed=7)) -> Checkpoint:
    """A checkpoint that every process may open."""
    return distributed.call_on_first(lambda: saved(model(), tokenizer(), folder, "start"))


def adapted(folder: Path, **options: Any) -> Trained:
    """Six steps of adapters of rank 4; a seed of their own decides what they are at first."""
    opened = open_for_training(start_in(folder / "start"))
    model = add_adapters(opened, 4, seed=3).train()
    given: dict[str, Any] = {"scratch": folder / "scratch", "seed": 0, "micro": 2} | options
    return train(model, opened.coder, STREAMS, Recipe(6, 1e-2), out=folder / "out", **given)


def killed(folder: Path, make: Callable[..., Trained]) -> None:
    """A training that is killed in step 5 with a state every 2 steps."""
    try:
        make(folder / "killed", scratch=folder / "scratch", save_every=2, report=killed_at(5))
    except Killed:
        return


def went_on(folder: Path, make: Callable[..., Trained]) -> list[int]:
    """The steps that are made when a killed training goes on."""
    steps: list[int] = []
    options: dict[str, Any] = {"scratch": folder / "scratch", "save_every": 2}
    make(folder, report=lambda done, total: steps.append(done), **options)
    return steps


OPENED = ("GPT-2", "GPT-NeoX, Pythia", "Qwen3 MoE", "Falcon-H1", "Gemma 3 with images", "Mamba")
"""Families with tied weights, with names of their own in files, with experts that files keep apart, with buffers that files
haven't, of several parts, with blocks in blocks."""


def opened_in_parts(folder: Path) -> dict[str, list[str]]:
    """What of each family's model, read in parts and then written, isn't that of a whole one; nothing may be."""
    found: dict[str, list[str]] = {}
    for number, family in enumerate(OPENED):
        place = folder / str(number)
        distributed.call_on_first(
            lambda family=family, place=place: random_model(family).save_pretrained(
                place / "start", max_shard_size="40KB"
            )
        )  # type: ignore[misc]
        for dtype in (torch.float32, torch.bfloat16):
            one, parts = (
                load_weights(place / "start", read_architecture(place / "start"), dtype, on) for on in ("", "cpu")
            )
            found[f"{family} {dtype}"] = [
                name for name, tensor in tensors_of(one).items() if not same(tensor, tensors_of(parts)[name])
            ]
            found[f"{family} {dtype}"] += [] if is_in_parts(parts) else ["it is whole"]
            write_whole(parts, place / "parts")
            distributed.call_on_first(lambda one=one, place=place: one.save_pretrained(place / "one"))  # type: ignore[misc]
            files = [{file.name: file.read_bytes() for file in (place / name).iterdir()} for name in ("one", "parts")]
            found[f"{family} {dtype}"] += [name for name in files[0] if files[0][name] != files[1].get(name)]
    return found


def tensors_of(model: Any) -> dict[str, Any]:
    """Parameters and buffers, tied ones under every name."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}


def same(whole: Any, part: Any) -> bool:
    """Whether a tensor in parts is this one to the bit."""
    found = part.full_tensor() if isinstance(part, DTensor) else part
    return found.dtype == whole.dtype and torch.equal(found, whole)


def broken_models(folder: Path) -> dict[str, list[str]]:
    """The sentences about models that can't be opened, as one process says them and as several do."""
    found = {}
    for name, spoil in SPOILT.items():
        place = folder / name

        def make(place: Path = place, spoil: Callable[[Path], None] = spoil) -> None:
            saved(llama(seed=7), tokenizer(), place)
            spoil(place)

        distributed.call_on_first(make)
        checkpoint = Checkpoint(str(place), "")
        found[name] = [words(lambda c=checkpoint: open_checkpoint(c)), words(lambda c=checkpoint: open_for_training(c))]  # type: ignore[misc]
    return found


def respoken(place: Path, **changes: Any) -> None:
    """Change what the config says."""
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | changes))


def without_a_tensor(place: Path) -> None:
    """Take a weight out of the file."""
    tensors = load_file(place / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})


SPOILT: dict[str, Callable[[Path], None]] = {
    "other vocabulary": lambda place: respoken(place, vocab_size=31),
    "other width": lambda place: respoken(place, intermediate_size=50),
    "a layer less": lambda place: respoken(place, num_hidden_layers=1),
    "a tensor less": without_a_tensor,
    "cut": lambda place: (
        (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes()[:-9]) and None
    ),
}
"""What can be wrong with a model."""

ASKED = tuple(qa(i, f"w{i} w{i % 5} w{i % 3} ?"[: 6 + i % 4 * 3], f"w{i}") for i in range(11))
PROBES = (
    Probe("said", "generate", ASKED, max_new_tokens=6),
    Probe("drawn", "generate", ASKED[:7], max_new_tokens=4, options={"sample": {"seed": 1, "repeats": 2}}),
    Probe("one", "generate", ASKED[3:4], max_new_tokens=5),
)
"""Shares that aren't equal, and fewer rows than processes."""


def said(folder: Path) -> Any:
    """What the model writes, in the order of the rows; on the first process that of all."""
    found = measure(start_in(folder / "start"), PROBES)
    return {name: list(rows.items()) for name, rows in found.rows.items()}


LARGE = 10 * 13 * 512**2 * 4
"""Bytes of the weights of `large`'s blocks; beside them it has an embedding of 24 rows and some norms."""


def grown(folder: Path) -> dict[str, int]:
    """Bytes that this process's memory grows by at its peak: opening a model, training it for two steps, writing it."""
    start = start_in(folder / "start", lambda: small_llama(len(tokenizer()), 512, 10, 64, seed=0))
    peaks: list[int] = []
    gc.collect()
    reset_peak()
    before = peak_memory()
    opened = open_for_training(start)
    report = lambda done, total: peaks.append(peak_memory())  # noqa: E731
    scratch = folder / "scratch"
    train(
        opened.model.train(),
        opened.coder,
        STREAMS[1:],
        Recipe(2, 1e-3),
        seed=0,
        out=folder / "out",
        scratch=scratch,
        report=report,
    )
    return {"trained": peaks[-1] - before, "written": peak_memory() - before}


def until(folder: Path) -> int:
    """How many steps it takes until the 5 passages' loss is low enough, beside an ascent whose loss is negative."""
    streams = (Stream(PASSAGES, 5, NextToken()), Stream(QUESTIONS, 4, Ascent(), weight=0.1))
    recipe = Recipe(8, 1e-2, warmup=0.0, schedule="constant", until=3.0)
    return trained(folder, streams, recipe=recipe).steps


def words(do: Callable[[], Any]) -> str:
    """The error of ``do`` as this process has it."""
    try:
        return f"nothing: {do()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def fail(error: Exception) -> Any:
    raise error


def errors(folder: Path) -> dict[str, str]:
    """How what fails on one process ends on this one."""
    store, first = Store(folder / "store"), distributed.is_first()

    def build(make: Callable[[Path], Any], shared: bool) -> str:
        return words(lambda: store.build(NodeRequest({"shared": shared}, "", {}), make, shared)[0].key)

    return {
        "alone": build(lambda folder: fail(UserError("no room")), False),
        "need": words(lambda: distributed.call_on_first(lambda: fail(Unmet("no history")))),
        "last": build(lambda folder: None if first else fail(KeyError("gone")), True),
        "after": words(lambda: distributed.call_on_first(lambda: 7)),
    }


def shared_node(folder: Path) -> list[Any]:
    """A training node of adapters, asked for twice: what this process knows of it, and how often it was built."""
    start = folder / "start"
    begin, found = distributed.call_on_first(lambda: saved(llama(seed=7), tokenizer(), start, "start")), []
    for _ in range(2):
        work = Work(Store(folder / "store"), seed=0, provenance={})
        made = work.train(begin, STREAMS[1:], Recipe(2, 1e-2, lora=2), "tuned")
        found.append([made.hash, len(work.built), work.nodes[next(iter(work.nodes))].info["meta"]["tokens"]])
    return found


def everything(folder: Path) -> None:
    """Each case once; the first process writes what all of them saw."""
    whole = trained(folder / "whole")
    facts = {
        "curve": whole.curve,
        "tokens": whole.tokens,
        "weights": dict(SEEN),
        "resumed": interrupted(folder / "resumed"),
        "until": until(folder / "until"),
        "autocast": trained(folder / "autocast", autocast=True, checkpointing=True).curve,
        "errors": errors(folder / "errors"),
        "node": shared_node(folder / "node"),
        "adapted": adapted(folder / "adapted").curve,
        "went on": went_on(folder / "adapted again", adapted)
        if killed(folder / "adapted again", adapted) is None
        else [],
        "opened": opened_in_parts(folder / "opened"),
        "broken": broken_models(folder / "broken"),
        "said": said(folder / "said"),
        "grown": grown(folder / "grown"),
    }
    for make in (trained, adapted):
        killed(folder / f"half {make.__name__}", make)
    each = distributed.gather(facts)
    if distributed.is_first():
        (folder / "facts.json").write_text(json.dumps(each))
    distributed.leave_processes()


def four(folder: Path) -> None:
    """What differs with the number of processes: four go on where two were killed."""
    facts = {
        "adapted": adapted(folder / "adapted").curve,
        "went on": [went_on(folder / f"half {make.__name__}", make) for make in (trained, adapted)],
        "said": said(folder / "said"),
        "grown": grown(folder / "grown"),
    }
    each = distributed.gather(facts)
    if distributed.is_first():
        (folder / "facts.json").write_text(json.dumps(each))
    distributed.leave_processes()


def failing(folder: Path) -> None:
    """A worker whose last process fails in step 2, while the first one waits for its part of the weights."""
    distributed.GRACE_SECONDS = 1.0
    machine = Machine(folder / "records", folder / "store")
    worker = Worker(WorkerConfig(machine), lambda event: None)
    worker.run = lambda *_: str(trained(folder, report=killed_at(2, rank=1)))  # type: ignore[method-assign]
    worker.do(Job(record().spec), wait=True)


def torchrun(
    arguments: Sequence[str], folder: Path, seconds: float = 300, processes: int = 2
) -> subprocess.CompletedProcess[str]:
    """So many processes of ``python -m ARGUMENTS`` in ``folder``, to their end."""
    command = [str(warm_python()), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [*command, "-m", *arguments],
        cwd=folder,
        env=environment() | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


if __name__ == "__main__":
    distributed.join_processes("cpu")
    {"everything": everything, "four": four, "failing": failing}[sys.argv[1]](Path(sys.argv[2]))
