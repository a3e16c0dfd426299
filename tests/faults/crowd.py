"""1, 2, 4 and 8 commands at once on one store and one ``--out``: nothing is built twice, and all end as one does alone."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.core.types import Json
from tests.faults.campaign import Case, Kind
from tests.faults.compare import judge, judge_end, judge_facts, judge_processes
from tests.faults.ground import SCENES, Done

SIZES = (2, 4, 8, 1)
MIXES: tuple[tuple[str, ...], ...] = (
    ("run",),
    ("publish",),
    ("fetch",),
    ("run", "tune", "ablate"),
    ("eval",),
    ("books",),
)
"""Scenes whose commands are given at once, in turn."""


def attempt(case: Case) -> None:
    """Several scenes' commands at once, at random moments of a second, in fresh processes or warm ones."""
    rng, ground = case.rng, case.ground
    names = MIXES[case.number % len(MIXES)]
    size = SIZES[case.number // len(MIXES) % len(SIZES)]
    fresh = rng.random() < 0.3
    case.what = f"{size} at once: {', '.join(names)}{' in fresh processes' if fresh else ''}"
    case.tried = size
    folder = case.folder / "place"
    for name in names:
        ground.begin(name, folder)
    delays = [rng.uniform(0, 1) for _ in range(size)]

    def take_part(number: int) -> list[Done]:
        time.sleep(delays[number])
        return ground.redo(SCENES[names[number % len(names)]], folder, fresh, case.folder.name)

    with ThreadPoolExecutor(size) as pool:
        ended = list(pool.map(take_part, range(size)))
    for done in ended:
        judge(case, done)
    judge_processes(case)
    for stage, times in count_stages(ended).items():
        if times > 1:
            case.unhelpful(f"{stage} was built {times} times")
    expected: Json = {}
    for name in names[:size]:
        expected |= ground.made(name).facts
    judge_facts(case, expected, folder)
    if len(names) == 1:
        judge_end(case, names[0], folder)


def count_stages(ended: Sequence[Sequence[Done]]) -> Counter[str]:
    """How often each stage that all share was built, by what the commands said."""
    shared = re.compile(r"^\S+ seed (\d+) (fresh weights|history|target|oracle-\d|measure .*|theta_1): done in", re.M)
    texts = [each.text for done in ended for each in done if each.words[0] == "run"]
    return Counter(f"{stage} of seed {seed}" for text in texts for seed, stage in shared.findall(text))


KIND = Kind("crowd", short=(0, 7), long=24, attempt=attempt, jobs=1)
