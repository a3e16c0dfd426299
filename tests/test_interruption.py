"""Commands that are killed or interrupted at random moments: nothing is lost but the stage in progress, nobody stays
behind, and the end is the same to the bit as without.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.processes import MEASURED, STAGES, Place, result_of

PATIENCE_SECONDS = 600


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A command's worker processes."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def break_off(place: Place, how: signal.Signals, jobs: int, nodes: int, delay: float) -> tuple[int, str]:
    """Start the run, wait until the store holds ``nodes`` nodes and ``delay`` seconds more, and send the signal.

    Checks that a worker was at work and that none outlives its parent. Returns the exit code and the output.
    """
    process = place.start("msa", "--jobs", str(jobs))
    until = time.monotonic() + PATIENCE_SECONDS
    while len(place.nodes()) < nodes or not family(process):
        assert process.poll() is None, f"the run ended before it held {nodes} nodes: {process.communicate()[0]}"
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(delay)
    workers = family(process)
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert workers and not alive, "a worker outlived its parent"
    return process.returncode, output


@pytest.mark.slow(50)
def test_killed_and_interrupted_runs_go_on_to_the_same_end(finished: Place, tmp_path: Path) -> None:
    rng = random.Random(2)
    place = Place(tmp_path)
    kept = 0
    for how, jobs, nodes in (
        (signal.SIGKILL, 1, 0),
        (signal.SIGKILL, 2, 2),
        (signal.SIGINT, 1, 4),
        (signal.SIGTERM, 1, 6),
        (signal.SIGINT, 2, 7),
    ):
        code, output = break_off(place, how, jobs, nodes, rng.uniform(0, 0.15))
        if how is not signal.SIGKILL:
            assert code == 128 + how and output.rstrip().endswith("the same command goes on from there."), output
            assert "Traceback" not in output
        else:
            assert code == -how
        assert len(place.nodes()) >= max(kept, nodes), "a published node was lost"
        kept = len(place.nodes())
        assert all(record["status"] == "done" for record in place.records().values())
    assert kept < len(STAGES) + len(MEASURED), "nothing was left to do: the interruptions came too late"
    done = place.run()
    assert done.returncode == 0, done.stdout + done.stderr
    results = {method: result_of(record) for method, record in place.records().items()}
    assert results == {method: result_of(record) for method, record in finished.records().items()}
    assert place.nodes() == finished.nodes()
    assert list((place.store / "partial").iterdir()) == [], "what killed builders left is swept"


@pytest.mark.slow(20)
@pytest.mark.parametrize("victim", ["a worker", "the parent, before any work"])
def test_one_death_does_not_harm_the_rest(victim: str, finished: Place, tmp_path: Path) -> None:
    """A killed worker fails its job alone, loudly; a command killed at once leaves nothing behind."""
    place = Place(tmp_path)
    process = place.start()
    until = time.monotonic() + PATIENCE_SECONDS
    if victim == "a worker":
        while not place.nodes():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        [worker] = family(process)
        worker.kill()
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1 and "the worker process ended with code -9" in output
        assert {record["status"] for record in place.records().values()} == {"done"}, (
            "a run built the lost stage itself"
        )
        expected = {method: result_of(record) for method, record in finished.records().items()}
        assert {method: result_of(record) for method, record in place.records().items()} == expected
    else:
        process.kill()
        process.communicate()
        assert place.nodes() == [] and not place.out.exists()
