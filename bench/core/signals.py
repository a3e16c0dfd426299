"""Ctrl-C, SIGTERM and SIGHUP: one sentence and an orderly end, whatever the process is doing.

A signal becomes a `KeyboardInterrupt`, so that every ``finally`` does its work; during an import, which would make
something else of it, it waits for the import's end. Imported first of all, so that it imports little.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself takes longer to import than everything above
    from types import FrameType
    from typing import Any, NoReturn

SAYINGS = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Ended by SIGTERM.", signal.SIGHUP: "The terminal has gone."}
GOES_ON = "What was finished is kept; the same command goes on from there."
SOON_SECONDS = 0.02
"""How often it looks whether an import is over."""
PATIENCE_SECONDS = 2.0
"""A second Ctrl-C within this time is part of the first; a later one breaks off the tidying up."""


class Ending:
    """What this process knows of its end."""

    signal: int = 0
    """The first signal that came; 0: none."""
    raised: float = 0.0
    """When it was raised."""
    at_once: bool = True
    """Whether there is nothing to tidy up, as before the command and after it, so that a signal ends the process at once."""
    said: bool = False
    """Whether the user knows."""


def guard_signals() -> None:
    """End in order from now on when a signal comes; one that this process was told to ignore (``nohup``) stays ignored.

    Under torchrun SIGTERM keeps ending a process at once, as one that waits for the others in C would never hear of it.
    """
    ours = (signal.SIGINT,) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else tuple(SAYINGS)
    for number in ours:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, handle)
    sys.unraisablehook = raise_later
    atexit.register(ignore_signals)  # what is registered first is called last


def ignore_signals() -> None:
    """Let nothing end the process any more: its work and its tidying up are done, and Python would change its code."""
    for number in SAYINGS:
        if signal.getsignal(number) is handle:
            signal.signal(number, signal.SIG_IGN)


def handle(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, at once or as soon as the import that is under way is over."""
    number = Ending.signal = Ending.signal or number
    if Ending.at_once:
        say_end()
        os._exit(128 + number)
    if is_importing(frame):
        wake_soon()
    elif time.monotonic() - Ending.raised > PATIENCE_SECONDS:
        Ending.raised = time.monotonic()
        raise KeyboardInterrupt


def is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported at that point of the program."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def wake_soon() -> None:
    """Call `handle` again in a moment."""
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, SOON_SECONDS)


def raise_later(about: Any) -> None:
    """Python's hook for errors that it must drop, as those of a ``__del__``: an interruption is raised again after it."""
    if issubclass(about.exc_type, KeyboardInterrupt) and Ending.signal:
        Ending.raised = 0.0
        wake_soon()
    else:
        sys.__unraisablehook__(about)


def leave(code: int) -> NoReturn:
    """End the process with ``code``, or after a signal with that of the signal and with its sentence.

    An interrupted process doesn't wait for the threads that libraries have started, and Python would change its code.
    """
    if not Ending.signal:
        raise SystemExit(code)
    signal.setitimer(signal.ITIMER_REAL, 0)  # a look at whether an import is over would end the process at once
    say_end()
    atexit._run_exitfuncs()
    os._exit(128 + Ending.signal)


def say_end() -> None:
    """Say once that the process was ended, past whatever the streams still hold."""
    if not Ending.said:
        try:
            os.write(2, f"\n{SAYINGS[signal.Signals(Ending.signal)]} {GOES_ON}\n".encode())
        except OSError:  # the terminal may have gone
            pass
        Ending.said = True  # behind it: a signal between the two had better say it twice than never
