"""What the parent shows while workers work: bars on a terminal, plain lines everywhere else. Never imports torch."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TextIO, TypedDict, cast

PATIENCE_SECONDS = 2.0
"""A stage that is over sooner gets no bar."""
QUIET_SECONDS = 30.0
"""Plain lines: the shortest time between two lines of one running stage."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b")

Clock = Callable[[], float]


class Event(TypedDict):
    """What a worker tells of one stage of one job; a plain dictionary, as it travels as JSON."""

    job: str
    """The run, such as ``npo-tofu-0``."""
    stage: str
    """What it is at, such as ``train target``."""
    done: int
    total: int | None
    """Units of work; None where their number is not known."""
    status: Literal["start", "progress", "done", "cached", "failed", "note"]
    seconds: float
    """Since the stage began."""
    message: str


class View(Protocol):
    """One way of showing events."""

    def show(self, event: Event) -> None:
        """Take in one event."""
        ...

    def close(self) -> None:
        """Leave the screen as it should stay."""
        ...


class Reporter:
    """Shows events as they come; a context manager, safe to call from several threads.

    On a terminal: a bar for every stage that takes more than `PATIENCE_SECONDS`, gone when the stage ends; failures and
    notes stay as lines. Elsewhere: a line per finished stage, and at most one in `QUIET_SECONDS` of a running one.
    """

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
        """``stream``: where to write, standard output by default; ``clock`` in seconds."""
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._view: View | None = None

    def __enter__(self) -> Self:
        """Take the screen."""
        stream = sys.stdout if self._stream is None else self._stream
        self._view = Bars(stream, self._clock) if is_terminal(stream) else Lines(stream, self._clock)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, whatever happened."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def report(self, event: Mapping[str, Any]) -> None:
        """Show one event; outside the ``with`` block nothing is shown."""
        with self._lock:
            if self._view is not None:
                self._view.show(cast(Event, event))


def ignore(event: Mapping[str, Any]) -> None:
    """Show nothing."""


def is_terminal(stream: TextIO) -> bool:
    """Whether bars can be drawn there."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


@dataclass(frozen=True)
class Key:
    """A stage of a job."""

    job: str
    stage: str


class Lines:
    """Plain log lines: no carriage return, no escape code."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._last: dict[Key, float] = {}
        """When a running stage was last heard of on the page, or began."""

    def show(self, event: Event) -> None:
        """A line where the stage ends, or where it has been silent for long enough."""
        key, now = Key(event["job"], event["stage"]), self._clock()
        if event["status"] in ("start", "progress"):
            # A stage that this process first hears of midway has been silent since now, not since its beginning.
            if now - self._last.setdefault(key, now) < QUIET_SECONDS:
                return
            self._last[key] = now
        elif event["status"] != "note":
            self._last.pop(key, None)
        self._stream.write(line(event) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left open."""


class Bars:
    """Bars of rich; lines only for what should stay on the screen."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._bars = _patient_progress(stream, clock)
        self._tasks: dict[Key, Any] = {}
        self._bars.start()

    def show(self, event: Event) -> None:
        """Move, add or take away the stage's bar."""
        key, status = Key(event["job"], event["stage"]), event["status"]
        if status in ("start", "progress"):
            self._move(key, event)
        elif status == "failed":
            # The job is over, and with it whatever else it had begun.
            self._drop([other for other in self._tasks if other.job == key.job])
        elif status in ("done", "cached"):
            self._drop([key])
        if status in ("failed", "note"):
            self._bars.console.print(line(event), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take all bars away and give the terminal back."""
        self._drop(list(self._tasks))
        self._bars.stop()

    def _move(self, key: Key, event: Event) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(clean(f"{key.job} {key.stage}"), total=event["total"])
        self._bars.update(self._tasks[key], completed=event["done"], total=event["total"])

    def _drop(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key in self._tasks:
                self._bars.remove_task(self._tasks.pop(key))


def _patient_progress(stream: TextIO, clock: Clock) -> Any:
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


def line(event: Event) -> str:
    """One line of plain text for an event."""
    where = f"{event['job']} {event['stage']}".strip()
    return clean(f"{where}: {_what(event)}" + (f" - {event['message']}" if event["message"] else ""))


def _what(event: Event) -> str:
    status, seconds = event["status"], event["seconds"]
    if status in ("start", "progress"):
        total = "" if event["total"] is None else f" of {event['total']}"
        return f"{event['done']}{total}, {seconds:.0f} s"
    return f"{status} in {seconds:.1f} s" if status == "done" else status


def clean(text: str) -> str:
    """The text on one line, without terminal escapes and control characters: messages may hold whole errors."""
    return "".join(c for c in " ".join(ESCAPES.sub("", text).split()) if c.isprintable())
