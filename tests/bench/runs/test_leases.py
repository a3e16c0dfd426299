from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import Busy
from bench.core.files import this_process_space
from bench.core.types import Json
from bench.runs import folder, leases
from bench.runs.folder import StoreFolder
from bench.runs.leases import (
    PATIENCE_SECONDS,
    SELDOM_SECONDS,
    STALE_SECONDS,
    Owner,
    Patience,
    process_start_ticks,
    process_state,
)
from bench.runs.prune import nobody_at_work
from bench.runs.store import Store
from tests.processes import environment
from tests.stores import KEY, WRONG_KINDS, Wreck, build, ended, leased_elsewhere, never, python, said, two_files

HOLD = """
import sys, time
from pathlib import Path
from bench.runs.folder import StoreFolder
from bench.runs.leases import Owner, hold_lease
with hold_lease(StoreFolder(Path(sys.argv[1])), sys.argv[2]) as mine:
    print(isinstance(mine, Owner), flush=True)
    time.sleep(600)
"""
"""Takes a lease and keeps it until it is killed."""


def test_a_live_lease_of_another_process_is_respected(tmp_path: Path) -> None:
    other = python(HOLD, tmp_path, KEY)
    try:
        assert said(other) == "True"
        old = time.time() - 10 * STALE_SECONDS
        os.utime(tmp_path / "leases" / f"{KEY}.json", (old, old))  # on one machine the process counts, not the heart
        with pytest.raises(Busy):
            build(Store(tmp_path), never, wait=False)
    finally:
        other.kill()
        other.communicate()


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    other = python(HOLD, tmp_path, KEY)
    assert said(other) == "True"
    (tmp_path / "partial" / f"{KEY}-left").mkdir(parents=True)
    for number, wreck in enumerate([*WRONG_KINDS, Path.touch]):
        wreck(tmp_path / "partial" / f"{KEY}-{number}")
    other.kill()  # not waited for yet: it stays behind as a zombie, which holds nothing either
    while process_start_ticks(other.pid):
        time.sleep(0.01)
    began = time.monotonic()
    assert build(Store(tmp_path), two_files(), wait=False)[1]
    assert time.monotonic() - began < 0.5 * STALE_SECONDS
    assert os.listdir(tmp_path / "partial") == [], "what the dead builder left is swept"
    other.communicate()
    assert process_start_ticks(other.pid) == 0


def test_a_new_process_of_the_old_number_is_not_the_owner(tmp_path: Path) -> None:
    """This process lives, but it began at another time than the one that took the lease."""
    leased_elsewhere(tmp_path, host=this_process_space())
    assert build(Store(tmp_path), two_files(), wait=False)[1]


def hear_of_it(root: Path, seconds: float, monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> bool:
    """Whether the node is built now that this process's own clock has gone on."""
    clock[0] += seconds
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    try:
        return build(Store(root), two_files(), wait=False)[1]
    except Busy:
        return False


@pytest.mark.parametrize("age", [-10_000.0, 0.0, 10_000.0])
def test_another_machines_lease_is_taken_once_it_was_seen_unchanged_for_long(
    age: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever that machine's clock says, and however often its lease is looked at in between."""
    path, clock = leased_elsewhere(tmp_path), [time.monotonic()]
    os.utime(path, (time.time() - age,) * 2)
    for _ in range(3):
        assert not hear_of_it(tmp_path, STALE_SECONDS / 4, monkeypatch, clock)
    os.utime(path, (time.time() - age + 5,) * 2)  # its heart beats
    assert not hear_of_it(tmp_path, STALE_SECONDS, monkeypatch, clock)
    assert not hear_of_it(tmp_path, STALE_SECONDS - 1, monkeypatch, clock)
    assert json.loads(path.read_text())["nonce"] == "theirs"
    assert hear_of_it(tmp_path, 2, monkeypatch, clock)


def test_a_new_lease_of_another_machine_is_watched_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock = leased_elsewhere(tmp_path), [time.monotonic()]
    os.utime(path, (1, 1))
    assert not hear_of_it(tmp_path, 1, monkeypatch, clock)
    leased_elsewhere(tmp_path, pid=4712)
    os.utime(path, (1, 1))
    assert not hear_of_it(tmp_path, STALE_SECONDS + 1, monkeypatch, clock)
    assert hear_of_it(tmp_path, STALE_SECONDS + 1, monkeypatch, clock)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"host": "x"}', "[" * 100_000, '{"host": 1, "pid": "../..", "started": 1}', " " * 100_000]
)
def test_a_lease_that_says_nothing_holds_nothing(text: str, tmp_path: Path) -> None:
    """A full disk or a power cut may leave such a file."""
    leased_elsewhere(tmp_path).write_text(text)
    assert build(Store(tmp_path), two_files(), wait=False)[1]


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heart for this test alone, as one that is asleep wakes by its old interval."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(leases, "_heart", leases.Heart())


def test_the_heart_beats_while_a_node_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    path = tmp_path / "leases" / f"{KEY}.json"

    def make(folder: Path) -> Json:
        os.utime(path, (1, 1))
        for _ in range(200):
            if path.stat().st_mtime > 1:
                return {"beats": True}
            time.sleep(0.05)
        return {"beats": False}

    assert build(Store(tmp_path), make)[0].info["meta"] == {"beats": True}


def test_an_owner_that_was_overtaken_leaves_the_new_lease_alone(tmp_path: Path) -> None:
    def make(folder: Path) -> Json:
        leased_elsewhere(tmp_path)
        return two_files()(folder)

    build(Store(tmp_path), make)
    assert json.loads((tmp_path / "leases" / f"{KEY}.json").read_text())["nonce"] == "theirs"


CONTEND = """
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from bench.runs.folder import StoreFolder
from bench.runs.leases import Owner, hold_lease
keys = sys.argv[2].split()
won = [[], []]

def contend(mine):
    for key in keys:
        if isinstance(held.enter_context(hold_lease(StoreFolder(Path(sys.argv[1])), key)), Owner):
            mine.append(key)

with ExitStack() as held:
    crowd = [Thread(target=contend, args=(mine,)) for mine in won]
    print("ready", flush=True)
    sys.stdin.readline()
    [thread.start() for thread in crowd]
    [thread.join() for thread in crowd]
    print("done", flush=True)
    sys.stdin.readline()
print(*won[0], *won[1])
"""
"""Two threads try to take each lease in turn and keep what they get until everybody has tried."""


@pytest.mark.parametrize("stale", [True, False])
def test_of_many_contenders_for_a_lease_exactly_one_wins(stale: bool, tmp_path: Path) -> None:
    keys = [f"{number:032d}" for number in range(60)]
    (tmp_path / "leases").mkdir()
    for key in keys if stale else ():
        dead = {"host": this_process_space(), "pid": os.getpid(), "started": 1, "nonce": "dead"}
        (tmp_path / "leases" / f"{key}.json").write_text(json.dumps(dead))
    command = [sys.executable, "-c", CONTEND, str(tmp_path), " ".join(keys)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    crowd = [subprocess.Popen(command, env=environment(), **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for line in ("ready", "done"):
        assert [said(process) for process in crowd] == [line] * 3
        for process in crowd:
            process.stdin.write("\n")
            process.stdin.flush()
    winners = " ".join(ended(crowd)).split()
    assert sorted(winners) == keys
    assert os.listdir(tmp_path / "leases") == [".guard"], "all were given back"


@pytest.mark.parametrize("name", [f"{KEY}.json", ".guard"])
@pytest.mark.parametrize("wreck", WRONG_KINDS)
def test_what_is_no_file_in_the_place_of_a_lease_or_the_guard_is_set_aside(
    wreck: Wreck, name: str, tmp_path: Path
) -> None:
    said: list[str] = []
    (tmp_path / "leases").mkdir()
    wreck(tmp_path / "leases" / name)
    assert build(Store(tmp_path, said.append), two_files(), wait=False)[1]
    assert os.listdir(tmp_path / "leases") == [".guard"]
    [kept] = os.listdir(tmp_path / "damaged")
    [line] = said
    assert kept.startswith(name) and kept in line


def test_a_lease_that_this_process_could_not_give_back_holds_nothing(tmp_path: Path) -> None:
    """A damaged owner's line isn't recognised and stays behind; nobody is to wait for it until the process ends."""
    leased_elsewhere(tmp_path, this_process_space(), os.getpid()).write_text(
        json.dumps(
            {
                "host": this_process_space(),
                "pid": os.getpid(),
                "started": process_start_ticks(os.getpid()),
                "nonce": "x",
            }
        )
    )
    assert build(Store(tmp_path), two_files(), wait=False)[1]


def test_a_stopped_owner_is_named_with_both_remedies(tmp_path: Path) -> None:
    other = python(HOLD, tmp_path, KEY)
    try:
        assert said(other) == "True"
        other.send_signal(signal.SIGSTOP)
        while process_state(other.pid) != "T":
            time.sleep(0.01)
        with pytest.raises(Busy) as busy:
            build(Store(tmp_path), never, wait=False)
        lease = tmp_path / "leases" / f"{KEY}.json"
        assert f"process {other.pid} on this machine" in busy.value.holder
        assert f"`kill -CONT {other.pid}`" in busy.value.holder and f"'{lease}'" in busy.value.holder
        lease.unlink()  # as the sentence says
        assert build(Store(tmp_path), two_files(), wait=False)[1]
    finally:
        other.kill()
        other.communicate()


def test_another_host_is_named_without_its_name(tmp_path: Path) -> None:
    lease = leased_elsewhere(tmp_path)
    with pytest.raises(Busy) as busy:
        build(Store(tmp_path), never, wait=False)
    assert "process 4711 on another host" in busy.value.holder and str(lease) not in busy.value.holder
    assert "another-machine" not in busy.value.holder


def test_the_lease_of_a_living_owner_elsewhere_is_not_said_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, lease = [1000.0], leased_elsewhere(tmp_path)
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])

    def told(seconds: float, beats: bool = False) -> str:
        now[0] += seconds
        if beats:
            os.utime(lease, (now[0], now[0]))
        with pytest.raises(Busy) as busy:
            build(Store(tmp_path), never, wait=False)
        return busy.value.holder

    assert "alive" not in told(0) and "delete" not in told(1), "nobody knows yet"
    assert "is at it and alive, its heartbeat 0 s ago; it is only waited for" in told(4, beats=True)
    assert "alive, its heartbeat 6 s ago" in told(6)
    assert f"stood still for 30 s; it is taken over after 60 s, and at once if you delete '{lease}'" in told(24)
    assert "alive" in told(5, beats=True), "it was only slow"


def test_whoever_waits_says_so_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    patience, told = Patience(), []
    for second in range(1000):
        now[0] = float(second)
        if patience.ask("node"):
            told.append(second)
    assert told[0] == PATIENCE_SECONDS and 3 < len(told) < 8
    assert all(later >= 2 * sooner for sooner, later in zip(told[1:], told[2:], strict=False))
    now[0] += 10 * SELDOM_SECONDS
    assert patience.ask("node") == 0, "that is another wait"


def test_a_waiting_builder_says_who_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "PATIENCE_SECONDS", 0.1)
    lease, told = leased_elsewhere(tmp_path), []

    def say(text: str) -> None:
        told.append(text)
        lease.unlink()

    assert build(Store(tmp_path, say), two_files())[1]
    [line] = told
    assert "for 'test': process 4711 on another host" in line


def test_the_heart_does_not_beat_for_another_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)

    def make(folder: Path) -> Json:
        os.utime(leased_elsewhere(tmp_path), (1, 1))
        time.sleep(0.3)
        return two_files()(folder)

    build(Store(tmp_path), make)
    assert (tmp_path / "leases" / f"{KEY}.json").stat().st_mtime == 1


def touched(path: Path) -> bool:
    """Whether the heart beats for a lease within half a minute."""
    os.utime(path, (1, 1))
    return any(path.stat().st_mtime > 1 or time.sleep(0.02) for _ in range(1500))


def test_one_thread_beats_for_all_leases_and_for_none_that_was_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quicken(monkeypatch)
    begun: list[Any] = []
    start = leases.start_new_thread
    monkeypatch.setattr(leases, "start_new_thread", lambda *of: begun.append(of) or start(*of))
    store, (first, second) = StoreFolder(tmp_path), (tmp_path / "leases" / f"{key}.json" for key in "ab")
    with leases.hold_lease(store, "a"):
        with leases.hold_lease(store, "b"):
            assert touched(first) and touched(second)
        second.write_text(first.read_text())
        os.utime(second, (1, 1))
        assert touched(first) and second.stat().st_mtime == 1
    assert len(begun) == 1 and not first.exists() and leases._heart.leases == {}


def test_a_beat_that_fails_does_not_end_the_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    failures: list[BaseException] = [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), MemoryError()]
    read = leases.read_owner

    def refuse(path: Path) -> Owner | None:
        if threading.current_thread() is not threading.main_thread() and failures:
            raise failures.pop()
        return read(path)

    monkeypatch.setattr(leases, "read_owner", refuse)
    with leases.hold_lease(StoreFolder(tmp_path), "a"):
        assert touched(tmp_path / "leases" / "a.json") and not failures


def test_a_process_that_gets_no_thread_takes_no_lease_and_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that dies of want of memory at its birth never says that it has begun."""
    quicken(monkeypatch)
    monkeypatch.setattr(leases, "BIRTH_SECONDS", 0.1)
    with monkeypatch.context() as starved:
        starved.setattr(leases, "start_new_thread", lambda *_: 0)
        with pytest.raises(MemoryError), leases.hold_lease(StoreFolder(tmp_path), "a"):
            pass
    assert os.listdir(tmp_path / "leases") == []
    with leases.hold_lease(StoreFolder(tmp_path), "a") as mine:
        assert isinstance(mine, Owner) and touched(tmp_path / "leases" / "a.json")


FORKED = """
import os, sys, time
from pathlib import Path
from bench.runs import leases
from bench.runs.folder import StoreFolder
leases.HEARTBEAT_SECONDS = 0.02
folder, names = StoreFolder(Path(sys.argv[1])), [Path(sys.argv[1], "leases", f"{key}.json") for key in "ab"]
def beats(path):
    os.utime(path, (1, 1))
    return any(path.stat().st_mtime > 1 or time.sleep(0.02) for _ in range(500))
with leases.hold_lease(folder, "a"):
    if not (child := os.fork()):
        kept = dict(leases._heart.leases)
        with leases.hold_lease(folder, "b") as mine:
            os._exit(0 if kept == {} and isinstance(mine, leases.Owner) and beats(names[1]) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), beats(names[0]))
"""


def test_a_forked_child_has_a_heart_of_its_own_and_none_of_its_parents_leases(tmp_path: Path) -> None:
    assert ended([python(FORKED, tmp_path)]) == ["0 True\n"]


OVERTAKEN = """
import os, signal, sys
from pathlib import Path
from bench.runs.store import Store
from tests.stores import build

def make(folder):
    mine = store.scratch(sys.argv[2])
    mine.mkdir(parents=True)
    (mine / "state").write_text("before")
    os.kill(os.getpid(), signal.SIGSTOP)
    (mine / "state").write_text("torn")
    (folder / "a").write_text("torn")
    return {}

store = Store(Path(sys.argv[1]))
node, built = build(store, make)
print(built, (node.path / "a").read_text())
"""


def test_a_builder_that_wakes_after_it_was_overtaken_does_no_harm(tmp_path: Path) -> None:
    """Its node, its folder and its resumable state are the new owner's, and it takes what that has made."""
    sleeper = python(OVERTAKEN, tmp_path, KEY)
    while process_state(sleeper.pid) != "T":
        assert sleeper.poll() is None
        time.sleep(0.01)
    (tmp_path / "leases" / f"{KEY}.json").unlink()
    store = Store(tmp_path)

    def make(folder: Path) -> Json:
        mine = store.scratch(KEY)
        assert (mine / "state").read_text() == "before", "what was there is gone on from"
        sleeper.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert (mine / "state").read_text() == "before"
        return two_files()(folder)

    node, built = build(store, make)
    assert built and ended([sleeper]) == ["False weights\n"]
    assert Store(tmp_path).find(KEY) is not None and os.listdir(tmp_path / "leases") == [".guard"]
    assert os.listdir(tmp_path / "partial") == os.listdir(tmp_path / "scratch") == []


def test_a_guard_that_a_stopped_process_holds_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LOCK_SECONDS", 0.2)
    with leases.lease_guard(StoreFolder(tmp_path)):
        assert build(Store(tmp_path), two_files(), wait=False)[1]


@pytest.mark.parametrize("lock", ["guard", "at work"])
def test_a_prune_is_waited_for_with_one_note(lock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much longer it takes than a lock is waited for."""
    monkeypatch.setattr(folder, "LOCK_SECONDS", 0.05)
    said = list[str]()
    place = StoreFolder(tmp_path, said.append)
    monkeypatch.setattr(leases, "StoreFolder", lambda root: place)
    went_on, held = threading.Event(), ExitStack()

    def work() -> None:
        with leases.lease_guard(place) if lock == "guard" else leases.at_work(tmp_path):
            went_on.set()

    if lock == "guard":
        held.enter_context(folder.lock_folder(held.enter_context(leases.lease_guard(place))))
    else:
        assert held.enter_context(nobody_at_work(Store(tmp_path)))
    worker = threading.Thread(target=work)
    worker.start()
    assert not went_on.wait(0.5) and len(said) == 1 and "`bench prune` is at work" in said[0]
    held.close()
    worker.join(5)
    assert went_on.is_set()


def test_where_there_are_no_locks_nothing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with leases.at_work(tmp_path), leases.lease_guard(StoreFolder(tmp_path)):
        pass


def test_what_an_ended_process_held_is_given_back_and_nothing_else(tmp_path: Path) -> None:
    """Its states stay for whoever goes on; a lease of one that lives, or of somebody else's dead one, stays as well."""
    keys = [KEY, "0" * 32, "1" * 32]
    others = [python(HOLD, tmp_path, key) for key in keys]
    assert [said(other) for other in others] == ["True"] * 3
    for key in keys:
        for name in ("partial", "scratch"):
            (tmp_path / name / f"{key}-left" / "deep").mkdir(parents=True)
    for other in others[:2]:
        other.kill()
        other.wait()
    try:
        leases.release_dead(StoreFolder(tmp_path), {others[0].pid, others[2].pid})
        assert sorted(os.listdir(tmp_path / "leases")) == [".guard", *(f"{key}.json" for key in keys[1:])]
        assert sorted(os.listdir(tmp_path / "partial")) == [f"{key}-left" for key in keys[1:]]
        assert len(os.listdir(tmp_path / "scratch")) == 3
        leases.release_dead(StoreFolder(tmp_path / "nowhere"), {1})
        assert not (tmp_path / "nowhere").exists()
    finally:
        for other in others:
            other.kill()
            other.communicate()
