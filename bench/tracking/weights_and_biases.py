"""Runs in Weights & Biases, live where somebody is logged in and kept offline otherwise."""

from __future__ import annotations

import netrc
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.core.files import write_text
from bench.core.record import Record, RunSpec
from bench.core.trackers import Numbers
from bench.core.types import Json, Responses
from bench.records.files import record_text
from bench.tracking.guarded import brief_error, print_warning
from bench.tracking.run_pages import PageTracker
from bench.tracking.shown import (
    COLUMNS,
    axis_of,
    examples_of,
    facts_of,
    group_of,
    group_of_run,
    name_of,
    numbers_of,
    settings_of,
    summary_of,
)

PROJECT = "msa-bench"
"""Where runs go, unless W&B's own settings (``WANDB_PROJECT``) name another project."""
AGGREGATE = {"up": "max", "down": "min"}
"""Goal of a metric in W&B's words."""
PICTURES = (".png", ".jpg", ".jpeg")
"""What W&B can show."""
MAX_NAME = 128
"""W&B refuses longer names of runs and groups."""
MAX_TAG = 64
"""W&B refuses longer tags, and then the whole run; and longer ids."""
INIT_SECONDS = 15.0
"""How long W&B's server may take to answer before the runs stay offline."""
FINISH_SECONDS = 60.0
"""How long an upload may hold up the end of a command; what is left over can be sent by `wandb sync`."""


class WandbTracker(PageTracker):
    """One W&B run per record, silent: no console capture, no git, system statistics where there is a GPU alone."""

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        super().__init__(directory, device)
        self._mode = ""
        """``online``, ``offline`` or another of W&B's modes; decided at the first run."""
        self._project = PROJECT
        self._why = ""
        """Why the runs are kept offline, where the user has not asked for that."""

    def open_page(self, spec: RunSpec, stage: str) -> WandbRun:
        """A new W&B run."""
        return WandbRun(self._open(init_arguments(spec, stage)))

    def report(self, page: Path, pictures: Sequence[Path]) -> None:
        """See `Tracker`. Pictures other than PNG and JPEG go into the artifact only: W&B can't show them.

        A folder's page is one run, whichever command makes it: online that is resumed. Offline nothing can be, and of two
        logs with one id W&B keeps the later; the earlier one is taken away.
        """
        self._choose_mode()
        name = f"report-{page.stem}"
        number = self._study(page.stem)
        if self._mode == "offline":
            for earlier in (self.directory / "wandb").glob(f"offline-run-*-{number}"):
                shutil.rmtree(earlier, ignore_errors=True)
        filed = {"id": number, "group": "report", "job_type": "report", "name": name[:MAX_NAME], "tags": ("report",)}
        run = self._open(filed | ({"resume": "allow"} if self._mode == "online" else {}))
        failed = True
        try:
            import wandb

            artifact = wandb.Artifact(f"{name}-{number[:8]}"[:MAX_NAME], type="report")
            for path in (page, *pictures):
                artifact.add_file(str(path), name=path.name)
            if shown := [path for path in pictures if path.suffix.lower() in PICTURES]:
                run.log({f"plots/{path.stem}": wandb.Image(str(path)) for path in shown})
            run.log_artifact(artifact)
            failed = False
        finally:
            run.finish(exit_code=int(failed))

    def close(self) -> None:
        """End what is left, say how to send what is kept offline, and stop W&B's helper process."""
        try:
            super().close()
        finally:
            if self._mode == "offline":
                login = f"W&B {self._why}: `wandb login`, then " if self._why else "W&B is offline: "
                print_warning(f"{login}send the runs with: {sync_command(self.directory)}")
            if self._mode:
                import wandb

                wandb.teardown()  # nothing is left to do or to print when Python ends

    def _study(self, page: str) -> str:
        """The id of the report run of a page: of this folder, as the file ``study`` in it says, and of no other."""
        file = self.directory / "study"
        if not file.is_file():
            write_text(file, secrets.token_hex(4))
        return f"{file.read_text(encoding='utf-8').strip()}-{page}"[:MAX_TAG]

    def _open(self, filed_under: Json) -> Any:
        """A new W&B run; offline from the first time that the server can't be reached."""
        self._choose_mode()
        import wandb

        try:
            return self._init(filed_under)
        except (wandb.Error, OSError) as error:
            if self._mode != "online":
                raise
            self._mode, self._why = "offline", f"can't be reached ({brief_error(error)})"
            return self._init({name: value for name, value in filed_under.items() if name != "resume"})

    def _choose_mode(self) -> None:
        """The mode and project of the user's W&B settings, but offline when nobody is logged in to be online."""
        if self._mode:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        # W&B reads from the environment alone where its log and staged artifacts go.
        for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            os.environ.setdefault(variable, str(self.directory.resolve()))
        import wandb

        with keeping_exit_hooks():
            settings = wandb.setup(wandb.Settings(silent=True, console="off")).settings
        self._project = settings.project or PROJECT
        self._mode = "offline" if settings.mode == "dryrun" else str(settings.mode)
        if self._mode == "online" and not (settings.api_key or logged_in(settings.base_url)):
            self._mode, self._why = "offline", "has no login"

    def _init(self, filed_under: Json) -> Any:
        """`wandb.init`, for a run that prints nothing and looks at nothing but what it is given, and at a GPU."""
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",
            reinit="create_new",
            disable_git=True,
            disable_code=True,
            save_code=False,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_stats=self.device == "cpu",
            x_disable_machine_info=self.device == "cpu",  # without it there are no statistics either
            x_stats_disk_paths=(),
            host="",
            x_save_requirements=False,
            symlink=False,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
        )
        mode: Any = self._mode
        folder = str(self.directory.resolve())
        with keeping_exit_hooks():
            return wandb.init(project=self._project, mode=mode, dir=folder, settings=settings, **filed_under)


class WandbRun:
    """One record's run, or that of a stage which several runs share."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.drawn: set[str] = set()
        """The series whose axis W&B knows."""

    def log(self, rows: Mapping[str, Numbers]) -> None:
        """Log the next row of each series, in one call: that takes half a millisecond, whatever is in it."""
        for series, row in rows.items():
            if series not in self.drawn:
                axis = f"{series}/{axis_of(row)}"
                self.run.define_metric(axis)
                self.run.define_metric(f"{series}/*", step_metric=axis)
                self.drawn.add(series)
        self.run.log({name: value for series, row in rows.items() for name, value in numbers_of(series, row).items()})

    def show(self, record: Record, said: Mapping[str, Responses]) -> None:
        """Log summary and examples, and keep the whole record as an artifact."""
        import wandb

        self.run.config.update(facts_of(record))
        for name in sorted(record.scores):
            if aggregate := AGGREGATE.get(record.metrics.get(name, {}).get("goal", "")):
                self.run.define_metric(f"{group_of(name)}/{name}", summary=aggregate)
        self.run.summary.update(summary_of(record))
        if rows := examples_of(said):
            self.run.log({"examples": wandb.Table(columns=list(COLUMNS), data=rows)})
        artifact = wandb.Artifact(f"record-{record.spec.key}", type="record")
        with artifact.new_file("record.json") as file:
            file.write(record_text(record))
        self.run.log_artifact(artifact)

    def finish(self, failed: bool) -> None:
        """End the run."""
        self.run.finish(exit_code=int(failed))


def init_arguments(spec: RunSpec, stage: str = "") -> Json:
    """Arguments of `wandb.init` that file a run, or a stage that several runs share."""
    kinds = {"target": "target", "retrain": "oracle"}
    return {
        "group": group_of_run(spec)[:MAX_NAME],
        "job_type": "stage" if stage else kinds.get(spec.method, "unlearn"),
        "name": name_of(spec, stage)[:MAX_NAME],
        "tags": tuple(tag[:MAX_TAG] for tag in ("stage" if stage else spec.method, spec.task, spec.tier)),
        "config": settings_of(spec),
    }


def sync_command(directory: Path) -> str:
    """The command that sends the runs kept in a folder, as it can be pasted anywhere on this machine."""
    program = ["wandb"] if shutil.which("wandb") else [sys.executable, "-m", "wandb"]
    return shlex.join([*program, "sync", str((directory / "wandb").resolve())])


def logged_in(base_url: str) -> bool:
    """Whether W&B would find a key or a token for its server: in the environment, else in netrc. No network."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        logins = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
    except (OSError, netrc.NetrcParseError):
        return False
    return logins.authenticators(urlsplit(base_url).netloc) is not None


@contextmanager
def keeping_exit_hooks() -> Iterator[None]:
    """Undo that W&B wraps `sys.exit` and `sys.excepthook` when its helper starts: errors would be printed twice."""
    before = sys.exit, sys.excepthook
    try:
        yield
    finally:
        sys.exit, sys.excepthook = before
