"""The progress of workers, as their parent shows it: bars on a terminal, plain lines everywhere else. Never imports torch."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self, TextIO, TypedDict, cast

from bench.core.texts import one_line

PATIENCE_SECONDS = 2.0
"""A stage that is over sooner gets no bar."""
QUIET_SECONDS = 30.0
"""Plain lines: the shortest time between two lines of one running stage."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0e-\x1b\x7f]")


class Event(TypedDict):
    """News of one stage of one job; a plain dictionary, as it travels as JSON."""

    job: str
    """The run, such as ``npo-tofu-0``."""
    stage: str
    """The work that is under way, such as ``train target``."""
    done: int
    total: int | None
    """Units of work; None where their number is not known."""
    status: Literal["start", "progress", "done", "cached", "failed", "note", "row"]
    """``row`` is for a tracker and not for the terminal."""
    seconds: float
    """Since the stage began."""
    message: str


class Reporter:
    """Shows events as they come; a context manager, safe to call from several threads.

    On a terminal: a bar for every stage that takes more than `PATIENCE_SECONDS`, gone when the stage ends; failures and
    notes stay as lines. Elsewhere: a line per finished stage, and at most one in `QUIET_SECONDS` of a running one.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``stream``: where to write, standard output by default; ``clock`` in seconds."""
        self._stream, self._clock = stream, clock
        self._lock = threading.Lock()
        self._show: Callable[[Event], None] | None = None
        self._progress: Any = None
        """rich's, on a terminal."""
        self._bars: dict[tuple[str, str], Any] = {}
        """Job and stage -> rich's number of its bar."""
        self._heard: dict[tuple[str, str], float] = {}
        """Job and stage -> when it was last heard of on the page, or began."""

    def __enter__(self) -> Self:
        """Start the live display on the terminal."""
        self._stream = self._stream or sys.stdout
        if self._stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown"):
            self._progress, self._show = patient_progress(self._stream, self._clock), self._show_bar
            self._progress.start()
        else:
            self._show = self._show_line
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back, whatever happened."""
        self._show = None
        if self._progress is not None:
            self._remove(list(self._bars))
            self._progress.stop()

    def report(self, event: Mapping[str, Any]) -> None:
        """Show one event; outside the ``with`` block nothing is shown."""
        with self._lock:
            if self._show is not None:
                self._show(cast(Event, event))

    def _show_line(self, event: Event) -> None:
        """Write a line where the stage ends, or where it has been silent for long enough."""
        assert self._stream is not None
        stage, now = (event["job"], event["stage"]), self._clock()
        if event["status"] in ("start", "progress"):
            # A stage that this process first hears of midway has been silent since now, not since its beginning.
            if now - self._heard.setdefault(stage, now) < QUIET_SECONDS:
                return
            self._heard[stage] = now
        elif event["status"] != "note":
            self._heard.pop(stage, None)
        self._stream.write(event_line(event) + "\n")
        self._stream.flush()

    def _show_bar(self, event: Event) -> None:
        """Move, add or take away the stage's bar; a line only for what should stay on the screen."""
        stage, status = (event["job"], event["stage"]), event["status"]
        if status in ("start", "progress"):
            if stage not in self._bars:
                self._bars[stage] = self._progress.add_task(clean_text(" ".join(stage)), total=event["total"])
            self._progress.update(self._bars[stage], completed=event["done"], total=event["total"])
        elif status == "failed":  # the job is over, and with it whatever else it had begun
            self._remove([other for other in self._bars if other[0] == event["job"]])
        elif status != "note":
            self._remove([stage])
        if status in ("failed", "note"):
            self._progress.console.print(event_line(event), markup=False, highlight=False, soft_wrap=True)

    def _remove(self, stages: Iterable[tuple[str, str]]) -> None:
        """Remove the bars of finished stages."""
        for stage in stages:
            if stage in self._bars:
                self._progress.remove_task(self._bars.pop(stage))


def ignore_event(event: Mapping[str, Any]) -> None:
    """Ignore a progress event."""


def patient_progress(stream: TextIO, clock: Callable[[], float]) -> Any:
    """A rich `Progress` that shows a task only once it has run for `PATIENCE_SECONDS`, without waiting for an event."""
    from rich import progress
    from rich.console import Console

    class Patient(progress.Progress):
        def get_renderables(self) -> Iterable[Any]:
            yield self.make_tasks_table([task for task in self.tasks if (task.elapsed or 0) >= PATIENCE_SECONDS])

    return Patient(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
        refresh_per_second=4,
        get_time=clock,
    )


def event_line(event: Event) -> str:
    """One line of plain text for an event."""
    status, seconds = event["status"], event["seconds"]
    text: str = status
    if status in ("start", "progress"):
        total = "" if event["total"] is None else f" of {event['total']}"
        text = f"{event['done']}{total}, {seconds:.0f} s"
    elif status == "done":
        text = f"done in {seconds:.1f} s"
    where = f"{event['job']} {event['stage']}".strip()
    return clean_text(f"{where}: {text}" + (f" - {event['message']}" if event["message"] else ""))


def clean_text(text: str) -> str:
    """The text as `one_line` shows it, without escapes and controls: messages may hold whole errors in colours."""
    return one_line(ESCAPES.sub("", text))
