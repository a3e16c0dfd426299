"""Finding methods, tasks and plugged-in metrics and trackers by name: the lazy tables of `methods` and `tasks`, and plug-ins.

A plug-in is a distribution with an entry point in the group ``msa_bench.methods``, ``msa_bench.tasks``,
``msa_bench.metrics`` or ``msa_bench.trackers``, whose name is the component's name and whose value is ``module:Class`` (of
a metric ``module:metric``, a `bench.core.contracts.Metric`). A task's name says the tier too: ``capitals.lab`` (or ``capitals``
alone) and ``capitals.real``.

Or it is a Python file that the user names (`use_file`): a component's name is then its class's, in small letters with
hyphens, and a metric's its own.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.core.contracts import Method, Metric, Task
from bench.core.errors import UserError, say_once, shorten_reason, unknown_name
from bench.core.imports import USER_FILE, hash_source, import_file, import_own
from bench.core.trackers import Tracker
from bench.core.typed_toml import named_object

GROUPS = {kind: f"msa_bench.{kind}" for kind in ("methods", "tasks", "metrics", "trackers")}
BASES: Mapping[str, type] = {"methods": Method, "tasks": Task, "metrics": Metric, "trackers": Tracker}
OWED = {"methods": ("unlearn",), "tasks": ("metrics", "prepare", "outline")}
"""Functions that have no default in the base classes."""
NAME = re.compile(r"\w[\w.+-]{0,99}")
"""What a plug-in may be called."""
CODE = "code of "
"""How the name of a plug-in's hash begins among those of a run's spec."""
GOALS = ("up", "down", "oracle")
"""Goals of a metric beside a value to approach."""


@lru_cache(maxsize=1)
def installed_points(path: tuple[str, ...]) -> Any:
    """The entry points of all packages installed on ``path``, read once for every kind of plug-in."""
    return entry_points()


@lru_cache(maxsize=8)
def plug_ins(kind: str, path: tuple[str, ...]) -> dict[str, str]:
    """Name -> ``module:Class`` of the plug-ins installed on ``path``, looked up once; those with one of our names are said."""
    found = {}
    for point in installed_points(path).select(group=GROUPS[kind]):
        name = point.name.partition(".")[0] if kind == "tasks" else point.name
        fault = f"'{name}' is the name of one of ours" if name in own_table(kind) else ""
        if not NAME.fullmatch(point.name):  # it becomes part of files' names
            fault = "its name may have letters, digits, '_', '-', '+' and '.' alone"
        if fault:
            say_once(f"left out: The plug-in for {name!r} ({point.value}): {fault}.{package_of(kind, point.value)}")
        else:
            found[point.name] = point.value
    return found


def package_of(kind: str, place: str) -> str:
    """A sentence that names the package whose entry point names ``place``, and the remedy; empty where none does."""
    packages = [point.dist.name for point in entry_points(group=GROUPS[kind]) if point.value == place and point.dist]
    return (
        f" It is in the package {packages[0]} (entry point group {GROUPS[kind]}): correct or uninstall it."
        if packages
        else ""
    )


def own_table(kind: str) -> dict[str, Any]:
    """The table of our own ``methods`` or ``tasks``; none of metrics, which tasks make, nor of trackers (`bench.tracking`)."""
    ours: dict[str, Any] = {} if kind in ("metrics", "trackers") else import_own(kind).TABLE
    return ours


FILES: dict[Path, dict[str, dict[str, str]]] = {}
"""File that the user has named -> kind -> name -> ``module:Class`` of what is in it."""


def use_file(path: Path) -> dict[str, dict[str, str]]:
    """Make the methods, tasks, metrics and trackers of a Python file known; kind -> name -> ``module:Class``.

    A task of a file is one of the lab, or of the real tier where its class's name begins with ``Real``.
    """
    path = path.expanduser().resolve()
    if path in FILES:
        return FILES[path]
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"There is no Python file '{path.name}' in {path.parent}: name one that ends in .py.")
    try:
        module = import_file(path)
    except Exception as error:  # whatever the user's file does while it is imported
        raise UserError(f"{path.name} can't be loaded: {describe_fault(error, [path])}.") from None
    found = named_components(module)
    if not any(found.values()):
        raise UserError(
            f"{path.name} holds no method, task, metric or tracker: derive one from bench.api.Method, or name another."
        )
    for kind, names in found.items():
        for name in names:
            if name.partition(".")[0] in own_table(kind):
                raise UserError(f"{path.name}: '{name}' is the name of one of ours: give the class another name.")
    FILES[path] = found
    return found


def method_of_file(path: Path, owner: str = "") -> str:
    """The name of the method that a class of a Python file is, or its only one; the file's are known afterwards."""
    found = {place.partition(":")[2]: name for name, place in use_file(path)["methods"].items()}
    if owner and owner not in found:
        raise UserError(
            unknown_name(f"method of {path.name}", owner, found) if found else f"{path.name} has no method."
        )
    if not owner and len(found) != 1:
        some = (
            f"write {path.name}:{next(iter(found))} for one of {', '.join(found)}"
            if found
            else "derive one from Method"
        )
        raise UserError(f"{path.name} has {len(found) or 'no'} methods: {some}.")
    return found[owner or next(iter(found))]


def named_components(module: Any) -> dict[str, dict[str, str]]:
    """Kind -> name -> ``module:Class`` of what a module defines itself."""
    found: dict[str, dict[str, str]] = {kind: {} for kind in GROUPS}
    for name, value in vars(module).items():
        if isinstance(value, Metric):
            found["metrics"].setdefault(value.name, f"{module.__name__}:{name}")
        elif isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_"):
            if issubclass(value, Method):
                found["methods"][hyphenated(name)] = f"{module.__name__}:{name}"
            elif issubclass(value, Task):
                tier = ".real" if name.startswith("Real") else ""
                found["tasks"][hyphenated(name.removeprefix("Real")) + tier] = f"{module.__name__}:{name}"
            elif issubclass(value, Tracker):
                found["trackers"][hyphenated(name)] = f"{module.__name__}:{name}"
    return found


def hyphenated(name: str) -> str:
    """A class's name in small letters with hyphens: ``GradDiff`` is ``grad-diff``, ``NPOTwice`` ``npo-twice``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def describe_fault(error: BaseException, files: Sequence[Path]) -> str:
    """An error in few words, with the last place of it in ``files``."""
    if isinstance(error, SyntaxError):
        return f"{error.msg}, {Path(error.filename or '').name}, line {error.lineno}"
    kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
    return f"{kind}{shorten_reason(error)}{last_place(''.join(traceback.format_exception(error)), files)}"


def last_place(trace: str, files: Sequence[Path]) -> str:
    """Where in ``files`` the last frame of a traceback's text stands: `` (fade.py, line 7: x = 1 / 0)``; else empty."""
    names = {file.name for file in files}
    frames = re.findall(r'^ *File "(.*)", line (\d+)(?:, in .*)?\n(?: +(.*))?', trace, re.MULTILINE)
    for place, line, code in reversed(frames):
        if Path(place).name in names:
            return f" ({Path(place).name}, line {line}{': ' if code else ''}{code.strip()})"
    return ""


def components(kind: str) -> dict[str, Any]:
    """Name -> ``module:Class`` of ``methods``, or name -> tier -> ``module:Class`` of ``tasks``.

    Ours and the plug-ins'; a plug-in can't take one of our names. Of ``metrics`` and ``trackers`` only those that are
    plugged in.
    """
    theirs: dict[str, Any] = {**plug_ins(kind, tuple(sys.path))}
    for found in FILES.values():
        theirs |= found[kind]
    if kind == "tasks":
        tiers: dict[str, dict[str, str]] = {}
        for entry, place in theirs.items():
            name, _, tier = entry.partition(".")
            tiers.setdefault(name, {})[tier or "lab"] = place
        theirs = tiers
    return {**theirs, **own_table(kind)}


def load_component(kind: str, name: str) -> Any:
    """The class of a method, or a plugged-in metric or tracker; `UserError` with the nearest name when there is none."""
    known = components(kind)
    if name not in known:
        raise UserError(unknown_name(kind.removesuffix("s"), name, known, kind))
    return load_named(kind, name, known[name])


def load_task(name: str, tier: str) -> Any:
    """The class of a task in the tier ``lab`` or ``real``; `UserError` with what there is when there is none."""
    known = components("tasks")
    if name not in known:
        raise UserError(unknown_name("task", name, known, "tasks"))
    if tier not in known[name]:
        remedy = "Leave out --model to run the lab." if tier == "real" else "Name a model with --model."
        raise UserError(f"{name} has no {tier} tier yet; it has: {', '.join(known[name])}. {remedy}")
    return load_named("tasks", name, known[name][tier])


def load_named(kind: str, name: str, place: str) -> Any:
    """The class, or the metric, at ``module:Name``; `UserError` that says what is wrong with a plug-in."""
    if name in own_table(kind):
        return named_object(place)
    try:
        found = named_object(place)
        if getattr(module := sys.modules[place.partition(":")[0]], "__file__", None):
            hash_source(module)
        fault = component_fault(kind, found)
    except (ImportError, AttributeError) as error:
        fault = str(error)
    except Exception as error:  # whatever a plug-in's module does while it is imported
        fault = f"{type(error).__name__}: {error}"
    if fault:
        reason = " ".join(fault.split()).rstrip(".")
        told = place.removeprefix(USER_FILE)
        raise UserError(f"The plug-in for '{name}' ({told}) can't be loaded: {reason}.{package_of(kind, place)}")
    return found


def component_fault(kind: str, found: Any) -> str:
    """Why an object can't be a method, task, metric or tracker of a plug-in; empty where it can."""
    base: Any = BASES[kind]
    if kind == "metrics":
        return goal_fault(found) if isinstance(found, Metric) else "let its entry point name a bench.api.Metric"
    if isinstance(found, base):
        return f"its entry point names an object of {type(found).__name__}, let it name the class"
    if not (isinstance(found, type) and issubclass(found, base)):
        return f"derive it from bench.api.{base.__name__}"
    if kind == "trackers":
        return ""
    if not isinstance(getattr(found, "summary", None), str):
        return "it lacks `summary`, one line that says what it is"
    if bare := [name for name, default in default_params(found).items() if default is dataclasses.MISSING]:
        return f"its field '{bare[0]}' has no default"
    if type(getattr(found, "version", None)) is not int:
        return "its `version` is a whole number, 1 at first, raised when the same parameters give another result"
    if lacking := [name for name in OWED[kind] if getattr(found, name) is getattr(base, name)]:
        return f"it lacks `{lacking[0]}`"
    needs: Any = getattr(found, "needs", frozenset())
    if not (isinstance(needs, frozenset) and all(isinstance(need, str) for need in needs)):
        return f"its `needs` is a frozenset of names such as 'history', not {needs!r}"
    return ""


def goal_fault(metric: Metric) -> str:
    """The sentence about a version or a goal that there is not; empty where there is."""
    if type(metric.version) is not int:
        return "its `version` is a whole number, raised when the same responses give another score"
    if metric.goal in GOALS or (isinstance(metric.goal, int | float) and not isinstance(metric.goal, bool)):
        return ""
    return f"its goal is '{metric.goal}': it is up, down, oracle, or the number to approach"


@contextmanager
def leaving_out(kind: str, name: str) -> Iterator[None]:
    """Say on stderr what is wrong with a plug-in, and go on without it; a `UserError` about one of ours is raised."""
    try:
        yield
    except UserError as error:
        if name in own_table(kind):
            raise
        for problem in error.problems:
            say_once(f"left out: {problem}")


def of_other_tier(task: str, tier: str, parameter: str) -> str:
    """A sentence about a parameter that only the task's other tier has; empty where that has none of the name either."""
    for other in components("tasks")[task]:
        if other != tier and parameter in fields_of(load_task(task, other)):
            remedy = "name a model with --model" if other == "real" else "leave out --model"
            return (
                f"{task}.{parameter} has no meaning in the {tier} tier, it is a parameter of the {other} tier: "
                f"leave it out, or {remedy}."
            )
    return ""


def plugin_code(kind: str, name: str, component: Any) -> dict[str, str]:
    """The hash of a plug-in's source file, for the run's key: who edits it gets a new run. Ours carry versions instead.

    It is that of the file as it was loaded, so that a process knows which code it runs.
    """
    module = plugin_module(kind, name, component)
    return {f"{CODE}{name}": hash_source(module)} if module else {}


def plugin_module(kind: str, name: str, component: Any) -> ModuleType | None:
    """The module of a plug-in, where it lies in a file; None for one of ours."""
    if name in own_table(kind):
        return None
    known = components(kind)[name] if kind == "metrics" else ""
    module = sys.modules[known.partition(":")[0] if known else component.__module__]
    return module if getattr(module, "__file__", None) else None


def plugin_files(names: Iterable[str]) -> list[Path]:
    """The loaded files of those of these methods and tasks that are plug-ins."""
    asked = [(kind, name) for kind in ("methods", "tasks") for name in names if name not in own_table(kind)]
    places = [place for kind, name in asked for place in as_list(components(kind).get(name))]
    modules = [sys.modules.get(place.partition(":")[0]) for place in places]
    return [Path(module.__file__) for module in modules if module and module.__file__]


def as_list(place: str | Mapping[str, str] | None) -> list[str]:
    """The places of a component, of which a task has one for each tier."""
    return [place] if isinstance(place, str) else list((place or {}).values())


def fields_of(component: Any) -> dict[str, dataclasses.Field[Any]]:
    """The parameters of a method or task class by name."""
    return {field.name: field for field in dataclasses.fields(component)}


def default_params(component: Any) -> dict[str, Any]:
    """Its parameters with their defaults."""
    return {name: field.default for name, field in fields_of(component).items()}


def said_params(component: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a run's key holds: all but those that came later, where they stand at their defaults."""
    later = {name: field.default for name, field in fields_of(component).items() if field.metadata.get("unsaid")}
    return {name: value for name, value in params.items() if name not in later or value != later[name]}


def convert_param(component: Any, name: str, text: str) -> Any:
    """A parameter's value from the command line's text, in the type of its default; ValueError when it isn't one."""
    default = default_params(component)[name]
    if isinstance(default, bool):
        if text.lower() in ("true", "1", "yes", "false", "0", "no"):
            return text.lower() in ("true", "1", "yes")
        raise ValueError(f"'{text}' is neither true nor false")
    if isinstance(default, int):
        return int(text)
    if isinstance(default, float):
        value = float(text)
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"'{text}' is not a finite number")
        return value
    return text


LEAST = {"steps": 1, "batch": 1, "text_batch": 1}
"""What the words of training, which all methods share, must at least be."""


def check_bounds(component: Any, params: dict[str, Any], name: str = "") -> list[str]:
    """Sentences about parameters out of bounds: the shared words of training, and what the component itself refuses."""
    found = []
    for key, value in params.items():
        where = f"{name}.{key}" if name else key
        if key in LEAST and value < LEAST[key]:
            found.append(f"{where} must be at least {LEAST[key]}, not {value}.")
        if key == "lr" and value <= 0:
            found.append(f"{where} must be above 0, not {value}.")
    made = component(**params)
    return found + list(made.problems())


def field_meanings(kind: type) -> dict[str, str]:
    """The string under each field of a dataclass, first line, from its source."""
    found: dict[str, str] = {}
    for ancestor in kind.__mro__[:-1]:
        found = own_meanings(ancestor) | found
    return found


@cache
def own_meanings(kind: type) -> dict[str, str]:
    """The same of the fields that a class declares itself."""
    defined = find_class(parse_file(inspect.getsourcefile(kind) or ""), kind.__qualname__.split("."))
    body = defined.body if defined else []
    found: dict[str, str] = {}
    for field, text in zip(body, body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                found.setdefault(name, " ".join(meaning.split()))
    return found


@lru_cache(maxsize=1)
def parse_file(path: str) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse("".join(linecache.getlines(path)))


def find_class(node: ast.AST, names: Sequence[str]) -> ast.ClassDef | None:
    """The last class below ``node`` that its qualified name, in parts, leads to."""
    found = None
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = find_class(child, names) or found
        elif child.name == names[0]:
            if len(names) > 1:
                found = find_class(child, names[2 if names[1] == "<locals>" else 1 :]) or found
            elif isinstance(child, ast.ClassDef):
                found = child
    return found


def preset_params(kind: Any, place: str, variant: str = "") -> dict[str, Any] | None:
    """A method's defaults with the preset of a place and then a variant's laid over them; None: no such variant."""
    params = default_params(kind)
    if place in kind.presets:
        params |= kind.presets[place].params
    if not variant:
        return params
    chosen = kind.presets.get(f"{place}-{variant}", kind.presets.get(variant))
    return None if chosen is None else params | chosen.params


def name_variant(kind: Any, params: Mapping[str, Any], asked: str) -> str:
    """The variant's name as the table shows it: what was asked for, and what the parameters make of the method."""
    parts = [*asked.split("+"), *kind(**params).named().split("+")]
    return "+".join(dict.fromkeys(filter(None, parts)))
