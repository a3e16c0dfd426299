"""How much of a core's matrix products the lab's training reaches: operations a second of both, one thread, in turn.

The lab's training is muse-books' pretraining, cut short: its model, its batches, the whole of `train` with encoding and
writing. Operations are those of its own batches, padding included, as `bench.engines.training.flops` counts them, so that
what no product does (norms, attention's softmax, the loss, the optimiser, Python) shows as the distance between the two.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench.core.contracts import Recipe, Stream
from bench.engines.coding import Texts
from bench.engines.training.flops import count_flops
from bench.engines.training.losses import descent
from bench.engines.training.trainer import StepData, train
from bench.lab.books import book_passages, book_questions, write_library
from bench.lab.model import small_llama, word_tokenizer
from tasks.muse_books import CHAPTER_WORDS

WIDTH, LAYERS, POSITIONS = 128, 2, 128
SIDE, PRODUCTS = 1024, 20
"""Of the square matrices, and how often they are multiplied."""


def main() -> None:
    """The command: a row of a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.speed.training", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--books", type=int, default=50, help="In the library that is trained on.")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    books = write_library(0, {"world": asked.books}, CHAPTER_WORDS)
    coder, rows = Texts(word_tokenizer(books.vocabulary)), books.shelves["world"]
    streams = (
        Stream(book_passages(rows), 8, descent()),
        Stream(book_questions(rows[:10], (0, 1, 2), "qa-full"), 40, descent()),
    )
    done = operations(coder, streams, asked.steps)
    train_lab(coder, streams, 1)  # what is loaded once
    taken = [(train_lab(coder, streams, asked.steps), multiply()) for _ in range(asked.tries)]
    lab, products = (statistics.median(each) for each in zip(*taken, strict=True))
    rate, most = done / lab / 1e9, 2 * SIDE**3 * PRODUCTS / products / 1e9
    print(f"| GFLOP/s of lab training, of {SIDE} x {SIDE} products | {rate:.0f}, {most:.0f} | {rate / most:.2f} | |")


def fresh(coder: Texts) -> torch.nn.Module:
    """The lab's untrained model."""
    return small_llama(len(coder.tokenizer), WIDTH, LAYERS, POSITIONS, seed=0).train()


def operations(coder: Texts, streams: tuple[Stream, ...], steps: int) -> int:
    """Floating-point operations of the matrix products of so many steps."""
    model, total = fresh(coder), 0
    for parts in StepData(streams, steps, 0, None):
        for part in parts:
            stream = streams[part.stream]
            batch = coder.collate([coder.encode(stream.examples[row].payload) for row in part.rows])
            total += count_flops(partial(stream.loss, model, batch)).training
    return total


def train_lab(coder: Texts, streams: tuple[Stream, ...], steps: int) -> float:
    """CPU seconds of so many steps."""
    model = fresh(coder)
    with tempfile.TemporaryDirectory(prefix="training-") as made:
        place = Path(made)
        run = partial(train, model, coder, streams, Recipe(steps, 3e-3), seed=0, out=place / "out")
        return cpu_seconds(partial(run, scratch=place / "scratch"))


def multiply() -> float:
    """CPU seconds of the products."""
    matrix = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return cpu_seconds(lambda: [matrix @ matrix for _ in range(PRODUCTS)])


def cpu_seconds(work: Callable[[], object]) -> float:
    """What ``work`` takes of the processor."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
