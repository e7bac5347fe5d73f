"""The chat server as a process of its own, for tests and benchmarks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen


@dataclass(frozen=True)
class ChatServer:
    """A server that runs; `root` is its address without /v1."""

    root: str
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """What clients take as their base URL."""
        return f"{self.root}/v1"

    def stats(self) -> dict[str, Any]:
        """What the server counted since its start or the last reset."""
        return self._json("/stats", "GET")

    def reset(self) -> None:
        """Makes the server count and make faults as if nothing had been sent yet."""
        self._json("/stats/reset", "POST")

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self.process.kill()
        self.process.wait()

    def _json(self, path: str, method: str) -> dict[str, Any]:
        with urlopen(Request(self.root + path, method=method), timeout=30) as answer:
            content: dict[str, Any] = json.load(answer)
        return content


@contextmanager
def chat_server(*arguments: object, port: int = 0, **variables: str) -> Iterator[ChatServer]:
    """Runs the server with these arguments, on a free port unless one is given, until the block ends."""
    command = [sys.executable, "-m", "deeper_assets_tests.chat_server", "--port", port, *arguments]
    command = list(map(str, command))
    environment = {**os.environ, **variables}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            announced = process.stdout.readline() + process.stdout.readline()
            if "DEEPER_CHAT__BASE_URL=" not in announced:
                raise AssertionError(f"{command}: exit {process.wait()}")
            root = announced.split("DEEPER_CHAT__BASE_URL=")[1].split("/v1")[0]
            yield ChatServer(root, process)
        finally:
            process.kill()
