"""The network is closed to tests, here and in processes that they start; absent data are counted, or fail."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import network_guard
import pytest

from tests.guards import attempts
from tests.paths import OFFLINE, ROOT
from tests.processes import environment
from tests.shared_data import REQUIRE

ELSEWHERE = "192.0.2.1"
"""An address that belongs to nobody (RFC 5737)."""


def reach_an_address() -> None:
    with closing(socket.socket()) as each:
        each.connect((ELSEWHERE, 80))


def reach_an_address_without_an_error() -> None:
    with closing(socket.socket()) as each:
        each.connect_ex((ELSEWHERE, 80))


def send_to_an_address() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as each:
        each.sendto(b"x", (ELSEWHERE, 53))


def connect_by_name() -> None:
    socket.create_connection(("example.org", 443), timeout=1).close()


def look_up_a_name() -> None:
    socket.gethostbyname("example.org")


def open_a_page() -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open("https://example.org/", timeout=1).close()


@pytest.mark.parametrize(
    "reach",
    [
        reach_an_address,
        reach_an_address_without_an_error,
        send_to_an_address,
        connect_by_name,
        look_up_a_name,
        open_a_page,
    ],
)
def test_other_machines_are_out_of_reach(reach) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(OSError, match="tests use no network"):
        reach()
    said = attempts()
    assert said.startswith(
        f"tests/test_guards.py::test_other_machines_are_out_of_reach[{reach.__name__}] tried to reach"
    )
    assert ELSEWHERE in said or "the name 'example.org'" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_within_reach(host: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
    assert attempts() == ""


def test_unix_sockets_are_open(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as server, closing(socket.socket(socket.AF_UNIX)) as client:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        client.connect(str(tmp_path / "socket"))


def test_processes_of_a_test_are_held_to_it_too() -> None:
    code = f"import socket; socket.create_connection(({ELSEWHERE!r}, 80), timeout=1)"
    for given in (environment(), dict(os.environ)):
        done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True)
        assert done.returncode == 1 and "NetworkBlocked" in done.stderr
        assert attempts().startswith("tests/test_guards.py::test_processes_of_a_test_are_held_to_it_too tried to reach")


def test_other_programs_are_sent_to_a_closed_port() -> None:
    assert environment().items() >= network_guard.DISCOURAGED.items()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 9), timeout=5)


@pytest.mark.network
def test_a_test_that_is_marked_is_let_through() -> None:
    assert os.environ[network_guard.OPEN]
    network_guard.refuse("nothing at all")
    assert attempts() == ""


INNER = """
import socket
import pytest
from tests.shared_data import needs_data, shared

@needs_data("data/nowhere")
def test_marked(): raise AssertionError("never reached")

def test_asking(): shared("data/nowhere/else")

def test_skipped_for_another_reason(): pytest.skip("the moon is full")

def test_swallows():
    try:
        socket.create_connection(("example.org", 80))
    except OSError:
        pass
"""


@pytest.mark.parametrize("required", [False, True], ids=["at home", "in CI"])
def test_absent_data_and_swallowed_attempts_show(required: bool, tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(INNER)
    given = environment() | ({REQUIRE: "1"} if required else {})
    given = {name: value for name, value in given.items() if required or name != REQUIRE}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.guards",
        "-p",
        "no:cacheprovider",
        "-q",
        "-ra",
        "--rootdir=.",
    ]
    done = subprocess.run([*command, "test_inner.py"], cwd=tmp_path, env=given, capture_output=True, text=True)
    assert done.returncode == 1
    assert "test_swallows tried to reach the name 'example.org'" in done.stdout
    if required:
        assert "skipped for want of ../shared: 0 tests" in done.stdout
        assert f"needs ../shared/data/nowhere, which isn't there, and {REQUIRE} is set" in done.stdout
        assert "1 failed" in done.stdout and "2 errors" in done.stdout and "1 skipped" in done.stdout
    else:
        assert "skipped for want of ../shared: 2 tests" in done.stdout
        assert "3 skipped" in done.stdout and "1 error" in done.stdout and "failed" not in done.stdout
    assert attempts() == "", "the inner run has a file of its own"


def test_the_folder_of_the_guard_is_where_it_is_looked_for() -> None:
    assert OFFLINE.is_relative_to(ROOT) and Path(network_guard.__file__).parent == OFFLINE
