"""Runs as TensorBoard's event files, one folder a run: ``tensorboard --logdir OUT/tensorboard`` shows them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.core.record import Record, RunSpec
from bench.core.trackers import Numbers
from bench.core.types import Responses
from bench.records.markdown import markdown_table, plain
from bench.tracking.run_pages import PageTracker
from bench.tracking.shown import (
    COLUMNS,
    axis_of,
    examples_of,
    facts_of,
    flat,
    group_of_run,
    name_of,
    numbers_of,
    settings_of,
    summary_of,
)

SHARES = 1000
"""Steps of the axis over which a share of the way is drawn, as TensorBoard counts in whole numbers."""
PICTURES = (".png", ".jpg", ".jpeg")


class TensorBoardTracker(PageTracker):
    """A folder of event files for each run, in the place of what an earlier command left of it."""

    @classmethod
    def problems(cls) -> list[str]:
        """A sentence where the package is missing."""
        if find_spec("tensorboard") is not None:
            return []
        return [
            "--track tensorboard needs the package tensorboard: `pip install tensorboard`, or take --track wandb or none."
        ]

    def open_page(self, spec: RunSpec, stage: str) -> EventFile:
        """A new event file."""
        folder = self.directory / group_of_run(spec) / f"{name_of(spec, stage)}-{spec.key[:8]}"
        page = EventFile(folder)
        page.text("config", as_code(settings_of(spec)))
        return page

    def report(self, page: Path, pictures: Sequence[Path]) -> None:
        """See `Tracker`: the page as text, its pictures beside it."""
        file = EventFile(self.directory / "report" / page.stem)
        file.text("page", page.read_text(encoding="utf-8"))
        for path in pictures:
            if path.suffix.lower() in PICTURES:
                file.picture(f"plots/{path.stem}", path)
        file.finish(failed=False)


class EventFile:
    """One run's events; the folder holds no other run's."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        shutil.rmtree(folder, ignore_errors=True)
        self.writer = EventFileWriter(str(folder))

    def log(self, rows: Mapping[str, Numbers]) -> None:
        """Write rows as scalars, each over its own step or, in thousandths, over its share of the way."""
        for series, row in rows.items():
            axis = axis_of(row)
            step = row[axis] if axis == "step" else SHARES * row[axis]
            numbers = numbers_of(series, {name: value for name, value in row.items() if name != axis})
            self.scalars(numbers, round(step))
        self.writer.flush()

    def show(self, record: Record, said: Mapping[str, Responses]) -> None:
        """Write the scores as scalars, the settings where TensorBoard compares them, and the examples as a table."""
        from tensorboard.plugins.hparams import summary_v2

        self.scalars(summary_of(record), 0)
        settings = flat("", settings_of(record.spec), ".")
        hparams = {name: value for name, value in settings.items() if isinstance(value, str | int | float | bool)}
        self.add(summary_v2.hparams_pb(hparams, trial_id=record.spec.key))
        self.text("facts", as_code(facts_of(record)))
        if rows := examples_of(said):
            self.text("examples", markdown_table(COLUMNS, [[plain(cell) for cell in row] for row in rows]))

    def finish(self, failed: bool) -> None:
        """Say whether it failed, and write everything out."""
        self.text("ended", "failed or interrupted" if failed else "complete")
        self.writer.close()

    def scalars(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers at a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self.add(Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]), step)

    def text(self, tag: str, text: str) -> None:
        """Write Markdown."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
        about = create_summary_metadata(display_name=tag, description="")
        self.add(Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=about)]))

    def picture(self, tag: str, path: Path) -> None:
        """Write a picture as it lies in its file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=path.read_bytes())
        self.add(Summary(value=[Summary.Value(tag=tag, image=image)]))

    def add(self, summary: Any, step: int = 0) -> None:
        """Write a summary as an event of now."""
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def as_code(data: Any) -> str:
    """JSON as Markdown shows it."""
    return "\n".join(f"    {line}" for line in json.dumps(data, indent=2, ensure_ascii=False).splitlines())
