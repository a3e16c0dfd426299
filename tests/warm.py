"""A Python that has its libraries loaded already, for trying thousands of commands on few cores.

A server imports torch and the rest once; a small script, put in the place of ``python``, hands its arguments, folder,
environment and standard files to it and waits; the server forks, and the fork runs ``python -m MODULE`` as asked.
Signals are passed on to the fork, and whoever kills the script has killed the fork and what belongs to it. What
differs from a fresh process is the start alone: what reads the environment while it is imported, or stands in the place
of a library, needs a fresh one.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOADED = (
    "torch",
    "bench.cli.app",
    "bench.runs.launch",
    "bench.runs.executor",
    "bench.runs.runner",
    "bench.runs.rescore",
    "bench.runs.search",
    "bench.studies.ablations.run",
    "bench.engines.training.trainer",
    "bench.engines.causal_lm",
    "bench.engines.arithmetic.merge",
    "torch.distributed.run",
    "bench.lab.build",
    "bench.real.evaluate",
    "methods.msa",
    "methods.ga",
    "tasks.graph",
    "tasks.muse_books",
    "tasks.tofu",
    "matplotlib.pyplot",
    "pandas",
    "scipy.stats",
    "sklearn.datasets",
)
"""Modules imported before the first fork; none starts a thread or computes anything."""

SCRIPT = "warm-python"
NO_LIMIT = resource.RLIM_INFINITY
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
mine = {{"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ), "python": sys.argv[0]}}
passed_on = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
mine["ignored"] = [number for number in passed_on if signal.getsignal(number) == signal.SIG_IGN]
mine["pid"] = os.getpid()
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
data = json.dumps(mine).encode()
socket.send_fds(server, [len(data).to_bytes(8, "big")], [0, 1, 2])
server.sendall(data)
for fd in (0, 1, 2):
    os.close(fd)
lines = server.makefile()
child = int(lines.readline() or os._exit(70))
for number in passed_on:
    if number not in mine["ignored"]:
        signal.signal(number, lambda number, _: os.kill(child, number))
code = int(lines.readline() or 70)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextmanager
def warm_python(folder: Path, environment: Mapping[str, str], most_bytes: int = NO_LIMIT) -> Iterator[Path]:
    """A script in ``folder`` to be run in the place of ``python``; its server ends with the block.

    Each process may ask for ``most_bytes`` of memory.
    """
    server = start_server(folder, environment, os.getpid(), most_bytes)
    try:
        yield folder / SCRIPT
    finally:
        server.terminate()
        server.wait()


def start_server(
    folder: Path, environment: Mapping[str, str], parent: int, most_bytes: int = NO_LIMIT
) -> subprocess.Popen[bytes]:
    """Start a server that ends with ``parent`` at the latest, wait until it answers, and write the script."""
    address, script = folder / "warm.socket", folder / SCRIPT
    words = [sys.executable, "-m", "tests.warm", str(address), str(parent), str(most_bytes)]
    server = subprocess.Popen(
        words, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, start_new_session=True
    )
    while not address.exists():
        assert server.poll() is None, "the server of warm processes didn't start"
        time.sleep(0.05)
    script.write_text(CLIENT.format(python=os.path.realpath(sys.executable), address=str(address)))
    script.chmod(0o755)
    return server


def serve(address: str, parent: int, most_bytes: int) -> None:
    """Answer while ``parent`` lives: a connection is a process that is wanted, its end the process's end."""
    life = os.pidfd_open(parent)
    for module in LOADED:
        __import__(module)
    gc.freeze()  # what is loaded is never collected again, and a collection in a fork looks at its own things alone
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen(64)
    os.rename(f"{address}.new", address)
    chosen = selectors.DefaultSelector()
    chosen.register(listening, selectors.EVENT_READ)
    chosen.register(life, selectors.EVENT_READ)
    children: dict[socket.socket, tuple[int, int]] = {}
    while True:
        for key, _ in chosen.select():
            if key.fileobj == life:
                return
            if key.fileobj is listening:
                client, _ = listening.accept()
                if child := fork_for(client, listening):
                    handle = os.pidfd_open(child)
                    children[client] = (child, handle)
                    with suppress(OSError):
                        client.sendall(f"{child}\n".encode())
                    chosen.register(client, selectors.EVENT_READ)
                    chosen.register(handle, selectors.EVENT_READ, client)
                continue
            client = key.data or key.fileobj
            if client not in children:
                continue
            child, handle = children.pop(client)
            if key.data is None:  # whoever waited has been killed
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                    os.killpg(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            with suppress(OSError):
                client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            chosen.unregister(client)
            chosen.unregister(handle)
            client.close()
            os.close(handle)


def fork_for(client: socket.socket, listening: socket.socket) -> int:
    """Fork for one request; returns the child's number, or 0 where the request was no whole one."""
    head, files, _, _ = socket.recv_fds(client, 8, 3)
    size, data = int.from_bytes(head, "big"), b""
    while len(data) < size and (part := client.recv(size - len(data))):
        data += part
    if len(files) < 3 or len(data) < size or not size:
        for file in files:
            os.close(file)
        client.close()
        return 0
    child = os.fork()
    if child == 0:
        listening.close()
        client.close()
        become(json.loads(data), files)
    for file in files:
        os.close(file)
    return child


def name_of_fork(pid: int) -> str:
    """What the system calls the process that was forked for the script's process of this number."""
    return f"warm-{pid}"


def become(asked: dict[str, Any], files: list[int]) -> None:
    """Be the process that was asked for, to its end."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        Path("/proc/self/comm").write_text(name_of_fork(asked["pid"]))
        for number in asked["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        os.chdir(asked["folder"])
        wanted, words = asked["environment"], asked["words"]
        os.environ.clear()
        os.environ.update(wanted)
        path = wanted.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:] = [asked["folder"], *path, *(place for place in sys.path[1:] if place not in path)]
        at_once = bool(wanted.get("PYTHONUNBUFFERED")) or words[0] == "-u"
        out, errors = (os.fdopen(number, "wb", 0 if number == 2 or at_once else -1) for number in (1, 2))
        sys.stdin, sys.stdout = os.fdopen(0), io.TextIOWrapper(out, write_through=at_once)
        sys.stderr = io.TextIOWrapper(errors, errors="backslashreplace", write_through=True)
        words = words[words[0] == "-u" :]
        assert words[0] == "-m", words
        sys.executable, sys.argv = asked["python"], ["-m", *words[2:]]
        try:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], *map(int, sys.argv[2:]))
