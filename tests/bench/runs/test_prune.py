from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.contracts import Node
from bench.core.machine import Machine
from bench.core.record import Record, RunSpec, Step
from bench.core.types import Json
from bench.core.versions import TRAINING
from bench.records.bundles import put_records
from bench.records.files import write_record
from bench.runs import leases, prune
from bench.runs.cluster import commands
from bench.runs.cluster.commands import Silent, State
from bench.runs.cluster.submission import Array, Submission
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.leases import at_work
from bench.runs.plan import with_versions
from bench.runs.prune import search_records, survey
from bench.runs.setting import Paths
from bench.runs.store import NodeRequest, Store
from tests import factories
from tests.processes import Place, bench, result_of
from tests.shell import Shell, heeding_modes
from tests.stores import KEY, build, leased_elsewhere, two_files

SPEC = with_versions(RunSpec("tofu", {}, "lab", "lab", (Step("ga", {"steps": 2}),), 0))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def node(store: Store, number: int, checkpoint: str = "", **fields: Any) -> Node:
    meta = {"checkpoint": checkpoint * 64} if checkpoint else {}

    def make(folder: Path) -> Json:
        (folder / "weights").write_text("x" * 1000)
        return meta

    return store.build(NodeRequest({"number": number, **fields}, f"node {number}", {}), make)[0]


def record(out: Path, spec: RunSpec = SPEC, **lineage: Any) -> Path:
    return write_record(Record(spec, "done", lineage=lineage, cost={"nodes": []}), out)


def listed(store: Store, *folders: Path) -> dict[str, int]:
    """What may go: in words, and how many."""
    return {group.what: len(group.paths) for group in survey(store, folders).waste}


def removed(store: Store, *folders: Path) -> list[str]:
    """What is there, without shelves and locks, after everything that may go has gone."""
    prune.prune(store, folders, lambda line: None)
    assert listed(store, *folders) == {}
    inside = (path.relative_to(store.root).as_posix() for path in store.root.rglob("*"))
    return sorted(name for name in inside if name.count("/") != 1 and not name.endswith(".guard"))


def test_what_records_name_stays_with_all_that_it_was_made_of(store: Store, out: Path) -> None:
    """A record names a checkpoint by its hash and responses by their key; those name theirs."""
    start = node(store, 0, "a")
    tuned = node(store, 1, "b", start="a" * 64)
    summed = node(store, 2, "c", terms=[[1.0, "b" * 64], [-1.0, "a" * 64]])
    measured = node(store, 3, checkpoint="", of={"x": "c" * 64})
    graded = node(store, 4, responses=measured.key)
    other = node(store, 5, "d", start="a" * 64)
    record(out, responses=graded.key)
    (out / "ablations").mkdir()
    (out / "ablations" / "study.json").write_text(json.dumps({"records": [{"lineage": {"target": "d" * 64}}]}))
    assert listed(store, out) == {}
    (out / "ablations" / "study.json").unlink()
    assert listed(store, out) == {"nodes that no record names": 1}
    [waste] = survey(store, [out]).waste
    assert waste.paths == [other.path] and waste.bytes == 1000 and str(waste) == f"{waste.what}: 1, 0.0 MB"
    removed(store, out)
    assert {entry["key"] for entry in store.index()} == {n.key for n in (start, tuned, summed, measured, graded)}
    assert len((store.root / "index.jsonl").read_text().splitlines()) == 5, "lines of what has gone go as well"


def test_a_damaged_record_still_names_its_nodes(store: Store, out: Path) -> None:
    kept = node(store, 0)
    file = record(out, responses=kept.key)
    file.write_text(file.read_text().replace('"status": "done"', '"status": '))
    assert listed(store, out) == {}


def test_records_and_nodes_of_older_code_go(store: Store, out: Path) -> None:
    old = node(store, 0, "a", kind="train", engine=TRAINING - 1)
    now = node(store, 1, "b", kind="train", engine=TRAINING)
    before = {**SPEC.versions, "ga": SPEC.versions["ga"] - 1}
    file = record(out, replace(SPEC, versions=before), result_node=old.key)
    kept = record(out, result_node=now.key)
    assert listed(store, out) == {"records of older code": 1, "nodes of older engines": 1}
    removed(store, out)
    assert not file.exists() and kept.exists() and not old.path.exists() and now.path.exists()


def test_a_published_folder_is_only_read(store: Store, out: Path) -> None:
    before = {name: version - 1 for name, version in SPEC.versions.items()}
    kept = node(store, 0)
    file = record(out, replace(SPEC, versions=before), result_node=kept.key)
    (out / "responses").mkdir()
    assert listed(store, out) == {} and removed(store, out) and file.exists() and kept.path.exists()


def test_a_record_of_a_component_that_has_gone_is_nobodys_older_code(store: Store, out: Path) -> None:
    record(out, RunSpec("vanished", {}, "lab", "lab", (), 0, versions={"vanished": 0}))
    assert listed(store, out) == {}


def test_remains_of_the_dead_go_and_what_lives_stays(store: Store, out: Path) -> None:
    build(store, two_files())
    record(out, result_node=KEY)
    live, dead = "0" * 32, "1" * 32
    for name in ("partial", "scratch", "damaged"):
        (store.root / name).mkdir(exist_ok=True)
    for key in (live, dead):
        for name in ("partial", "scratch"):
            (store.root / name / f"{key}-abc").mkdir()
            (store.root / name / f"{key}-abc" / "file").write_text("x" * 500)
    (store.root / "scratch" / dead).mkdir()
    (store.root / "damaged" / "node-abc").write_text("")
    (store.root / "leases" / f"{dead}.json").write_text("{")
    with leases.hold_lease(store.folder, live):
        found = {
            "leases whose owners have gone": 1,
            "unfinished nodes": 1,
            "states of interrupted work": 2,
            "damaged, set aside": 1,
        }
        assert listed(store, out) == found
        removed(store, out)
        assert (
            sorted(os.listdir(store.root / "partial")) == sorted(os.listdir(store.root / "scratch")) == [f"{live}-abc"]
        )
        assert sorted(os.listdir(store.root / "leases")) == [".guard", f"{live}.json"]
    assert listed(store, out) == {"unfinished nodes": 1, "states of interrupted work": 1}
    removed(store, out)
    assert store.find(KEY) is not None


def test_nodes_stay_while_a_command_is_at_work_or_a_node_is_leased(store: Store, out: Path) -> None:
    """A run's stages are named by no record yet."""
    stage = node(store, 0)
    with at_work(store.root):
        found = survey(store, [out])
        assert found.waste == [] and "at work" in found.remarks[0]
        prune.prune(store, [out], lambda line: None)
    with leases.hold_lease(store.folder, KEY):
        assert survey(store, [out]).waste == []
        prune.prune(store, [out], lambda line: None)
    assert stage.path.exists() and listed(store, out) == {"nodes that no record names": 1}


def test_what_would_go_is_listed_by_name(store: Store, out: Path) -> None:
    """Records all, of nodes the first ones; what a node calls itself can't steer the terminal."""
    before = {**SPEC.versions, "ga": SPEC.versions["ga"] - 1}
    files = [record(out, replace(SPEC, versions=before, seed=seed)) for seed in range(prune.MOST_NAMES + 2)]
    nodes = [node(store, number) for number in range(prune.MOST_NAMES + 3)]
    steering = {"number": 99}
    odd = store.build(NodeRequest(steering, "red \x1b[31m\nline", {}), lambda folder: None)[0]
    (store.root / "damaged").mkdir()
    (store.root / "damaged" / "node-abc").write_text("")
    done = bench(["prune", "--dry-run", "--out", str(out), "--store", str(store.root)], out)
    assert done.returncode == 0 and "\x1b" not in done.stdout
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert {str(file) for file in files} <= set(lines) and "damaged/node-abc" in lines
    labels = {f"{each.info['label']} ({each.key})" for each in nodes}
    shown = len(labels & set(lines)) + sum(f"({odd.key})" in line for line in lines)
    assert shown == prune.MOST_NAMES and "and 4 more" in lines
    assert all(file.exists() for file in files) and all(each.path.exists() for each in nodes)


def test_folders_of_records_that_are_not_there_name_the_right_option(store: Store, tmp_path: Path) -> None:
    done = bench(["prune", "--out", "nothere", "--store", str(store.root)], tmp_path)
    assert done.returncode == 2 and "'nothere'" in done.stderr and "--out names a folder of them" in done.stderr


AT_WORK = """
import sys, time
from pathlib import Path
from bench.runs.cluster import commands
from bench.runs.cluster.commands import Silent, State
from bench.runs.cluster.submission import Array, Submission
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.leases import at_work
with at_work(Path(sys.argv[1])):
    print("", flush=True)
    time.sleep(600)
"""


def test_a_killed_command_is_not_at_work(store: Store, out: Path) -> None:
    node(store, 0)
    other = subprocess.Popen([sys.executable, "-c", AT_WORK, str(store.root)], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline()
    assert listed(store, out) == {}
    other.kill()
    other.communicate()
    assert listed(store, out) == {"nodes that no record names": 1}


@pytest.mark.parametrize("alive", [True, False])
def test_a_lease_of_another_host_goes_when_it_was_watched_and_is_silent(
    alive: bool, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(prune, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(prune, "POLL_SECONDS", 0.2)
    path, said = leased_elsewhere(store.root), list[str]()
    if alive:
        monkeypatch.setattr(time, "sleep", lambda seconds: os.utime(path))
    prune.prune(store, [out], said.append)
    assert path.exists() is alive and len(said) == 1 and "of other hosts" in said[0]


def test_links_are_removed_and_never_followed(store: Store, out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "nodes").mkdir(parents=True)
    (mine / "nodes" / "file").write_text("precious")
    first, second = node(store, 0), node(store, 1)
    (first.path / "link").symlink_to(mine)
    second.path.rename(mine / "node")
    second.path.symlink_to(mine / "node")
    for name in ("partial", "scratch", "damaged"):
        (store.root / name).mkdir(exist_ok=True)
        (store.root / name / f"{KEY}-link").symlink_to(mine)
    (store.root / "leases" / f"{KEY}.json").symlink_to(mine / "nodes" / "file")
    removed(store, out)
    assert (mine / "nodes" / "file").read_text() == "precious" and (mine / "node" / "weights").exists()
    assert not first.path.exists() and not os.path.lexists(second.path)
    assert os.listdir(store.root / "leases") == [".guard"]


@pytest.mark.parametrize("name", ["nodes", "nodes/00", "partial", "scratch", "damaged", "leases"])
def test_a_folder_of_the_store_that_is_a_link_is_not_entered(
    name: str, store: Store, out: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    inside = {"nodes": f"00/{'0' * 32}", "leases": f"{KEY}.json"}.get(name, "0" * 32)
    (mine / inside).mkdir(parents=True)
    (mine / inside / "file").write_text("precious")
    (store.root / name).parent.mkdir(parents=True)
    (store.root / name).symlink_to(mine)
    prune.prune(store, [out], lambda line: None)
    assert (mine / inside / "file").read_text() == "precious"


def test_anything_among_the_records_may_be_searched_for_names(store: Store, out: Path) -> None:
    node(store, 0)
    (out / "a.json").mkdir()
    (out / "plots").mkdir()
    os.mkfifo(out / "plots" / "b.json")
    (out / "plots" / "c.json").symlink_to("/dev/zero")
    (out / "d.json").write_bytes(b"\xff" * 100)
    (out / "loop").symlink_to(out)
    assert listed(store, out) == {"nodes that no record names": 1}


def hide_behind_a_link(file: Path) -> None:
    """A folder above it lies elsewhere."""
    place = file.parents[2]
    place.rename(place.parent.parent / "elsewhere")
    place.symlink_to(place.parent.parent / "elsewhere")


@pytest.mark.parametrize("links", [0, 1, 2])
def test_records_behind_links_to_folders_name_their_nodes_and_are_only_read(
    links: int, store: Store, out: Path
) -> None:
    kept, other = node(store, 0), node(store, 1)
    before = {**SPEC.versions, "ga": SPEC.versions["ga"] - 1}
    files = [
        record(out, result_node=kept.key),
        record(out, replace(SPEC, versions=before, seed=9), result_node=other.key),
    ]
    if links:
        hide_behind_a_link(files[0])
    if links > 1:
        (out / "lab" / "round").symlink_to(out)
        hide_behind_a_link(files[0].parent / "x" / "y")
    removed(store, out)
    assert kept.path.exists() and other.path.exists() is bool(links)
    assert [file.exists() for file in files] == [True, bool(links)]


def closed(place: Path) -> None:
    place.chmod(0o000)


def no_way_in(place: Path) -> None:
    place.chmod(0o444)


def on_a_disk_that_is_away(place: Path) -> None:
    place.rename(place.parent / "away")
    place.symlink_to("/mnt/away")


def round_in_circles(place: Path) -> None:
    place.rename(place.parent / "away")
    place.symlink_to(place.name)


def huge(place: Path) -> None:
    os.truncate(place, prune.MOST_BYTES + 1)


@pytest.mark.parametrize(
    ("harm", "level"),
    [
        *((harm, level) for harm in (closed, on_a_disk_that_is_away, round_in_circles) for level in range(4)),
        *((no_way_in, level) for level in (1, 2, 3)),
        (huge, 0),
    ],
)
def test_what_cannot_be_read_among_the_records_keeps_all_nodes(
    harm: Callable[[Path], None], level: int, store: Store, out: Path, shell: Shell
) -> None:
    """A record, or a folder above it: nobody knows which nodes it names. What is no node goes all the same."""
    kept = node(store, 0)
    file = record(out, result_node=kept.key)
    (store.root / "partial" / f"{KEY}-abc").mkdir(parents=True)
    place = (file, *file.parents)[level]
    harm(place)
    words = ("prune", "--out", str(out), "--store", str(store.root))
    try:
        with heeding_modes():
            said = shell(*words, "--yes")
    finally:
        if not place.is_symlink():
            place.chmod(0o755)
    assert said.code == 0 and said.err == "" and kept.path.exists()
    [line] = [line for line in said.out.splitlines() if "every node stays" in line]
    assert str(place) in line
    assert line.endswith(", then prune again") and "can't be read (" in line
    assert not list((store.root / "partial").iterdir())


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLED", "", "silent"])
def test_jobs_that_a_cluster_has_keep_all_nodes(
    state: str, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that waits in the queue needs stages that nothing names yet, and holds no lease. A lost job keeps nothing."""
    stage = node(store, 0)
    config = WorkerConfig.of(Machine(out, store.root, executor="slurm"), Paths())
    jobs = tuple(Job(replace(SPEC, seed=seed)) for seed in range(2))
    made = Submission(out / "cluster" / "a", config, (Array("name", jobs),), 60)
    made.write()
    asked: list[list[str]] = []

    def find_states(names: list[str]) -> dict[tuple[str, int], State]:
        asked.append(names)
        if state == "silent":
            raise Silent("no controller")
        return {("name", 1): State("7_1", state)} if state else {}

    monkeypatch.setattr(commands, "find_states", find_states)
    assert listed(store, out) == {"nodes that no record names": 1} and not asked, "nothing was handed over"
    first, second = made.tasks()
    first.say({"event": "begin", "slurm": "7_0", "node": "n1", "restarts": 0})
    first.say({"event": "end", "status": "done"})
    found = survey(store, [out])
    assert asked == [["name"]] and bool(found.waste) is (state in ("CANCELLED", ""))
    if not found.waste:
        [remark] = found.remarks
        assert "every node stays" in remark and "bench status --out" in remark
        prune.prune(store, [out], lambda line: None)
        assert stage.path.exists()
    second.say({"event": "end", "status": "failed", "message": "it was lost"})
    assert listed(store, out) == {"nodes that no record names": 1} and asked[-1] == ["name"], "all have ended"


def test_jobs_of_a_damaged_submission_are_asked_for(store: Store, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node(store, 0)
    (out / "cluster" / "20260101-000000-abcd").mkdir(parents=True)
    (out / "cluster" / "20260101-000000-abcd" / "submission.json").write_text("{")
    states = {("msa-bench-abcd-runs", 0): State("7_0", "PENDING")}
    monkeypatch.setattr(commands, "find_states", lambda names: {k: v for k, v in states.items() if k[0] in names})
    assert listed(store, out) == {}
    states.clear()
    assert listed(store, out) == {"nodes that no record names": 1}


def test_what_is_no_store_is_said(tmp_path: Path, out: Path, shell: Shell) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for place, words in (
        ("file", "'file' is a file and no folder"),
        ("folder", "folder' is no store: "),
        ("nothing", "There is no store '"),
    ):
        said = shell("prune", "--out", str(out), "--store", place)
        [line] = said.errors
        assert said.code == 2 and said.out == "" and words in line and "--store" in line, said


def test_a_run_leaves_nothing_to_prune(finished: Place, tmp_path: Path) -> None:
    """Not the count of FLOPs either, which no record names; without any record it goes with the rest."""
    store = Store(finished.store)
    assert listed(store, finished.out) == {}
    assert listed(store, tmp_path) == {"nodes that no record names": len(finished.nodes())}


def test_prune_lists_and_removes_only_when_told_and_a_run_goes_on(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    words = ["prune", "--store", str(place.store), "--out", str(place.out)]
    extra = node(Store(place.store), 0)
    before = place.nodes()
    for more in ([], ["--dry-run"], ["--dry-run", "--yes"]):
        said = bench([*words, *more], tmp_path)
        assert said.returncode == 0 and "nodes that no record names: 1, " in said.stdout, said.stderr
        assert said.stdout.splitlines()[-1] == "Nothing was removed; --yes removes it." and place.nodes() == before
    said = bench([*words, "--yes"], tmp_path)
    assert said.returncode == 0 and "removed: " in said.stdout and not extra.path.exists()
    assert "Nothing is to be removed." in bench(words, tmp_path).stdout
    again = place.run()
    assert again.returncode == 0 and again.stdout.count("cached") == 3, "what records name is there"
    old = place.records()["msa"]
    place.files()["msa"].unlink()
    assert bench([*words, "--yes"], tmp_path).returncode == 0
    assert len(place.nodes()) < len(before) - 2
    again = place.run()
    assert again.returncode == 0 and result_of(place.records()["msa"]) == result_of(old)


def test_prune_needs_the_records(tmp_path: Path) -> None:
    """In another folder every node would be one that no record names."""
    said = bench(["prune", "--store", str(tmp_path / "store"), "--yes"], tmp_path)
    assert said.returncode == 2 and "There is no folder 'runs'" in said.stderr


def test_what_a_bundle_names_is_found_and_a_damaged_one_hides_names(tmp_path: Path) -> None:
    """Published records keep their nodes as those in files of their own do."""
    one = replace(factories.record("npo"), lineage={"responses": "f" * 32})
    [bundle] = put_records([one], tmp_path)
    assert search_records([tmp_path], [], ["f" * 32, "e" * 32]) == ({"f" * 32}, [])
    bundle.write_bytes(bundle.read_bytes()[:-9])
    found, [(path, reason)] = search_records([tmp_path], [], ["f" * 32])
    assert found == set() and path == bundle and "cut short" in str(reason)
