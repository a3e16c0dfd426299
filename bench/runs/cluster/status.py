"""`bench status`: what the jobs that were handed to a cluster are doing, from their journals and from SLURM."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import UserError
from bench.core.machine import format_duration
from bench.core.types import Json
from bench.runs.cluster import commands
from bench.runs.cluster.commands import State
from bench.runs.cluster.handing import is_under_way
from bench.runs.cluster.slurm import SILENT_EVENT, explain_end, is_live
from bench.runs.cluster.submission import (
    CANCELLED,
    Task,
    all_tasks,
    ending,
    explain_damage,
    find_damaged,
    is_damaged,
    job_key,
    latest_tasks,
    name_arrays,
)
from bench.runs.progress import clean_text, event_line

LONGEST = 100
"""Characters of a log's line that are shown."""


@dataclass(frozen=True)
class Line:
    """A job in the table."""

    job: str
    state: str
    """``queued``, ``running``, ``done``, ``skipped``, ``failed``, or ``unknown`` where SLURM doesn't answer."""
    slurm: str
    where: str
    since: float
    """Seconds since it last said anything."""
    last: str


def status_command(out: Path, cancel: bool) -> bool:
    """Print what was handed to the cluster for the records in ``out``; returns whether some job failed."""
    tasks, damaged = all_tasks(out), find_damaged(out)
    if not (tasks or damaged):
        raise UserError(
            f"Nothing was handed to a cluster for the records in '{out}': `python -m bench run --executor slurm` does that, "
            "and --out names the folder."
        )
    orphans = [name for folder in damaged for name in name_arrays(folder.name.rpartition("-")[2])]
    states, silence = look(sorted({task.array.name for task in tasks}))
    latest = latest_tasks(tasks)
    tasks = [task for task in tasks if is_live(task, states) or latest[job_key(task.job)].id == task.id]
    if cancel:
        if silence:
            raise UserError(f"Nothing was cancelled: SLURM doesn't answer ({silence}); try again later.")
        left = [task for task in tasks if is_live(task, states)]
        commands.cancel(sorted({task.array.name for task in left} | {*orphans}))
        for task in left:
            with suppress(OSError):  # the jobs have been cancelled all the same
                task.say({"event": CANCELLED})
        print(
            f"cancelled {len(left)} jobs; what they had finished is kept, and the same `bench run` goes on from there"
        )
        return False
    under_way = is_under_way(out)
    lines = [describe(task, states, bool(silence), under_way) for task in tasks]
    show(lines)
    for folder in damaged:
        print(f"NOTE: {explain_damage(folder, out)}")
    for task in tasks:
        if is_damaged(task.journal):
            print(f"NOTE: {task.journal.relative_to(out)} is damaged; what can't be read of it is passed over.")
    if silence:
        print(f"NOTE: SLURM doesn't answer ({silence}), so that this is what the jobs said themselves.")
    print(", ".join(count_states(lines)))
    return any(line.state == "failed" for line in lines)


def look(names: Sequence[str]) -> tuple[dict[tuple[str, int], State], str]:
    """What SLURM knows of these arrays, or why it doesn't say."""
    try:
        states = commands.find_states(names)
    except commands.Silent as silence:
        return {}, str(silence)
    return commands.find_ended(names) | states, ""


def describe(task: Task, states: Mapping[tuple[str, int], State], silent: bool, under_way: bool = False) -> Line:
    """A job's line: SLURM's word counts while it has the job, then the job's own.

    ``under_way``: some command is handing over jobs at this moment.
    """
    events, state = task.events(), states.get(task.id)
    end, since = ending(events), events[-1].get("at", 0.0) if events else 0.0
    last = last_words(task)
    if is_live(task, states):
        assert state is not None
        word = "queued" if state.is_waiting else "running"
        if state.is_waiting and state.reason not in ("None", ""):
            last = f"waits: {state.reason}" + (f"; {last}" if last else "")
    elif end is not None:
        word = end["status"]
        if word == "failed":
            last = commands.last_line(end.get("message", "")) or last
    elif silent:
        word = "unknown"
    elif state is None and not task.was_handed_over:
        word, last = (
            ("queued", "it is being handed over")
            if under_way
            else ("failed", "its command ended before it was handed over: run the same command again")
        )
    else:
        word = "failed"
        last = explain_end(task, state) + (f"; {last}" if last else "")
    age = time.time() - since if since else 0.0
    return Line(clean_text(task.job.name), word, state.slurm if state else "", state.node if state else "", age, last)


def last_words(task: Task) -> str:
    """The last line of a job's log, or where it printed nothing of its last news."""
    said = task.last_line()
    news = [event for event in task.events() if "stage" in event and "status" in event]
    told = describe_news(news[-1]) if news else ""
    return clean_text(f"{told} | {said}" if told and said else told or said)[:LONGEST]


def describe_news(event: Json) -> str:
    """What a job said last, without its name; a remark stands by itself."""
    if event["status"] == "note":
        return str(event.get("message", ""))
    whole: Any = {**SILENT_EVENT, **event, "job": ""}
    return event_line(whole)


def count_states(lines: Sequence[Line]) -> Iterator[str]:
    """How many jobs there are of each state."""
    for word in ("queued", "running", "done", "skipped", "failed", "unknown"):
        if count := sum(line.state == word for line in lines):
            yield f"{count} {word}"


def show(lines: Sequence[Line]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for heading in ("job", "state", "SLURM", "node", "last heard"):
        table.add_column(heading, no_wrap=True)
    table.add_column("last line", overflow="fold")
    for line in lines:
        ago = f"{format_duration(line.since)} ago" if line.since else ""
        table.add_row(line.job, line.state, line.slurm, line.where, ago, line.last)
    Console(highlight=False, markup=False).print(table)


def explain_live(out: Path) -> str:
    """A sentence about jobs that SLURM has, or may have, for the records in ``out``; empty where it has none."""
    tasks = [task for task in all_tasks(out) if task.was_handed_over and not ending(task.events())]
    orphans = [name for folder in find_damaged(out) for name in name_arrays(folder.name.rpartition("-")[2])]
    if not (tasks or orphans):
        return ""
    command = f"`python -m bench status --out {out}`"
    try:
        states = commands.find_states(sorted({task.array.name for task in tasks} | {*orphans}))
    except commands.Silent as silence:
        return (
            f"jobs that were handed to SLURM for '{out}' haven't ended by their own word, and SLURM doesn't answer "
            f"({silence}), so that every node stays: go on where it does, see {command}"
        )
    count = sum(state.is_live for state in states.values())
    return f"SLURM has {count} jobs for '{out}', so that every node stays: see {command}" if count else ""
