"""Publishing: chosen records and their responses go into ``results/``, from which anybody computes the scores again.

What is published is complete and clean: done, on all examples, made by a commit without local changes. Responses hold
ids and numbers and no text; an oracle's are stored once and shared by the records that were compared with it. What models of
the lab said stands beside them in ``texts``, as the lab's texts are ours; a benchmark's stay in the store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.attacks import attack_of, compared_oracles
from bench.core.contracts import Metric
from bench.core.errors import UserError, raise_problems
from bench.core.record import Record, Score
from bench.core.types import Responses
from bench.metrics import score_all
from bench.records import files
from bench.records.bundles import bundle_path, put_records

ABSOLUTE = re.compile(r"^(/|~/|[A-Za-z]:[\\/])|[\s'\"(](/|~/)[\w.-]+/")
"""A path that only one machine has."""
KEY = re.compile(r"[\w-]+")
"""A content key, which becomes a file name."""


@dataclass(frozen=True)
class ScoreComparison:
    """The stored scores of a record beside those computed again."""

    record: str
    """The record's name."""
    differing: Mapping[str, tuple[Score, Score]]
    """By score: as stored and as computed now, where they are not equal to the last bit."""
    missing: Mapping[str, str]
    """Stored scores that can't be had now, with the reason."""
    extra: Mapping[str, Score]
    """Scores that can be had now and are not stored."""
    absent: Mapping[str, str]
    """Scores that can't be had now, with the reason."""

    @property
    def same(self) -> bool:
        """Whether the record says exactly what its responses say."""
        return not (self.differing or self.missing or self.extra)

    def __str__(self) -> str:
        """One line per deviation, or one that says there is none."""
        lines = [f"{name} is stored as {tell(a, b)} and is now {tell(b, a)}" for name, (a, b) in self.differing.items()]
        lines += [f"{name} is stored and can't be had now: {reason}" for name, reason in self.missing.items()]
        lines += [f"{name} is not stored and is now {score.value!r}" for name, score in self.extra.items()]
        return "\n".join(f"{self.record}: {line}" for line in lines or ["the same scores"])


def tell(score: Score, other: Score) -> str:
    """What a score says otherwise than another one: its value, or where that is the same all of it."""
    return repr(score.value) if score.value != other.value else str(score.to_json())


def write_published(
    records: Sequence[Record],
    results: Path,
    responses_of: Callable[[Record], Mapping[str, Responses]],
    force: bool = False,
    seeds: Collection[int] | None = None,
) -> list[Path]:
    """Write ``records`` into bundles and their responses beside them, below ``results``; returns the files that were written.

    ``responses_of`` gives a record's responses by content key: its own (``lineage["responses"]``) and the oracles'
    (``lineage["oracle_responses"]``). Nothing is written unless everything can be: `UserError` lists all that is in the
    way. ``seeds``: those whose responses are published, of second runs and attacks none; all where it is None. The other
    records' numbers can be computed again where the store is. What is published already stays as it is; ``force`` replaces
    it where it differs.
    """
    problems = [problem for record in records for problem in publication_faults(record)]
    chosen = [r for r in records if seeds is None or (r.spec.seed in seeds and is_row(r))]
    texts: dict[str, Responses] = {}
    shared = _gather(chosen, responses_of, problems, texts)
    # Looked at once: what somebody else publishes from now on is written again, and equal.
    loaded = files.load_records(results)
    published = {record.name: record.to_json() for record in loaded.records}
    is_same = {r.name: published[r.name] == _plain(r) if r.name in published else None for r in records}
    are_same = {key: _are_published(key, shared[key], results) for key in sorted(shared)}
    new_records = [record for record in records if not is_same[record.name]]
    new_keys = [key for key, same in are_same.items() if not same]
    if not force:
        replaced = [name for name, same in is_same.items() if same is False]
        replaced += [f"responses {key}" for key, same in are_same.items() if same is False]
        problems += [f"{name}: published already and different; use --force to replace it." for name in replaced]
    ours = {files.path_below(path, results) for r in records for path in (bundle_path(r, results), results / r.name)}
    problems += [f"{broken.path}: {broken.reason}: {broken.remedy}." for broken in loaded.broken if broken.path in ours]
    raise_problems(problems)
    # Responses first: a record never stands without them.
    paths = [files.write_responses(shared[key], files.responses_path(results, key)) for key in new_keys]
    said = {key: files.texts_path(results, key) for key in sorted(texts)}
    paths += [
        files.write_responses(texts[key], path) for key, path in said.items() if key in new_keys or not path.exists()
    ]
    paths += put_records([files.without_secrets(record) for record in new_records], results)
    for record in new_records:
        (results / record.name).unlink(missing_ok=True)  # published as a file of its own before there were bundles
    return paths


def publication_faults(record: Record) -> list[str]:
    """The reasons against publishing ``record``, a sentence with its remedy each; none when it is fit."""
    reasons: list[str] = []
    if record.status != "done":
        reasons.append(f"it is {record.status}, not done; run it again")
    if record.spec.limit is not None:
        reasons.append(f"it saw only {record.spec.limit} examples per probe; run it without --limit")
    if record.provenance.get("dirty") is not False:
        reasons.append("its code is not known to be a commit's (provenance: dirty); commit and run it again")
    if record.status == "done" and not response_keys(record):
        reasons.append("its lineage names no responses; run it again")
    if paths := [leaf for leaf in _leaves(record.to_json()) if isinstance(leaf, str) and ABSOLUTE.search(leaf)]:
        reasons.append(f"it holds a path of this machine ({paths[0]}); report this as a fault of ours")
    return [f"{record.name}: {reason}." for reason in reasons]


def response_keys(record: Record) -> list[str]:
    """Content keys of the responses behind a record's scores: its own, then the oracles'."""
    own = record.lineage.get("responses")
    return list(dict.fromkeys([*([own] if own else []), *record.lineage.get("oracle_responses", [])]))


def rescore_record(
    record: Record, load_responses: Callable[[str], Responses], metrics: Sequence[Metric]
) -> ScoreComparison:
    """Compute every one of ``metrics`` again from the stored responses and compare exactly, intervals included."""
    if "responses" not in record.lineage:
        raise UserError(f"{record.name} names no responses, so nothing can be computed again: run it again.")
    keys = compared_oracles(record.spec, record.lineage.get("oracle_responses", []))
    oracles = [load_responses(key) for key in keys]
    again = score_all(metrics, load_responses(record.lineage["responses"]), oracles)
    old, new = record.scores, again.scores
    both = sorted(old.keys() & new.keys())
    nameless = "no metric of the task has this name"
    return ScoreComparison(
        record=record.name,
        differing={name: (old[name], new[name]) for name in both if old[name] != new[name]},
        missing={name: again.absent.get(name, nameless) for name in sorted(old.keys() - new.keys())},
        extra={name: new[name] for name in sorted(new.keys() - old.keys())},
        absent=again.absent,
    )


def is_row(record: Record) -> bool:
    """Whether a run is a row of a table: no second run, and no attack on another."""
    return not (record.spec.order or attack_of(record.spec))


def has_our_texts(record: Record) -> bool:
    """Whether a run's texts were generated here, and belong to no benchmark."""
    return record.spec.tier == "lab" and record.spec.data == "generated"


def _gather(
    records: Sequence[Record],
    responses_of: Callable[[Record], Mapping[str, Responses]],
    problems: list[str],
    texts: dict[str, Responses],
) -> dict[str, Responses]:
    """The responses of all records by content key, without texts; what can't be published goes to ``problems``.

    What may stand beside them of the models' texts, and a row of a report shows, goes to ``texts``.
    """
    shared: dict[str, Responses] = {}
    for record in records:
        keys = response_keys(record)
        found = responses_of(record) if keys else {}
        for key in keys:
            if key not in found:
                problems.append(f"{record.name}: its responses {key} are not in the store; run it again.")
            elif not KEY.fullmatch(key):
                problems.append(f"{record.name}: the key {key!r} of its responses is no file name; run it again.")
            else:
                shared[key] = found[key].publishable()
                if is_row(record) and key == keys[0] and has_our_texts(record) and (spoken := found[key].spoken()).rows:
                    texts[key] = spoken
    for key, responses in sorted(shared.items()):
        if any(isinstance(leaf, str) for leaf in _leaves(responses.rows)):
            problems.append(f"responses {key}: they hold text, which a published file must not; mend the probe's kind.")
    return shared


def _plain(record: Record) -> Any:
    """A record as it is read again."""
    return json.loads(json.dumps(record.to_json()))


def _are_published(key: str, responses: Responses, results: Path) -> bool | None:
    """Whether the responses below ``results`` are the same, how long they took aside; None where there are none."""
    path = files.responses_path(results, key)
    if not path.exists():
        return None
    return _canonical(files.read_responses(path)) == _canonical(responses)


def _canonical(responses: Responses) -> str:
    return json.dumps([responses.checkpoint, responses.rows, dict(responses.broken)], sort_keys=True)


def _leaves(data: Any) -> Iterator[Any]:
    """Every value inside of dictionaries and lists."""
    if isinstance(data, Mapping):
        data = list(data.values())
    if isinstance(data, list | tuple):
        for part in data:
            yield from _leaves(part)
    else:
        yield data


def choose_records(names: Sequence[str], source: Path) -> list[Record]:
    """Records by file, key or part of their name; all when none is named."""
    loaded = files.load_records(source)
    for broken in loaded.broken:
        print(broken.left_out)
    if not names:
        return [record for record in loaded.records if record.status == "done"]
    found: list[Record] = []
    for name in names:
        matching = [r for r in loaded.records if name.removeprefix(f"{source}/") in r.name or r.spec.key == name]
        if not matching:
            raise UserError(f"No record in '{source}' has '{name}' in its name: `python -m bench ls runs` lists them.")
        found += [record for record in matching if record not in found]
    return found
