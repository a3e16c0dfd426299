"""Understanding what the user typed: names, variants, settings, how training shall compute.

Mistakes are reported by `bench.core.errors.report_mistake`, so that a `collecting` block has them all together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from bench.assets.known_models import KNOWN
from bench.assets.models import canonical_name
from bench.core import registry
from bench.core.attacks import STEPS, is_attack, split_variant
from bench.core.compute import DTYPES, UNSAID, USUAL, Compute
from bench.core.errors import mistakes_in, report_mistake, unknown_name
from bench.core.record import RunSpec, Step
from bench.core.registry import name_variant, preset_params
from bench.core.settings import read_settings
from bench.core.types import ProbeKind
from bench.runs.attacks import QUESTIONS

LAB = "lab"

KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
"""How a parameter's type is called in a message."""

Rows = list[tuple[Step, ...]]
"""The steps of every row of a table; none for the untouched target."""


@dataclass(frozen=True)
class Asked:
    """A command as the user typed it, not yet understood."""

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
    """Methods, ``name`` or ``name@variant``, that go on where each row's method has ended, and from the untouched target."""
    kinds: tuple[str, ...] = ()
    """Kinds of probes that are asked; none for all."""
    compute: Compute = UNSAID
    """How training shall compute, blank where nothing was said."""
    problems: tuple[str, ...] = ()
    """Mistakes that parsing has found already."""
    order: int = 0
    """Data order of the methods' trainings; another one than 0 makes second runs, which tell the noise (`RunSpec.order`)."""
    attacks: tuple[str, ...] = ()
    """What the rows that are there are attacked with, and the rows that frame them (`bench.runs.attacks`)."""

    @property
    def tier(self) -> str:
        """The tier that is asked for: ``lab``, or ``real`` where a model is named."""
        return "real" if self.model and self.model != LAB else LAB


@dataclass(frozen=True)
class Attack:
    """What a row is attacked with: a step after its own, or else questions."""

    name: str
    step: Step | None = None

    def on(self, spec: RunSpec) -> RunSpec:
        """The run that attacks the result of another one."""
        return replace(spec, steps=(*spec.steps, self.step)) if self.step else replace(spec, attack=self.name)


@dataclass(frozen=True)
class Understood:
    """The meaning of the user's words, apart from what they name outside the harness."""

    task: Any
    """The task's class in the tier; None where there is none."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The task's complete parameters."""
    rows: Rows = field(default_factory=list)
    compute: Compute = USUAL
    attacks: tuple[Attack, ...] = ()


def understand(asked: Asked) -> Understood:
    """The task, the steps of every row and how training computes; mistakes in the order of the command line."""
    task = load_or_report(registry.load_task, asked.task, asked.tier)
    wanted = parse_methods(asked.methods, bool(asked.attacks))
    steps = attack_steps(asked.attacks)
    sets = parse_sets(asked.sets, asked.task, [*wanted, *map(split_variant, asked.then), *steps.values()])
    if asked.limit is not None and asked.limit < 1:
        report_mistake(f"--limit must be at least 1, not {asked.limit}.")
    check_seeds(asked.seeds, asked.problems)
    check_options_of_lab(asked)
    check_order(asked)
    compute = resolve_compute(asked)
    place = f"{asked.tier}-{(task and task.presets_of) or asked.task}"
    rows = build_rows(wanted, sets, place, asked.then)
    if asked.order:  # target and oracle are the first run's
        rows = [row for row in rows if row and row[0].method != "retrain"]
    attacks = tuple(
        Attack(name, *build_steps([steps[name]], sets, place)) if name in steps else Attack(name)
        for name in asked.attacks
    )
    params = task_params(task, asked.task, asked.tier, sets.get(asked.task, {})) if task else {}
    return Understood(task, params, rows, compute, attacks)


def load_or_report(load: Callable[..., Any], *name: str) -> Any:
    """The class that ``load`` finds under ``name``; None, and a mistake, where there is none."""
    with mistakes_in():
        return load(*name)
    return None


def check_seeds(seeds: Sequence[int], problems: Sequence[str]) -> None:
    """Report that there are no seeds, unless that came of ``problems`` in reading them, or one twice."""
    if not seeds and not problems:
        report_mistake("--seeds needs at least one whole number, such as 0 or 0,1,2.")
    if len(set(seeds)) < len(seeds):
        report_mistake("--seeds names a seed twice.")


def check_order(asked: Asked) -> None:
    """Report an order that is none, and second runs of nothing."""
    if asked.order < 0:
        report_mistake(f"--order {asked.order}: the first data order is 0, the second 1.")
    if asked.order and not set(map(split_name, asked.methods)) - {"target", "retrain"}:
        report_mistake("--order makes second runs of methods: name one with --methods.")


def split_name(text: str) -> str:
    """The method of ``name@variant``."""
    return split_variant(text)[0]


def check_options_of_lab(asked: Asked) -> None:
    """Report options that only the real tier takes."""
    if asked.tier != LAB:
        return
    if asked.data:
        report_mistake("--data goes with --model: the lab generates its own rows.")
    if asked.history:
        report_mistake("--history goes with --model: the lab makes its own history.")
    if asked.target or asked.oracles:
        report_mistake("--target and --oracle go with --model: the lab trains its own.")


def parse_methods(asked: Sequence[str], attacked: bool = False) -> list[tuple[str, str]]:
    """(method, variant) of every row beside the untouched target; the oracle's comes first.

    Of rows that are ``attacked`` the model before exposure is always one.
    """
    known = registry.components("methods")
    wanted: list[tuple[str, str]] = [("retrain", "")]
    for text in asked:
        name, variant = split_variant(text)
        if text == "all":
            wanted += every_method()
        elif name not in known and name != "target":
            report_mistake(unknown_name("method", name, [*known, "all"], "methods"))
        elif attacked and is_attack(name):
            report_mistake(f"{name} is an attack, and no method that could be attacked: name it with --attacks.")
        elif name != "target":
            wanted.append((name, variant))
    if attacked:
        wanted.append(("before", ""))
    if not asked:
        report_mistake("--methods needs at least one name (`python -m bench ls methods` lists them), or 'all'.")
    return list(dict.fromkeys(wanted))


def attack_steps(asked: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(method, variant) of each attack that is a step; the others are questions. A name that is neither is a mistake."""
    steps = {name: split_variant(STEPS.get(name, name)) for name in asked if name not in QUESTIONS}
    known = [name for name in registry.components("methods") if is_attack(name)] if steps else []
    for name, (method, _) in steps.items():
        if method not in known:
            report_mistake("--attacks: " + unknown_name("attack", name, [*STEPS, *QUESTIONS, *known]))
    if len(set(asked)) < len(asked):
        report_mistake("--attacks names an attack twice.")
    return {name: step for name, step in steps.items() if step[0] in known}


def every_method() -> list[tuple[str, str]]:
    """The methods and variants of `--methods all`."""
    found: list[tuple[str, str]] = []
    for name in registry.components("methods"):
        with registry.leaving_out("methods", name):
            method = registry.load_component("methods", name)
            read_settings(method)
            if method.in_all:
                found += [(name, variant) for variant in ("", *method.variants)]
    return found


def parse_sets(sets: Sequence[str], task: str, wanted: Sequence[tuple[str, str]]) -> dict[str, dict[str, str]]:
    """``a.b=c`` as {a: {b: c}}; a component that takes no part is a mistake."""
    takes_part = list(dict.fromkeys([*({task} & set(registry.components("tasks"))), *(name for name, _ in wanted)]))
    found: dict[str, dict[str, str]] = {}
    for text in sets:
        left, equals, value = text.partition("=")
        owner, dot, name = left.strip().rpartition(".")
        if not equals or not dot or not name:
            report_mistake(f"--set {text}: write it as component.parameter=value, such as npo.beta=0.1.")
        elif owner not in takes_part and (
            owner in registry.components("methods") or owner in registry.components("tasks")
        ):
            report_mistake(f"--set {text}: {owner} takes no part here; leave this out, or add it to the command.")
        elif owner not in takes_part:
            report_mistake(f"--set {text}: " + unknown_name("component", owner, takes_part))
        elif name in found.setdefault(owner, {}):
            report_mistake(f"--set {text}: {owner}.{name} is set twice; leave one out.")
        else:
            found[owner][name] = value.strip()
    return found


def task_params(kind: Any, name: str, tier: str, given: Mapping[str, str]) -> dict[str, Any]:
    """A task's complete parameters in a tier: its defaults with ``given`` laid over them."""
    known = registry.fields_of(kind)
    elsewhere = {key: registry.of_other_tier(name, tier, key) for key in given if key not in known}
    report_mistake(*(f"--set: {sentence}" for sentence in elsewhere.values() if sentence))
    own = {key: text for key, text in given.items() if not elsewhere.get(key)}
    return lay_over(kind, name, registry.default_params(kind), own)


def lay_over(kind: Any, name: str, base: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """``base`` with the user's texts converted and laid over it."""
    params = dict(base)
    for key, text in given.items():
        if key not in params:
            report_mistake("--set: " + unknown_name(f"parameter of {name}", key, params))
            continue
        try:
            params[key] = registry.convert_param(kind, key, text)
        except ValueError:
            expected = KINDS[type(registry.default_params(kind)[key])]
            report_mistake(f"--set {name}.{key}={text}: the value must be {expected}.")
    report_mistake(*registry.check_bounds(kind, params, name))  # what couldn't be read stands at its default, in bounds
    return registry.said_params(kind, params)


def build_steps(wanted: Sequence[tuple[str, str]], sets: Mapping[str, Mapping[str, str]], place: str) -> list[Step]:
    """Each method with its complete parameters: defaults, then the preset of this place, then the variant, then --set."""
    steps: list[Step] = []
    for name, variant in wanted:
        kind = load_or_report(registry.load_component, "methods", name)
        if kind is None:
            continue
        base = preset_params(kind, place, variant)
        if base is None:
            short = sorted({key.removeprefix(f"{place}-") for key in kind.presets} - {place})
            report_mistake(unknown_name(f"variant of {name}", variant, short))
            continue
        params = lay_over(kind, name, base, sets.get(name, {}))
        steps.append(Step(name, params, name_variant(kind, params, variant)))
    return list({(step.name, str(step.params)): step for step in steps}.values())


def build_rows(
    wanted: Sequence[tuple[str, str]], sets: Mapping[str, Mapping[str, str]], place: str, then: Sequence[str]
) -> Rows:
    """The steps of every row of the table: none for the target; what goes on after each method goes on from it too.

    After the oracle go attacks alone, and beside its row, as what an attack does by itself is what it does to the oracle.
    """
    known = registry.components("methods")
    following = [split_variant(text) for text in then]
    for name, _ in following:
        if name not in known:
            report_mistake("--then: " + unknown_name("method", name, known, "methods"))
    later = tuple(build_steps([each for each in following if each[0] in known], sets, place))
    attacks = tuple(step for step in later if registry.load_component("methods", step.method).attack)
    rows: Rows = [(), later] if later else [()]
    for step in build_steps(wanted, sets, place):
        if step.method == "retrain":
            rows += [(step,), (step, *attacks)] if attacks else [(step,)]
        else:
            rows.append((step, *later))
    return rows


def resolve_compute(asked: Asked) -> Compute:
    """How training computes: the user's word, else the known model's, else as usual."""
    said = asked.compute
    if asked.tier == LAB and said.said():
        report_mistake(f"--{', --'.join(said.said())} goes with --model: the lab's models need none of it.")
    dtype = said.dtype or USUAL.dtype
    if dtype not in DTYPES:
        report_mistake(f"--dtype {dtype}: models are trained in {' or '.join(DTYPES)}.")
    if dtype == "bfloat16" and said.autocast:
        report_mistake("--autocast computes in bfloat16 and keeps the weights in float32: leave out --dtype bfloat16.")
    if said.lora < 0 or (said.micro or 0) < 0:
        report_mistake("--lora and --micro are at least 1.")
    kinds = get_args(ProbeKind)
    report_mistake(
        *("--probes: " + unknown_name("kind of probe", kind, kinds) for kind in asked.kinds if kind not in kinds)
    )
    if asked.tier == LAB:
        return USUAL
    known = KNOWN.get(canonical_name(asked.model).partition("@")[0])
    return replace(said, dtype=dtype, micro=said.micro or (known.micro if known else USUAL.micro))
