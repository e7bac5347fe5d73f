"""A server that speaks vLLM's protocol and writes two words that the seed decides, instead of a model's."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deeper_assets_tests.engines.tiny_policy import WORDS

SPECIAL = 5
"""Tokens of the tiny tokenizer before its words."""

END = 2
"""The tiny tokenizer's end token."""

Reply = tuple[int, Any]
"""A status and what comes with it; status 0 drops the connection."""


@dataclass
class FakeServer:
    """What it serves, and who asked what of it.

    Attributes:
        base: what it serves.
        fault: what to reply to a request in place of an answer, by what is asked; None to answer.
        key: the key it wants.
        max_length: of prompt and text.
        adapters: names of those it has loaded.
        asked: the bodies of all requests for texts.
        written: the seeds of texts it wrote.
        most: texts it was at, at most, at once.
        pause: seconds that a text takes.
    """

    base: str
    fault: Callable[[str, Mapping[str, Any]], Reply | None] = lambda path, body: None
    key: str | None = None
    max_length: int = 64
    adapters: set[str] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    url: str = ""
    most: int = 0
    at_once: int = 0
    pause: float = 0.005
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: dict[str, Any], key: str) -> Reply:
        if path == "/health":
            return 200, ""
        if self.key is not None and key != f"Bearer {self.key}":
            return 401, {"error": f"Unauthorized: {key}"}  # some servers do repeat it
        if path == "/v1/completions":
            self.asked.append(body)
        if (fault := self.fault(path, body)) is not None:
            return fault
        if path == "/v1/models":
            own = {"id": self.base, "root": self.base, "parent": None, "max_model_len": self.max_length}
            loras = [{"id": name, "root": "/x", "parent": self.base} for name in sorted(self.adapters)]
            return 200, {"object": "list", "data": [own, *loras]}
        if path == "/v1/load_lora_adapter":
            self.adapters.add(body["lora_name"])
            return 200, "Success"
        if body["model"] not in {self.base, *self.adapters}:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
        return 200, self.write(body)

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self.pause)
        with self.lock:
            self.at_once -= 1
            self.written.append(body["seed"])
        tokens = [*words_of(body["seed"]), END][: body["max_tokens"]]
        reason = "stop" if tokens[-1] == END else "length"
        choice = {"index": 0, "text": "not looked at", "finish_reason": reason, "token_ids": tokens}
        return {"id": "1", "object": "text_completion", "created": 1, "model": "x", "choices": [choice]}


def words_of(seed: int) -> list[int]:
    """The tokens that stand for a seed."""
    return [SPECIAL + seed % len(WORDS), SPECIAL + seed // len(WORDS) % len(WORDS)]


def text_of(seed: int) -> str:
    """The text of those tokens."""
    return " ".join(WORDS[token - SPECIAL] for token in words_of(seed))


class Listener(ThreadingHTTPServer):
    """Listens for what a `FakeServer` answers."""

    request_queue_size = 256

    def __init__(self, server: FakeServer, port: int = 0) -> None:
        self.fake = server
        super().__init__(("127.0.0.1", port), Handler)


class Handler(BaseHTTPRequestHandler):
    """Reads requests and writes replies."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.reply({})

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, body: dict[str, Any]) -> None:
        status, content = self.server.fake.answer(self.path, body, self.headers.get("Authorization", ""))
        if not status:
            self.close_connection = True
            return
        is_text = isinstance(content, str)
        encoded = (content if is_text else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    """Has it listen until the block ends."""
    listener = Listener(server)
    server.url = f"http://127.0.0.1:{listener.server_port}/v1"
    threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
