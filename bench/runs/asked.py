"""Understanding what the user typed: names, variants, settings, how training shall compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from bench.core import registry
from bench.core.compute import DTYPES
from bench.core.errors import UserError, unknown
from bench.core.record import Step
from bench.core.registry import full_variant, preset_params

LAB = "lab"

KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
"""How a parameter's type is called in a message."""


@dataclass(frozen=True)
class Asked:
    """What the user typed, not yet understood."""

    task: str
    methods: tuple[str, ...]
    """Names, ``name@variant``, or ``all``."""
    sets: tuple[str, ...] = ()
    """``component.parameter=value``."""
    seeds: tuple[int, ...] = (0, 1, 2)
    model: str = ""
    data: str = ""
    history: str = ""
    """File or folder with the model's past."""
    limit: int | None = None
    lm_eval: tuple[str, ...] = ()
    lm_eval_data: str = ""
    study: str = ""
    target: str = ""
    """A target that was trained elsewhere: known name, hub id or folder."""
    oracles: tuple[str, ...] = ()
    """Retrained models from elsewhere."""
    then: tuple[str, ...] = ()
    """Methods that go on where each row's method has ended, and from the untouched target."""
    kinds: tuple[str, ...] = ()
    """Kinds of probes that are asked; none for all."""
    compute: Mapping[str, Any] = field(default_factory=dict)
    """`RunSpec.compute` as the user has it: what isn't said is absent."""
    problems: tuple[str, ...] = ()
    """Mistakes that parsing has found already."""


def load_or_report(load: Callable[..., Any], name: Sequence[str], problems: list[str]) -> Any:
    """The class that ``load`` finds under ``name``, or None and a sentence among the ``problems``."""
    try:
        return load(*name)
    except UserError as error:
        problems.extend(error.problems)
        return None


def method_names(asked: Sequence[str], problems: list[str]) -> list[tuple[str, str]]:
    """(method, variant) of every row beside the untouched target; the oracle's comes first."""
    known = registry.table("methods")
    wanted: list[tuple[str, str]] = [("retrain", "")]
    for text in asked:
        if text == "all":
            for name in known:
                if not registry.load("methods", name).in_all:
                    continue
                variants = registry.load("methods", name).variants
                wanted += [(name, ""), *((name, variant) for variant in variants)]
            continue
        name, _, variant = text.partition("@")
        if name == "target":
            continue
        if name not in known:
            problems.append(unknown("method", name, [*known, "all"], "methods"))
            continue
        wanted.append((name, variant))
    if not asked:
        problems.append("--methods needs at least one name (`python -m bench ls methods` lists them), or 'all'.")
    return list(dict.fromkeys(wanted))


def parse_sets(
    sets: Sequence[str], task: str, wanted: Sequence[tuple[str, str]], problems: list[str]
) -> dict[str, dict[str, str]]:
    """``a.b=c`` as {a: {b: c}}; a component that takes no part is a mistake."""
    takes_part = list(dict.fromkeys([*({task} & set(registry.table("tasks"))), *(name for name, _ in wanted)]))
    found: dict[str, dict[str, str]] = {}
    for text in sets:
        left, equals, value = text.partition("=")
        owner, dot, name = left.strip().rpartition(".")
        if not equals or not dot or not name:
            problems.append(f"--set {text}: write it as component.parameter=value, such as npo.beta=0.1.")
        elif owner not in takes_part and (owner in registry.table("methods") or owner in registry.table("tasks")):
            problems.append(f"--set {text}: {owner} takes no part here; leave this out, or add it to the command.")
        elif owner not in takes_part:
            problems.append("--set " + text + ": " + unknown("component", owner, takes_part))
        elif name in found.setdefault(owner, {}):
            problems.append(f"--set {text}: {owner}.{name} is set twice; leave one out.")
        else:
            found[owner][name] = value.strip()
    return found


def task_params(kind: Any, name: str, tier: str, given: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """A task's complete parameters in a tier: its defaults with ``given`` laid over them."""
    known = registry.fields(kind)
    elsewhere = {key: registry.of_other_tier(name, tier, key) for key in given if key not in known}
    problems.extend(f"--set: {sentence}" for sentence in elsewhere.values() if sentence)
    return overlay(
        kind,
        name,
        registry.defaults(kind),
        {key: text for key, text in given.items() if not elsewhere.get(key)},
        problems,
    )


def overlay(
    kind: Any, name: str, base: Mapping[str, Any], given: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    """``base`` with the user's texts converted and laid over it."""
    params = dict(base)
    for key, text in given.items():
        if key not in params:
            problems.append("--set: " + unknown(f"parameter of {name}", key, params))
            continue
        try:
            params[key] = registry.convert(kind, key, text)
        except ValueError:
            expected = KINDS[type(registry.defaults(kind)[key])]
            problems.append(f"--set {name}.{key}={text}: the value must be {expected}.")
    problems.extend(registry.check_bounds(kind, params, name))  # what couldn't be read stands at its default, in bounds
    return params


def steps_of(
    wanted: Sequence[tuple[str, str]], sets: Mapping[str, Mapping[str, str]], place: str, problems: list[str]
) -> list[Step]:
    """Each method with its complete parameters: defaults, then the preset of this place, then the variant, then --set."""
    steps: list[Step] = []
    for name, variant in wanted:
        kind = load_or_report(registry.load, ("methods", name), problems)
        if kind is None:
            continue
        base = preset_params(kind, place, variant)
        if base is None:
            short = sorted({key.removeprefix(f"{place}-") for key in kind.presets} - {place})
            problems.append(unknown(f"variant of {name}", variant, short))
            continue
        params = overlay(kind, name, base, sets.get(name, {}), problems)
        steps.append(Step(name, params, full_variant(kind, params, variant)))
    return list({(step.name, str(step.params)): step for step in steps}.values())


Rows = list[tuple[Step, ...]]


def rows_of(
    wanted: Sequence[tuple[str, str]],
    sets: Mapping[str, Mapping[str, str]],
    place: str,
    then: Sequence[str],
    problems: list[str],
) -> Rows:
    """The steps of every row of the table: none for the target; what goes on after each method goes on from it too."""
    further: list[tuple[str, str]] = []
    for name in then:
        if name in registry.table("methods"):
            further.append((name, ""))
        else:
            problems.append("--then: " + unknown("method", name, registry.table("methods"), "methods"))
    later = tuple(steps_of(further, sets, place, problems))
    each = steps_of(wanted, sets, place, problems)
    return [(), *([later] if later else []), *((step, *(later if step.method != "retrain" else ())) for step in each)]


def computing(asked: Asked, tier: str, problems: list[str]) -> dict[str, Any]:
    """How training computes, where it isn't as usual: the user's word, else the known model's."""
    from bench.assets.known_models import KNOWN
    from bench.assets.models import canonical
    from bench.core.compute import MICRO
    from bench.core.types import ProbeKind

    asked_kinds = get_args(ProbeKind)

    found = {name: value for name, value in asked.compute.items() if value}
    if tier == LAB and found:
        problems.append(f"--{', --'.join(found)} goes with --model: the lab's models need none of it.")
    if found.get("dtype", "float32") not in DTYPES:
        problems.append(f"--dtype {found['dtype']}: models are trained in {' or '.join(DTYPES)}.")
    if found.get("dtype") == "bfloat16" and found.get("autocast"):
        problems.append("--autocast computes in bfloat16 and keeps the weights in float32: leave out --dtype bfloat16.")
    if any(found.get(name, 1) < 1 for name in ("lora", "micro")):
        problems.append("--lora and --micro are at least 1.")
    problems.extend(
        "--probes: " + unknown("kind of probe", kind, asked_kinds) for kind in asked.kinds if kind not in asked_kinds
    )
    known = KNOWN.get(canonical(asked.model).partition("@")[0])
    micro = found.get("micro") or (known.micro if known else MICRO)
    found = {name: value for name, value in found.items() if (name, value) != ("dtype", "float32")}
    return {
        **{k: v for k, v in found.items() if k != "micro"},
        **({"micro": micro} if tier != LAB and micro != MICRO else {}),
    }
