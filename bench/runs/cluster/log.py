"""What a job prints on its node, without secrets, the machine's name and its folders: ``python -m`` this, FOLDER WORDS...

It runs Python with the words, reads what that prints, and writes it to its own output, which SLURM keeps as the job's log.
A process of its own loses nothing where the job is killed; signals are passed on, and it ends as the job has ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from bench.core.scrub import scrub
from bench.runs.cluster.submission import UNREADABLE, Submission

PASSED_ON = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
REST_SECONDS = 3.0
"""How long the last lines are waited for, which something that the job has left running could hold back."""


def run_hidden(command: Sequence[str], folders: Sequence[str]) -> int:
    """Run a program to its end, and copy its output without what concerns nobody else; its exit code, or minus its signal."""
    child: subprocess.Popen[str] | None = None

    def pass_on(number: int, _: object) -> None:
        if child is not None:
            child.send_signal(number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
    )
    pairs = ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    copiers = [threading.Thread(target=copy_hidden, args=(*pair, folders), daemon=True) for pair in pairs]
    for copier in copiers:
        copier.start()
    code = child.wait()
    for copier in copiers:
        copier.join(REST_SECONDS)
    return code


def copy_hidden(lines: IO[str], to: IO[str], folders: Sequence[str]) -> None:
    """Copy lines as they come; those that can't be written are lost, and nothing else."""
    with lines:
        for line in lines:
            with suppress(OSError):
                to.write(scrub(line, folders))
                to.flush()


def find_folders(submission: Path) -> list[str]:
    """The folders that no log may name."""
    try:
        return Submission.read(submission).config.folders()
    except UNREADABLE:
        return []


def main(folder: str, *words: str) -> None:
    """Run Python with these words for the submission of a folder, and end in the same way."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    code = run_hidden([sys.executable, *words], find_folders(Path(folder)))
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
