"""A local server that speaks as much of OpenAI's chat completions as the judge uses, and misbehaves when told to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hps.judge.prompt import CRITERIA, POSITIONS, PROBE

Reply = tuple[int, dict[str, str], str]
"""HTTP status, headers and body."""


def completion(content: str | None, tokens: int | None = 100) -> Reply:
    """A chat completion that says `content`."""
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens - 1, "total_tokens": tokens}}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "judge-1"} | usage
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    return 200, {}, json.dumps(body | {"choices": [choice]})


def error(status: int, message: str = "broken", **headers: str) -> Reply:
    return status, headers, json.dumps({"error": {"message": message, "type": "x", "code": None}})


def scores(first: float, second: float) -> str:
    return json.dumps(
        {name: dict.fromkeys(CRITERIA, value) for name, value in zip(POSITIONS, (first, second), strict=True)}
    )


def by_length(request: dict) -> Reply:
    """A judge for whom a response is worth half a point a character."""
    shown = json.loads(request["messages"][1]["content"])
    return completion(scores(*(min(10, len(shown[name])) / 2 for name in POSITIONS)))


@dataclass
class Server:
    """What the server answers, and what it was sent."""

    answer: Callable[[dict], Reply] = by_length
    first: list[Reply] = field(default_factory=list)  # before anything else, one a request
    delay: float = 0.0  # seconds before each answer
    url: str = ""
    takes: Callable[[dict], Reply | None] = lambda request: None  # what it says to a form of request that it refuses
    requests: list[dict] = field(default_factory=list)  # bodies, but for probes
    probes: list[dict] = field(default_factory=list)  # likewise
    trickle: float = 0.0  # seconds between the bytes of an answer's body
    headers: list[dict] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, body: dict, headers: dict) -> Reply:
        refusal = self.takes(body)
        if body["messages"] == PROBE:
            self.probes.append(body)
            return refusal or completion(scores(5, 0), tokens=0)
        if refusal:
            return refusal
        with self.lock:
            self.requests.append(body)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            canned = self.first.pop(0) if self.first else None
        time.sleep(self.delay)
        with self.lock:
            self.at_once -= 1
        return canned or self.answer(body)


@contextmanager
def serving(**options) -> Iterator[Server]:
    """A server on a free port of this machine, for as long as the block lasts."""
    server = Server(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, text = server.reply(body, {name.lower(): value for name, value in self.headers.items()})
            try:
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                for part in [text.encode()] if not server.trickle else [bytes([byte]) for byte in text.encode()]:
                    self.wfile.write(part)
                    time.sleep(server.trickle)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up, as a test of time-outs intends

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
