"""What pytest holds every test to: no network (`tests.offline.network_guard`), and a word on absent data."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import network_guard
import pytest

from tests.paths import OFFLINE
from tests.shared_data import shared, skipped_for_data

GIVEN = "MSA_BENCH_NETWORK_GIVEN"
"""Environment variable: what pytest was given of the variables that a test without network must not follow, as JSON."""
BEFORE: dict[str, str | None] = json.loads(
    os.environ.setdefault(GIVEN, json.dumps({name: os.environ.get(name) for name in network_guard.DISCOURAGED}))
)
"""These variables; xdist's workers start with those of a guarded process and are told the first ones."""


def pytest_configure(config: pytest.Config) -> None:
    """Close the network to this process and to those that it starts, from the collection of the tests on."""
    config.addinivalue_line("markers", "network: reaches the network on purpose")
    config.addinivalue_line("markers", "shared_data(*places): needs these places below ../shared")
    number, attempts = tempfile.mkstemp(prefix="network-attempts-")
    os.close(number)
    path = [str(OFFLINE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, path)))
    os.environ[network_guard.ATTEMPTS] = attempts
    os.environ.update(network_guard.DISCOURAGED)
    network_guard.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no file behind."""
    Path(os.environ[network_guard.ATTEMPTS]).unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Open the network for a test marked ``network`` and its fixtures, with the proxies that this process was given."""
    if item.get_closest_marker("network") is None:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(network_guard.OPEN, "1")
        for name, value in BEFORE.items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: the data that a test is marked to need."""
    for mark in item.iter_markers("shared_data"):
        for place in mark.args:
            shared(place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that tried to reach the network, also where what it tests went on without."""
    result = yield
    if tried := attempts():
        pytest.fail(tried, pytrace=False)
    return result


def attempts() -> str:
    """The attempts at the network since this was last asked, a line each."""
    file = Path(os.environ[network_guard.ATTEMPTS])
    found = file.read_text().strip()
    file.write_text("")
    return found


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line: how many tests were skipped for want of data."""
    count = skipped_for_data(terminalreporter.stats.get("skipped", []))
    terminalreporter.write_line(f"skipped for want of ../shared: {count} tests")
