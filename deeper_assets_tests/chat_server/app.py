"""The chat server itself: HTTP around `completions`, `batches` and `faults`, by Starlette and uvicorn.

Everything is held in memory and in one thread, so a stopped server has forgotten files and batches.
"""

import asyncio
import hmac
import math
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import python_multipart  # noqa: F401 - starlette looks for it only when a file comes
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, UploadFile
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.chat_server.batches import Batches
from deeper_assets_tests.chat_server.completions import MODELS, Completions, Question, Reply, problem
from deeper_assets_tests.chat_server.counts import Counts
from deeper_assets_tests.chat_server.embeddings import read as read_embeddings
from deeper_assets_tests.chat_server.faults import Faults
from deeper_assets_tests.chat_server.spoiled import bomb, miscounted, misshapen

HOST = "127.0.0.1"
RETRY_AFTER = 0.5
"""Seconds that a 429 made on purpose asks to wait."""

_OTHER_HOST = "localhost"
"""Another name of this machine, so another origin to clients."""

_TRICKLE = 0.25
"""Seconds between two bytes of an answer that trickles."""

_TRANSPORT = "deeper_transport"
_KEEP_ALIVE = 75
"""Seconds an idle connection stays open: after uvicorn's five, clients' pools meet closed ones at times."""


@dataclass(frozen=True)
class Manner:
    """How the server behaves.

    Attributes:
        latency: seconds until an answer.
        faults: what goes wrong on purpose.
        requests_per_second: more than these get a 429 that says when to come again; None: no limit.
        batch_seconds: from a batch's creation to its end.
        schemas: whether `response_format` is known.
        key: bearer key that requests have to bring; None: none.
    """

    latency: float = 0.0
    faults: Faults = field(default_factory=Faults)
    requests_per_second: float | None = None
    batch_seconds: float = 2.0
    schemas: bool = True
    key: str | None = None


def serve(manner: Manner, port: int, announce: Callable[[str], None]) -> None:
    """Serves until the process is told to stop.

    Args:
        manner: how.
        port: on this machine's loopback; 0 for any that is free.
        announce: called with the URL (http://127.0.0.1:PORT) once connections are taken.

    Raises:
        DeeperError: the port is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise DeeperError(
                f"port {port} cannot be served ({error.strerror}); try another --port"
            ) from error
        listener.listen(2048)
        config = uvicorn.Config(
            _App(manner).starlette,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=1,  # requests that hang on purpose would keep it for ever
        )
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        _Server(config, partial(announce, url)).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells when it takes connections and signals; a signal that comes earlier may be lost."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()


class _Protocol(HttpToolsProtocol):
    """Hands the connection on to the application, which at times has to drop it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: self.transport}  # type: ignore[dict-item]


class _App:
    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._counts = Counts()
        self._completions = Completions(manner.faults, manner.schemas)
        self._batches = Batches(self._completions, manner.faults, self._counts, manner.batch_seconds)
        self._pace = _Pace(manner.requests_per_second) if manner.requests_per_second else None

    @cached_property
    def starlette(self) -> Starlette:
        """The application."""
        v1 = [
            Route("/chat/completions", self._chat, methods=["POST"]),
            Route("/embeddings", self._embed, methods=["POST"]),
            Route("/models", self._models),
            Route("/files", self._upload, methods=["POST"]),
            Route("/files/{id}", self._file),
            Route("/files/{id}/content", self._content),
            Route("/batches", self._create_batch, methods=["POST"]),
            Route("/batches", self._list_batches),
            Route("/batches/{id}", self._batch),
            Route("/batches/{id}/cancel", self._cancel_batch, methods=["POST"]),
        ]
        key = [Middleware(_KeyRequired, key=self._manner.key)] if self._manner.key else []
        return Starlette(
            routes=[
                Mount("/v1", routes=v1, middleware=key),
                Route("/stats", self._stats),
                Route("/stats/reset", self._reset, methods=["POST"]),
            ],
            exception_handlers={ClientDisconnect: _to_nobody},
        )

    async def _chat(self, request: Request) -> Response:
        return await self._counted(request, self._completions.read)

    async def _embed(self, request: Request) -> Response:
        return await self._counted(request, read_embeddings)

    async def _counted(self, request: Request, read: Callable[[bytes], Question]) -> Response:
        self._counts.enter()
        self._counts.followed += request.url.hostname == _OTHER_HOST
        try:
            return await self._answer(request, read(await request.body()))
        except asyncio.CancelledError:  # by uvicorn, which has been told to stop and has waited
            return _as_response(problem(503, "The server is stopping."))
        finally:
            self._counts.leave()

    async def _answer(self, request: Request, question: Question) -> Response:
        if self._pace is not None and (wait := self._pace.wait()) > 0:
            self._counts.faults["over_rate"] += 1
            return self._respond("", _too_many(), wait)
        fault = self._fault(question)
        if fault is not None:
            self._counts.faults[fault] += 1
        match fault:
            case "rate_limited":
                return self._respond(question.key, _too_many(), RETRY_AFTER)
            case "error_at_once":
                return self._respond(question.key, problem(500, "The server had an error."))
            case "dropped":
                _transport(request).abort()
                return await _when_gone(request)
            case "hanging":
                return await _when_gone(request)
            case "trickling" | "bomb" | "misshapen" | "redirected":
                return self._spoiled(fault, request, question.key)
        reply = question.reply
        if fault == "miscounted":
            reply = miscounted(reply, question.key)
        if fault == "error_late":
            reply = problem(503, "The server is overloaded.")
        if reply.status in {200, 503}:  # whatever else is wrong is seen at once
            await asyncio.sleep(self._manner.latency)
        if _transport(request).is_closing():
            self._counts.abandoned += 1
            return Response()
        return self._respond(question.key, reply)

    def _spoiled(self, fault: str, request: Request, key: str) -> Response:
        """An answer that nobody can use."""
        self._counts.spoiled(307 if fault == "redirected" else 200)
        match fault:
            case "trickling":
                return StreamingResponse(_trickle(), media_type="application/json")
            case "bomb":
                return Response(bomb(), headers={"content-encoding": "gzip"}, media_type="application/json")
            case "redirected":
                return RedirectResponse(request.url.replace(hostname=_OTHER_HOST))
        return Response(misshapen(key), media_type="application/json")

    def _fault(self, question: Question) -> str | None:
        times = self._counts.times_sent(question.key)
        if question.fault is not None or question.reply.status != 200:
            return question.fault
        return self._manner.faults.passing(question.key, times)

    def _respond(self, key: str, reply: Reply, retry_after: float | None = None) -> Response:
        self._counts.answered(key, reply)
        headers = {}
        if retry_after is not None:
            # Both are OpenAI's: whole seconds as HTTP has it, and exactly.
            headers = {
                "retry-after": str(math.ceil(retry_after)),
                "retry-after-ms": str(math.ceil(1000 * retry_after)),
            }
        return _as_response(reply, headers)

    async def _models(self, request: Request) -> Response:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "deeper"} for name in MODELS]
        return JSONResponse({"object": "list", "data": models})

    async def _upload(self, request: Request) -> Response:
        async with request.form() as form:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile) or purpose != "batch":
                return _as_response(problem(400, "A file and the purpose 'batch' are expected."))
            stored = self._batches.store(file.filename or "batch.jsonl", purpose, await file.read())
        return JSONResponse(stored.as_json())

    async def _file(self, request: Request) -> Response:
        stored = self._batches.file(request.path_params["id"])
        return _object_or_404(request, stored.as_json() if stored else None)

    async def _content(self, request: Request) -> Response:
        stored = self._batches.file(request.path_params["id"])
        return (
            Response(stored.content, media_type="application/octet-stream") if stored else _missing(request)
        )

    async def _create_batch(self, request: Request) -> Response:
        try:
            asked = await request.json()
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return _as_response(problem(400, "The body of the request is no JSON object."))
        created = self._batches.create(asked)
        return _as_response(created) if isinstance(created, Reply) else JSONResponse(created)

    async def _list_batches(self, request: Request) -> Response:
        limit = request.query_params.get("limit", "20")
        if not limit.isdecimal() or not 1 <= int(limit) <= 100:
            return _as_response(problem(400, f"Invalid limit: {limit!r}; 1 to 100.", param="limit"))
        after = request.query_params.get("after")
        if after is not None and self._batches.batch(after) is None:
            return _as_response(problem(400, f"There is no batch {after!r}.", param="after"))
        return JSONResponse(self._batches.newest(after, int(limit)))

    async def _batch(self, request: Request) -> Response:
        return _object_or_404(request, self._batches.batch(request.path_params["id"]))

    async def _cancel_batch(self, request: Request) -> Response:
        return _object_or_404(request, self._batches.cancel(request.path_params["id"]))

    async def _stats(self, request: Request) -> Response:
        return JSONResponse(self._counts.as_json())

    async def _reset(self, request: Request) -> Response:
        self._counts.reset()
        return JSONResponse(self._counts.as_json())


class _Pace:
    """A limit on requests: a bucket that holds one second's worth and is filled evenly."""

    def __init__(self, per_second: float) -> None:
        self._rate, self._most = per_second, max(1.0, per_second)
        self._room, self._seen = self._most, time.monotonic()

    def wait(self) -> float:
        """Takes one and says 0; where none is left, says for how long (seconds)."""
        now = time.monotonic()
        self._room = min(self._most, self._room + (now - self._seen) * self._rate)
        self._seen = now
        if self._room < 1:
            return (1 - self._room) / self._rate
        self._room -= 1
        return 0.0


class _KeyRequired:
    """Turns away requests without the bearer key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("authorization", "")
        # Some servers repeat the key they were given; clients have to keep it out of their logs.
        message = f"Incorrect API key provided: {given.removeprefix('Bearer ')}."
        wrong = _as_response(problem(401, message, "invalid_api_key"))
        app = self._app if hmac.compare_digest(given.encode(), self._expected) else wrong
        await app(scope, receive, send)


def _too_many() -> Reply:
    return problem(429, "Rate limit reached for requests.", "rate_limit_exceeded")


def _transport(request: Request) -> asyncio.Transport:
    transport: asyncio.Transport = request.scope["extensions"][_TRANSPORT]
    return transport


async def _to_nobody(request: Request, error: Exception) -> Response:
    """Answers a client that left before its request was complete."""
    return Response()


async def _trickle() -> AsyncIterator[bytes]:
    """White space, which may stand before JSON, without an end."""
    while True:
        yield b" "
        await asyncio.sleep(_TRICKLE)


async def _when_gone(request: Request) -> Response:
    """Waits until the connection is closed; what is returned then reaches nobody."""
    receive: Callable[[], Awaitable[Any]] = request.receive
    while (await receive())["type"] != "http.disconnect":
        pass
    return Response()


def _as_response(reply: Reply, headers: dict[str, str] | None = None) -> Response:
    return Response(reply.body, reply.status, headers, "application/json")


def _object_or_404(request: Request, object_: dict[str, Any] | None) -> Response:
    return _missing(request) if object_ is None else JSONResponse(object_)


def _missing(request: Request) -> Response:
    return _as_response(problem(404, f"There is no {request.path_params['id']!r} here.", param="id"))
