"""Opening the tracker that a command names, so that it neither fails a run nor holds one up."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue

from bench.core import registry
from bench.core.errors import UserError, unknown_name
from bench.core.record import Record, RunSpec
from bench.core.trackers import Curves, Numbers, Tracker
from bench.core.typed_toml import named_object
from bench.core.types import Responses

OURS = {
    "none": "bench.core.trackers:Tracker",
    "tensorboard": "bench.tracking.event_files:TensorBoardTracker",
    "wandb": "bench.tracking.weights_and_biases:WandbTracker",
}
"""Name -> class."""
KIND = PLUGGED = "trackers"
"""What plug-ins are registered as, and the folder below the records in which each has its own."""


def known_trackers() -> dict[str, str]:
    """Name -> ``module:Class`` of every tracker; a plug-in can't take one of our names."""
    return {**registry.components(KIND), **OURS}


def load_tracker(name: str) -> type[Tracker]:
    """The class of a tracker; `UserError` where there is none, or one that can't be loaded."""
    known = known_trackers()
    if name not in known:
        raise UserError(unknown_name("tracker", name, known))
    found: type[Tracker] = named_object(OURS[name]) if name in OURS else registry.load_component(KIND, name)
    return found


def tracker_problems(name: str) -> list[str]:
    """Sentences about ``--track``, before anything is run."""
    try:
        return list(load_tracker(name).problems())
    except UserError as error:
        return list(error.problems)


def open_tracker(name: str, out: Path, device: str = "cpu") -> Tracker:
    """The tracker of a name, which never raises; its files go below ``out``.

    Nothing is imported or written before something is shown. `UserError` when there is no such tracker.
    """
    kind = load_tracker(name)
    folder = out / name if name in OURS else out / PLUGGED / name
    return Tracker(out) if kind is Tracker else GuardedTracker(lambda: kind(folder, device))


class GuardedTracker(Tracker):
    """Another tracker in a thread of its own: no run waits for it, and each different failure is said once, on stderr."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make
        self._calls: SimpleQueue[Callable[[Tracker], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._warned: set[str] = set()

    def row(self, spec: RunSpec, stage: str, series: str, row: Numbers) -> None:
        """Hand the row on."""
        self._ask(lambda inner: inner.row(spec, stage, series, row))

    def end(self, spec: RunSpec, stage: str, failed: bool) -> None:
        """Hand the end on."""
        self._ask(lambda inner: inner.end(spec, stage, failed))

    def record(self, record: Record, said: Mapping[str, Responses], curves: Curves) -> None:
        """Hand the run on."""
        self._ask(lambda inner: inner.record(record, said, curves))

    def report(self, page: Path, pictures: Sequence[Path]) -> None:
        """Hand the pages on."""
        self._ask(lambda inner: inner.report(page, pictures))

    def close(self) -> None:
        """Close the inner tracker, once it has shown everything."""
        if self._thread is not None:
            self._ask(lambda inner: inner.close())
            self._calls.put(None)
            self._thread.join()
            self._thread = None

    def _ask(self, call: Callable[[Tracker], None]) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, daemon=True)
                self._thread.start()
        self._calls.put(call)

    def _serve(self) -> None:
        """Make the calls in their order until none follows."""
        inner: Tracker | None = None
        while (call := self._calls.get()) is not None:
            try:
                inner = inner or self._make()
                call(inner)
            except (Exception, SystemExit) as error:  # the edge; W&B leaves by `sys.exit` when its helper process died
                self._warn(error)

    def _warn(self, error: BaseException) -> None:
        line = f"Tracking failed and the run goes on without it ({brief_error(error)}); `--track none` turns it off."
        if line not in self._warned:
            self._warned.add(line)
            print_warning(line)


def brief_error(error: BaseException) -> str:
    """The kind of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def print_warning(line: str) -> None:
    """Print a line for the user on stderr."""
    print(line, file=sys.stderr, flush=True)
