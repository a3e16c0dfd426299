"""A hub of this machine, as much of its interface as a download needs, and fetches in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"
OTHERS = REVISION[::-1]
"""The commit of the hub's other repositories."""
FETCH = "import sys; from pathlib import Path; from bench.core.errors import UserError\n"
FETCH += "from bench.assets.fetch import fetch_model as fetch\n"
FETCH += "try: fetch(sys.argv[1], Path(sys.argv[2]), print, *sys.argv[3:])\n"
FETCH += "except UserError as error: sys.exit(str(error))"
FETCH_DATA = FETCH.replace("import fetch_model as", "import fetch_data as")


def silent(line: str) -> None:
    """Nobody listens."""


def left_in(models_dir: Path) -> list[str]:
    """What a fetch has left, locks aside."""
    return sorted(path.name for path in models_dir.iterdir() if not path.name.endswith(".lock"))


class Hub(ThreadingHTTPServer):
    """As much of the hub's interface as a download needs, over the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stall, self.stalled = folder, False, threading.Event()
        self.revisions: tuple[str, ...] = ()
        self.others: dict[str, Path] = {}
        """Repository -> the folder of its files, where it isn't ``folder``."""
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """One request to a `Hub`."""

    server: Hub

    def do_HEAD(self) -> None:
        """Headers only."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """Headers and content."""
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        """The repository's description below /api, else a file."""
        path = self.path.split("?")[0]
        folder = next((place for repo, place in self.server.others.items() if repo in path), self.server.folder)
        commit = REVISION if folder == self.server.folder else OTHERS
        if self.server.revisions and "/revision/" in path and path.rsplit("/", 1)[-1] not in self.server.revisions:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        sizes = {f.relative_to(folder).as_posix(): f.stat().st_size for f in folder.rglob("*") if f.is_file()}
        name = path.partition("/resolve/")[2].partition("/")[2]
        if "/tree/" in path:
            listing = [{"type": "file", "path": f, "size": size, "oid": f} for f, size in sorted(sizes.items())]
            content = json.dumps(listing).encode()
        elif path.endswith("/refs"):
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": REVISION} for name in self.server.revisions
            ]
            content = json.dumps({"branches": branches, "converts": [], "tags": []}).encode()
        elif path.startswith("/api/"):
            siblings = [{"rfilename": f, "size": size} for f, size in sorted(sizes.items())]
            content = json.dumps({"id": "some/model", "sha": commit, "siblings": siblings}).encode()
        else:
            content = (folder / name).read_bytes() if name in sizes else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if body and self.server.stall and name == "model.safetensors":
            self.wfile.write(content[:100])
            self.wfile.flush()
            self.server.stalled.set()
            time.sleep(30)
        elif body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """No lines on the terminal."""


def start(name: str, models_dir: Path, address: str, *revision: str, code: str = FETCH) -> subprocess.Popen[str]:
    """A fetch in a process of its own, with ``address`` in the hub's place."""
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code, name, str(models_dir), *revision]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
