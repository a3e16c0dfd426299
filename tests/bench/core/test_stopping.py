from __future__ import annotations

import pytest

from bench.core import stopping
from bench.core.stopping import Stopped


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_asked", "")
    monkeypatch.setattr(stopping, "_listening", False)


def test_who_does_not_listen_is_never_asked() -> None:
    stopping.ask_to_stop("SIGTERM")
    stopping.heed()
    assert not stopping.is_asked()


def test_a_request_is_heeded_and_the_first_reason_counts() -> None:
    stopping.listen()
    stopping.heed()
    assert not stopping.is_asked() and stopping.reason() == ""
    stopping.ask_to_stop("SIGUSR2")
    stopping.ask_to_stop("SIGTERM")
    assert stopping.is_asked() and stopping.reason() == "SIGUSR2"
    with pytest.raises(Stopped) as stop:
        stopping.heed(further=None)
    assert stop.value.further is None


def test_a_request_before_anybody_listens_is_not_lost() -> None:
    stopping.ask_to_stop("SIGTERM")
    stopping.listen()
    assert stopping.is_asked()


def test_nothing_that_records_failures_takes_it_for_one() -> None:
    assert not issubclass(Stopped, Exception)
