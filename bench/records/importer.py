"""Records from another harness's results: open-unlearning's ``TOFU_EVAL.json``, ``MUSE_EVAL.json`` or ``*_SUMMARY.json``.

An imported score is the peer's, of the peer's definition: it stands at version 0 in a section of its own, names no
oracle and no noise floor, is ranked against nothing and can't be computed again. No text of the file is kept.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from bench.assets.typed_rows import parse_json, read_file
from bench.core.errors import Absent, UserError, raise_problems, unknown_name
from bench.core.files import read_toml
from bench.core.record import Record, RunSpec, Score, Step
from bench.core.types import Json
from bench.metrics import rounded_score
from bench.metrics.bootstrap import bootstrap_auc, roc_auc
from bench.metrics.scores import mean_score

SOURCE = "open-unlearning"
TASKS = ("tofu", "muse-books", "muse-news")
NAMES = read_toml(Path(__file__).with_suffix(".toml"))
"""Names that the peer writes: their goals, the headlines, and those that it defines or computes in its own way."""
FORGET_ROWS = {40: "forget01", 200: "forget05", 400: "forget10"}
FOLDER = r"(?:unlearn_)?{kind}_(?P<parts>.+)"
"""How the peer names the folder of a run: ``tofu_Llama-3.2-1B-Instruct_forget10_NPO``, ``muse_<model>_Books_<method>``."""
SPLITS = {"tofu": r"forget\d+", "muse": "books|news"}
"""Benchmark -> the part of a name that says what is forgotten; it parts the model before it from the method behind it."""
UNTOUCHED = r"full|target|retain\d+|retrain"
"""The part that names a model from which nothing was taken: fully tuned, or retrained."""
OTHER_SIDE = r"(retain|holdout)\d+"
"""A part that names the rows beside those to forget."""
SETTING = r"(lr|beta|alpha|gamma|delta|epochs?|ep|seed|bs|wd|steps?)?[-=]?[\d.]+(e[-+]?\d+)?"
"""A part that is a hyperparameter and no method."""
LARGEST = 1e100
"""Beyond it a number is no score, and no sum of such numbers is one."""
DEFAULT_AUC = 0.5
"""What the peer takes for the retrained model's AUC where it was given none."""


@dataclass(frozen=True)
class FolderNames:
    """The model, data and method that the folders around a file name; empty where they name none.

    What may be read in more than one way is empty too, and its folder is ``ambiguous``.
    """

    model: str = ""
    data: str = ""
    """``forget10``, ``books``."""
    method: str = ""
    ambiguous: str = ""


def import_record(
    source: str, file: Path, task: str = "", model: str = "", method: str = "", split: str = ""
) -> Record:
    """The record of one evaluation of open-unlearning; `UserError` when the file is none or says too little of itself.

    What is left empty is read off the file and the folders that it lies in.
    """
    if source != SOURCE:
        raise UserError(unknown_name("source of results", source, [SOURCE]))
    raw, data = read_peer_file(file)
    kind = benchmark_of(file, data)
    named = read_folder_names(file.resolve().parent, kind)
    data_name = split or named.data or (split_of(data) if kind == "tofu" else "")
    if not task and (kind == "tofu" or data_name):
        task = "tofu" if kind == "tofu" else f"muse-{data_name}"
    check_parted(named, model, method, kind != "tofu" or bool(data_name))
    model, method = model or named.model, method or named.method or "imported"
    check_names(file, kind, task, model, method, split)
    hash_ = hashlib.sha256(raw).hexdigest()
    params = {"split": data_name} if kind == "tofu" and data_name else {}
    scores, absent = read_scores(data, kind)
    return Record(
        spec=RunSpec(
            task=task,
            task_params=params,
            tier="real",
            model=model,
            # The file is a parameter: two files are two rows, as nothing shows them to be seeds of one setting.
            steps=() if method == "target" else (Step(method, {"imported": hash_[:12]}),),
            seed=0,
            data=SOURCE,
            hashes={"imported": hash_},
        ),
        status="done",
        label=f"{' '.join([task, *params.values()])} (imported from {SOURCE})",
        scores=scores,
        metrics={name: metric_entry(name) for name in sorted({**scores, **absent})},
        absent=absent,
        facts={"headline": list(NAMES["headlines"][kind]), "source": [f"{SOURCE}'s {file.name}"]},
        # The file does not say which target it started from; without any name the tables refuse the record.
        lineage={"target": f"not named by {SOURCE}"},
        provenance={"imported": {"from": SOURCE, "file": file.name, "sha256": hash_}},
    )


def read_peer_file(file: Path) -> tuple[bytes, Json]:
    """The file's bytes and what they say."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file.name} can't be read: {error.strerror}.") from None
    data = parse_json(read_file(file), f"{file.name} is not JSON", f"name {SOURCE}'s TOFU_EVAL.json or the like")
    if not isinstance(data, dict) or not any(goal_of(name) != "" for name in data):
        raise UserError(f"{file.name} has none of {SOURCE}'s scores: name its TOFU_EVAL.json or MUSE_EVAL.json.")
    return raw, data


def read_folder_names(folder: Path, kind: str) -> FolderNames:
    """Read model, data and method off the peer's names of the run's folder, and of ``evals_forget10`` in it.

    The innermost folder counts whose name has the form of the benchmark ``kind``; one that may be read in more than one
    way is passed over where another one can be read.
    """
    split, unclear = "", ""
    for part in reversed(folder.parts):
        if found := re.fullmatch(r"evals?_(forget\d+)", part):
            split = found[1]
        if found := re.fullmatch(FOLDER.format(kind=kind), part, re.I):
            named = part_name(found["parts"].split("_"), kind)
            if named is not None:
                return FolderNames(named.model, split or named.data, named.method)
            unclear = unclear or part
    return FolderNames(data=split, ambiguous=unclear)


def part_name(words: list[str], kind: str) -> FolderNames | None:
    """Part a folder's name at the split, else at the name of an untouched model, else at a known method; None where
    that may be done in more than one way.
    """

    def places(pattern: str) -> list[int]:
        return [i for i, word in enumerate(words) if re.fullmatch(pattern, word, re.I)]

    splits, others, methods = places(SPLITS[kind]), places(UNTOUCHED), places("|".join(NAMES["methods"]))
    at = (splits or others or methods or [-1])[0]
    if at < 0 or len(splits) > 1 or any(i < at for i in others + methods):
        return None
    data, rest = words[at] if splits else "", words[at + 1 :] if splits else words[at:]
    while len(rest) > 1 and re.fullmatch(OTHER_SIDE, rest[0], re.I) and not re.fullmatch(SETTING, rest[1], re.I):
        rest = rest[1:]
    if not splits and len(others) > 1 or rest and re.fullmatch(SETTING, rest[0], re.I):
        return None
    if len(rest) > 1 and re.fullmatch(f"{UNTOUCHED}|{OTHER_SIDE}", rest[0], re.I):
        return None
    return FolderNames("_".join(words[:at]), data.lower(), method_in_name("_".join(rest)))


def check_parted(named: FolderNames, model: str, method: str, knows_split: bool) -> None:
    """`UserError` where a folder's name may be read in several ways and the user hasn't said which one is right."""
    missing = [
        flag
        for flag, known in (("--model NAME", model), ("--split forget10", knows_split), ("--method NAME", method))
        if not known
    ]
    if named.ambiguous and missing:
        raise UserError(
            f"The folder's name '{named.ambiguous}' may be read in more than one way: add {', '.join(missing)}."
        )


def method_in_name(text: str) -> str:
    """The method in a folder's name; the peer's fully tuned and retrained models are our target and oracle."""
    text = text.lower()
    if text in ("full", "target"):
        return "target"
    return "retrain" if re.fullmatch(r"retain\d+|retrain", text) else text


def benchmark_of(file: Path, data: Json) -> str:
    """``tofu`` or ``muse``, by the file's name, or by the scores in it."""
    word = file.name.split("_")[0].lower()
    if word in NAMES["headlines"]:
        return word
    return "muse" if any(name in data for name in NAMES["otherwise"][:3]) else "tofu"


def split_of(data: Json) -> str:
    """TOFU's forget split, by the number of its questions; empty when the file does not have them one by one."""
    sizes = (
        len(rows_by_index(data.get(name))) for name in ("forget_Q_A_Prob", "forget_truth_ratio", "forget_Q_A_ROUGE")
    )
    return next((FORGET_ROWS[size] for size in sizes if size in FORGET_ROWS), "")


def check_names(file: Path, kind: str, task: str, model: str, method: str, split: str) -> None:
    """Every mistake and every gap about what the record is of, told together."""
    problems = []
    if not task:
        problems.append(f"The folder of {file.name} does not say which MUSE it is: add --task muse-books or muse-news.")
    elif task not in TASKS:
        problems.append(unknown_name("task to import", task, TASKS))
    elif not task.startswith(kind):
        problems.append(f"--task {task}: {file.name} holds scores of {kind}.")
    if split and (kind != "tofu" or not re.fullmatch(SPLITS["tofu"], split)):
        problems.append(f"--split {split}: it is one of TOFU's ({', '.join(FORGET_ROWS.values())}); MUSE has none.")
    if not model:
        problems.append(f"The folder of {file.name} does not say which model it is: add --model NAME.")
    elif not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", model):
        problems.append(f"--model {model}: a model's name has letters, digits, '.', '-' and at most one '/'.")
    if not re.fullmatch(r"\w[\w.@+-]*", method):
        problems.append(f"--method {method}: a method's name has letters, digits and . @ + - _.")
    raise_problems(problems)


def read_scores(data: Json, kind: str) -> tuple[dict[str, Score], dict[str, str]]:
    """Scores and what is absent, by our names."""
    scores: dict[str, Score] = {}
    absent: dict[str, str] = {}
    for name, entry in rename_entries(data, kind).items():
        try:
            scores[name] = score_of(name, entry)
        except Absent as reason:
            absent[name] = str(reason)
    for leak in ("privleak", "privleak_peer"):
        attack = scores.get(leak.replace("privleak", "mia_min_k"))
        if (
            leak in scores
            and attack
            and math.isclose(scores[leak].value, privleak_without_oracle(attack.value), rel_tol=1e-9)
        ):
            del scores[leak]
            absent[leak] = f"{SOURCE} was given no retrained model and took {DEFAULT_AUC} for its AUC"
    return scores, absent


def rename_entries(data: Json, kind: str) -> dict[str, Any]:
    """The file's entries by our names. The peer writes ``forget_Truth_Ratio`` in either spelling; the small one wins."""
    ours = {"forget_Truth_Ratio": "forget_truth_ratio"}
    if kind == "muse":
        ours |= {name: f"{name}_peer" for name in NAMES["otherwise"]}
    return {ours.get(name, name): data[name] for name in sorted(data)}


def score_of(name: str, entry: Any) -> Score:
    """The peer's own number, with the size and the interval of the values behind it where they give that number.

    A size of 0: the file does not say. Raises `Absent` where there is no number.
    """
    value = entry
    if isinstance(entry, Mapping):
        value = entry.get("agg_value") if entry.get("agg_value") is not None else entry.get("auc")
    if value is None:
        raise Absent(f"{SOURCE} could not compute it: its file has no value")
    if not is_number(value):
        raise Absent(f"{SOURCE} has no single number for it")
    if not abs(value) < LARGEST:
        raise Absent(f"{SOURCE} has {str(value)[:20]} for it, which is not a finite number")
    unit = unit_of(name)
    for found in candidate_scores(entry):
        if math.isclose(found.value, value, rel_tol=1e-6, abs_tol=1e-12):
            return Score(rounded_score(value), found.n, found.low, found.high, unit)
    return Score(rounded_score(value), len(rows_by_index(entry)), unit=unit)


def candidate_scores(entry: Any) -> Iterator[Score]:
    """Scores that the entry's values for each example may make, likeliest first; which it is, the number decides."""
    if isinstance(entry, Mapping):
        sides = [
            list(numbers_by_example(rows_by_index(entry.get(side)), "score").values()) for side in ("forget", "holdout")
        ]
        if all(sides):
            members, others = (np.array(side, dtype=np.float64) for side in sides)
            own = [list(map(str, range(len(side)))) for side in sides]
            yield Score(roc_auc(members, others), len(members) + len(others), *bootstrap_auc(members, others, *own))
    rows = rows_by_index(entry)
    for field in ("prob", "rougeL_recall", "rougeL_f1", "rouge1_recall"):
        if values := numbers_by_example(rows, field):
            yield mean_score(values)
    if values := numbers_by_example(rows, "score"):
        for shape in SHAPES:
            yield mean_score({key: shape(value) for key, value in values.items()})


SHAPES: tuple[Callable[[float], float], ...] = (
    lambda value: value,
    lambda ratio: min(ratio, 1 / (ratio + 1e-10)),
    lambda ratio: max(0.0, 1 - ratio),
)
"""A value as it is; the truth ratio of forget rows, and of rows that must stay, as the peer shapes it."""


def rows_by_index(entry: Any) -> Mapping[str, Any]:
    """``value_by_index`` of an entry; nothing where it has none."""
    rows = entry.get("value_by_index") if isinstance(entry, Mapping) else None
    return rows if isinstance(rows, Mapping) else {}


def numbers_by_example(rows: Mapping[str, Any], field: str) -> dict[str, float]:
    """One number for each example that has it, of several (wrong answers) the mean."""
    found: dict[str, float] = {}
    for key, row in rows.items():
        value = row.get(field) if isinstance(row, Mapping) else None
        values: list[Any] = value if isinstance(value, list) else [value]
        if values and all(is_number(each) and abs(each) < LARGEST for each in values):
            found[str(key)] = math.fsum(values) / len(values)
    return found


def privleak_without_oracle(area: float) -> float:
    """The PrivLeak that the peer writes for an AUC when nothing was retrained, in percent."""
    return ((1 - area) - (1 - DEFAULT_AUC)) / (1 - DEFAULT_AUC + 1e-10) * 100


def metric_entry(name: str) -> Json:
    """The record's entry about a score's metric: version 0, which no metric of ours has."""
    compares = any(fnmatchcase(name, pattern) for pattern in NAMES["comparing"])
    return {"version": 0, "goal": goal_of(name), "unit": unit_of(name), "needs_oracle": compares, "source": SOURCE}


def goal_of(name: str) -> str | float:
    """The goal of a score of the peer (`NAMES`); empty for one that it is not known to have."""
    return next((goal for pattern, goal in NAMES["goals"].items() if fnmatchcase(name, pattern)), "")


def unit_of(name: str) -> str:
    """Percent for PrivLeak; the rest are plain numbers."""
    return "%" if name.startswith("privleak") else ""


def is_number(value: Any) -> bool:
    """A number as JSON has it, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
