"""The page about executors: its example carries out real jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.machine import Machine
from bench.core.record import Record
from bench.runs.executors import follow
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.progress import ignore_event
from bench.runs.setting import Paths
from tests.paths import ROOT
from tests.processes import Place, result_of
from tests.test_docs import FILE


def test_the_example_of_the_page_carries_out_jobs(
    finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(name, code)] = FILE.findall((ROOT / "docs" / "executors.md").read_text())
    (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    import futures

    place = finished.copy(tmp_path / "place")
    spec = Record.from_json(place.records()["msa"]).spec
    place.files()["msa"].unlink()
    config = WorkerConfig.of(Machine(place.out, place.store, jobs=1), Paths())
    executor = futures.Futures(config, ignore_event)
    assert list(executor.foresee([Job(spec)])) == ["1 jobs on 1 processes"]
    [result] = follow(executor, [Job(spec)])
    assert result.status == "done" and result_of(place.records()["msa"]) == result_of(finished.records()["msa"])
