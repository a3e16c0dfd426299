"""`bench leaderboard`, `table`, `report`, `plot`, `publish`, `import` and `rescore`: what is done with records."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option, echo

from bench.cli.options import (
    Jobs,
    Out,
    Results,
    StoreAt,
    complete_name,
    is_text,
    parse_seeds,
    records_folder,
    split_words,
    store_at,
    warn_broken,
)
from bench.core.errors import raise_problems, unknown_name
from bench.core.machine import default_jobs
from bench.core.places import file_problems, folder_problems, readable_problems


def leaderboard(
    source: Results = Path("results"),
    page: Annotated[Path, Option("--to", help="The page to write.")] = Path("leaderboard.md"),
    check: Annotated[bool, Option("--check", help="Write nothing; exit 1 when a page is stale.")] = False,
) -> None:
    """Write the leaderboard and the tables behind it from published records: --from's tables/ has all scores.

    With --check every generated page is looked at, and whether the pictures that they link to are there.
    """
    from bench.records.files import load_records
    from bench.records.leaderboard import FOLDER, files_of, missing_pictures, stale_tables, write_pages

    folder = records_folder(source)
    places = file_problems("--to", page) + folder_problems("--from", source / FOLDER)
    raise_problems([] if check else places)
    loaded = load_records(folder)
    if not check:
        warn_broken(loaded)
        written = write_pages(loaded, source, page)
        echo(f"{page}: {len(loaded.records)} records; all scores in {source / FOLDER} ({len(written) - 1} files).")
        return
    files = files_of(loaded, source, page)
    stale = [path for path, text in files.items() if not is_text(path, text)] + stale_tables(source, files)
    missing = missing_pictures(loaded, source, page)
    for path in stale:
        echo(f"{path} is stale: run `python -m bench leaderboard`.")
    for path in missing:
        echo(f"{path} is missing: run `python -m bench plot`.")
    if not stale and not missing:
        echo(f"{page} and {len(files) - 1} files in {source / FOLDER} are up to date.")
    raise Exit(1 if stale or missing else 0)


def table(
    task: Annotated[str, Option("--task", "-t", help="A task, or the name of one of its tables.")],
    form: Annotated[str, Option("--format", help="md, csv or latex (booktabs).")] = "md",
    columns: Annotated[
        str, Option(help="Comma-separated: scores, forgetting, kept, kl_forget, kl_retain, membership, cost, seconds.")
    ] = "",
    model: Annotated[str, Option(help="The real tier's table of this model; without it the lab's.")] = "",
    source: Results = Path("results"),
) -> None:
    """Print one task's table for a paper: Markdown, CSV or LaTeX, rows as in the leaderboard."""
    from bench.records.files import load_records
    from bench.records.summaries import FORMATS, find_section, summarise
    from bench.records.tables import build_sections

    problems = [] if form in FORMATS else [unknown_name("format", form, FORMATS, "")]
    raise_problems(problems)
    loaded = load_records(records_folder(source))
    warn_broken(loaded)
    section = find_section(build_sections(loaded.records), complete_name("tasks", task), model)
    echo(FORMATS[form](summarise(section, split_words(columns))).rstrip("\n"))


def report(
    source: Results = Path("results"),
    page: Annotated[Path, Option("--to", help="The page to write.")] = Path("report.html"),
    store: StoreAt = None,
) -> None:
    """Write one HTML file with tables, pictures and what the models said, which opens anywhere and asks nobody for anything.

    From a published folder it has the lab's texts alone; from your own runs a benchmark's as well, for your eyes.
    """
    from bench.records.files import load_records
    from bench.runs.report import write_report_page

    raise_problems(file_problems("--to", page) + readable_problems("--store", store_at(store)))
    loaded = load_records(records_folder(source))
    warn_broken(loaded)
    write_report_page(loaded, source, store_at(store), page)
    echo(f"{page}: {len(loaded.records)} records, {page.stat().st_size / 1e6:.1f} MB.")


def plot(source: Results = Path("results"), to: Annotated[Path | None, Option()] = None) -> None:
    """Draw the plots from records and searches, and the pages and pictures of ablations from their studies.

    SVG and PNG; SVG alone in a published folder. Pictures that were drawn there and no longer are, are removed.
    """
    from bench.core.processes import open_pool
    from bench.records.files import load_records
    from bench.records.plots import draw_plots
    from bench.records.search_plots import draw_search_plots
    from bench.records.stamps import remove_stale
    from bench.studies.ablations import FOLDER
    from bench.studies.ablations.study import redraw_page

    records_folder(source)
    raise_problems(folder_problems("--to", to or source / "plots"))
    loaded = load_records(source)
    warn_broken(loaded)
    folder = to or source / "plots"
    studies = sorted((source / FOLDER).glob("[!.]*.json"))
    # One process for the pages, whose folder is another one; where all goes into one, the pictures first.
    with open_pool(1) if studies and not to and default_jobs("cpu") > 1 else nullcontext() as pool:
        pages = (pool.map if pool else map)(partial(redraw_page, to=to), studies)
        drawn = [*draw_plots(loaded.records, folder), *draw_search_plots(source, folder)]
        for path in drawn:
            echo(str(path))
        whole = not loaded.broken
        for page in pages:
            whole = whole and bool(page)
            for path in page:
                echo(str(path))
                drawn.append(path)
        if whole:  # else a picture may be wanted again
            for path in remove_stale(folder, drawn, own=to is None):
                echo(f"removed {path}: nothing draws it any more")


def publish(
    names: Annotated[list[str] | None, Argument(help="Records by file, key or part of the name; default all.")] = None,
    source: Results = Path("runs"),
    to: Annotated[Path, Option()] = Path("results"),
    store: StoreAt = None,
    force: Annotated[bool, Option("--force", help="Replace what is published and different.")] = False,
    responses: Annotated[str, Option(help="Seeds whose responses are published too: 0,1, or none.")] = "all",
) -> None:
    """Copy finished, clean records with their responses into results/; refuse dirty or unfinished ones.

    Responses are nearly all of the bytes, and noise that can't be packed: those of one seed let anybody check that table.
    """
    from bench.records.files import load_records
    from bench.runs.report import NAME, write_report_page
    from bench.runs.rescore import publish_records
    from bench.studies.ablations import FOLDER
    from bench.studies.ablations.study import publish_studies

    records_folder(source)
    raise_problems(folder_problems("--to", to) + readable_problems("--store", store_at(store)))
    studies = sorted((source / FOLDER).glob("[!.]*.json"))
    wanted = [file for file in studies if not names or any(name in file.name for name in names)]
    others = [name for name in names or [] if not any(name in file.name for file in studies)]
    whose: dict[str, tuple[int, ...] | None] = {"all": None, "none": ()}
    seeds = whose[responses] if responses in whose else parse_seeds(responses, "--responses")
    paths = publish_records(others, source, to, store_at(store), force, seeds) if others or not names else []
    for path in paths + publish_studies(wanted, to / FOLDER, force):
        echo(str(path))
    if paths:
        echo(f"report: {write_report_page(load_records(to), to, store_at(store), to / NAME)}")


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
