"""Pushes to a real HTTP server that speaks the part of the Hub's protocol that a push uses."""

import json
import socket
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from deeper_assets.engines.hub import push, refuse_unpushable
from deeper_assets.method.exceptions import DeeperError

TOKEN = "hf_planted0secret"


class Hub(ThreadingHTTPServer):
    """Takes everything from whoever has the token, and keeps it; anybody else gets `refusal`."""

    refusal = 401

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: list[dict[str, Any]] = []
        self.commits: list[tuple[str, str, dict[str, bytes]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(self.server.refusal, {"error": "no"})
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._answer(200, {"url": f"{self.server.url}/datasets/somebody/pairs"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            self._answer(200, {"files": modes})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        else:
            header, *lines = [json.loads(line)["value"] for line in body.splitlines()]
            files = {line["path"]: b64decode(line["content"]) for line in lines}
            self.server.commits.append((self.path, header["summary"], files))
            self._answer(
                200,
                {
                    "commitUrl": f"{self.server.url}/datasets/somebody/pairs/commit/1",
                    "commitOid": "1",
                    "pullRequestUrl": "",
                },
            )

    def do_GET(self) -> None:
        self._answer(404, {"error": "nothing to see"})

    def _answer(self, status: int, what: object) -> None:
        content = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("# Pairs\n")
    (tmp_path / "data" / "train.parquet").write_bytes(bytes(range(256)))
    return tmp_path


def test_a_push_makes_a_private_repository_and_sends_the_whole_folder(hub: Hub, folder: Path) -> None:
    refuse_unpushable("somebody/pairs")
    assert push(folder, "somebody/pairs", "dataset") == f"{hub.url}/datasets/somebody/pairs"
    (created,) = hub.created
    assert (created["organization"], created["name"], created["type"]) == ("somebody", "pairs", "dataset")
    assert created["visibility"] == "private"
    ((path, summary, files),) = hub.commits
    assert path.startswith("/api/datasets/somebody/pairs/commit/main")
    assert summary == "Dataset exported by deeper-assets"
    assert files == {"README.md": b"# Pairs\n", "data/train.parquet": bytes(range(256))}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (401, "answered HTTP 401; the token is not valid"),
        (403, "answered HTTP 403; the token may not write there"),
        (500, "answered HTTP 500"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do_and_no_secret(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, status: int, answer: str
) -> None:
    hub.refusal = status
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(DeeperError) as error:
        push(folder, "somebody/pairs", "model")
    message = str(error.value)
    assert f"--to-hub somebody/pairs: {hub.url} {answer}. {folder} is written; `hf upload" in message
    assert "--type model --private` sends it" in message
    assert "\n" not in message and "hf_another" not in message
    assert not hub.commits


def test_a_hub_that_is_not_there_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(DeeperError, match=f"{url} cannot be reached: .*refused") as error:
        push(folder, "somebody/pairs", "dataset")
    assert "\n" not in str(error.value) and TOKEN not in str(error.value)


def test_what_hinders_a_push_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    with pytest.raises(DeeperError, match="there is no token for the Hub; set HF_TOKEN"):
        refuse_unpushable("somebody/pairs")
    for wrong in ("pairs", "some body/pairs", "a/b/c", "/pairs", "a/b--c", "a/b.git"):
        with pytest.raises(DeeperError, match="expected OWNER/NAME"):
            refuse_unpushable(wrong)
