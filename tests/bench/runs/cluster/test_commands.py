from __future__ import annotations

import pytest

from bench.core.errors import UserError
from bench.runs.cluster import commands
from bench.runs.cluster.commands import NodeInfo, State

SQUEUE = """msa-bench-ab-stages|0|12|RUNNING|None|n1
msa-bench-ab-stages|3|12|PENDING|Dependency|
msa-bench-ab-runs|N/A|13|COMPLETING|None|n2
"""
NODES = """NodeName=n1 Arch=x86_64 CPUTot=64 Gres=gpu:a100:4(S:0-1) NodeAddr=10.0.0.1 NodeHostName=gpu01 RealMemory=512000
NodeName=n2 Arch=x86_64 CPUTot=8 Gres=(null) NodeAddr=10.0.0.2 NodeHostName=cpu01 RealMemory=64000
No nodes in the system
"""


def test_the_lines_of_squeue_are_read() -> None:
    states = commands.read_states(SQUEUE)
    assert states == {
        ("msa-bench-ab-stages", 0): State("12_0", "RUNNING", "None", "n1"),
        ("msa-bench-ab-stages", 3): State("12_3", "PENDING", "Dependency", ""),
        ("msa-bench-ab-runs", 0): State("13", "COMPLETING", "None", "n2"),
    }
    assert [state.is_waiting for state in states.values()] == [False, True, False]
    assert all(state.is_live for state in states.values())
    assert not any(State("1", word).is_live for word in ("COMPLETED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"))


def test_the_lines_of_the_nodes_are_read() -> None:
    assert commands.read_nodes(NODES) == [NodeInfo("gpu01", 512_000, 64, 4), NodeInfo("cpu01", 64_000, 8, 0)]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "sbatch: error: invalid partition specified: x\nallocation failure: Invalid partition name specified\n",
            "invalid partition specified: x",
        ),
        (
            "allocation failure: Requested node configuration is not available\n",
            "Requested node configuration is not available",
        ),
        ("sbatch: unrecognized option '--colour=red'\nTry \"sbatch --help\"\n", "unrecognized option '--colour=red'"),
        ("", "no reason"),
    ],
)
def test_a_refusal_is_its_first_complaint(said: str, why: str) -> None:
    assert commands.read_refusal(said) == why


def test_without_sbatch_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError) as refused:
        commands.check_there()
    assert "no sbatch on the PATH" in str(refused.value) and "\n" not in str(refused.value)


def test_a_command_that_is_missing_or_fails_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(commands.Silent):
        commands.ask("no-such-command")
    with pytest.raises(commands.Silent, match="ended with code 1"):
        commands.ask("false")


PARTITIONS = """PartitionName=short AllowGroups=ALL Default=YES MaxTime=01:00:00 MinNodes=0
PartitionName=long AllowGroups=ALL Default=NO MaxTime=2-00:00:00 MinNodes=0
PartitionName=endless AllowGroups=ALL Default=NO MaxTime=UNLIMITED MinNodes=0
"""


@pytest.mark.parametrize(
    ("partitions", "limits"),
    [
        ("", ["01:00:00"]),
        ("short", ["01:00:00"]),
        ("short,long", ["01:00:00", "2-00:00:00"]),
        ("endless, short", ["01:00:00", "UNLIMITED"]),
        ("nowhere", []),
    ],
)
def test_the_limits_of_several_partitions_are_read(partitions: str, limits: list[str]) -> None:
    assert commands.read_limits(PARTITIONS, partitions) == limits


def test_accounting_is_asked_for_more_than_today(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(*command: str) -> str:
        asked.append(command)
        return "name|7_1|CANCELLED by 0\nodd\nname|8|\n"

    monkeypatch.setattr(commands, "ask", answer)
    assert commands.find_ended(["name"]) == {("name", 1): State("7_1", "CANCELLED"), ("name", 0): State("8", "")}
    assert commands.SINCE in asked[0]


def test_a_held_job_is_told_with_its_remedy() -> None:
    """SLURM holds a job whose launch has failed; nobody but a person lets it go on."""
    held, waiting = State("5_0", "PENDING", "launch failed requeued held"), State("5_1", "PENDING", "Dependency")
    assert held.is_held and not waiting.is_held and not State("5_2", "RUNNING", "held").is_held
    assert "`scontrol release 5_0`" in commands.held_sentence(held)
