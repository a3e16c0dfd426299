"""`python -m bench msa`: model state arithmetic on four folders, for every alpha and beta in one pass over them."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.assets.headers import SIZES
from bench.assets.sameness import check_match
from bench.assets.tensors import TensorFiles, open_tensor_files
from bench.core.errors import UserError, raise_problems, unknown_name
from bench.core.places import new_folder_problems
from bench.core.types import Checkpoint, Json
from bench.engines.arithmetic.writer import DTYPES, Written, check_places, left_behind

SAMPLED = 1 << 16
"""Entries of a tensor that are looked at, from its middle, for whether rounding left a difference."""
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number as people write it; Python would take more (``1_0`` is ten)."""
FEW = 0.5
"""Least share of entries that differ before one is warned."""


@dataclass(frozen=True)
class MergeOptions:
    """The options of `bench msa`, as the user typed them."""

    target: Path
    before: Path
    """theta_0: the model before it saw the forget set."""
    forget_tuned: Path
    """theta_1: theta_0 tuned on the forget set."""
    retain_tuned: Path | None
    """theta_2: theta_0 tuned on retain rows."""
    alpha: str
    """One number or several, comma-separated, as ``beta``."""
    beta: str
    dtype: str
    out: Path

    @property
    def roles(self) -> dict[str, Path]:
        """The input folders by role, in the order of `Point.coefficients`."""
        roles = {
            "target": self.target,
            "forget-tuned": self.forget_tuned,
            "retain-tuned": self.retain_tuned,
            "before": self.before,
        }
        return {role: folder for role, folder in roles.items() if folder is not None}


@dataclass(frozen=True)
class Point:
    """One alpha and beta; without a retain vector beta is None."""

    alpha: float
    beta: float | None

    @property
    def name(self) -> str:
        """The name of the point's folder: ``alpha-0.75-beta-0.25``."""
        beta = "" if self.beta is None else f"-beta-{short(self.beta)}"
        return f"alpha-{short(self.alpha)}{beta}"

    @property
    def coefficients(self) -> tuple[float, ...]:
        """Coefficients of target, forget-tuned, retain-tuned (with a beta) and before."""
        if self.beta is None:
            return 1.0, -self.alpha, self.alpha
        return 1.0, -self.alpha, self.beta, self.alpha - self.beta


def merge_checkpoints(asked: MergeOptions, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Write ``target - alpha (forget_tuned - before) + beta (retain_tuned - before)`` for every alpha and beta.

    With one alpha and one beta into ``out`` itself, else into a folder of it for each. Raises `UserError` with all of
    the user's mistakes together; a folder that holds exactly the result already stays as it is.
    """
    problems: list[str] = []
    points = parse_grid(asked, problems)
    roles = asked.roles
    checkpoints = [Checkpoint(str(folder), "", label=f"{role} ({folder.name})") for role, folder in roles.items()]
    outs = [asked.out] if len(points) == 1 else [asked.out / point.name for point in points]
    problems += check_places(outs, roles.values()) or new_folder_problems("--out", asked.out)
    try:
        with open_tensor_files(checkpoints) as readers:
            check_match(readers)
            size = sum(reader.bytes for reader in readers)
            warning = rounding_warning(tuned=readers[1], before=readers[-1])
    except UserError as error:
        problems += error.problems
    raise_problems(problems)  # before torch is imported
    if warning:
        warn(warning)
    from bench.engines.arithmetic.sums import combine_grid

    folders: Json = {role: folder.resolve().name for role, folder in roles.items()}
    notes = [
        {"alpha": point.alpha, "beta": point.beta, "dtype": asked.dtype or "the target's"} | folders for point in points
    ]
    began = time.perf_counter()
    rows = [point.coefficients for point in points]
    try:
        made = combine_grid(checkpoints, rows, outs, dtype=asked.dtype, notes=notes, keep_existing=True)
    except OSError as error:
        raise UserError(
            f"--out {asked.out}: writing it failed ({error.strerror}); make room or choose another place, and the same call "
            "goes on where it stopped."
        ) from error
    seconds = time.perf_counter() - began
    for point, out, written in zip(points, outs, made, strict=True):
        state = "is there already, the same" if written.kept else f"{len(written.files)} file(s)"
        say(f"{out}: {point.name}, {state}, {written.bytes:,} bytes")
        for file, sha in written.files.items():
            say(f"  {sha}  {file}")
    for text in dict.fromkeys(text for written in made for text in unsound_warnings(written)):
        warn(text)
    if left := left_behind(asked.target):
        say(f"Left in the target's folder, since neither config, tokenizer, template nor code: {', '.join(left)}.")
    if resumed := sum(written.resumed for written in made):
        say(f"{resumed} file(s) had been finished by an interrupted call.")
    comparing, making = any(written.compared for written in made), not all(written.kept for written in made)
    if comparing:
        say("An input has another time than when a result was made: computed again to compare, the same.")
    if comparing or making:
        say(f"{seconds:.1f} s; read {size:,} bytes {'twice' if comparing and making else 'once'}.")


def unsound_warnings(written: Written) -> list[str]:
    """Sentences about terms with entries that are no finite numbers."""
    return [
        f"warning: {label} has NaN or infinite entries in {len(names)} tensor(s), the first is '{names[0]}', and so has every "
        "sum with it: train or copy that model again."
        for label, names in sorted(written.unsound.items())
    ]


def parse_grid(asked: MergeOptions, problems: list[str]) -> list[Point]:
    """Every alpha with every beta; mistakes in the options go to ``problems``."""
    alphas = parse_numbers("--alpha", asked.alpha, problems)
    betas: Sequence[float | None] = parse_numbers("--beta", asked.beta, problems) if asked.beta else [None]
    if asked.beta and not asked.retain_tuned:
        problems.append("--beta goes with --retain-tuned: give the model tuned on retain rows, or leave --beta out.")
    if asked.retain_tuned and not asked.beta:
        problems.append(
            "--retain-tuned goes with --beta: say how much of the retain vector to add, such as --beta 0.25."
        )
    if asked.dtype and asked.dtype not in DTYPES:
        problems.append(unknown_name("dtype", asked.dtype, DTYPES))
    return [Point(alpha, beta) for alpha, beta in product(alphas, betas)]


def parse_numbers(option: str, text: str, problems: list[str]) -> list[float]:
    """Comma-separated numbers, finite, not negative and none twice; what is wrong goes to ``problems``."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    found = [float(word) + 0.0 for word in words] if all(map(NUMBER.fullmatch, words)) else []
    if not found or not all(map(math.isfinite, found)):
        problems.append(f"{option} {text}: write a number, or several with commas, such as 0.75 or 0.5,0.75,1.")
    elif min(found) < 0:
        problems.append(
            f"{option} {text}: it is 0 or more (the signs are in the formula: target - alpha ... + beta ...)."
        )
    elif len(set(found)) < len(found):
        problems.append(f"{option} {text} names a number twice: leave one out.")
    return found


def short(value: float) -> str:
    """A number as short as it can be written without loss: 1, 0.25."""
    return repr(value).removesuffix(".0")


def rounding_warning(*, tuned: TensorFiles, before: TensorFiles) -> str:
    """A sentence where both are bfloat16 and few of the sampled entries differ; empty otherwise.

    bfloat16 keeps 8 bits of a weight, so that a small step of training often leaves it where it was.
    """
    differ = sampled = 0
    for name in tuned.names:
        one, two = tuned.entries[name], before.entries.get(name)
        if two is None or one.shape != two.shape or (one.dtype, two.dtype) != ("BF16", "BF16"):
            continue
        count = min(SAMPLED, one.count)
        begin = (one.count - count) // 2 * SIZES["BF16"]
        a, b = bytearray(count * SIZES["BF16"]), bytearray(count * SIZES["BF16"])
        tuned.read(name, begin, memoryview(a))
        before.read(name, begin, memoryview(b))
        sampled += count
        differ += count_differing(a, b)
    if not sampled or differ / sampled >= FEW:
        return ""
    return (
        f"warning: forget-tuned and before are bfloat16 and only {differ / sampled:.1%} of {sampled:,} sampled entries "
        "differ: rounding may have lost the rest of the vector; tune and save both in float32 to keep it."
    )


def count_differing(one: bytearray, two: bytearray) -> int:
    """Count the 16-bit entries in which two buffers differ."""
    import numpy

    return int((numpy.frombuffer(one, numpy.uint16) != numpy.frombuffer(two, numpy.uint16)).sum())
