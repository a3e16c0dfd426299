"""Records of schema 1 as records of schema 2: `python -m tests.migrations.schema_2 FOLDER`.

In schema 2 a spec says every field, and its task's parameters are those of its own tier alone. Keys and file names follow
from the spec; scores, lineage and everything else stay as they are. Rows of searches (``tune/rows``) are named by key
and say no spec: `bench tune` makes them again from the store.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.core import registry
from bench.core.files import write_text
from bench.core.record import Record, RunSpec
from bench.core.types import Json
from bench.records.files import NOT_RECORDS

UNSAID: Json = {"start": "", "lean": False, "kinds": [], "compute": {}}
"""What schema 1 left out where it stood at its default."""
FORMER = {"history_steps", "target_steps"}
"""Parameters that the lab's tasks had then, which records of the other tier said too."""


def renewed_params(task: str, tier: str, params: Mapping[str, Any]) -> Json:
    """The parameters of the task's class in the tier: as the spec says them, else at the default it left unsaid."""
    tiers = {
        other: registry.default_params(registry.load_task(task, other)) for other in registry.components("tasks")[task]
    }
    known = {name for defaults in tiers.values() for name in defaults} | FORMER
    assert set(params) <= known, f"{task} has no parameters {sorted(set(params) - known)}"
    return tiers[tier] | {name: value for name, value in params.items() if name in tiers[tier]}


def renewed_spec(spec: Json) -> Json:
    """A spec of schema 2, with its key; what an imported record says of its task are no parameters."""
    whole = UNSAID | {name: value for name, value in spec.items() if name != "key"}
    if "imported" not in spec["hashes"]:
        whole["task_params"] = renewed_params(spec["task"], spec["tier"], spec["task_params"])
    return RunSpec.from_json(whole).to_json() | {"key": RunSpec.from_json(whole).key}


def renewed_record(data: Json) -> Json:
    """A record of schema 2."""
    return {**data, "schema": 2, "spec": renewed_spec(data["spec"])}


def renewed_study(data: Json) -> Json:
    """An ablation's study whose records are of schema 2."""
    place = data["place"]
    findings = [finding | {"record": renewed_record(finding["record"])} for finding in data["findings"]]
    params = renewed_params(place["task"], place["tier"], place["params"])
    return {**data, "place": {**place, "params": params}, "findings": findings}


def old_files(folder: Path) -> Iterator[tuple[Path, Json]]:
    """Records and studies of schema 1 below a results folder."""
    for file in sorted(folder.rglob("*.json")):
        inside = file.relative_to(folder).parts[0]
        if inside in NOT_RECORDS and inside != "ablations":
            continue
        data = json.loads(file.read_text())
        records = [finding["record"] for finding in data.get("findings", ())] if inside == "ablations" else [data]
        if any("spec" in record and record.get("schema") == 1 for record in records):
            yield file, data


def migrate(folder: Path) -> int:
    """Renew every file of schema 1 below ``folder``; returns how many there were."""
    count = 0
    for file, data in old_files(folder):
        renewed = renewed_study(data) if "findings" in data else renewed_record(data)
        target = file if "findings" in data else folder / Record.from_json(renewed).name
        write_text(target, json.dumps(renewed, indent=1, sort_keys=True, allow_nan=False) + "\n")
        if target != file:
            file.unlink()
        count += 1
    return count


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {migrate(Path(name))} files renewed")
