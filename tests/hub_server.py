"""A hub on this machine: the parts of the Hugging Face hub's API that its client uses for a download and for a commit.

Repositories are made by the tests, or by who has the token that writes. Files listed in `lfs` are answered as the hub
answers them: with a redirect to another host, whose SHA-256 and size stand in headers; the rest is served directly and
identified by git's blob id. Sent files in LFS go to that host too, before the commit that names them.
"""

import base64
import hashlib
import json
import re
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
WRITER = "hf_right_to_write"
SIGNED = "signature=presigned"
"""Of an address that whoever has it may send to."""


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
    private: bool = False
    commits: list[str] = field(default_factory=list)
    """Messages of the commits that were sent."""
    full: bool = False
    """Whether it takes no file in LFS any more."""

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
    """One class a server; `repos` by name, `asked` collects (path, authorization header), `stored` has LFS files."""

    repos: dict[str, Repo]
    asked: list[tuple[str, str]]
    stored: dict[str, bytes]

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
        if authorization and authorization not in (f"Bearer {TOKEN}", f"Bearer {WRITER}"):
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

    def do_PUT(self):
        self.asked.append((self.path, self.headers.get("Authorization", "")))
        content = self._body()
        if self.path.startswith("/lfs/full"):
            return self._refuse(403, message="No room")
        self.stored[hashlib.sha256(content).hexdigest()] = content
        self._send(b"")

    def do_POST(self):
        path, authorization = self.path.split("?")[0], self.headers.get("Authorization", "")
        self.asked.append((path, authorization))
        lines = [json.loads(line) for line in self._body().splitlines()]
        if authorization not in (f"Bearer {TOKEN}", f"Bearer {WRITER}"):
            return self._refuse(401, message="Invalid credentials in Authorization header")
        if path == "/api/validate-yaml":
            return self._validate(lines[0]["content"])
        if authorization != f"Bearer {WRITER}":
            return self._refuse(403, message="You don't have the rights to do this")
        if path == "/api/repos/create":
            name = f"{lines[0]['organization']}/{lines[0]['name']}"
            there = name in self.repos
            self.repos.setdefault(name, Repo({}, private=lines[0]["visibility"] == "private"))
            return self._send(json.dumps({"url": f"{self._here()}/{name}"}).encode(), 409 if there else 200)
        for name, repo in self.repos.items():
            if path == f"/{name}.git/info/lfs/objects/batch":
                return self._batch(repo, lines[0]["objects"])
            if path == f"/api/models/{name}/preupload/main":
                modes = [(one["path"], "lfs" if repo.is_lfs(one["path"]) else "regular") for one in lines[0]["files"]]
                told = [{"path": one, "uploadMode": mode, "shouldIgnore": False} for one, mode in modes]
                return self._send(json.dumps({"files": told}).encode())
            if path == f"/api/models/{name}/commit/main":
                return self._commit(name, repo, lines)
        return self._refuse(404, "RepoNotFound", "Repository not found")

    def _here(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _validate(self, card: str):
        """A model card's front matter; of what the hub finds fault with, a licence that it does not know."""
        known = not re.search(r"^license: (?!mit$|cc-by-nc-4.0$)", card, re.MULTILINE)
        faults = [] if known else [{"message": '"license" must be one of [mit, cc-by-nc-4.0]'}]
        self._send(json.dumps({"errors": faults, "warnings": []}).encode(), 200 if known else 400)

    def _batch(self, repo: Repo, objects: list[dict]):
        """Where files in LFS are to be sent."""
        host = self._here().replace("127.0.0.1", "localhost")
        told = [
            one | {"actions": {"upload": {"href": f"{host}/lfs/{'full' if repo.full else one['oid']}?{SIGNED}"}}}
            for one in objects
        ]
        self._send(json.dumps({"transfer": "basic", "objects": told}).encode())

    def _commit(self, name: str, repo: Repo, lines: list[dict]):
        header, *operations = lines
        for line in operations:
            value = line["value"]
            content = self.stored[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
            repo.files[value["path"]] = content
        repo.commits.append(header["value"]["summary"])
        told = {"commitUrl": f"{self._here()}/{name}/commit/{repo.commit}", "commitOid": repo.commit}
        self._send(json.dumps(told).encode())

    def _body(self) -> bytes:
        """What was sent, in chunks or in one piece."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _api(self, name: str, repo: Repo, rest: str):
        if repo.status:
            return self._refuse(repo.status, message="Not today")
        what, _, revision = rest.partition("/")
        if what == "tree" and "/" in revision:  # of one folder
            revision, _, below = revision.partition("/")
            if not any(file.startswith(f"{below}/") for file in repo.files):
                return self._refuse(404, "EntryNotFound", f"{below} does not exist")
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
        if file in repo.missing or file not in repo.files:
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
        if self.command != "HEAD":
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
        here["HF_HUB_DISABLE_XET"] = "1"  # a protocol of its own; what the server speaks is LFS
        return python_environment(**(here | {"NO_PROXY": "127.0.0.1,localhost", "HF_TOKEN": ""} | more))

    def run(self, script: str, *words: object, cache: Path, **more: str) -> subprocess.CompletedProcess:
        """A command of the workflow as a process of its own."""
        return called(SCRIPTS / script, *words, env=self.environment(cache, **more))


@contextmanager
def serving(repos: dict[str, Repo]) -> Iterator[Server]:
    handler = type("Handler", (Hub,), {"repos": repos, "asked": [], "stored": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Server(server.server_port, repos, handler.asked)
        server.shutdown()


def last_line(done: subprocess.CompletedProcess) -> str:
    """The one line that a command ends with on bad input."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]
