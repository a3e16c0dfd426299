"""Which records are one row, which are the same run, and which can't stand in one table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

from bench.core import registry
from bench.core.errors import UNUSABLE, UserError
from bench.core.hashing import canonical_json
from bench.core.record import Record

ENGINES = ("training", "arithmetic", "measure")
"""How a run's versions call what trains, adds up and measures (`bench.core.versions`)."""
UNREADABLE = (*UNUSABLE, UserError)
"""What a method that isn't installed here, or that has other parameters today, makes of a record's."""


def setting_key(record: Record) -> tuple[str, str]:
    """What the records of one row have in common: the method, and its complete setting."""
    return record.spec.method, canonical_json([*(dict(step.params) for step in record.spec.steps), _past(record)])


def is_called(record: Record, name: str) -> bool:
    """Whether a run is of the method and variant ``name``, such as ``npo@small-retain``, whatever its parameters add.

    On the books NPO's own preset divides by tokens, which makes its row ``npo@per-token``.
    """
    spec = record.spec
    if spec.method == name:
        return True
    method, _, variant = name.partition("@")
    if len(spec.steps) != 1 or spec.steps[0].method != method or spec.start or spec.attack:
        return False
    with suppress(*UNREADABLE):
        kind = registry.load_component("methods", method)
        return spec.steps[0].variant == registry.name_variant(kind, spec.steps[0].params, variant)
    return False


def is_preset(record: Record, name: str) -> bool:
    """Whether a run has the parameters that its place's preset gives to the method and variant ``name`` today."""
    method, _, variant = name.partition("@")
    with suppress(*UNREADABLE):
        kind = registry.load_component("methods", method)
        params = registry.preset_params(kind, f"{record.spec.tier}-{record.spec.task}", variant)
        return params is not None and dict(record.spec.steps[0].params) == registry.said_params(kind, params)
    return False


def params_of(record: Record) -> dict[str, Any]:
    """The parameters of a run's only step; of several steps with the step's place and method before each name."""
    steps = record.spec.steps
    if len(steps) == 1:
        return {**steps[0].params, **_past(record)}
    return {f"{i}.{step.method}.{k}": v for i, step in enumerate(steps, start=1) for k, v in step.params.items()}


def _past(record: Record) -> dict[str, str]:
    """The content of the history that a row has made use of, where the user named one."""
    used = record.facts.get("history_used") and record.spec.hashes.get("history")
    return {"history": used[:8]} if used else {}


def conditions_of(record: Record) -> dict[str, Any]:
    """The conditions of a run besides method and seed: runs under other conditions stand in another table."""
    spec = record.spec
    limit = {"limit": spec.limit} if spec.limit is not None else {}
    asked = {"lm-eval": " ".join(spec.lm_eval)} if spec.lm_eval else {}
    origin = {name: value[:8] for name, value in origin_of(record).items()}
    return {**spec.task_params, **limit, **asked, **spec.compute.to_json(), **origin}


def origin_of(record: Record) -> dict[str, str]:
    """Contents of what came from outside and is the same for every row: other rows or another model, another table."""
    return {name: value for name, value in record.spec.hashes.items() if name in ("data", "model")}


def name_rows(records: Sequence[Record]) -> dict[tuple[str, str], str]:
    """The method's name, and where rows share it what tells their settings apart."""
    same = defaultdict(list)
    for record in records:
        same[record.spec.method].append(record)
    names = {}
    for method, group in same.items():
        for record, difference in zip(
            group, describe_differences([params_of(record) for record in group]), strict=True
        ):
            names[setting_key(record)] = f"{method} ({difference})" if difference else method
    return names


def describe_differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each setting, as text, only what not all of them share."""
    texts = [{key: as_text(value) for key, value in setting.items()} for setting in settings]
    names = sorted({key for text in texts for key in text})
    telling = [name for name in names if len({text.get(name) for text in texts}) > 1]
    return [", ".join(f"{name}={text[name]}" for name in telling if name in text) for text in texts]


def keep_fullest(records: Sequence[Record]) -> list[Record]:
    """The records, but of one run that was asked other probes, or had a history that it made no use of, the fullest."""
    same: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        made = canonical_json([record.lineage.get("result"), dict(record.spec.versions), record.spec.order])
        same[setting_key(record), record.spec.seed, made].append(record)
    return [max(group, key=lambda record: (len(record.scores), record.name)) for group in same.values()]


def find_repeated(records: Sequence[Record]) -> list[list[Record]]:
    """Runs of one method in one setting on one seed, which differ in the order of their data alone."""
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        groups[setting_key(record), record.spec.seed].append(record)
    return [group for group in groups.values() if len(group) > 1]


def find_duplicates(records: Sequence[Record]) -> list[str]:
    """Two records of one method, setting and seed: they come from different versions of a component."""
    same = defaultdict(list)
    for record in records:
        same[setting_key(record), record.spec.seed, record.spec.order].append(record.name)
    return [
        f"This section is refused: {' and '.join(names)} are the same run by different versions; delete the older."
        for names in same.values()
        if len(names) > 1
    ]


def find_older(records: Sequence[Record]) -> dict[str, str]:
    """Name of a record -> whose older code made it, of records of one section; the newest code's alone are to be compared.

    A version counts up. Of a plug-in's code the newest is what the record has that was finished last; where none says
    when, nobody knows.
    """
    newest: dict[str, tuple[str, Any]] = {}
    for record in records:
        for name, code in code_of(record).items():
            newest[name] = max(newest.get(name, code), code)
    return {
        record.name: name.removeprefix(registry.CODE)
        for record in records
        for name, (_, code) in code_of(record).items()
        if code != newest[name][1] and (isinstance(code, int) or newest[name][0])
    }


def code_of(record: Record) -> dict[str, tuple[str, Any]]:
    """What took part in a run -> when and with which code: the hash of a plug-in's file, or the version of what is ours.

    Metrics of ours are not meant, as a score of another version is left out by itself.
    """
    spec, when = record.spec, str(record.provenance.get("finished", ""))
    ours = [spec.task, *ENGINES, *(step.method for step in spec.steps)]
    versions = {name: ("", spec.versions[name]) for name in ours if name in spec.versions}
    return versions | {name: (when, code) for name, code in spec.hashes.items() if name.startswith(registry.CODE)}


def target_faults(records: Sequence[Record]) -> list[str]:
    """Reasons why the seeds are not independent runs of one experiment; none when each has its own, single target."""
    nameless = [record.name for record in records if not record.lineage.get("target")]
    if nameless:
        return [f"This section is refused: {', '.join(nameless)} name no target in their lineage."]
    targets = defaultdict(set)
    for record in records:
        targets[record.spec.seed].add(as_text(record.lineage["target"]))
    faults = [
        f"This section is refused: the records of seed {seed} start from different targets "
        f"({', '.join(name[:10] for name in sorted(found))}); keep those of one and delete the others."
        for seed, found in sorted(targets.items())
        if len(found) > 1
    ]
    return faults + [
        f"This section is refused: seeds {one} and {other} have the same target, so they are no independent seeds; "
        "keep the records of one."
        for one, other in combinations(sorted(targets), 2)
        if targets[one] & targets[other]
    ]


def as_text(value: Any) -> str:
    """A value in words: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
