"""`bench leaderboard`, `plot`, `publish`, `import` and `rescore`: what is done with records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option, echo

from bench.cli.options import (
    Jobs,
    Out,
    Results,
    StoreAt,
    parse_seeds,
    records_folder,
    store_at,
    warn_broken,
    write_or_check,
)
from bench.core.errors import raise_problems
from bench.core.machine import default_jobs
from bench.core.places import file_problems, folder_problems, readable_problems


def leaderboard(
    source: Results = Path("results"),
    page: Annotated[Path, Option("--to", help="The page to write.")] = Path("leaderboard.md"),
    check: Annotated[bool, Option("--check", help="Write nothing; exit 1 when the page is stale.")] = False,
) -> None:
    """Write the leaderboard from published records."""
    from bench.records.files import load_records
    from bench.records.leaderboard import render_leaderboard

    raise_problems([] if check else file_problems("--to", page))
    loaded = load_records(records_folder(source))
    if not check:
        warn_broken(loaded)
    text = render_leaderboard(loaded.records, loaded.broken)
    good = write_or_check(page, text, check, "leaderboard", f"{len(loaded.records)} records")
    raise Exit(0 if good else 1)


def plot(source: Results = Path("results"), to: Annotated[Path | None, Option()] = None) -> None:
    """Draw the plots from records and searches, and the pages and pictures of ablations from their studies.

    SVG and PNG; SVG alone in a published folder, from which pictures that are no longer drawn are removed.
    """
    from bench.records.attack_plots import draw_attack_plots
    from bench.records.files import load_records
    from bench.records.plots import draw_plots
    from bench.records.search_plots import draw_search_plots
    from bench.records.stamps import remove_stale
    from bench.studies.ablations import FOLDER
    from bench.studies.ablations.study import redraw_pages

    records_folder(source)
    raise_problems(folder_problems("--to", to or source / "plots"))
    loaded = load_records(source)
    warn_broken(loaded)
    folder = to or source / "plots"
    drawn = [*draw_plots(loaded.records, folder), *draw_attack_plots(loaded.records, folder)]
    drawn += draw_search_plots(source, folder)
    for path in drawn:
        echo(str(path))
    if to is None and not loaded.broken:  # else a picture may be wanted again
        for path in remove_stale(folder, drawn):
            echo(f"removed {path}: nothing draws it any more")
    for path in redraw_pages(source / FOLDER, to):
        echo(str(path))


def publish(
    names: Annotated[list[str] | None, Argument(help="Records by file, key or part of the name; default all.")] = None,
    source: Results = Path("runs"),
    to: Annotated[Path, Option()] = Path("results"),
    store: StoreAt = None,
    force: Annotated[bool, Option("--force", help="Replace what is published and different.")] = False,
    responses: Annotated[str, Option(help="Seeds whose responses are published too, such as 0,1; default all.")] = "",
) -> None:
    """Copy finished, clean records with their responses into results/; refuse dirty or unfinished ones.

    Responses are nearly all of the bytes, and noise that can't be packed: those of one seed let anybody check that table.
    """
    from bench.runs.rescore import publish_records
    from bench.studies.ablations import FOLDER
    from bench.studies.ablations.study import publish_studies

    records_folder(source)
    raise_problems(folder_problems("--to", to) + readable_problems("--store", store_at(store)))
    studies = sorted((source / FOLDER).glob("[!.]*.json"))
    wanted = [file for file in studies if not names or any(name in file.name for name in names)]
    others = [name for name in names or [] if not any(name in file.name for file in studies)]
    seeds = parse_seeds(responses, "--responses") if responses else None
    paths = publish_records(others, source, to, store_at(store), force, seeds) if others or not names else []
    for path in paths + publish_studies(wanted, to / FOLDER, force):
        echo(str(path))


def import_(
    source: Annotated[str, Argument(help="Where the results come from: open-unlearning.")],
    file: Annotated[Path, Argument(help="Its TOFU_EVAL.json, MUSE_EVAL.json or *_SUMMARY.json.")],
    task: Annotated[str, Option("--task", "-t", help="tofu, muse-books or muse-news; default by the file.")] = "",
    model: Annotated[str, Option(help="The model's name; default by the file's folder.")] = "",
    method: Annotated[str, Option(help="The method's name; default by the file's folder.")] = "",
    split: Annotated[str, Option(help="TOFU's forget split; default by the folder, or the file's rows.")] = "",
    out: Out = Path("runs"),
) -> None:
    """Turn another harness's results into a record, which is shown apart and ranked against nothing."""
    from bench.records.files import write_record
    from bench.records.importer import import_record

    raise_problems(folder_problems("--out", out))
    record = import_record(source, file, task, model, method, split)
    echo(f"{write_record(record, out)}: {len(record.scores)} scores, {len(record.absent)} absent")


def rescore(
    source: Results = Path("results"),
    store: StoreAt = None,
    write: Annotated[bool, Option("--write", help="Write the new scores into the records.")] = False,
    quick: Annotated[bool, Option("--quick", help="Pass over what was right before and is unchanged.")] = False,
    jobs: Jobs = None,
) -> None:
    """Compute every metric again from the kept responses, without a model; exit 1 when a number differs.

    Records of studies are computed again too.
    """
    from bench.runs.rescore import Places, rescore_command
    from bench.studies.ablations import FOLDER
    from bench.studies.ablations.study import study_records

    raise_problems(readable_problems("--store", store_at(store)))
    places = Places(records_folder(source), store_at(store))
    studies = study_records(source / FOLDER)
    raise Exit(0 if rescore_command(places, write, echo, quick, jobs or default_jobs("cpu"), studies) else 1)
