"""`bench leaderboard`, `plot`, `publish`, `import` and `rescore`: what is done with records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Out, Results, StoreAt, records_folder, store_at, warn_broken
from bench.core.errors import UserError, collect
from bench.core.files import write_text
from bench.core.record import Record
from bench.core.types import Responses
from bench.records.files import load, write
from bench.runs.responses import responses_in
from bench.runs.store import Store
from bench.studies.ablations import FOLDER


def leaderboard(
    source: Results = Path("results"),
    page: Annotated[Path, typer.Option("--to", help="The page to write.")] = Path("leaderboard.md"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when the page is stale.")] = False,
) -> None:
    """Write the leaderboard from published records."""
    from bench.core.files import write_text
    from bench.records.files import load
    from bench.records.leaderboard import check as up_to_date
    from bench.records.leaderboard import render

    if check:
        good = up_to_date(records_folder(source), page)
        typer.echo(f"{page} is {'up to date' if good else 'stale: run `python -m bench leaderboard`'}.")
        raise typer.Exit(0 if good else 1)
    loaded = load(records_folder(source))
    warn_broken(loaded)
    write_text(page, render(loaded.records, loaded.broken))
    typer.echo(f"{page}: {len(loaded.records)} records.")


def plot(source: Results = Path("results"), to: Annotated[Path | None, typer.Option("--to")] = None) -> None:
    """Draw the plots (PNG and SVG) from records, and the pages and pictures of ablations from their studies."""
    from bench.records.files import load
    from bench.records.plots import draw
    from bench.studies.ablations import FOLDER
    from bench.studies.ablations.study import pages

    loaded = load(records_folder(source))
    warn_broken(loaded)
    for path in draw(loaded.records, to or source / "plots"):
        typer.echo(str(path))
    for path in pages(source / FOLDER, to):
        typer.echo(str(path))


def publish(
    names: Annotated[
        list[str] | None, typer.Argument(help="Records by file, key or part of the name; default all.")
    ] = None,
    source: Results = Path("runs"),
    to: Annotated[Path, typer.Option("--to")] = Path("results"),
    store: StoreAt = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is published and different.")] = False,
) -> None:
    """Copy finished, clean records with their responses into results/; refuse dirty or unfinished ones."""
    for path in publish_command(names or [], records_folder(source), to, store_at(store), force):
        typer.echo(str(path))


def import_(
    source: Annotated[str, typer.Argument(help="Where the results come from: open-unlearning.")],
    file: Annotated[Path, typer.Argument(help="Its TOFU_EVAL.json, MUSE_EVAL.json or *_SUMMARY.json.")],
    task: Annotated[str, typer.Option("--task", "-t", help="tofu, muse-books or muse-news; default by the file.")] = "",
    model: Annotated[str, typer.Option("--model", help="The model's name; default by the file's folder.")] = "",
    method: Annotated[str, typer.Option("--method", help="The method's name; default by the file's folder.")] = "",
    out: Out = Path("runs"),
) -> None:
    """Turn another harness's results into a record, which is shown apart and ranked against nothing."""
    from bench.core.machine import can_write
    from bench.records.files import write
    from bench.records.importer import import_record

    if not can_write(out):
        raise UserError(f"--out {out}: this is not a folder that you may write to; choose another.")
    record = import_record(source, file, task, model, method)
    typer.echo(f"{write(record, out)}: {len(record.scores)} scores, {len(record.absent)} absent")


def rescore(
    source: Results = Path("results"),
    store: StoreAt = None,
    write: Annotated[bool, typer.Option("--write", help="Write the new scores into the records.")] = False,
) -> None:
    """Compute every metric again from the kept responses, without a model; exit 1 when a number differs."""
    raise typer.Exit(0 if rescore_command(records_folder(source), store_at(store), write, typer.echo) else 1)


def report(out: Path) -> tuple[Path, list[Path]]:
    """Leaderboard and plots of the records in ``out``; broken ones are named and left out."""
    from bench.records.leaderboard import render
    from bench.records.plots import draw

    loaded = load(out)
    for broken in loaded.broken:
        print(f"left out: {broken.path}: {broken.reason}")
    page = out / "leaderboard.md"
    write_text(page, render(loaded.records, loaded.broken))
    return page, draw(loaded.records, out / "plots")


def chosen_records(names: Sequence[str], source: Path) -> list[Record]:
    """Records by file, key or part of their name; all when none is named."""
    loaded = load(source)
    for broken in loaded.broken:
        print(f"left out: {broken.path}: {broken.reason}")
    if not names:
        return [record for record in loaded.records if record.status == "done"]
    found: list[Record] = []
    for name in names:
        matching = [r for r in loaded.records if name.removeprefix(f"{source}/") in r.name or r.spec.key == name]
        if not matching:
            raise UserError(f"No record in '{source}' has '{name}' in its name: `python -m bench ls runs` lists them.")
        found += [record for record in matching if record not in found]
    return found


def publish_command(names: Sequence[str], source: Path, to: Path, store_root: Path, force: bool) -> list[Path]:
    """`bench publish`."""
    from bench.records.publish import publish, response_keys

    store = Store(store_root)

    def responses_of(record: Record) -> Mapping[str, Responses]:
        return {key: responses_in(store, key) for key in response_keys(record) if store.find(key) is not None}

    studies = sorted((source / FOLDER).glob("*.json"))
    wanted = [file for file in studies if not names or any(name in file.name for name in names)]
    recorded = [name for name in names if not any(name in file.name for file in studies)]
    records = chosen_records(recorded, source) if recorded or not names else []
    paths = publish(records, to, responses_of, force) if records else []
    return paths + publish_studies(wanted, to / FOLDER, force)


def publish_studies(files: Sequence[Path], to: Path, force: bool) -> list[Path]:
    """Copy clean studies, with page and picture drawn from them; nothing is written unless all can be."""
    from bench.studies.ablations import study

    problems = [f"{file.name}: {fault}" for file in files for fault in study.faults_in(file)]
    new = [file for file in files if not (to / file.name).exists() or (to / file.name).read_text() != file.read_text()]
    if not force:
        problems += [
            f"{file.name}: published already and different; delete that file first, or use --force."
            for file in new
            if (to / file.name).exists()
        ]
    collect(problems)
    return [path for file in new for path in study.rewrite(file, to)]


def rescore_command(source: Path, store_root: Path, write_back: bool, say: Callable[[str], Any]) -> bool:
    """`bench rescore`: every record's scores again from its kept responses; true when all agree."""
    from bench.metrics import score_all
    from bench.records.files import read_responses, responses_path
    from bench.records.publish import rescore
    from bench.runs.facts import floors, oracle_values
    from bench.runs.runner import all_metrics

    store, good = Store(store_root), True

    def kept(key: str) -> Responses:
        file = responses_path(source, key)
        return read_responses(file) if file.exists() else responses_in(store, key)

    loaded = load(source)
    for broken in loaded.broken:
        say(f"left out: {broken.path}: {broken.reason}")
    measured = [record for record in loaded.records if record.status == "done"]
    records = [record for record in measured if "imported" not in record.provenance]
    if len(measured) > len(records):
        say(f"{len(measured) - len(records)} imported records have no responses to score again")
    for record in records:
        metrics = all_metrics(record)
        again = rescore(record, kept, metrics)
        oracles = [kept(key) for key in record.lineage["oracle_responses"]]
        values = oracle_values(metrics, oracles)
        between = floors(metrics, values)
        stale = stale_parts(record, metrics, values, again.absent)
        same = again.same and between == record.floors and not stale
        good = good and same
        if not again.same:
            say(str(again))
        if between != record.floors:
            say(f"{record.name}: the noise floors are stored otherwise than they are now")
        for part in stale:
            say(f"{record.name}: {part} stored otherwise than they are now")
        if write_back and not same:
            scored = score_all(metrics, kept(record.lineage["responses"]), oracles)
            about = {metric.name: metric.to_json() for metric in metrics}
            facts = {**record.facts, "oracle_values": values}
            write(
                replace(
                    record,
                    scores=scored.scores,
                    absent=scored.absent,
                    metrics=about,
                    floors=between,
                    facts=facts,
                ),
                source,
            )
    say(f"{len(records)} records computed again: {'all numbers the same' if good else 'some numbers DIFFER'}")
    if loaded.broken:
        say(f"{len(loaded.broken)} files could not be read and are left out: mend or remove them")
    return good and not loaded.broken


def stale_parts(
    record: Record, metrics: Sequence[Any], values: Mapping[str, Sequence[float]], absent: Mapping[str, str]
) -> list[str]:
    """What of a record decides losses and ranks beside its scores, and is not what it would be now."""
    now = {
        "the oracles' values are": (record.facts.get("oracle_values"), values),
        "goals and versions of the metrics are": (dict(record.metrics), {m.name: m.to_json() for m in metrics}),
        "the absent scores are": (dict(record.absent), absent),
    }
    return [part for part, (kept, made) in now.items() if kept != made]
