"""What makes an experiment void or weak, said beside its scores: on the terminal, on a page, in a report.

A target that hasn't learnt, an oracle that knows, a single oracle, a collapsed method, borrowed settings: a line each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from bench.core.texts import one_line
from bench.core.types import BROKEN_DOWN
from bench.records.markdown import format_number, seed_list
from bench.records.tables import ORACLE, TARGET, Section, TableRow

VOID = "VOID"
"""How a line begins that says that an experiment shows nothing."""
LEARNT = 0.5
"""Share of the forget set that a target must know at least, for there to be something to forget."""
KNOWN = 0.5
"""Share of the target's score that an oracle may have at most."""
NOISE = 2.0
"""Spreads of the noise by which target and oracle must lie apart."""
TUNED = "bench tune"
"""What the source of a setting says that was searched."""
BY_HAND = ("set by the user",)
"""Sources of settings that nobody takes for searched ones."""


def find_warnings(section: Section) -> list[str]:
    """A line for each thing that a reader of a section's scores must know; none where it is sound."""
    return [
        *what_was_learnt(section),
        *lone_oracles(section),
        *filter(None, map(describe_wreck, section.rows)),
        *borrowed_settings(section),
    ]


def what_was_learnt(section: Section) -> Iterator[str]:
    """Whether the target knows what is to be forgotten and the oracle doesn't, by the score that forgetting is told by."""
    target = section.row(TARGET)
    name = section.primary.get("forgetting") or next(iter(section.forgetting), "")
    if target is None or name not in target.cells:
        return
    noise = section.noise[name].sd if name in section.noise else 0.0
    pairs = {
        seed: (value, oracle)
        for seed, value in target.cells[name].by_seed.items()
        if (oracle := section.oracle_mean(name, seed)) is not None
    }
    unlearnt = {
        seed: value for seed, value in target.cells[name].by_seed.items() if is_share(target, name) and value < LEARNT
    }
    if unlearnt:
        mean = format_number(fmean(unlearnt.values()))
        yield (
            f"{VOID} on {seed_list(list(unlearnt))}: the target has hardly learnt what is to be forgotten ({name} {mean}, "
            f"at least {LEARNT} is needed), so that forgetting shows nothing"
        )
    close = {seed: pair for seed, pair in pairs.items() if seed not in unlearnt and are_close(*pair, noise)}
    if close:
        of_target, of_oracle = (format_number(fmean(values)) for values in zip(*close.values(), strict=True))
        yield (
            f"{VOID} on {seed_list(list(close))}: the oracle knows what it never saw ({name} {of_oracle}, the target "
            f"{of_target}), so that nothing tells forgetting from knowing"
        )


def is_share(row: TableRow, name: str) -> bool:
    """Whether a score is a share of right answers or a probability, which says how much a model knows."""
    scores = [record.scores[name] for record in row.records if name in record.scores]
    return all(not score.unit and 0 <= score.value <= 1 for score in scores) and "loss" not in name


def are_close(target: float, oracle: float, noise: float) -> bool:
    """Whether target and oracle can't be told apart: by the noise, or as half of what one scores the other does too."""
    gap = abs(target - oracle)
    return gap <= NOISE * noise or gap < (1 - KNOWN) * max(abs(target), abs(oracle))


def lone_oracles(section: Section) -> Iterator[str]:
    """Seeds with one oracle, whose distance from another one, which is the noise, nobody knows; and those with none."""
    counts = {seed: count_oracles(section.oracles.get(seed, {})) for row in section.rows for seed in row.seeds}
    imported = any("imported" in record.provenance for row in section.rows for record in row.records)
    if alone := [seed for seed, count in counts.items() if count == 1]:
        yield (
            f"one oracle on {seed_list(alone)}: how far two retrainings lie apart is not known, so that a small distance "
            "from it can't be told from none"
        )
    if (bare := [seed for seed, count in counts.items() if not count]) and not imported:
        yield f"no oracle on {seed_list(bare)}: nothing here is a distance from the model retrained without the forget set"


def count_oracles(values: Mapping[str, Sequence[float]]) -> int:
    """Oracles of a seed."""
    return max(map(len, values.values()), default=0)


def borrowed_settings(section: Section) -> Iterator[str]:
    """Methods whose settings were not searched on this task: defaults, a paper's, another task's."""
    here = f"{section.tier}-{section.task}"
    found = []
    for row in section.rows:
        spec = row.records[0].spec
        if row.method in (TARGET, ORACLE) or row.is_control or not any(step.params for step in spec.steps):
            continue
        sources = [str(source) for source in row.records[0].facts.get("source", ())]
        if borrowed := [source for source in sources if is_borrowed(source, here)]:
            found.append(f"{one_line(row.name)} ({one_line(borrowed[0].partition(': ')[0])})")
    if found:
        yield f"borrowed settings, not searched on this task: {', '.join(found)}; `python -m bench tune` searches them"


def is_borrowed(source: str, here: str) -> bool:
    """Whether a setting of that source is neither a search's of this place nor the user's own."""
    if source in BY_HAND:
        return False
    return TUNED not in source or "not searched" in source or not (source.startswith(here) or f"/{here}-" in source)


def describe_wreck(row: TableRow) -> str:
    """A line about a row that is a wreck on some seed: broken down, diverged or collapsed; empty for others."""
    broken = [record.spec.seed for record in row.records if BROKEN_DOWN in record.absent.values()]
    exploded = [seed for seed in row.diverged if seed not in broken]
    left = [seed for seed in row.collapsed if seed not in row.diverged]
    said = [
        *([f"on {seed_list(broken)}: {BROKEN_DOWN}"] if broken else []),
        *([f"on {seed_list(exploded)}: its training diverged"] if exploded else []),
        *([f"on {seed_list(left)}: it has collapsed, and its scores are those of a wreck"] if left else []),
    ]
    return f"{one_line(row.name)} {'; '.join(said)}" if said else ""
