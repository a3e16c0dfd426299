"""Publishing records with the responses that the store holds, and computing every published score again from those."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from bench.core import registry
from bench.core.attacks import compared_oracles
from bench.core.contracts import Metric
from bench.core.errors import UNUSABLE, UserError, shorten_reason
from bench.core.files import write_text
from bench.core.hashing import hash_file, hash_json
from bench.core.processes import open_pool
from bench.core.provenance import installed_version
from bench.core.record import Record, RunSpec
from bench.core.schema import read_as
from bench.core.types import Responses
from bench.metrics import score_all
from bench.records.bundles import put_records
from bench.records.files import load_records, read_responses, responses_path, write_record
from bench.records.plain import read_plain
from bench.records.publish import choose_records, is_row, rescore_record, response_keys, write_published
from bench.runs.facts import noise_floors, oracle_values
from bench.runs.responses import load_responses
from bench.runs.runner import all_metrics
from bench.runs.store import Store

COMPUTING = ("numpy", "scipy", "rouge-score", "torch", "transformers", "lm-eval")
"""Packages that a score may come from."""
STAMPS = ".stamps.json"
"""In a folder of records: record -> hash of what its numbers were computed from when they were last the same."""


@dataclass(frozen=True)
class Places:
    """Where responses are looked for: beside the records, then in the store."""

    source: Path
    store: Path

    def read(self, key: str) -> Responses:
        """The responses of this key."""
        file = responses_path(self.source, key)
        return read_responses(file) if file.exists() else load_responses(Store(self.store), key)

    def stamp(self, key: str) -> str:
        """Hash of the file that `read` reads; empty where there is none, or the store's is damaged."""
        file = responses_path(self.source, key)
        if file.is_file():
            return hash_file(file)
        node = Store(self.store).find(key)
        return str(node.info["hash"]) if node else ""


@dataclass(frozen=True)
class Known:
    """What is computed once for records that share their oracles."""

    metrics: Sequence[Metric]
    oracles: Mapping[str, Responses]
    values: dict[str, list[float]]
    floors: dict[str, float]


@dataclass(frozen=True)
class Beside:
    """Records that lie elsewhere than in the records' own folders and are checked with them: those of studies."""

    records: Mapping[str, Record] = field(default_factory=dict)
    """By the name that is said where a number differs."""
    broken: Sequence[str] = ()
    """A line about each file that can't be read."""


def rescore_command(
    places: Places,
    write_back: bool,
    say: Callable[[str], Any],
    quick: bool = False,
    workers: int = 1,
    studies: Beside | None = None,
) -> bool:
    """`bench rescore`: every record's scores again from its kept responses; true when all agree.

    ``quick`` passes over records that were right before and are unchanged, with their responses and all of our code. Records
    of which no response was published nor is in the store are counted and left out; it is no success where that is all of them.
    """
    loaded, studies = load_records(places.source), studies or Beside()
    broken = [*(each.left_out for each in loaded.broken), *studies.broken]
    for line in broken:
        say(line)
    measured = [record for record in loaded.records if record.status == "done"]
    records = {record.name: record for record in measured if "imported" not in record.provenance}
    if len(measured) > len(records):
        say(f"{len(measured) - len(records)} imported records have no responses to score again")
    stamp = cache(places.stamp)  # the oracles' responses are those of many records
    everything = {**records, **studies.records}
    kept = {name: record for name, record in everything.items() if any(map(stamp, telling_keys(record, places)))}
    if len(kept) < len(everything):
        say(f"{len(everything) - len(kept)} records have no responses beside them or in the store, and are not checked")
    stamps, known = {name: stamp_record(record, stamp) for name, record in kept.items()}, read_stamps(places)
    todo = {n: r for n, r in kept.items() if not quick or not stamps[n] or known.get(n) != stamps[n]}
    groups, differing = group_records(todo), set[str]()
    with ExitStack() as stack:
        workers = min(workers, len(groups))
        spread = stack.enter_context(open_pool(workers)).map if workers > 1 else map
        mended = []
        for found in chain.from_iterable(spread(partial(rescore_group, places), groups)):
            for line in found.lines:
                say(line)
            differing |= {found.name} if found.lines else set()
            mended += [found.now] if found.lines and found.name in records else []
    if write_back:
        put_back(mended, places.source)
    if write_back and not differing <= records.keys():
        say("what differs in studies is made again by `python -m bench ablate`")
    good = {name: stamp for name, stamp in stamps.items() if stamp and name not in differing}
    if good != known:
        keep_stamps(places, good)
    skipped = f", {len(kept) - len(todo)} unchanged since the last check" if quick else ""
    say(
        f"{len(todo)} records computed again{skipped}: {'some numbers DIFFER' if differing else 'all numbers the same'}"
    )
    if broken:
        say(f"{len(broken)} files could not be read and are left out")
    return not differing and not broken and bool(kept or not everything)


def telling_keys(record: Record, places: Places) -> list[str]:
    """Responses any of which says that a record's are to be there: of a row that was run here an oracle's do so too.

    What is published, in a bundle, may be so without its own, beside others of the seed that have them.
    """
    keys, was_run_here = response_keys(record), (places.source / record.name).exists()
    return keys if was_run_here and is_row(record) else keys[:1]


def put_back(records: Sequence[Record], results: Path) -> None:
    """Write records again where they were read: as files of their own, or in bundles."""
    alone = [record for record in records if (results / record.name).exists()]
    for record in alone:
        write_record(record, results)
    put_records([record for record in records if record not in alone], results)


def group_records(records: Mapping[str, Record]) -> list[list[tuple[str, Record]]]:
    """Records that share their oracles and their metrics, each with its name, the largest groups first."""
    groups: dict[str, list[tuple[str, Record]]] = {}
    for name, record in records.items():
        spec = record.spec
        asked = [spec.task, dict(spec.task_params), spec.tier, spec.model, list(spec.lm_eval), sorted(record.metrics)]
        key = hash_json([record.lineage.get("oracle_responses"), asked])
        groups.setdefault(key, []).append((name, record))
    return sorted(groups.values(), key=len, reverse=True)


@dataclass(frozen=True)
class Rescored:
    """What became of one record."""

    name: str
    lines: list[str]
    """One for each part that is another one now."""
    now: Record
    """The record with what its responses say."""


def rescore_group(places: Places, named: Sequence[tuple[str, Record]]) -> list[Rescored]:
    """Some records that share their oracles, scored again."""
    first = named[0][1]
    with explain_odd_rows(first):
        metrics = all_metrics(first)
        oracles = {key: places.read(key) for key in first.lineage.get("oracle_responses", [])}
        values = oracle_values(metrics, list(oracles.values()))
        known = Known(metrics, oracles, values, noise_floors(metrics, values))
    return [rescore_one(places, name, record, known) for name, record in named]


def rescore_one(places: Places, name: str, record: Record, known: Known) -> Rescored:
    """A record scored again, with a line for each part that is another one now."""
    own = {key: known.oracles.get(key) or places.read(key) for key in response_keys(record)}
    with explain_odd_rows(record):
        again = rescore_record(record, own.__getitem__, known.metrics)
    about = {metric.name: metric.to_json() for metric in known.metrics}
    now = {
        "the noise floors are": (record.floors, known.floors),
        "the oracles' values are": (record.facts.get("oracle_values"), known.values),
        "goals and versions of the metrics are": (dict(record.metrics), about),
        "the absent scores are": (dict(record.absent), again.absent),
    }
    stale = [part for part, (stored, made) in now.items() if stored != made]
    lines = [] if again.same else [str(again).replace(f"{record.name}: ", f"{name}: ")]
    lines += [f"{name}: {part} stored otherwise than they are now" for part in stale]
    if not lines:
        return Rescored(name, [], record)
    compared = compared_oracles(record.spec, record.lineage.get("oracle_responses", []))
    scored = score_all(known.metrics, own[record.lineage["responses"]], [own[key] for key in compared])
    facts = {**record.facts, "oracle_values": known.values}
    changed = replace(record, scores=scored.scores, absent=scored.absent, metrics=about)
    return Rescored(name, lines, replace(changed, floors=known.floors, facts=facts))


def stamp_record(record: Record, stamp: Callable[[str], str]) -> str:
    """A hash of all that a record's numbers are computed from: itself, its responses, our code and its plug-ins', libraries.

    ``stamp``: `Places.stamp`. Empty where its responses can't be found whole, and then it is no stamp.
    """
    found = [stamp(key) for key in response_keys(record)]
    metrics = all_metrics(record)
    about = [metric.to_json() for metric in metrics]
    theirs = plugged_code(record.spec, [metric.name for metric in metrics])
    return hash_json([record.to_json(), found, about, theirs, hash_code()]) if all(found) else ""


def plugged_code(spec: RunSpec, metrics: Sequence[str]) -> dict[str, str]:
    """The code of the plug-ins among a run's task and its metrics, as it is loaded here."""
    found: dict[str, str] = {}
    if not spec.attack:  # which has metrics of its own
        found |= registry.plugin_code("tasks", spec.task, registry.load_task(spec.task, spec.tier))
    for name in sorted(registry.components("metrics").keys() & set(metrics)):
        found |= registry.plugin_code("metrics", name, registry.load_component("metrics", name))
    return found


@cache
def hash_code() -> str:
    """A hash of all of our modules, of the tables that they read, and of the versions of the libraries that compute scores."""
    found = [spec for spec in map(find_spec, ("bench", "tasks")) if spec]
    folders = [Path(place) for spec in found for place in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix in (".py", ".toml")]
    return hash_json([[hash_file(file) for file in files], [installed_version(name) for name in COMPUTING]])


def read_stamps(places: Places) -> dict[str, str]:
    """The stamps of the last check; none where they can't be read."""
    try:
        return read_as(dict[str, str], read_plain(places.source / STAMPS))
    except ValueError:
        return {}


def keep_stamps(places: Places, stamps: dict[str, str]) -> None:
    """Keep the stamps; records that can only be read have none."""
    with suppress(OSError):
        write_text(places.source / STAMPS, json.dumps(stamps, indent=1) + "\n")


@contextmanager
def explain_odd_rows(record: Record) -> Iterator[None]:
    """`UserError` where responses of the right form hold rows that the record's metrics can't read."""
    try:
        yield
    except UNUSABLE as error:
        files = " or ".join(responses_path(Path(), key).name for key in response_keys(record))
        said = f"{type(error).__name__}: {shorten_reason(error)}"
        raise UserError(
            f"{record.name}: its responses ({files}) hold rows that its metrics can't read ({said}): delete them and "
            "run again."
        ) from error


def publish_records(
    names: Sequence[str], source: Path, to: Path, store_root: Path, force: bool, seeds: Collection[int] | None = None
) -> list[Path]:
    """Copy the finished records of ``source`` that are named (all where none is) into ``to``.

    With their responses, or with those of some ``seeds``.
    """
    store = Store(store_root)

    def responses_of(record: Record) -> Mapping[str, Responses]:
        return {key: load_responses(store, key) for key in response_keys(record) if store.find(key) is not None}

    records = choose_records(names, source)
    return write_published(records, to, responses_of, force, seeds) if records else []
