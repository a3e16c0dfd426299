"""Histories: which checkpoint is the last before exposure."""

from __future__ import annotations

from bench.core.types import Checkpoint, History, Moment


def test_the_last_checkpoint_of_a_history_is_the_last_before_exposure() -> None:
    moments = [Moment(Checkpoint(f"p{i}", f"h{i}"), i, None, "s", exposed=i > 1) for i in range(4)]
    history = History(tuple(moments))
    assert history.last is moments[1] and history.before == tuple(moments[:2])
