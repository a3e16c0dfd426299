"""What the commands cost that people wait for: CPU seconds of whole processes, medians, with the aim beside.

    python -m tests.speed.commands --beside ../older-checkout

One thread, children's seconds included (no clock: the machine may be busy). With ``--beside`` the same commands run in
turn with another checkout's code and records, so that a ratio holds on any machine. Models, rows and stores are made up.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.files import load_heads
from tests.paths import ROOT
from tests.processes import environment, tiny_run
from tests.speed.measuring import FOLDERS, Options, byte_pairs, generated, probes_of, texts_of

MODEL = ("--target", "model", "--before", "before", "--forget-tuned", "tuned", "--alpha", "1", "--out", "merged")


@dataclass(frozen=True)
class Row:
    """A command."""

    name: str
    words: Sequence[str]
    aim: str
    fresh: Sequence[str] = ()
    """What is removed before each time, so that it is made anew."""
    again: bool = False
    """Whether it is the repetition that counts: it runs once before."""


EVAL_IMPORTS = "import torch, scipy.stats; from transformers import AutoTokenizer, LlamaForCausalLM"
"""What an evaluation of a Llama loads, whatever it computes."""
STAMPS = ("results/plots/.stamps.json", "results/ablations/.stamps.json")
"""What says which pictures are drawn already."""
ROWS = (
    Row("import torch", ("-c", "import torch"), ""),
    Row("imports of eval", ("-c", EVAL_IMPORTS), "eval without them: 8 of 15"),
    Row(
        "eval, TOFU suite, six attacks",
        ("eval", "--task", "tofu", "--model", "model", "--reference", "before", "--oracle", "tuned")
        + ("--data", "data/tofu", "--out", "scores.json"),
        "12 of 24",
    ),
    Row("plot, all pictures", ("plot", "--from", "results"), "15 of 104", STAMPS),
    Row("plot, unchanged", ("plot", "--from", "results"), "", again=True),
    Row("rescore", ("rescore", "--from", "results"), "50 of 108 (25 s on two cores)", ("results/.stamps.json",)),
    Row("run, cached, new --out", (*tiny_run(), "--store", "store", "--out", "out"), "3 of 7.4", ("out",)),
    Row("run, cached", (*tiny_run(), "--store", "store", "--out", "out"), "3 of 7.4"),
    Row("msa, tiny", ("msa", *MODEL), "import torch + .3", ("merged",)),
    Row("ls methods", ("ls", "methods"), ".4 of .7"),
    Row("show", ("show", "RECORD", "--from", "results"), ".5 of 1.1"),
    Row(
        "plan --methods all",
        ("plan", "--methods", "all", "--task", "tofu", "--out", "out", "--store", "store"),
        ".8 of 1.3",
    ),
    Row("--help", ("--help",), ""),
)


def prepare(place: Path, rows: int) -> None:
    """Three models of about a million weights, and rows in TOFU's layout, below ``place``."""
    from bench.lab.model import small_llama

    data = generated(place / "data", Options(rows=rows))
    probes = probes_of("tofu", data / FOLDERS["tofu"], rows)
    tokenizer = byte_pairs(text for probe in probes for example in probe.examples for text in texts_of(example))
    for seed, name in enumerate(("model", "before", "tuned")):
        small_llama(len(tokenizer), 128, 3, 2048, seed=seed).save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)


def first_record(results: Path) -> str:
    """The name of a record of MSA's; another checkout's may be of a layout that today's code doesn't read."""
    names = [path.name for path in results.glob("lab/tofu/lab/msa-*.json")] or load_heads(results).heads
    return min((Path(name).stem for name in names if Path(name).name.startswith("msa-")), default="")


def cpu_seconds(row: Row, code: Path, place: Path) -> float | None:
    """Run a row's command with the code of a checkout; what it took of the processor. None where an older one refuses it."""
    for name in row.fresh:
        shutil.rmtree(place / name, ignore_errors=True)
        (place / name).unlink(missing_ok=True)
    given = environment() | {"PYTHONPATH": str(code), "MSA_BENCH_STORE": str(place / "store"), "WANDB_MODE": "disabled"}
    words = [first_record(place / "results") if word == "RECORD" else word for word in row.words]
    command = words if words[0] == "-c" else ("-m", "bench", *words)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *command], cwd=place, env=given, capture_output=True, text=True)
    if done.returncode and code != ROOT:
        return None
    if done.returncode:
        raise SystemExit(f"{' '.join(row.words)} failed with the code of '{code.name}':\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(codes: Mapping[str, Path], rows: int, tries: int, named: Sequence[str]) -> None:
    """Print the table, a line as soon as it is known."""
    rows_asked = [row for row in ROWS if not named or row.name in named]
    print(f"CPU seconds, medians of {tries}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print(f"| command | {' | '.join(codes)} | {'ratio | ' if len(codes) > 1 else ''}aim |")
    print(f"| --- |{' --: |' * (len(codes) + (len(codes) > 1))} --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="commands-") as scratch:
        places = {name: Path(scratch) / name.replace("/", "-") for name in codes}
        prepare(Path(scratch) / "made", rows)
        for name, code in codes.items():
            shutil.copytree(Path(scratch) / "made", places[name])
            shutil.copytree(code / "results", places[name] / "results")
            if any("--store" in row.words for row in rows_asked):
                cpu_seconds(next(row for row in ROWS if row.name == "run, cached"), code, places[name])
        for row in rows_asked:
            for name, code in codes.items() if row.again else ():
                cpu_seconds(row, code, places[name])
            took = {name: list[float]() for name in codes}
            for _ in range(tries):
                for name, code in codes.items():
                    if (seconds := cpu_seconds(row, code, places[name])) is not None:
                        took[name].append(seconds)
            medians = [statistics.median(each) for each in took.values() if len(each) == tries]
            cells = [f"{statistics.median(each):.2f}" if len(each) == tries else "refused" for each in took.values()]
            if len(codes) > 1:
                cells.append(f"{medians[0] / medians[1]:.2f}" if len(medians) > 1 else "")
            print(f"| {row.name} | {' | '.join(cells)} | {row.aim} |", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="Another checkout, to run the same commands with in turn.")
    parser.add_argument("--rows", type=int, default=40, help="Rows of each of TOFU's tables.")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--only", default="", help="Names of rows, with semicolons.")
    asked = parser.parse_args()
    codes = {"ours": ROOT} | ({asked.beside.name: asked.beside.resolve()} if asked.beside else {})
    names = [name for name in asked.only.split(";") if name]
    if unknown := set(names) - {row.name for row in ROWS}:
        parser.error(
            f"--only: no row is called {', '.join(sorted(unknown))}; there are: {'; '.join(r.name for r in ROWS)}"
        )
    measure(codes, asked.rows, asked.tries, names)


if __name__ == "__main__":
    main()
