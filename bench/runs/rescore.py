"""Publishing records with the responses that the store holds, and computing every published score again from those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.errors import UNUSABLE, UserError, shorten_reason
from bench.core.record import Record
from bench.core.types import Responses
from bench.metrics import score_all
from bench.records.files import load_records, read_responses, responses_path, write_record
from bench.records.publish import choose_records, rescore_record, response_keys, write_published
from bench.runs.facts import noise_floors, oracle_values
from bench.runs.responses import load_responses
from bench.runs.runner import all_metrics
from bench.runs.store import Store


def rescore_command(source: Path, store_root: Path, write_back: bool, say: Callable[[str], Any]) -> bool:
    """`bench rescore`: every record's scores again from its kept responses; true when all agree."""
    store, good = Store(store_root), True

    def kept(key: str) -> Responses:
        file = responses_path(source, key)
        return read_responses(file) if file.exists() else load_responses(store, key)

    loaded = load_records(source)
    for broken in loaded.broken:
        say(broken.left_out)
    measured = [record for record in loaded.records if record.status == "done"]
    records = [record for record in measured if "imported" not in record.provenance]
    if len(measured) > len(records):
        say(f"{len(measured) - len(records)} imported records have no responses to score again")
    for record in records:
        metrics = all_metrics(record)
        with explain_odd_rows(record):
            again = rescore_record(record, kept, metrics)
            oracles = [kept(key) for key in record.lineage["oracle_responses"]]
            values = oracle_values(metrics, oracles)
            between = noise_floors(metrics, values)
        about = {metric.name: metric.to_json() for metric in metrics}
        now = {
            "the noise floors are": (record.floors, between),
            "the oracles' values are": (record.facts.get("oracle_values"), values),
            "goals and versions of the metrics are": (dict(record.metrics), about),
            "the absent scores are": (dict(record.absent), again.absent),
        }
        stale = [part for part, (stored, made) in now.items() if stored != made]
        same = again.same and not stale
        good = good and same
        if not again.same:
            say(str(again))
        for part in stale:
            say(f"{record.name}: {part} stored otherwise than they are now")
        if write_back and not same:
            scored = score_all(metrics, kept(record.lineage["responses"]), oracles)
            facts = {**record.facts, "oracle_values": values}
            changed = replace(record, scores=scored.scores, absent=scored.absent, metrics=about)
            write_record(replace(changed, floors=between, facts=facts), source)
    say(f"{len(records)} records computed again: {'all numbers the same' if good else 'some numbers DIFFER'}")
    if loaded.broken:
        say(f"{len(loaded.broken)} files could not be read and are left out")
    return good and not loaded.broken


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


def publish_records(names: Sequence[str], source: Path, to: Path, store_root: Path, force: bool) -> list[Path]:
    """Copy the finished records of ``source`` that are named (all where none is) into ``to``, with their responses."""
    store = Store(store_root)

    def responses_of(record: Record) -> Mapping[str, Responses]:
        return {key: load_responses(store, key) for key in response_keys(record) if store.find(key) is not None}

    records = choose_records(names, source)
    return write_published(records, to, responses_of, force) if records else []
