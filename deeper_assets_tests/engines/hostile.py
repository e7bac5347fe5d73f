"""A server that answers whatever a test tells it to, byte by byte."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deeper_assets_tests.threads import served


@dataclass(frozen=True)
class Answer:
    """What goes out: the parts of the body are sent as they come; all of them close the connection."""

    parts: Iterable[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


class Hostile(ThreadingHTTPServer):
    """Answers by `respond`, which gets a request's method and path; `heard` has them and the bodies."""

    daemon_threads = True

    def __init__(self, respond: Callable[[str, str], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.heard: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        """What clients take as their base URL."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Hostile

    def do_POST(self) -> None:
        """Any request."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.heard.append((self.command, self.path, body))
        answer = self.server.respond(self.command, self.path)
        try:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for part in answer.parts:
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:  # the client has had enough
            pass

    do_GET = do_POST  # noqa: N815 - http.server calls it so

    def log_message(self, *_: object) -> None:
        """Nothing."""


def hostile(respond: Callable[[str, str], Answer] | Answer) -> AbstractContextManager[Hostile]:
    """The server, until the block ends; an `Answer` is given to every request."""
    return served(Hostile(respond if callable(respond) else lambda *_: respond))
