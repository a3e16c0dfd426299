"""The device check, run by `check.sh`: each step is a process with a time limit that leaves rows of a table.

`scores` evaluates a small random Llama on the device and on the CPU, in float32. `train` trains a random Llama of 1.2
billion weights, in bfloat16, and `eval` measures it beside an earlier step of itself, both in tokens per second and with
their peak memory beside what `plan` estimates for that very setting. Models and rows are made up here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.assets.shapes import read_shape
from bench.core import machine
from bench.core.compute import Compute
from bench.core.machine import Machine, format_bytes
from bench.core.types import Checkpoint, Json, Probe
from bench.runs.estimate import Size

LIMITS = {"scores": 150, "train": 150, "eval": 150}
"""Step -> seconds until it counts as failed; in all less than `check.sh` grants."""
AGREE = 1e-4
"""Largest difference of a score of float32, relative where it is above 1: sums in another order move log-probs by 1e-6 to
1e-5, and a matrix product in TF32 would move them by 1e-3."""
FLIPPED = 0.02
"""Largest share of texts that may differ: of two tokens that are equally likely but for rounding either may be said."""
TIGHT, LOOSE = 1.1, 2.0
"""Times its estimate that a peak may reach; times a training's peak that its estimate may."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    device: str
    """What the device gave."""
    beside: str = ""
    """What it is compared with: the CPU's value, or the estimate."""
    apart: str = ""
    allowed: str = ""
    good: bool | None = None
    """Whether the check passed; None: nothing is checked."""


@dataclass(frozen=True)
class Sizes:
    """How much is computed."""

    rows: int
    """Of each of TOFU's tables, for `scores` and for `eval`."""
    asked: int
    hidden: int
    layers: int
    inner: int
    heads: int
    groups: int
    vocabulary: int
    taught: int
    """Steps that the small model of `scores` is trained for: it then says some of the answers, and ends its texts."""
    steps: int
    batch: int = 16
    micro: int = 4
    tokens: int = 512
    """Of a row that is trained on."""


LARGE = Sizes(12, 100, 2048, 16, 8192, 32, 8, 128_256, taught=70, steps=24)
SMALL = Sizes(2, 2, 64, 2, 128, 4, 2, 4000, taught=4, steps=4, batch=4, micro=2, tokens=64)
WARM = 2
"""Steps of training that don't count."""


@dataclass(frozen=True)
class Place:
    """Where and how large the steps work."""

    device: str
    sizes: Sizes
    scratch: Path
    judged: bool
    """Whether memory is judged: not at small sizes, where the process itself is most of it."""

    @property
    def is_gpu(self) -> bool:
        """Whether a GPU computes."""
        return self.device != "cpu"

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        import torch

        if self.is_gpu:
            torch.cuda.synchronize()

    def forget_peak(self) -> None:
        """Count the peak from here on."""
        import torch

        if not self.is_gpu:
            machine.reset_peak()
            return
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """Bytes at most: on a GPU what torch has reserved and what lies beside that, such as the context and kernels."""
        import torch

        if not self.is_gpu:
            return machine.peak_memory()
        free, total = torch.cuda.mem_get_info()
        return torch.cuda.max_memory_reserved() + total - free - torch.cuda.memory_reserved()


# Scores


def check_scores(place: Place) -> list[Row]:
    """Every score of TOFU's suite on the device and on the CPU."""
    from bench.real.evaluate import EvaluationRequest, evaluate_model
    from bench.records.files import read_responses
    from tests.speed.measuring import FOLDERS, Options, generated, prepare, probes_of

    data = generated(place.scratch / "data", Options(rows=place.sizes.rows)) / FOLDERS["tofu"]
    probes = {"tofu": probes_of("tofu", data, place.sizes.rows)}
    for role, steps in (("oracle", place.sizes.taught // 2), ("model", place.sizes.taught)):
        made = prepare(probes, Options(steps=steps), place.scratch / role)
    made.reference.model.save_pretrained(place.scratch / "reference" / "model")
    made.reference.tokenizer.save_pretrained(place.scratch / "reference" / "model")
    names = {role: str(place.scratch / role / "model") for role in ("model", "oracle", "reference")}
    found, said = [], []
    for number, device in enumerate((place.device, "cpu")):
        out = place.scratch / f"scores-{number}.json"
        asked = EvaluationRequest("tofu", data=str(data), out=out, device=device, **names)
        found.append(evaluate_model(asked, place.scratch)["scores"])
        said.append(read_responses(out.with_name(f"{out.stem}.responses.json.gz")).rows)
    model = Checkpoint(names["model"], "model")
    return [
        *compare_answers(*said),
        compare_waits(place, model, [probe for probe in probes["tofu"] if probe.kind == "logprob"]),
        *compare_scores(*found, flipped_share(*said)),
    ]


def compare_waits(place: Place, model: Checkpoint, probes: Sequence[Probe]) -> Row:
    """How often the host waits for the device while one row of each table is scored, and while all are: less than once a row."""
    from bench.engines.measuring.measure import measure

    few, many = (count_waits(place, partial(measure, model, probes, device=place.device, limit=n)) for n in (1, None))
    rows = sum(len(probe.examples) - 1 for probe in probes)
    said = f"{many - few} for {rows} rows more"
    return Row(
        "log-probs: waits for the device",
        str(many),
        f"{few} for one row a table",
        said,
        f"{rows - 1}",
        many - few < rows,
    )


def count_waits(place: Place, work: Callable[[], Any]) -> int:
    """How often the host waits for a GPU, as torch says; on a CPU how often our own code reads a value."""
    import torch

    if not place.is_gpu:
        from tests.syncs import Waits

        with Waits() as waits:
            work()
        return waits.seen.total()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        work()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in said)


def compare_scores(ours: Mapping[str, float], theirs: Mapping[str, float], flipped: float) -> list[Row]:
    """A row for each score; those are also allowed what the texts that differ can move a mean by."""
    if ours.keys() != theirs.keys():
        return [Row("names of the scores", ", ".join(sorted(ours)), ", ".join(sorted(theirs)), "other ones", "", False)]
    rows = []
    for name, value in sorted(ours.items()):
        apart = abs(value - theirs[name]) / max(1, abs(theirs[name]))
        allowed = AGREE + flipped
        rows.append(
            Row(name, f"{value:.7g}", f"{theirs[name]:.7g}", f"{apart:.1e}", f"{allowed:.1e}", apart <= allowed)
        )
    return rows


def compare_answers(ours: Json, theirs: Json) -> list[Row]:
    """Rows for the largest difference of a log-prob and for the texts that differ."""
    pairs = list(walk(ours, theirs))
    apart = max((abs(one - other) for name, one, other in pairs if name == "logp"), default=float("nan"))
    texts = [one == other for name, one, other in pairs if name == "text"]
    share = flipped_share(ours, theirs)
    return [
        Row(
            "largest difference of a log-prob, nats", f"{apart:.1e}", "", f"{apart:.1e}", f"{AGREE:.0e}", apart <= AGREE
        ),
        Row(
            "texts that differ",
            f"{len(texts) - sum(texts)} of {len(texts)}",
            "",
            f"{share:.1%}",
            f"{FLIPPED:.0%}",
            share <= FLIPPED,
        ),
    ]


def flipped_share(ours: Json, theirs: Json) -> float:
    """Share of generated texts that differ."""
    texts = [one != other for name, one, other in walk(ours, theirs) if name == "text"]
    return sum(texts) / max(1, len(texts))


def walk(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every number and text of two objects of the same form, with the name of the field that it stands in."""
    if isinstance(one, Mapping):
        for key in one:
            yield from walk(one[key], other[key], key)
    elif isinstance(one, list | tuple):
        for mine, yours in zip(one, other, strict=True):
            yield from walk(mine, yours, name)
    else:
        yield name, one, other


# Speed and memory


def train_large(place: Place) -> list[Row]:
    """Tokens per second and peak memory of training; leaves the model, and an early step of it, in the scratch folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from bench.core.contracts import Recipe, Stream
    from bench.engines.coding import Texts
    from bench.engines.training.losses import descent
    from bench.engines.training.trainer import train

    sizes, out = place.sizes, place.scratch / "trained"
    config = LlamaConfig(
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        intermediate_size=sizes.inner,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.groups,
        vocab_size=sizes.vocabulary,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device(place.device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    tokenizer, rows = make_rows(sizes)
    at: dict[int, float] = {}

    def note(done: int, _: int) -> None:
        if done in (WARM, sizes.steps):
            place.wait()
            at[done] = time.perf_counter()

    place.forget_peak()
    trained = train(
        model,
        Texts(tokenizer),
        [Stream(rows, sizes.batch, descent())],
        Recipe(sizes.steps, 1e-5),
        seed=0,
        out=out,
        scratch=place.scratch / "trainer",
        snapshots=(WARM,),
        micro=sizes.micro,
        use_cpu=not place.is_gpu,
        report=note,
    )
    peak = place.peak()
    seconds, tokens = at[sizes.steps] - at[WARM], trained.tokens - trained.tokens_at[WARM]
    shape = read_shape(out)
    assert shape is not None
    length = trained.tokens / (sizes.steps * sizes.batch)
    planned = plan_parts(place, out, length)["training"]
    what = f"train, {shape.parameters / 1e9:.2f}B weights, bfloat16, {sizes.micro} of {sizes.batch} rows of {length:.0f} tokens"
    utilised = 6 * shape.parameters * tokens / seconds / 1e12
    return [
        Row(what, f"{tokens / seconds:,.0f} tokens/s", "", f"{utilised:.1f} TFLOP/s"),
        memory_row("train: peak memory", peak, planned, place.judged, LOOSE),
    ]


def make_rows(sizes: Sizes) -> tuple[Any, tuple[Any, ...]]:
    """A tokenizer, and passages of invented words of about so many tokens."""
    import random

    from bench.core.types import Example
    from bench.lab.words import WordMaker
    from tests.speed.measuring import byte_pairs

    rng = random.Random(0)
    words = WordMaker(rng).words(500)
    tokenizer = byte_pairs([" ".join(words)])
    each = len(tokenizer(" ".join(words))["input_ids"]) / len(words)
    texts = [" ".join(rng.choices(words, k=round((sizes.tokens - 2) / each))) for _ in range(4 * sizes.batch)]
    payloads = ({"prompt": "", "answer": text, "template": "text"} for text in texts)
    return tokenizer, tuple(Example(f"text-{i}", payload) for i, payload in enumerate(payloads))


def plan_parts(place: Place, model: Path, tokens: float) -> dict[str, int]:
    """What `plan` estimates of the model's work in this setting: bytes of training and of measuring."""
    shape = read_shape(model)
    assert shape is not None
    gpu = machine.ask_gpu(place.device) if place.is_gpu else None
    size = Size(shape, tokens, streams=1, oracles=1, checkpoints=0, gpu=gpu.bytes if gpu else 0)
    compute = Compute(dtype="bfloat16", micro=place.sizes.micro)
    return size.parts(compute, Machine(jobs=1, device=place.device))


def memory_row(what: str, peak: int, planned: int, judged: bool, loose: float | None) -> Row:
    """A peak beside its estimate: too low an estimate lets in what doesn't fit, a far too high one refuses what does."""
    good = peak <= TIGHT * planned and (loose is None or planned <= loose * peak)
    allowed = f"at most {TIGHT:g}" + (f", at least {1 / loose:g}" if loose else "")
    return Row(
        what,
        format_bytes(peak),
        f"{format_bytes(planned)} planned",
        f"{peak / planned:.2f}",
        allowed if judged else "",
        good if judged else None,
    )


def eval_large(place: Place) -> list[Row]:
    """Tokens per second and peak memory of measuring what `train_large` left, beside its own early step."""
    from bench.engines.loaders import checkpoint_at
    from bench.engines.measuring.measure import measure
    from tests.speed.measuring import FOLDERS, SUITES, Options, generated

    early, late = (
        checkpoint_at(folder, label, dtype="bfloat16")
        for folder, label in (
            (place.scratch / "trained" / f"step-{WARM:06d}", "early"),
            (place.scratch / "trained", "late"),
        )
    )
    data = generated(place.scratch / "rows", Options(rows=place.sizes.asked))
    probes = SUITES["tofu"](str(data / FOLDERS["tofu"])).probes
    place.forget_peak()
    rows, broken = [], set[str]()
    for kind, (amount, unit) in WORK.items():
        asked = [probe for probe in probes if probe.kind == kind]
        found = measure(late, asked, [early], reference=early, device=place.device)
        seconds = max(found.cost[f"seconds_{kind}"], 1e-3)
        done = found.cost[amount] if amount else sum(len(probe.examples) for probe in asked)
        rows.append(
            Row(f"eval: {kind}", f"{done / seconds:,.0f} {unit}/s", "", f"{done:,.0f} {unit} in {seconds:.1f} s")
        )
        broken |= set(found.broken)
    planned = plan_parts(place, place.scratch / "trained", place.sizes.tokens)["measuring"]
    return [
        *rows,
        Row("eval: probes that broke down", ", ".join(sorted(broken)) or "none", "", "", "none", not broken),
        memory_row("eval: peak memory", place.peak(), planned, place.judged, None),
    ]


WORK = {
    "logprob": ("positions", "positions"),
    "generate": ("row_steps", "tokens"),
    "gradnorm": ("", "texts"),
    "divergence": ("positions", "positions of both models"),
}
"""Kind of probe -> what of its cost is counted, and its unit; a divergence's seconds hold the opening of the other model."""


# The command

STEPS: Mapping[str, Callable[[Place], list[Row]]] = {"scores": check_scores, "train": train_large, "eval": eval_large}


def run_step(name: str, asked: argparse.Namespace, scratch: Path) -> list[Row]:
    """A step in a process of its own; a row that says why where it fails or takes too long."""
    words = [sys.executable, "-m", "tests.gpu.check", "--out", str(asked.out), "--device", asked.device, "--step", name]
    words += ["--scratch", str(scratch), *(["--small"] if asked.small else [])]
    result = scratch / f"{name}.json"
    began = time.perf_counter()
    try:
        code = subprocess.run(words, timeout=LIMITS[name], stdout=sys.stderr).returncode
        failure = f"the step ended with {code}" if code else ""
    except subprocess.TimeoutExpired:
        failure = f"the step took longer than {LIMITS[name]} s"
    print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if failure or not result.is_file():
        return [Row(name, failure or "the step left nothing", good=False)]
    return [Row(**row) for row in json.loads(result.read_text())]


def about(asked: argparse.Namespace) -> Json:
    """What the numbers were had on."""
    gpu = machine.ask_gpu(asked.device) if asked.device != "cpu" else None
    names = {"torch": version("torch"), "transformers": version("transformers"), "python": platform.python_version()}
    size = f" with {format_bytes(gpu.bytes)}" if gpu else ""
    return {"device": (gpu.name if gpu else asked.device) + size, "cores": os.cpu_count(), **names}


def markdown(facts: Json, rows: list[Row]) -> str:
    """The table."""
    verdicts = {True: "good", False: "**FAILED**", None: ""}
    lines = [", ".join(f"{name} {value}" for name, value in facts.items()), ""]
    lines += ["| what | device | beside | difference, ratio | allowed | |", "| --- | --: | --: | --: | --: | --- |"]
    cells = ((row.what, row.device, row.beside, row.apart, row.allowed, verdicts[row.good]) for row in rows)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells), ""])


def find_problems(device: str) -> list[str]:
    """What is in the way, as sentences."""
    if lacking := [name for name in ("torch", "transformers") if find_spec(name) is None]:
        return [f"This Python has no {' and no '.join(lacking)}: name one with the package's requirements by PYTHON."]
    if found := machine.device_problems(device):
        return found
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        return [f"--device {device}: torch {torch.__version__} sees no GPU; install the build for this driver."]
    return []


def main() -> int:
    """The command, and each of its steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder of the tables.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="Tiny models, to see on a CPU that the script runs.")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.device == "cpu" and not asked.small:
        parser.error("--device cpu needs --small: the large model takes hours there.")
    if asked.step:
        place = Place(asked.device, SMALL if asked.small else LARGE, asked.scratch, judged=not asked.small)
        rows = [asdict(row) for row in STEPS[asked.step](place)]
        (asked.scratch / f"{asked.step}.json").write_text(json.dumps(rows))
        return 0
    if problems := find_problems(asked.device):
        parser.error(" ".join(problems))
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        rows = [row for name in STEPS for row in run_step(name, asked, Path(scratch))]
    facts = about(asked)
    passed = all(row.good is not False for row in rows)
    table = {"machine": facts, "passed": passed, "rows": [asdict(row) for row in rows]}
    (asked.out / "table.json").write_text(json.dumps(table, indent=1) + "\n")
    (asked.out / "table.md").write_text(markdown(facts, rows))
    print(markdown(facts, rows))
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
