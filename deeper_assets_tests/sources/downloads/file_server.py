"""A server of files that answers as a test tells it to; it notes what was asked and how much it sent."""

import re
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path

from deeper_assets_tests.threads import served


@dataclass
class Asked:
    """A request for a file, and how many bytes of content went out for it."""

    path: str
    headers: Mapping[str, str]
    sent: int = 0

    @property
    def start(self) -> int | None:
        """The byte that a rest is asked from."""
        given = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(given[1]) if given else None


@dataclass(frozen=True)
class Answer:
    """What goes out. The connection is closed after it, whatever its headers promise."""

    parts: Iterable[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Responder = Callable[[Asked], Answer]


class FileServer(ThreadingHTTPServer):
    """Answers each request by the next responder, and by the last one from then on."""

    daemon_threads = True

    def __init__(self, *responders: Responder) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._next = chain(responders, repeat(responders[-1]))
        self.asked: list[Asked] = []

    def respond(self, asked: Asked) -> Answer:
        """The answer to a request, which is noted."""
        self.asked.append(asked)
        return next(self._next)(asked)

    def address(self, path: str) -> str:
        """Where a file is."""
        return f"http://127.0.0.1:{self.server_port}/{path}"

    @property
    def starts(self) -> list[int | None]:
        """The byte from which each request asked."""
        return [asked.start for asked in self.asked]

    @property
    def sent(self) -> list[int]:
        """The bytes that went out for each request."""
        return [asked.sent for asked in self.asked]


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
        answer = self.server.respond(asked)
        with suppress(OSError):  # the client has had enough
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for part in answer.parts:
                self.wfile.write(part)
                asked.sent += len(part)
            self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


def serving(*responders: Responder) -> AbstractContextManager[FileServer]:
    """The server, until the block ends."""
    return served(FileServer(*responders))


def blocks(content: bytes, size: int = 1000) -> list[bytes]:
    """Content in small parts."""
    return [content[at : at + size] for at in range(0, len(content), size)]


def honest(content: bytes, etag: str = '"one"', **more: str) -> Responder:
    """Answers as the standard says: the rest where it is asked for and of this version, otherwise all."""
    headers = {"ETag": etag} | {name.replace("_", "-"): value for name, value in more.items()}

    def respond(asked: Asked) -> Answer:
        start = asked.start if asked.headers.get("if-range") in {None, *headers.values()} else None
        if start is None:
            return Answer(blocks(content), 200, headers | {"Content-Length": str(len(content))})
        if start >= len(content):
            return Answer((), 416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
        return Answer(
            blocks(content[start:]),
            206,
            headers
            | {
                "Content-Length": str(len(content) - start),
                "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}",
            },
        )

    return respond


def breaking_off(after: int, responder: Responder) -> Responder:
    """Sends the headers of an answer, and only so many bytes of its content."""

    def respond(asked: Asked) -> Answer:
        answer = responder(asked)
        return Answer([b"".join(answer.parts)[:after]], answer.status, answer.headers)

    return respond


def passing_over(*names: str, responder: Responder) -> Responder:
    """Answers as if these headers were not there."""

    def respond(asked: Asked) -> Answer:
        headers = {name: value for name, value in asked.headers.items() if name not in names}
        return responder(replace(asked, headers=headers))

    return respond


def status(code: int, **headers: str) -> Responder:
    """Always answers with this status, and nothing else."""
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Length": "0"}
    return lambda _: Answer((), code, named)


def by_path(files: Mapping[str, Responder]) -> Responder:
    """Answers by the last part of the path; 404 for all others."""
    return lambda asked: files.get(Path(asked.path).name, status(404))(asked)


@dataclass
class Notes:
    """A watcher that keeps what it is told."""

    have: list[tuple[int, int | None]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def came(self, name: str, have: int, size: int | None) -> None:
        self.have.append((have, size))

    def told(self, text: str) -> None:
        self.texts.append(text)
