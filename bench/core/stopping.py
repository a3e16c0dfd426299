"""A request to stop that work heeds at its next safe place: a cluster's warning before it takes the machine back.

Training heeds it at the end of a step, when it has written its state; everything else between two nodes of the store
or while it waits for one. What is finished is kept, and leases are given back on the way out.
"""

from __future__ import annotations

from bench.core import distributed


class Stopped(BaseException):
    """Work has stopped because it was asked to; no failure, so nothing that records failures may take it for one."""

    def __init__(self, further: bool | None = False) -> None:
        super().__init__("stopped, as it was asked to")
        self.further = further
        """Whether this last piece of work was kept; None where it had only waited for another process."""


_asked = ""
_listening = False


def listen() -> None:
    """Say that this process may be asked to stop, which several processes have to agree on; all of them call this."""
    global _listening
    _listening = True


def ask_to_stop(reason: str) -> None:
    """Ask this process to stop; the first reason counts. Safe in a signal handler."""
    global _asked
    _asked = _asked or reason


def reason() -> str:
    """Why this process is to stop; empty where it is not."""
    return _asked


def is_asked() -> bool:
    """Whether to stop: one answer for all processes that ask together."""
    return _listening and distributed.call_on_first(lambda: bool(_asked))


def heed(further: bool | None = False) -> None:
    """Raise `Stopped` where this process was asked to stop."""
    if _listening and _asked:
        raise Stopped(further)
