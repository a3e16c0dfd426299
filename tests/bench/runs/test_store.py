from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.core.errors import Busy
from bench.core.hashing import hash_json
from bench.core.types import Json
from bench.runs import store as module
from bench.runs.store import STALE_SECONDS, NodeRequest, Store, process_start_ticks, this_process_space
from tests.processes import environment

FIELDS: Json = {"kind": "test"}
KEY = hash_json(FIELDS)[:32]


def two_files(text: str = "weights") -> Callable[[Path], Json]:
    def make(folder: Path) -> Json:
        (folder / "a").write_text(text)
        (folder / "deep" / "deeper").mkdir(parents=True)
        (folder / "deep" / "deeper" / "b").write_text(text)
        return {"made": text}

    return make


def never(folder: Path) -> Json:
    raise AssertionError("the node is there already")


def build(store: Store, make: Callable[[Path], Json | None], wait: bool = True) -> tuple[module.Node, bool]:
    return store.build(NodeRequest(FIELDS, "test", {"commit": None}, wait), make)


def python(code: str, *words: str | int | Path) -> subprocess.Popen[str]:
    """Another process with this checkout's packages."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """One line of what it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What they printed, once all have ended well."""
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed


HOLD = """
import sys, time
from pathlib import Path
from bench.runs.store import Store
with Store(Path(sys.argv[1])).lease(sys.argv[2]) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""
"""Takes a lease and keeps it until it is killed."""


def leased_elsewhere(root: Path, host: str = "another-machine", age: float = 0.0) -> Path:
    """A lease that a process of another machine took, whose heart last beat ``age`` seconds ago."""
    path = root / "leases" / f"{KEY}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": host, "pid": os.getpid(), "started": 1, "nonce": "theirs"}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_node_is_built_once_and_found_again(tmp_path: Path) -> None:
    node, built = build(Store(tmp_path), two_files())
    assert built and node.key == KEY and node.info["meta"] == {"made": "weights"}
    assert node.info["fields"] == FIELDS and node.info["label"] == "test" and node.info["bytes"] == 2 * len("weights")
    again, built = build(Store(tmp_path), never)
    assert not built and again.path == node.path and (again.path / "a").read_text() == "weights"
    assert again.info == node.info


def test_other_fields_are_another_node(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, _ = build(store, two_files("one"))
    other, _ = store.build(NodeRequest({"kind": "test", "seed": 1}, "test", {}), two_files("other"))
    assert one.path != other.path and (one.path / "a").read_text() == "one"


def test_nothing_is_visible_before_the_rename(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seen: list[object] = []

    def make(folder: Path) -> Json:
        two_files()(folder)
        seen.extend([Store(tmp_path).find(KEY), store.path(KEY).exists(), folder.is_relative_to(tmp_path / "nodes")])
        return {}

    build(store, make)
    assert seen == [None, False, False]
    assert os.listdir(tmp_path / "partial") == [] and os.listdir(tmp_path / "leases") == [".guard"]


def test_a_build_that_fails_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> Json:
        two_files()(folder)
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        build(store, fail)
    assert store.find(KEY) is None and os.listdir(tmp_path / "partial") == []
    assert build(store, two_files())[1]


def damage_flip(node: Path) -> None:
    data = bytearray((node / "a").read_bytes())
    data[3] ^= 1
    (node / "a").write_bytes(data)


def damage_deep(node: Path) -> None:
    (node / "deep" / "deeper" / "b").write_text("weighty")


def damage_missing(node: Path) -> None:
    (node / "a").unlink()


def damage_extra(node: Path) -> None:
    (node / "c").write_text("")


def damage_renamed(node: Path) -> None:
    (node / "a").rename(node / "aa")


def damage_info(node: Path) -> None:
    (node / "node.json").write_text('{"hash": ')


def damage_other_json(node: Path) -> None:
    (node / "node.json").write_text("[]")


def damage_no_info(node: Path) -> None:
    (node / "node.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        damage_flip,
        damage_deep,
        damage_missing,
        damage_extra,
        damage_renamed,
        damage_info,
        damage_other_json,
        damage_no_info,
    ],
)
def test_a_damaged_node_is_found_out_and_built_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    node, _ = build(Store(tmp_path), two_files())
    damage(node.path)
    store = Store(tmp_path)
    assert store.find(KEY) is None
    again, built = build(store, two_files())
    assert built and again.info["hash"] == node.info["hash"] and Store(tmp_path).find(KEY) is not None
    assert os.listdir(tmp_path / "partial") == [] and os.listdir(node.path.parent) == [KEY]


def test_looking_for_a_damaged_node_removes_nothing(tmp_path: Path) -> None:
    """Only the lease's holder may: another process may just be building it anew."""
    node, _ = build(Store(tmp_path), two_files())
    damage_flip(node.path)
    assert Store(tmp_path).find(KEY) is None and (node.path / "a").exists()


def test_whoever_publishes_second_gets_the_first_ones_node(tmp_path: Path) -> None:
    """Two builders of one node, as when a lease was wrongly taken for dead: one good folder, and its facts for both."""
    store = Store(tmp_path)

    def overtaken(folder: Path) -> Json:
        two_files("mine")(folder)
        Store(tmp_path).publish(NodeRequest(FIELDS, "test", {}), two_files("theirs"))
        return {"made": "mine"}

    node, _ = build(store, overtaken)
    assert node.info["meta"] == {"made": "theirs"} and (node.path / "a").read_text() == "theirs"
    assert os.listdir(tmp_path / "partial") == []


def test_a_second_builder_waits_or_is_told_that_it_is_busy(tmp_path: Path) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow(folder: Path) -> Json:
        inside.set()
        assert go.wait(60)
        return two_files("first")(folder)

    first = threading.Thread(target=build, args=(Store(tmp_path), slow))
    first.start()
    assert inside.wait(60)
    with pytest.raises(Busy):
        build(Store(tmp_path), never, wait=False)
    found: list[tuple[module.Node, bool]] = []
    second = threading.Thread(target=lambda: found.append(build(Store(tmp_path), never)))
    second.start()
    go.set()
    first.join(60)
    second.join(60)
    [(node, built)] = found
    assert not built and (node.path / "a").read_text() == "first"


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


@pytest.mark.parametrize(("age", "taken"), [(0.0, False), (STALE_SECONDS - 20, False), (STALE_SECONDS + 1, True)])
def test_another_machines_lease_lives_while_its_heart_beats(age: float, taken: bool, tmp_path: Path) -> None:
    leased_elsewhere(tmp_path, age=age)
    if taken:
        assert build(Store(tmp_path), two_files(), wait=False)[1]
    else:
        with pytest.raises(Busy):
            build(Store(tmp_path), never, wait=False)
        assert json.loads((tmp_path / "leases" / f"{KEY}.json").read_text())["nonce"] == "theirs"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "x"}'])
def test_a_lease_that_says_nothing_holds_nothing(text: str, tmp_path: Path) -> None:
    """A full disk or a power cut may leave such a file."""
    leased_elsewhere(tmp_path).write_text(text)
    assert build(Store(tmp_path), two_files(), wait=False)[1]


def test_the_heart_beats_while_a_node_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.05)
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
from bench.runs.store import Store
keys = sys.argv[2].split()
won = [[], []]

def contend(mine):
    for key in keys:
        if held.enter_context(Store(Path(sys.argv[1])).lease(key)):
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


BUILD = """
import sys
from pathlib import Path
from bench.runs.store import NodeRequest, Store

def make(folder):
    for number in range(30):
        (folder / f"part-{number}").mkdir()
        (folder / f"part-{number}" / "file").write_text("x" * 5000)
    return {}

print("begins", flush=True)
for number in range(int(sys.argv[2]), 10**6):
    Store(Path(sys.argv[1])).build(NodeRequest({"number": number}, "many files", {}), make)
"""


def test_a_builder_killed_at_any_moment_leaves_whole_nodes_or_none(tmp_path: Path) -> None:
    rng = random.Random(0)
    published = 0
    for _ in range(12):
        builder = python(BUILD, tmp_path, published)
        assert said(builder) == "begins"
        time.sleep(rng.uniform(0, 0.15))
        builder.kill()
        builder.communicate()
        nodes = [path for shelf in (tmp_path / "nodes").glob("*") for path in shelf.iterdir()]
        store = Store(tmp_path)
        assert all(store.find(path.name) for path in nodes), "what is visible is whole"
        published = len(nodes)
    assert published > 3, "the builders were killed before they did anything"


SHARE = """
import sys, time
from pathlib import Path
from bench.runs.store import NodeRequest, Store

def make(folder):
    time.sleep(0.01)
    (folder / "file").write_text("x")
    return {}

store = Store(Path(sys.argv[1]))
print(sum(store.build(NodeRequest({"number": number}, "shared", {}), make)[1] for number in range(20)))
"""


def test_processes_that_need_the_same_nodes_build_each_once(tmp_path: Path) -> None:
    built = ended([python(SHARE, tmp_path) for _ in range(3)])
    assert sum(int(line) for line in built) == 20
