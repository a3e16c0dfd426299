"""What the reporter writes, on a terminal (a real pty) and into a plain stream."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from bench.runs.progress import Event, Reporter, clean_text

COLOUR = re.compile(r"\x1b\[(\d+;)*(3\d|9\d)[;m]")
"""30-37 and 90-97 are the basic colours, 38 is one from a palette; cursor movements end in other letters."""


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A pty: ``stream`` is the side that programs write to, `text` what has arrived at the other."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(slave, "w")
        self._bytes = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # Linux answers EIO once the other side is closed.
        try:
            while data := os.read(self._master, 4096):
                self._bytes += data
        except OSError:
            pass

    def wait_for(self, text: str) -> bool:
        """Whether ``text`` arrives within five seconds."""
        end = time.monotonic() + 5
        while text not in self._bytes.decode() and time.monotonic() < end:
            time.sleep(0.05)
        return text in self._bytes.decode()

    def text(self) -> str:
        """Everything, once nothing more will come."""
        self.stream.close()
        self._reader.join()
        return self._bytes.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    made = Terminal()
    yield made
    made.text()
    os.close(made._master)


def event(status: Any, stage: str = "train target", job: str = "npo-tofu-0", **fields: Any) -> Event:
    made = Event(job=job, stage=stage, status=status, done=0, total=None, seconds=0.0, message="")
    made.update(fields)  # type: ignore[typeddict-item]
    return made


def test_plain_lines_one_per_finished_stage_and_one_in_thirty_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter(stream, clock) as reporter:
        reporter.report(event("start", total=300))
        # 90 events, a second apart: lines at 30, 60 and 90 s after the start.
        for second in range(1, 91):
            clock.now += 1
            reporter.report(event("progress", done=2 * second, total=300, seconds=float(second)))
        reporter.report(event("done", done=300, total=300, seconds=91.26))
        reporter.report(event("cached", stage="measure"))
        reporter.report(event("failed", stage="unlearn", message="two\r\n\x1b[31mlines\x1b[0m"))
    assert stream.getvalue().splitlines() == [
        "npo-tofu-0 train target: 60 of 300, 30 s",
        "npo-tofu-0 train target: 120 of 300, 60 s",
        "npo-tofu-0 train target: 180 of 300, 90 s",
        "npo-tofu-0 train target: done in 91.3 s",
        "npo-tofu-0 measure: cached",
        "npo-tofu-0 unlearn: failed - two lines",
    ]
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_running_stages_are_timed_apart() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter(stream, clock) as reporter:
        reporter.report(event("start", job="a"))
        clock.now += 20
        reporter.report(event("start", job="b"))
        clock.now += 15  # a has been silent for 35 s, b for 15 s
        reporter.report(event("progress", job="a", done=7, seconds=35.0))
        reporter.report(event("progress", job="b", done=7, seconds=15.0))
    assert stream.getvalue() == "a train target: 7, 35 s\n"


def test_clean_takes_escapes_and_line_breaks_out() -> None:
    assert clean_text("a\x1b[1;31mb\x1b[0m\r\n  c\x07\x00 [bold]") == "ab c\ufffd\ufffd [bold]"


def test_a_stage_gets_a_bar_after_two_seconds_without_a_further_event(terminal: Terminal) -> None:
    clock = Clock()
    with Reporter(terminal.stream, clock) as reporter:
        reporter.report(event("start", stage="quick", total=10))
        reporter.report(event("start", stage="slow [b]", total=300))
        reporter.report(event("progress", stage="slow [b]", done=120, total=300))
        clock.now += 1.9
        time.sleep(0.4)  # more than one refresh of the screen
        assert "slow" not in terminal._bytes.decode()
        reporter.report(event("done", stage="quick"))
        clock.now += 0.2
        assert terminal.wait_for("120/300")
        reporter.report(event("note", stage="", message="see [the log]"))
        reporter.report(event("done", stage="slow [b]", done=300, total=300))
    text = terminal.text()
    assert "npo-tofu-0 slow [b]" in text
    assert "quick" not in text
    assert "npo-tofu-0: note - see [the log]" in text
    assert COLOUR.search(text)
    assert "\x1b[?25h" in text[text.rindex("slow") :], "the cursor is shown again after the last bar"


def test_a_failed_job_takes_its_bars_with_it_and_leaves_a_line(terminal: Terminal) -> None:
    clock = Clock()
    with Reporter(terminal.stream, clock) as reporter:
        reporter.report(event("start", stage="one", total=5))
        reporter.report(event("start", job="other", total=5))
        clock.now += 3
        assert terminal.wait_for("npo-tofu-0 one")
        reporter.report(event("failed", stage="two", message="no room\nleft"))
        reporter.report(event("progress", job="other", done=4, total=5))
        assert terminal.wait_for("4/5")
        # Every frame begins by clearing the one before it; the last one shows the other job alone.
        assert "npo-tofu-0 one" not in terminal._bytes.decode().split("\x1b[2K")[-1]
    assert "npo-tofu-0 two: failed - no room left" in terminal.text()


def test_no_color_is_respected_on_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    clock = Clock()
    with Reporter(terminal.stream, clock) as reporter:
        reporter.report(event("start", total=300))
        clock.now += 3
        assert terminal.wait_for("0/300")
    text = terminal.text()
    assert not COLOUR.search(text)


def test_a_dumb_terminal_gets_plain_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with Reporter(terminal.stream) as reporter:
        reporter.report(event("done", seconds=3.0))
    assert terminal.text() == "npo-tofu-0 train target: done in 3.0 s\r\n"  # the pty itself adds the \r


def test_an_error_inside_the_block_goes_on_and_the_terminal_is_given_back(terminal: Terminal) -> None:
    with pytest.raises(KeyboardInterrupt), Reporter(terminal.stream) as reporter:
        reporter.report(event("start"))
        raise KeyboardInterrupt
    assert "\x1b[?25h" in terminal.text()


def test_plain_lines_load_neither_rich_nor_torch() -> None:
    code = (
        "import sys; from bench.runs.progress import Reporter\n"
        "with Reporter() as r:\n"
        "    r.report(dict(job='j', stage='s', done=1, total=1, status='done', seconds=1.0, message=''))\n"
        "print([name for name in ('rich', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "j s: done in 1.0 s\n[]\n"
