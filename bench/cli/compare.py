"""`bench compare`: two or more methods side by side on one seed, score by score and answer by answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.cli.listing import align_columns
from bench.cli.options import records_folder
from bench.cli.picking import Picked, Wanted, answered_probes, find_responses, pick_record, responses_beside
from bench.cli.show import answers_to, example_json, example_lines, scores_beside
from bench.core.errors import UserError
from bench.core.record import Record
from bench.core.types import Json, Responses
from bench.records.files import load_heads
from bench.records.markdown import format_interval, format_number


def compare_records(
    wanted: Sequence[Wanted], source: Path, store: Path, examples: int, changed: bool, every: bool
) -> str:
    """The scores of the records and the answers to the first examples; with ``changed`` of those that differ alone."""
    picked = pick_comparable(wanted, source)
    names = name_each(picked)
    first = picked[0].record
    lines = [f"{first.label}, {first.spec.repetition}, model {first.spec.model}"]
    lines += [f"{name}: {each.record.name}" for name, each in names.items()]
    lines += ["", *align_columns(score_rows(names, every))]
    own = {name: find_responses(each.record, source, store) for name, each in names.items()}
    if lacking := [name for name, responses in own.items() if responses is None]:
        return "\n".join([*lines, "", f"answers: the responses of {', '.join(lacking)} are no longer in the store."])
    kept = {name: responses for name, responses in own.items() if responses is not None}
    beside = responses_beside(picked[0], source, store)
    for probe, rows in shared_probes(kept).items():
        different = [key for key in rows if is_different(probe, key, kept)]
        lines += ["", f"{probe}: {count_answers(probe, rows, kept, different)}"]
        for key in (different if changed else rows)[:examples]:
            row = next(iter(kept.values())).rows[probe][key]
            lines += example_lines(key, row, answers_to(probe, key, beside | kept))
    return "\n".join(lines)


def pick_comparable(wanted: Sequence[Wanted], source: Path) -> list[Picked]:
    """The record of each; `UserError` where they don't start from one target, or one is not done."""
    if len(wanted) < 2:
        raise UserError(
            "compare takes two methods or records at least: `python -m bench compare msa npo -t tofu --seed 0`."
        )
    named = any(not Path(each.name).is_file() for each in wanted)
    loaded = load_heads(records_folder(source)) if named else None
    picked = [pick_record(wanted[0], source, loaded)]
    spec = picked[0].record.spec
    for each in wanted[1:]:  # the first one says where, for those that leave it open
        seed = spec.seed if each.seed is None else each.seed
        picked.append(pick_record(Wanted(each.name, each.task or spec.task, seed), source, loaded))
    for one in picked:
        record = one.record
        if record.status != "done":
            raise UserError(f"{record.name} is {record.status}: `python -m bench show {record.spec.key}` says why.")
        if record.lineage.get("target") != picked[0].record.lineage.get("target"):
            raise UserError(
                f"{record.name} and {picked[0].record.name} start from different targets, so that nothing can be compared: "
                "name a task and a seed with --task and --seed, or records by their keys."
            )
    if len({one.record.name for one in picked}) < len(picked):
        raise UserError(f"{' and '.join(each.words for each in wanted)} mean the same record: name others.")
    return picked


def name_each(picked: Sequence[Picked]) -> dict[str, Picked]:
    """Each by its method, where two share it with the key."""
    methods = [each.record.spec.method for each in picked]
    return {
        method if methods.count(method) == 1 else f"{method}-{each.record.spec.key[:6]}": each
        for method, each in zip(methods, picked, strict=True)
    }


def score_rows(names: Mapping[str, Picked], every: bool) -> list[list[str]]:
    """The headline scores, or ``every`` one, of target, oracle and each record."""
    records = {name: each.record for name, each in names.items()}
    first = next(iter(names.values()))
    others = scores_beside(first)
    headline = list(first.record.facts.get("headline", ()))
    all_of_them = sorted({name for record in records.values() for name in record.scores})
    shown = [*headline, *(name for name in all_of_them if name not in headline)] if every or not headline else headline
    rows = [["score", "goal", "target", "oracle", *records]]
    for score in shown:
        goal = next((str(r.metrics[score]["goal"]) for r in records.values() if score in r.scores), "")
        beside = [format_number(others[who][score]) if score in others[who] else "-" for who in ("target", "oracle")]
        rows.append([score, goal, *beside, *(score_cell(record, score) for record in records.values())])
    return rows


def score_cell(record: Record, name: str) -> str:
    """A record's score with its interval."""
    score = record.scores.get(name)
    if score is None:
        return "-"
    if score.low is None or score.high is None:
        return format_number(score.value)
    return f"{format_number(score.value)} {format_interval(score.low, score.high)}"


def shared_probes(of: Mapping[str, Responses]) -> dict[str, list[str]]:
    """Probe -> the examples that all were asked and whose answers a reader looks at."""
    first, *others = of.values()
    return {
        probe: shared
        for probe, rows in answered_probes(first).items()
        if (shared := [key for key in rows if all(key in other.rows.get(probe, {}) for other in others)])
    }


def is_different(probe: str, key: str, of: Mapping[str, Responses]) -> bool:
    """Whether not all gave the same answer: other words, or where these are not kept, another one that is right or wrong."""
    answers = answers_to(probe, key, of).values()
    texts = all("text" in responses.rows[probe][key] for responses in of.values())
    return len({answer.text if texts else answer.right for answer in answers}) > 1


def count_answers(probe: str, keys: Sequence[str], of: Mapping[str, Responses], different: Sequence[str]) -> str:
    """How many examples, how many each answers with the truth, and how many are answered differently."""
    right = {
        name: sum(answer.right is True for key in keys for answer in answers_to(probe, key, {name: responses}).values())
        for name, responses in of.items()
    }
    told = ", ".join(f"{name} {count}" for name, count in right.items())
    return f"{len(keys)} asked; answered with the truth: {told}; {len(different)} answered differently"


def compare_json(wanted: Sequence[Wanted], source: Path, store: Path, examples: int, changed: bool) -> Json:
    """The same as data: the records' scores, and per probe the answers."""
    picked = pick_comparable(wanted, source)
    names = name_each(picked)
    own = {name: find_responses(each.record, source, store) for name, each in names.items()}
    kept = {name: responses for name, responses in own.items() if responses is not None}
    beside = responses_beside(picked[0], source, store)
    answers = {}
    for probe, keys in shared_probes(kept).items() if len(kept) == len(own) else ():
        different = [key for key in keys if is_different(probe, key, kept)]
        rows = next(iter(kept.values())).rows[probe]
        answers[probe] = {
            key: example_json(rows[key], answers_to(probe, key, beside | kept)) | {"different": key in different}
            for key in (different if changed else keys)[:examples]
        }
    return {
        "records": {name: each.record.name for name, each in names.items()},
        "scores": {
            name: {score: found.to_json() for score, found in each.record.scores.items()}
            for name, each in names.items()
        },
        "beside": scores_beside(picked[0]),
        "answers": answers,
    }
