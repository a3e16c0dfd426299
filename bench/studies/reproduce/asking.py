"""From a recipe to what `bench run` is asked: the user's changes, the rows in groups, the history file, what to fetch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.assets.data_sets import data_folder
from bench.assets.models import canonical_name, command_to_fetch, folder_name
from bench.core.compute import UNSAID, USUAL
from bench.core.errors import UserError, collecting, mistakes_in, raise_problems, unknown_name
from bench.core.files import write_text
from bench.core.machine import Machine
from bench.core.types import Json
from bench.runs.asked import Asked
from bench.studies.reproduce import recipes
from bench.studies.reproduce.recipe import ORACLE, TARGET, Recipe, RecipePanel, RecipeRow
from bench.tracking.guarded import tracker_problems

RUN = "run"
"""The component of ``--set`` that is no task and no method: how training computes, and what goes on after a method."""
COMPUTE = {name: type(value) for name, value in {**vars(USUAL), "checkpointing": False}.items()}
"""Parameter of `RUN` -> its type."""
FRAME = (TARGET, ORACLE)
SCALES = ("full", "smoke")


def with_changes(recipe: Recipe, sets: Sequence[str]) -> Recipe:
    """The recipe with the user's ``component.parameter=value``; a component is its task, a method, a row, or `RUN`."""
    if any(split_change(text) == (RUN, "dtype") for text in sets):
        # a recipe's autocast is over float32 weights; who names a dtype means that one
        recipe = replace(recipe, compute={name: v for name, v in recipe.compute.items() if name != "autocast"})
    with collecting():
        for text in sets:
            with mistakes_in(f"--set {text}: "):
                recipe = with_change(recipe, text)
    return recipe


def with_change(recipe: Recipe, text: str) -> Recipe:
    """The recipe with one change; `UserError` says why there is no such one."""
    _, equals, value = text.partition("=")
    owner, name = split_change(text)
    if not equals or not name or not owner:
        raise UserError("write it as component.parameter=value, such as msa.alpha=1.5.")
    known = components(recipe)
    if owner not in known:
        raise UserError(unknown_name(f"component of {recipe.name}", owner, known))
    if owner == RUN:
        return with_computing(recipe, name, value.strip())
    return replace(recipe, panels=tuple(with_value(recipe, p, owner, name, value.strip()) for p in recipe.panels))


def split_change(text: str) -> tuple[str, str]:
    """The component and the parameter that a ``component.parameter=value`` names; empty what it doesn't name."""
    component, _, parameter = text.partition("=")[0].strip().rpartition(".")
    return component, parameter


def changes_of_all_rows(recipe: Recipe, sets: Sequence[str]) -> list[str]:
    """Those of the user's changes that no row escapes: the task's, and how things are computed."""
    return [text for text in sets if split_change(text)[0] in (recipe.task, RUN)]


def is_changed(arm: RecipeRow, sets: Sequence[str]) -> bool:
    """Whether the user has changed this row's own settings."""
    return any(split_change(text)[0] in (arm.method, arm.published) for text in sets)


def components(recipe: Recipe) -> list[str]:
    """The components that ``--set`` may name."""
    arms = [arm for panel in recipe.panels for arm in panel.arms if arm.method and arm.method not in FRAME]
    return list(dict.fromkeys([recipe.task, RUN, *(arm.method for arm in arms), *(arm.published for arm in arms)]))


def with_value(recipe: Recipe, panel: RecipePanel, owner: str, name: str, value: str) -> RecipePanel:
    """The panel with one parameter changed."""
    if owner == recipe.task:
        return replace(panel, params={**panel.params, name: value})
    arms = tuple(
        replace(arm, params={**arm.params, name: value}) if owner in (arm.method, arm.published) else arm
        for arm in panel.arms
    )
    return replace(panel, arms=arms)


def with_computing(recipe: Recipe, name: str, value: str) -> Recipe:
    """The recipe with another way to compute, or another thing to do after each method (``none``: nothing)."""
    if name == "then":
        return replace(recipe, then=() if value == "none" else tuple(value.split(",")))
    if name not in COMPUTE:
        raise UserError(unknown_name(f"parameter of {RUN}", name, [*COMPUTE, "then"]))
    kind = COMPUTE[name]
    if kind is bool and value not in ("true", "false"):
        raise UserError("the value must be true or false.")
    if kind is int and not value.isdecimal():
        raise UserError("the value must be a whole number.")
    made: Any = value == "true" if kind is bool else kind(value)
    return replace(recipe, compute={**recipe.compute, name: made})


def with_methods(recipe: Recipe, methods: Sequence[str]) -> Recipe:
    """The recipe with these methods or rows alone, beside target and oracle; all when none is named."""
    if not methods:
        return recipe
    known = [name for name in components(recipe) if name not in (recipe.task, RUN)]
    raise_problems([f"--methods: {unknown_name('row', name, known)}" for name in methods if name not in known])

    def kept(arm: RecipeRow) -> bool:
        return arm.method in FRAME or not arm.method or bool({arm.method, arm.published} & set(methods))

    panels = [replace(panel, arms=tuple(filter(kept, panel.arms))) for panel in recipe.panels]
    left = [panel for panel in panels if any(arm.method not in ("", *FRAME) for arm in panel.arms)]
    return replace(recipe, panels=tuple(left))


def groups_of_rows(panel: RecipePanel) -> list[list[RecipeRow]]:
    """The rows that one command can make together: each method once."""
    found: list[list[RecipeRow]] = [[]]
    for arm in panel.arms:
        if not arm.method or arm.method in FRAME:
            continue
        free = next((group for group in found if arm.method not in {other.method for other in group}), None)
        if free is None:
            found.append([arm])
        else:
            free.append(arm)
    return found


def asked_of(
    recipe: Recipe, panel: RecipePanel, seeds: tuple[int, ...], history: str
) -> list[tuple[Asked, list[RecipeRow]]]:
    """The request to `bench run` for each group of rows; target and oracle come with every group, once made."""
    compute = replace(UNSAID, **{name: value for name, value in recipe.compute.items() if name != "checkpointing"})
    return [
        (
            Asked(
                task=recipe.task,
                methods=tuple(arm.method for arm in group) or (TARGET,),
                sets=(
                    *as_set_texts(recipe.task, panel.params),
                    *(text for arm in group for text in as_set_texts(arm.method, arm.params)),
                ),
                seeds=seeds,
                model=panel.model,
                data=recipe.data,
                history=history,
                study=f"reproduce-{recipe.name}",
                target=panel.target,
                oracles=panel.oracles,
                then=recipe.then if group else (),
                compute=compute,
            ),
            group,
        )
        for group in groups_of_rows(panel)
    ]


def as_set_texts(component: str, params: Mapping[str, Any]) -> list[str]:
    """Parameters as ``--set`` takes them."""
    return [f"{component}.{name}={value}" for name, value in params.items()]


def history_file(panel: RecipePanel, past: Sequence[str], folder: Path) -> str:
    """The file that names the earlier checkpoints of a panel (`bench.assets.history`); empty where the model is enough.

    ``past`` is the recipe's own list, whatever rows were chosen, so that the choice changes no run's key.
    """
    if not past:
        return ""
    base, _, _ = panel.model.partition("@")
    entries: list[Json] = []
    for name in past:
        if name in panel.stand_ins:
            step = {"step": 0, "stage": "base"} if "/" in name else {}
            entries.append({"path": str(Path(panel.stand_ins[name]).resolve()), "revision": name, **step})
        elif "/" in name:
            entries.append({"model": name, "step": 0, "stage": "base"})
        else:
            entries.append({"model": base, "revision": name})
    file = folder / f"{panel.name}.json"
    write_text(file, json.dumps({"checkpoints": entries}, indent=1) + "\n")
    return str(file)


def models_of(panel: RecipePanel) -> list[str]:
    """Every model that a panel needs, as `bench fetch` calls them."""
    base, _, _ = panel.model.partition("@")
    past = [name if "/" in name else f"{base}@{name}" for name in panel.past if name not in panel.stand_ins]
    return list(dict.fromkeys([panel.model, *past, *filter(None, [panel.target]), *panel.oracles]))


def to_fetch(recipe: Recipe, store: Path) -> list[str]:
    """The commands that fetch what isn't there yet; a damaged model is found when the plan is made."""
    wanted = dict.fromkeys(name for panel in recipe.panels for name in models_of(panel))
    lacking = [name for name in wanted if not (store / "models" / folder_name(canonical_name(name))).is_dir()]
    commands = [command_to_fetch(name) for name in lacking if not Path(name).is_dir()]
    if recipe.data == "hub" and recipe.panels and not data_folder(recipe.task, store / "data").is_dir():
        commands.append(command_to_fetch(recipe.task))
    return commands


@dataclass(frozen=True)
class ReproduceRequest:
    """The user's request as it was typed, not yet understood."""

    name: str
    out: Path
    store: Path
    device: str = "cpu"
    jobs: int | None = None
    seeds: tuple[int, ...] = ()
    """Empty: the recipe's own."""
    sets: tuple[str, ...] = ()
    track: str = "none"
    methods: tuple[str, ...] = ()
    scale: str = "full"
    data: str = ""
    """A folder in the benchmark's layout; empty: what was fetched."""
    problems: tuple[str, ...] = ()

    def machine(self, recipe: Recipe) -> Machine:
        """Where the recipe's runs are made."""
        out, checkpointing = self.out / recipe.name, bool(recipe.compute.get("checkpointing", False))
        return Machine(out, self.store, self.jobs, self.device, checkpointing=checkpointing, track=self.track)

    @property
    def command(self) -> str:
        """The command that makes the same table, without where its files lie."""
        words = ["python", "-m", "bench", "reproduce", self.name]
        words += ["--scale", self.scale] if self.scale != "full" else []
        words += ["--seeds", ",".join(map(str, self.seeds))] if self.seeds else []
        words += ["--methods", ",".join(self.methods)] if self.methods else []
        return shlex.join([*words, *(word for text in self.sets for word in ("--set", text))])


def prepare_recipe(wanted: ReproduceRequest) -> Recipe:
    """The recipe as the user wants it, at full scale; one `UserError` for all that stands against it."""
    if not wanted.name:
        raise UserError("Name a table, such as t1-tofu01; `python -m bench reproduce --list` has them.")
    recipe = recipes.recipe_named(wanted.name)
    problems = [*wanted.problems]
    if wanted.scale not in SCALES:
        problems.append("--scale: " + unknown_name("scale", wanted.scale, SCALES))
    problems += tracker_problems(wanted.track)
    if not recipe.panels:
        problems.append(
            f"{recipe.name} can't be run here: {recipe.note}. `python -m bench reproduce --list` has others."
        )
    if wanted.data and wanted.scale == "smoke":
        problems.append("--data goes with --scale full: at smoke scale the rows are generated.")
    raise_problems(problems)
    recipe = with_methods(with_changes(recipe, wanted.sets), wanted.methods)
    return replace(recipe, seeds=wanted.seeds or recipe.seeds, data=wanted.data or recipe.data)
