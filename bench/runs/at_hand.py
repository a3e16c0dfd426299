"""What of the stages that runs share the store has already: looked up, nothing is built or loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.core.compute import WHOLE_STEP
from bench.core.contracts import Node
from bench.core.errors import UNUSABLE, Unmet, UserError
from bench.core.hashing import canonical_json
from bench.core.record import Record, RunSpec
from bench.core.types import Json
from bench.records.files import load_records
from bench.runs.context import Work
from bench.runs.nodes import read_node
from bench.runs.setting import Paths, build_setting, task_of_spec
from bench.runs.store import NodeRequest, Store


class NotThere(Exception):
    """A node that the store doesn't have."""


class Looking(Work):
    """A context that builds nothing: what isn't there is `NotThere`."""

    def node(
        self,
        fields: Json,
        make: Callable[[Path], Json | None],
        label: str,
        expect: Callable[[], float] | None = None,
        shared: bool = False,
    ) -> Node:
        """The node of ``fields`` as the store has it; its files are not read."""
        asked = NodeRequest({"owner": self.owner, **fields}, label, self.provenance)
        node = read_node(self.store.path(asked.key))
        if node is None:
            raise NotThere(label)
        return node


def find_stages(specs: Sequence[RunSpec], paths: Paths, out: Path, store: Store, device: str) -> dict[int, set[str]]:
    """Seed -> the stages of its scenario that the store has: ``history``, ``target``, ``oracle-0`` ...

    A lab is prepared for that, which takes a moment. Where preparing takes a model, the finished records in ``out`` say
    what was made for the same scenario.
    """
    first = {spec.seed: spec for spec in reversed(specs)}
    if not first:
        return {}
    if specs[0].tier == "lab":
        return {seed: look_for_stages(spec, paths, store, device) for seed, spec in sorted(first.items())}
    given = {checkpoint for entry in store.index() for checkpoint in entry["gives"]}
    records = load_records(out).records if out.is_dir() else []
    return {seed: told_stages(spec, records, given) for seed, spec in sorted(first.items())}


def look_for_stages(spec: RunSpec, paths: Paths, store: Store, device: str) -> set[str]:
    """The stages of a lab's scenario that the store has."""
    found = set()
    with suppress(NotThere, OSError, Unmet, UserError, *UNUSABLE):  # what is wrong is said where it is built
        work = Looking(store, spec.seed, {}, device, WHOLE_STEP)
        scenario = task_of_spec(spec).prepare(work, build_setting(spec, paths))
        stages: dict[str, Callable[[], Any] | None] = {"history": scenario.history, "target": scenario.target}
        stages |= {f"oracle-{i}": oracle for i, oracle in enumerate(scenario.oracles)}
        for name, look in stages.items():
            with suppress(NotThere):
                if look is not None:
                    look()
                    found.add(name)
    return found


def told_stages(spec: RunSpec, records: Sequence[Record], given: set[str]) -> set[str]:
    """The stages that a finished record of the same scenario names, and that are among the ``given`` checkpoints."""
    found = set()
    for record in records:
        if record.status == "done" and scenario_of(record.spec) == scenario_of(spec):
            made = {"target": record.lineage.get("target")}
            made |= {f"oracle-{i}": one for i, one in enumerate(record.lineage.get("oracles", ()))}
            found |= {name for name, checkpoint in made.items() if checkpoint in given}
    return found


def scenario_of(spec: RunSpec) -> str:
    """What decides a run's target and oracles."""
    outside = {name: value for name, value in spec.hashes.items() if name in ("data", "model", "target")}
    return canonical_json([spec.task, spec.task_params, spec.model, spec.seed, spec.compute.to_json(), outside])
