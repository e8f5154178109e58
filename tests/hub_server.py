"""A hub on this machine: the parts of the Hugging Face hub's API that its client uses for a download.

Repositories are made by the tests. Files listed in `lfs` are answered as the hub answers them: with a redirect to
another host, whose SHA-256 and size stand in headers; the rest is served directly and identified by git's blob id.
"""

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from conftest import SCRIPTS, called, python_environment

COMMIT = "c0ffee0000000000000000000000000000000000"
NEWER = "decaf00000000000000000000000000000000000"
TOKEN = "hf_right"


@dataclass
class Repo:
    files: dict[str, bytes]
    kind: str = "model"
    commit: str = COMMIT
    lfs: tuple[str, ...] = (".safetensors", ".gz")
    """Endings of the names of files in LFS."""
    gated: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    """Listed sizes that are not the true ones."""
    sent: dict[str, bytes] = field(default_factory=dict)
    """What is sent in place of the listed content."""
    missing: tuple[str, ...] = ()
    """Files that are listed and not there."""
    tags: tuple[str, ...] = ("main",)
    status: int = 0
    """With which it refuses to say anything."""
    info: bytes = b""
    """What it says of itself, in place of the truth."""

    @classmethod
    def of(cls, folder: Path, **more) -> "Repo":
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, **more)

    def renewed(self, changed: dict[str, bytes] | None = None) -> "Repo":
        return replace(self, files=self.files | (changed or {}), commit=NEWER)

    def is_lfs(self, name: str) -> bool:
        return name.endswith(self.lfs)

    def size(self, name: str) -> int:
        return self.sizes.get(name, len(self.files[name]))


class Hub(BaseHTTPRequestHandler):
    """One class a server; `repos` by name, `asked` collects (path, authorization header)."""

    repos: dict[str, Repo]
    asked: list[tuple[str, str]]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path, authorization = self.path.split("?")[0], self.headers.get("Authorization", "")
        self.asked.append((path, authorization))
        if path.startswith("/cdn/"):
            name, _, file = path.removeprefix("/cdn/").partition(":")
            return self._send(self._content(self.repos[name], file))
        if authorization and authorization != f"Bearer {TOKEN}":
            return self._refuse(401, message="Invalid credentials in Authorization header")
        for name, repo in self.repos.items():
            plural = f"{repo.kind}s"
            if f"{path}/".startswith(f"/api/{plural}/{name}/"):
                return self._api(name, repo, path.removeprefix(f"/api/{plural}/{name}").strip("/"))
            prefix = f"/{name}/resolve/" if repo.kind == "model" else f"/{plural}/{name}/resolve/"
            if path.startswith(prefix):
                return self._resolve(name, repo, *path.removeprefix(prefix).split("/", 1), authorization)
        if authorization:
            return self._refuse(404, "RepoNotFound", "Repository not found")
        return self._refuse(401, message="Invalid username or password.")

    def _api(self, name: str, repo: Repo, rest: str):
        if repo.status:
            return self._refuse(repo.status, message="Not today")
        what, _, revision = rest.partition("/")
        if revision and revision != repo.commit and revision not in repo.tags:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = [self._listed(repo, file) for file in repo.files]
        if what == "tree":
            return self._send(json.dumps([tree for _, tree in files]).encode())
        info = {"id": name, "sha": repo.commit, "siblings": [sibling for sibling, _ in files], "tags": []}
        return self._send(repo.info or json.dumps(info).encode())

    def _listed(self, repo: Repo, file: str) -> tuple[dict, dict]:
        """A file as the repository's information lists it, and as its tree does."""
        size, content = repo.size(file), repo.files[file]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        sibling = {"rfilename": file, "size": size, "blobId": blob}
        tree = {"type": "file", "path": file, "size": size, "oid": blob}
        if repo.is_lfs(file):
            digest = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
            tree["lfs"] = {"oid": digest, "size": size, "pointerSize": 134}
        return sibling, tree

    def _resolve(self, name: str, repo: Repo, revision: str, file: str, authorization: str):
        if repo.gated:
            return self._refuse(403 if authorization else 401, "GatedRepo", f"Access to model {name} is restricted.")
        if file in repo.missing:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        content = self._content(repo, file)
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{hashlib.sha1(repo.files[file]).hexdigest()}"'}
        if not repo.is_lfs(file):
            return self._send(content, headers=headers)
        digest = hashlib.sha256(repo.files[file]).hexdigest()
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
        location = f"http://localhost:{self.server.server_port}/cdn/{name}:{file}"
        return self._send(b"", 302, headers | {"Location": location})

    def _content(self, repo: Repo, file: str) -> bytes:
        return repo.sent.get(file, repo.files[file])

    def _refuse(self, status: int, code: str = "", message: str = ""):
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(json.dumps({"error": message}).encode(), status, {k: v for k, v in headers.items() if v})

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@dataclass
class Server:
    """A running hub."""

    port: int
    repos: dict[str, Repo]
    asked: list[tuple[str, str]]

    def environment(self, cache: Path, **more: str) -> dict[str, str]:
        """Of a process that takes this for the hub and has its cache in a folder of the test's own."""
        here = {"HF_ENDPOINT": f"http://127.0.0.1:{self.port}", "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
        return python_environment(**(here | {"NO_PROXY": "127.0.0.1,localhost", "HF_TOKEN": ""} | more))

    def run(self, script: str, *words: object, cache: Path, **more: str) -> subprocess.CompletedProcess:
        """A command of the workflow as a process of its own."""
        return called(SCRIPTS / script, *words, env=self.environment(cache, **more))


@contextmanager
def serving(repos: dict[str, Repo]) -> Iterator[Server]:
    handler = type("Handler", (Hub,), {"repos": repos, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Server(server.server_port, repos, handler.asked)
        server.shutdown()


def last_line(done: subprocess.CompletedProcess) -> str:
    """The one line that a command ends with on bad input."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]
