"""Listings: components with their parameters, records."""

from __future__ import annotations

from tests.processes import Place
from tests.shell import Shell


def test_lists_name_every_component_with_its_parameters(shell: Shell) -> None:
    methods, tasks = shell("ls", "methods").out, shell("ls", "tasks").out
    rows = {line.split()[0]: line for line in methods.splitlines()[1:] if line}
    assert {*rows} >= {"msa", "npo", "ga", "graddiff", "task-arithmetic", "retrain"}
    assert rows["npo"].split()[1:5] == ["retain", "log-probs", "arXiv", "2404.05868"]
    about = shell("ls", "methods", "msa").out
    assert about.startswith("msa: ") and "--set msa.alpha=0.9  Weight of the forget vector." in about
    assert "preset lab-tofu: " in about and "preset official: " in about
    assert shell("ls", "tasks", "tofu").out.startswith("tofu: ") and "restor: " not in shell("ls", "tasks", "tofu").out
    assert all(f"\n{name}: " in f"\n{tasks}" for name in ("tofu", "restor", "muse-books"))
    assert "--set muse-books.forget_books=8  Books to be forgotten" in tasks
    assert "lab: " in shell("ls", "models").out and "goal" in shell("ls", "metrics").out


def test_a_listing_says_what_a_default_leaves_unused_and_what_all_runs(shell: Shell) -> None:
    """Without retain rows: flat, undial and ce-u as their papers have them, and task arithmetic without weights."""
    rows = [line.split() for line in shell("ls", "methods").out.splitlines()]
    spared = {row[0] for row in rows if "(retain)" in row[1:2]}
    assert spared == {"flat", "undial", "ce-u", "task-arithmetic"}
    npo, rewind, undial, repair = (shell("ls", "methods", name).out for name in ("npo", "rewind", "undial", "repair"))
    assert "run by --methods all as well: npo@small-retain" in npo and "run by --methods all" not in repair
    assert "run by --methods all as well: rewind@10, rewind@50" in rewind
    assert "    needs (retain)\n" in undial and "    needs history, retain\n" in rewind
    assert "    box of lab-tofu: {'batch': 16, 'beta': {'log': [" in npo and "    box of lab-digits: {" in npo


def test_list_of_runs_names_records_and_broken_files(finished: Place, shell: Shell) -> None:
    assert shell("ls", "runs").out.startswith("No runs yet: `python -m bench run")
    place = finished.copy(shell.folder)
    place.out.rename(shell.folder / "runs")
    file = shell.folder / "runs" / finished.files()["msa"].relative_to(finished.out)
    file.write_text("{")
    lines = shell("ls", "runs").out.splitlines()
    assert [line.split()[0] for line in lines] == ["status", "done", "done", "left"]
    assert lines[3].startswith("left out: ") and file.name in lines[3]
