"""Continuing a model's training on text of one's own, with checkpoints on the way: a short history for a model without one.

The folder that comes of it is what the Trainer leaves: ``checkpoint-0`` (the model as it was), ``checkpoint-30`` ... and
the last weights in the folder itself. ``--model FOLDER --history FOLDER`` then gives methods a past to choose from.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.assets.models import resolve_model
from bench.core.errors import UserError
from bench.core.hashing import MODEL_FILES, hash_file
from bench.core.types import Checkpoint, Example

MADE = "continued.json"
"""In the folder: what it was made of, and how."""
SAVE_EVERY = 20
"""Steps between the states that an interrupted training goes on from."""
MICRO = 8
"""Passages of one forward pass."""


@dataclass(frozen=True)
class Continuation:
    """The options of `bench continue`."""

    model: str
    """Known name, hub id or folder."""
    text: str
    """A file of plain text, or of JSON lines with ``text``."""
    steps: int
    keep: int
    """Checkpoints kept at equal distances, the last one included; the model as it was comes beside them."""
    words: int
    """Words of a training passage; every token of it is scored."""
    batch: int
    """Passages of an optimiser step."""
    lr: float
    """Peak learning rate of a warm-up and cosine schedule."""
    seed: int
    autocast: bool


def continue_model(
    asked: Continuation,
    models: Path,
    out: Path,
    report: Callable[[str], None],
    device: str = "cpu",
) -> list[Path]:
    """Make the folder ``out``, or find it made; its checkpoints, oldest first.

    An interrupted training goes on where it was. Raises `UserError` for a text without passages and for a folder that
    holds something else.
    """
    check_continuation(asked)
    start = resolve_model(asked.model, models)
    text = Path(asked.text).expanduser()
    rows = passages(text, asked.words)
    about = {**asdict(asked), "model": start.name, "text": text.name} | {
        "model_hash": start.hash,
        "text_sha256": hash_file(text),
        "passages": len(rows),
    }
    if out.exists():
        return made_before(out, about, report)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    scratch = out.with_name(f".{out.name}.training")
    if (scratch / MADE).is_file() and json.loads((scratch / MADE).read_text()) != about:
        shutil.rmtree(scratch)  # of another continuation
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / MADE).write_text(json.dumps(about))
    tokens = train_on_text(asked, start.path, rows, partial, scratch, report, device)
    arrange_checkpoints(partial, start.path, tokens)
    (partial / MADE).write_text(json.dumps(about, indent=1) + "\n")
    partial.rename(out)
    shutil.rmtree(scratch, ignore_errors=True)
    return checkpoints(out)


def check_continuation(asked: Continuation) -> None:
    """Raise `UserError` with every number that makes no sense."""
    least = {"steps": asked.steps, "keep": asked.keep, "words": asked.words, "batch": asked.batch}
    problems = [f"--{name} must be at least 1, not {value}." for name, value in least.items() if value < 1]
    if asked.keep > asked.steps >= 1:
        problems.append(f"--keep {asked.keep}: {asked.steps} steps have no more than {asked.steps} checkpoints.")
    if not Path(asked.text).expanduser().is_file():
        problems.append(f"--text {asked.text}: there is no such file; name plain text, or JSON lines with 'text'.")
    if problems:
        raise UserError(*problems)


def passages(file: Path, words: int) -> tuple[Example, ...]:
    """The text in passages of so many words, in order; the rest of a document shorter than half a passage is left out."""
    rows = []
    for number, document in enumerate(documents(file)):
        said = document.split()
        for i, begin in enumerate(range(0, len(said), words)):
            piece = said[begin : begin + words]
            if len(piece) >= words / 2:
                payload = {"prompt": "", "answer": " ".join(piece), "template": "plain"}
                rows.append(Example(f"{file.stem}-{number}-{i}", payload))
    if not rows:
        raise UserError(f"'{file.name}' has no passage of {words} words: give more text, or fewer --words.")
    return tuple(rows)


def documents(file: Path) -> list[str]:
    """The texts of a file: the whole of it, or ``text`` of each JSON line."""
    if file.suffix not in (".jsonl", ".json"):
        return [file.read_text(encoding="utf-8")]
    try:
        return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"'{file.name}' isn't JSON lines with 'text' ({error}): give such a file, or plain text."
        ) from error


def train_on_text(
    asked: Continuation,
    model: Path,
    rows: Sequence[Example],
    out: Path,
    scratch: Path,
    report: Callable[[str], None],
    device: str,
) -> dict[int, int]:
    """Train into ``out``; tokens seen at each step whose checkpoint was kept."""
    from bench.core.contracts import Recipe, Stream, steps_kept
    from bench.engines.loaders import open_checkpoint
    from bench.engines.training.losses import descent
    from bench.engines.training.trainer import train

    opened = open_checkpoint(Checkpoint(str(model), ""), device)
    opened.model.train()
    done = train(
        opened.model,
        opened.coder,
        (Stream(tuple(rows), asked.batch, descent()),),
        Recipe(asked.steps, asked.lr),
        seed=asked.seed,
        out=out,
        scratch=scratch,
        snapshots=steps_kept(asked.steps, asked.keep),
        save_every=SAVE_EVERY,
        micro=MICRO,
        autocast=asked.autocast,
        use_cpu=device == "cpu",
        report=lambda step, of: report(f"step {step} of {of}") if step % SAVE_EVERY == 0 else None,
    )
    if not all(bool(parameter.isfinite().all()) for parameter in opened.model.parameters()):
        report(
            "warning: the training has diverged: the last weights hold NaN or infinite numbers; a lower --lr may help."
        )
    return {**done.tokens_at, asked.steps: done.tokens}


def arrange_checkpoints(folder: Path, model: Path, tokens: dict[int, int]) -> None:
    """Name the kept checkpoints as the Trainer does, and put the model as it was beside them."""
    for path in sorted(folder.glob("step-*")):
        step = int(path.name.removeprefix("step-"))
        path.rename(folder / f"checkpoint-{step}")
        write_trainer_state(folder / f"checkpoint-{step}", step, tokens[step])
    write_trainer_state(folder, max(tokens), tokens[max(tokens)])
    first = folder / "checkpoint-0"
    first.mkdir()
    for pattern in MODEL_FILES:
        for file in model.glob(pattern):
            link_or_copy(file, first / file.name)


def write_trainer_state(folder: Path, step: int, tokens: int) -> None:
    """Write what the Trainer notes of a checkpoint: its step, and the tokens seen up to it."""
    state = {"global_step": step, "num_input_tokens_seen": tokens}
    (folder / "trainer_state.json").write_text(json.dumps(state) + "\n")


def link_or_copy(file: Path, to: Path) -> None:
    """Give a file another name, without its bytes again where the file system can."""
    try:
        os.link(file.resolve(), to)
    except OSError:
        shutil.copyfile(file, to)


def made_before(out: Path, about: dict[str, Any], report: Callable[[str], None]) -> list[Path]:
    """The checkpoints of a folder that was made so; `UserError` where it holds something else."""
    try:
        same = json.loads((out / MADE).read_text()) == about
    except (OSError, ValueError):
        same = False
    if not same:
        raise UserError(f"--out {out}: there is something else already; name another folder.")
    report("made already")
    return checkpoints(out)


def checkpoints(out: Path) -> list[Path]:
    """The kept checkpoints of a folder, oldest first."""
    return sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))
