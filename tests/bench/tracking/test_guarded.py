"""Opening trackers: by name, plugged in or not, and never in a run's way."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.record import Record
from bench.core.trackers import Curves, Tracker
from bench.core.types import Responses
from bench.tracking.guarded import GuardedTracker, open_tracker, tracker_problems
from tests.processes import environment
from tests.tracked import made


class Broken(Tracker):
    """Fails in every call, each time in the same way."""

    def record(self, record: Record, said: Mapping[str, Responses], curves: Curves) -> None:
        raise RuntimeError("the disk is full\nand more")

    def close(self) -> None:
        raise SystemExit(3)


def test_a_broken_tracker_warns_once_and_does_not_raise(capfd: pytest.CaptureFixture[str]) -> None:
    tracker = GuardedTracker(lambda: Broken(Path()))
    tracker.record(made("npo"), {}, {})
    tracker.record(made("npo"), {}, {})
    tracker.close()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "RuntimeError: the disk is full)" in lines[0] and "--track none" in lines[0]
    assert "SystemExit: 3" in lines[1]


def test_one_that_can_not_be_made_warns_once(capfd: pytest.CaptureFixture[str]) -> None:
    def make() -> Tracker:
        raise OSError("no room")

    tracker = GuardedTracker(make)
    tracker.report(Path("page.md"), [])
    tracker.close()
    assert capfd.readouterr().err.count("OSError: no room") == 1


def test_nobody_waits_for_a_slow_tracker_and_its_calls_keep_their_order() -> None:
    go, heard = threading.Event(), list[float]()

    class Slow(Tracker):
        def row(self, spec: object, stage: str, series: str, row: Mapping[str, float]) -> None:
            assert go.wait(10)
            heard.append(row["step"])

    tracker = GuardedTracker(lambda: Slow(Path()))
    for step in range(50):
        tracker.row(made("npo").spec, "", "train/npo", {"step": step})
    assert heard == []
    go.set()
    tracker.close()
    assert heard == list(range(50))


def test_none_shows_nothing_and_the_others_are_imported_late() -> None:
    code = (
        "import sys; from pathlib import Path; from bench.core.trackers import Tracker\n"
        "from bench.tracking.guarded import open_tracker\n"
        "open_tracker('wandb', Path('w')).close()\n"
        "assert type(open_tracker('none', Path('w'))) is Tracker\n"
        "print([name for name in ('wandb', 'tensorboard', 'torch') if name in sys.modules], Path('w').exists())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert (done.stdout, done.stderr) == ("[] False\n", "")


def test_an_unknown_tracker_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown tracker 'wand'. Did you mean 'wandb'"):
        open_tracker("wand", tmp_path)


def test_tensorboard_without_its_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.tracking.event_files.find_spec", lambda name: None)
    (problem,) = tracker_problems("tensorboard")
    assert "pip install tensorboard" in problem
    assert tracker_problems("wandb") == tracker_problems("none") == []
