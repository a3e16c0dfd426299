from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.runs.cluster import checks, commands
from bench.runs.cluster.commands import NodeInfo

MOUNTS = """rootfs / ext4 rw 0 0
nas:/home /home nfs4 rw 0 0
/dev/sdb /home/scratch xfs rw 0 0
lustre /work\\040space lustre rw 0 0
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var/runs", "ext4"),
        ("/home/me/runs", "nfs4"),
        ("/home/scratch/runs", "xfs"),
        ("/homely", "ext4"),
        ("/work space/x", "lustre"),
    ],
)
def test_a_place_lies_on_the_nearest_mount_above_it(place: str, kind: str) -> None:
    assert checks.disk_of(Path(place), MOUNTS) == kind


def test_a_disk_of_this_machine_alone_is_refused_where_jobs_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "disk_of", lambda place: "ext4")
    assert checks.unshared("--store", tmp_path, {socket.gethostname()}, private=False) == [], (
        "every node is this machine"
    )
    [told] = checks.unshared("--store", tmp_path, {"n1", "n2"}, private=False)
    assert told == (
        f"--store {tmp_path} lies on a disk of this machine alone (ext4), and jobs run on 2 hosts: choose a place that all "
        "of them share."
    )
    monkeypatch.setattr(checks, "disk_of", lambda place: "nfs4")
    assert checks.unshared("--store", tmp_path, {"n1", "n2"}, private=False) == []


def test_a_tmp_of_each_job_is_refused_even_on_one_machine() -> None:
    [told] = checks.unshared("--out", Path("/tmp/runs"), {socket.gethostname()}, private=True)
    assert "each job has a tmp of its own" in told


def test_what_this_machine_serves_to_others_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = tmp_path / "exports"
    exports.write_text(f"# served\n{tmp_path} 10.0.0.0/24(rw)\n")
    assert checks.is_exported(tmp_path / "runs", [exports])
    assert not checks.is_exported(tmp_path.parent, [exports, tmp_path / "none"])


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("invalid partition specified: x", "knows no partition x: name one of big, small"),
        ("Invalid account or account/partition combination specified", "name yours with --slurm account=NAME"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "take less with --slurm time=MINUTES"),
        (
            "Requested node configuration is not available",
            "900G of memory, 8 GPUs, 1 CPUs): the largest has 64M of memory, 2 GPUs",
        ),
        ("unrecognized option '--colour'", "see `man sbatch`"),
    ],
)
def test_a_refusal_says_what_would_help(why: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "find_partitions", lambda: ["big", "small"])
    monkeypatch.setattr(commands, "find_nodes", lambda: [NodeInfo("a", 9000, 64, 0), NodeInfo("b", 64, 4, 2)])
    flags = {"partition": "x", "mem": "900G", "gpus-per-node": "8", "cpus-per-task": "1", "time": "99"}
    told = checks.explain_refusal(why, dict(flags))
    assert words in told and "\n" not in told


NODES = [NodeInfo("a", 9000, 64, 0), NodeInfo("b", 64, 4, 2)]


@pytest.mark.parametrize(
    ("why", "flags", "waits"),
    [
        ("Required node not available (down, drained or reserved)", {}, True),
        ("Requested node configuration is not available", {"mem": "8G", "cpus-per-task": "2"}, True),
        ("Requested node configuration is not available", {"mem": "9G"}, False),
        ("Requested node configuration is not available", {"gpus-per-node": "2", "mem": "1G"}, False),
        ("Requested node configuration is not available", {"gpus-per-node": "2", "mem": "60M"}, True),
        ("invalid partition specified: x", {}, False),
    ],
)
def test_nodes_that_are_away_for_now_are_waited_for(why: str, flags: dict[str, str | bool], waits: bool) -> None:
    assert checks.is_about_now(why, flags, NODES) == waits


def test_submitit_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs submitit: pip install"):
        checks.check_cluster(Machine(executor="slurm"))


@pytest.mark.parametrize(
    ("partition", "time", "refused"),
    [
        ("short", "61", True),
        ("short,long", "61", False),
        ("short,long", "3-0", True),
        ("short,endless", "3-0", False),
        ("short,long", "0", True),
        ("endless", "0", False),
    ],
)
def test_a_job_may_take_as_long_as_one_of_its_partitions_lets_it(
    partition: str, time: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"short": "01:00:00", "long": "2-00:00:00", "endless": "UNLIMITED"}
    monkeypatch.setattr(commands, "find_refusal", lambda words: "")
    monkeypatch.setattr(commands, "find_limits", lambda names: [limits[name] for name in names.split(",")])
    if refused:
        with pytest.raises(UserError, match=f"A time of {time} a job is more than the partition allows"):
            checks.check_flags({"partition": partition, "time": time})
    else:
        checks.check_flags({"partition": partition, "time": time})
