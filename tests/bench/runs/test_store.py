from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core.contracts import Node
from bench.core.errors import Busy
from bench.core.types import Json
from bench.runs.store import NodeRequest, Store
from tests.stores import FIELDS, KEY, WRONG_KINDS, Wreck, build, ended, leased_elsewhere, never, python, said, two_files


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


def test_every_flipped_bit_of_a_node_file_is_harmless_or_found(tmp_path: Path) -> None:
    """A flip in a space between two words is the one that changes nothing."""
    node, _ = build(Store(tmp_path), two_files())
    file = node.path / "node.json"
    good = file.read_bytes()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        file.write_bytes(data)
        found = Store(tmp_path).find(KEY)
        assert found is None or found.info == node.info
    file.write_bytes(good)
    assert Store(tmp_path).find(KEY) == node


PLACES = [
    f"nodes/{KEY[:2]}/{KEY}/node.json",
    f"nodes/{KEY[:2]}/{KEY}/a",
    f"nodes/{KEY[:2]}/{KEY}/deep",
    f"nodes/{KEY[:2]}/{KEY}",
    f"nodes/{KEY[:2]}",
    "nodes",
    "partial",
    "scratch",
    f"scratch/{KEY}",
    "index.jsonl",
    "leases",
    "damaged",
]


def plain_file(place: Path) -> None:
    place.write_text("x")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("wreck", [*WRONG_KINDS, plain_file])
def test_anything_in_the_place_of_anything_is_set_aside_by_name(wreck: Wreck, place: str, tmp_path: Path) -> None:
    node, _ = build(Store(tmp_path), two_files())
    harmed, told = tmp_path / place, list[str]()
    (tmp_path / "scratch").mkdir(exist_ok=True)
    if harmed.is_dir():
        shutil.rmtree(harmed)
    else:
        harmed.unlink(missing_ok=True)
    wreck(harmed)
    if place.startswith(("damaged", "scratch/")):
        (node.path / "a").unlink()
    store = Store(tmp_path, told.append)
    again, built = build(store, two_files())
    assert built is place.startswith(("nodes", "damaged", "scratch/")) and again.info["hash"] == node.info["hash"]
    store.build(NodeRequest({"kind": "other"}, "other", {}), two_files())
    assert Store(tmp_path).find(KEY) is not None and {entry["key"] for entry in Store(tmp_path).index()} >= {KEY}
    named = [path.name for folder in tmp_path.glob("damaged*") if folder.is_dir() for path in folder.iterdir()]
    assert len(told) <= 2 and all(any(name in line for name in named) for line in told)
    if (
        (wreck, place) != (plain_file, "index.jsonl")
        and not harmed.is_dir()
        or harmed == node.path
        or node.path in harmed.parents
    ):
        assert told, "the user hears of it"


@pytest.mark.parametrize("damage", ["[" * 200_000, "", "{}", "\0" * 1000, '{"fields": 1e999}', "9" * 10_000])
def test_any_text_in_a_node_file_is_found_out(damage: str, tmp_path: Path) -> None:
    node, _ = build(Store(tmp_path), two_files())
    (node.path / "node.json").write_text(damage)
    assert Store(tmp_path).find(KEY) is None and build(Store(tmp_path), two_files())[1]


def test_an_endless_node_file_is_not_read(tmp_path: Path) -> None:
    node, _ = build(Store(tmp_path), two_files())
    os.truncate(node.path / "node.json", 1 << 40)
    assert Store(tmp_path).find(KEY) is None and build(Store(tmp_path), two_files())[1]


def without_checksum(node: Node, **changed: object) -> None:
    """The node's file as it was written before it had a checksum."""
    (node.path / "node.json").write_text(json.dumps(node.info | changed, indent=1))


def test_a_node_from_before_there_was_a_checksum_is_used(tmp_path: Path) -> None:
    node, _ = build(Store(tmp_path), two_files())
    without_checksum(node)
    again, built = build(Store(tmp_path), never)
    assert not built and again.info == node.info


@pytest.mark.parametrize(
    "changed",
    [
        {"fields": {"kind": "tesu"}},
        {"hash": "0" * 64},
        {"seconds": "1"},
        {"bytes": -1},
        {"expected_seconds": float("inf")},
        {"meta": None},
        {"provenance": []},
        {"label": 3},
        {"checksun": "x"},
    ],
)
def test_of_such_a_node_key_hash_and_types_are_guarded(changed: dict[str, object], tmp_path: Path) -> None:
    node, _ = build(Store(tmp_path), two_files())
    without_checksum(node, **changed)
    assert Store(tmp_path).find(KEY) is None and build(Store(tmp_path), two_files())[1]


def test_a_node_in_anothers_place_is_not_taken_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    node, _ = build(store, two_files())
    other, _ = store.build(NodeRequest({"kind": "other"}, "other", {}), two_files("other"))
    shutil.rmtree(node.path)
    shutil.copytree(other.path, node.path)
    assert store.find(KEY) is None and build(store, two_files())[0].info == build(Store(tmp_path), never)[0].info


def test_what_is_damaged_after_it_was_found_is_found_out_as_well(tmp_path: Path) -> None:
    """Also where size and time of change are as before."""
    store = Store(tmp_path)
    node, _ = build(store, two_files())
    file = node.path / "deep" / "deeper" / "b"
    before = file.stat()
    file.write_text("weighty")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.find(KEY) is None and build(store, two_files())[1]


@pytest.mark.parametrize("key", ["", "..", "../" * 10, "x" * 32, KEY + "/..", KEY.upper(), KEY[:-1], None, 3, [KEY]])
def test_a_key_from_a_record_never_leads_out_of_the_store(key: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    build(store, two_files())
    assert store.find(key) is None
    with pytest.raises(ValueError, match="is no key"):
        store.path(key)


def test_damaged_lines_of_the_index_are_passed_over_and_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(4):
        store.build(NodeRequest({"number": number}, "test", {}), two_files())
    good, file = store.index(), tmp_path / "index.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    flipped = lines[1].replace('"bytes": 14', '"bytes": 15')
    assert flipped != lines[1]
    file.write_text(lines[0] + flipped + "[" * 100_000 + "\n" + '{"key": "../x"}\n' + lines[3][:-20])
    assert sorted(map(str, Store(tmp_path).index())) == sorted(map(str, good))
    store.build(NodeRequest({"number": 4}, "test", {}), two_files())
    assert [entry["bytes"] for entry in Store(tmp_path).index()] == [14] * 5
    assert len(file.read_text().splitlines()) == 9, "what is damaged is read once and not again and again"


def test_an_index_names_what_is_there(tmp_path: Path) -> None:
    """As after a removal by hand, and in a store from before there was an index."""
    store = Store(tmp_path)
    nodes = [store.build(NodeRequest({"number": number}, "test", {}), two_files())[0] for number in range(3)]
    shutil.rmtree(nodes[1].path)
    assert [entry["key"] for entry in Store(tmp_path).index()] == [nodes[0].key, nodes[2].key]
    (tmp_path / "index.jsonl").unlink()
    assert {entry["key"] for entry in Store(tmp_path).index()} == {nodes[0].key, nodes[2].key}


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
    found: list[tuple[Node, bool]] = []
    second = threading.Thread(target=lambda: found.append(build(Store(tmp_path), never)))
    second.start()
    go.set()
    first.join(60)
    second.join(60)
    [(node, built)] = found
    assert not built and (node.path / "a").read_text() == "first"


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


def test_the_state_of_a_published_node_goes_once_nobody_is_at_it(tmp_path: Path) -> None:
    """Its builder was ended between publishing and tidying up."""
    store = Store(tmp_path)
    build(store, two_files())
    left = tmp_path / "scratch" / f"{KEY}-left"
    left.mkdir(parents=True)
    (left / "state").write_text("")
    lease = leased_elsewhere(tmp_path)
    build(store, never)
    assert left.exists(), "its builder lives"
    lease.unlink()
    build(store, never)
    assert not left.exists()
