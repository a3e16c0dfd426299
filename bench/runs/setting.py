"""Where a run's model, data and past lie, and the setting that a task is prepared on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core import registry
from bench.core.contracts import TaskInputs
from bench.core.errors import UserError
from bench.core.record import RunSpec
from bench.core.types import Checkpoint, Json


@dataclass(frozen=True)
class Paths:
    """Where a worker finds what comes from outside; never part of a spec or a record."""

    model: str = ""
    data: str = ""
    lm_eval: str = ""
    """Folder with offline copies of lm-eval's data; empty: the hub."""
    history: str = ""
    """File or folder with the model's past (`bench.assets.history_file.load_history`); empty: the model alone."""
    target: str = ""
    """Folder of a target that was trained elsewhere; empty: the task trains it."""
    oracles: tuple[str, ...] = ()
    """Folders of retrained models from elsewhere."""

    def to_json(self) -> Json:
        """The object as plain JSON."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Json) -> Paths:
        """The inverse of `to_json`, after JSON has made lists of tuples."""
        return cls(**{**data, "oracles": tuple(data.get("oracles", ()))})

    def folders(self) -> list[str]:
        """Every place that is named."""
        return list(filter(None, (self.model, self.data, self.lm_eval, self.history, self.target, *self.oracles)))


def task_of_spec(spec: RunSpec) -> Any:
    """The task of a spec with its parameters."""
    return registry.load_task(spec.task, spec.tier)(**spec.task_params)


def build_setting(spec: RunSpec, paths: Paths) -> TaskInputs:
    """The tier and the outside world of a spec."""
    dtype = spec.compute.dtype

    def outside(folder: str, name: str) -> Checkpoint:
        return Checkpoint(folder, spec.hashes[name], dtype=dtype, label=name)

    return TaskInputs(
        spec.tier,
        paths.model,
        spec.hashes.get("model", ""),
        paths.data,
        paths.history,
        model=spec.model,
        dtype=dtype,
        target=outside(paths.target, "target") if paths.target else None,
        oracles=tuple(outside(folder, f"oracle-{i}") for i, folder in enumerate(paths.oracles)),
    )


def spec_from_file(path: Path) -> tuple[RunSpec, Paths]:
    """A spec and its paths from the file that `bench exec` is given."""
    try:
        data = json.loads(path.read_text())
        return RunSpec.from_json(data["spec"]), Paths.from_json(data.get("paths", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path.name}' is not a run's spec: {error}.") from error
