"""The HTTP client beneath openai's: an answer has bounds, and no request is sent on to somebody else.

The timeouts of HTTP clients count from byte to byte, and none that we know bounds an answer's size. So both
are counted here, while the answer comes.
"""

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

from openai import APIConnectionError, DefaultAsyncHttpxClient, Timeout

from deeper_assets.engines.http import Bounds, NotTakenError

_REDIRECTS = 5
"""Redirects within a server that are followed in a row."""


def time_limits(seconds: float) -> Timeout:
    """Limits of each step for a client whose answers may take so long.

    Connecting may take half of it at most: so a server that was never reached is told from a slow one.
    """
    return Timeout(seconds, connect=min(30.0, seconds / 2))


class BoundedClient(DefaultAsyncHttpxClient):
    """A client for openai's `http_client`; `bounds_of` gives the bounds of a request's answer, by its path.

    What it sends fails with an `APIConnectionError`, which openai's client lets through; its cause is a
    `NotTakenError` where the answer takes longer or is larger, or redirects to another origin.
    """

    def __init__(self, bounds_of: Callable[[str], Bounds], **options: Any) -> None:
        super().__init__(**options)
        self._bounds_of = bounds_of

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:  # noqa: ARG002
        """The answer, all of it. Nothing here streams, and who would is given the whole."""
        bounds = self._bounds_of(request.url.path)
        request.headers["accept-encoding"] = "identity"
        try:
            async with asyncio.timeout(bounds.seconds):
                return await self._send_within(request, bounds.size, options | {"follow_redirects": False})
        except TimeoutError:
            broken = NotTakenError(f"no whole answer within {bounds.seconds:g} s", unsure=True)
        except NotTakenError as error:
            broken = error
        raise APIConnectionError(message=str(broken), request=request) from broken

    async def _send_within(self, request: Any, size: int, options: dict[str, Any]) -> Any:
        first = _origin(request)
        for _ in range(_REDIRECTS + 1):
            response = await super().send(request, stream=True, **options)
            try:
                if response.next_request is None:
                    return await _read(response, size)
            finally:
                await response.aclose()
            request = response.next_request
            if (origin := _origin(request)) != first:
                raise NotTakenError(
                    f"it redirects to {origin}, and nothing is sent there; if that is the right place, give"
                    " its address instead of this one",
                    unsure=False,
                )
        raise NotTakenError(f"it redirects more than {_REDIRECTS} times in a row", unsure=False)


async def _read(response: Any, size: int) -> Any:
    """The same response with its content, decompressed."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip", "deflate"}:
        # What is packed twice may be little at either end, and without a bound between.
        raise NotTakenError("an answer that is packed, though it was asked not to be", unsure=True)
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding in {"gzip", "deflate"} else None
    content, received = bytearray(), 0
    async for part in response.aiter_raw():
        received += len(part)
        try:
            content += part if unpack is None else unpack.decompress(part, size + 1)
        except zlib.error:
            raise NotTakenError("an answer that cannot be unpacked", unsure=True) from None
        if max(received, len(content)) > size:
            raise NotTakenError(
                f"status {response.status_code}, and an answer of more than {size:,} bytes", unsure=True
            )
    # Of the headers, what openai's client reads. A charset could be any codec of Python's.
    headers = [
        (name, value.partition(";")[0] if name.lower() == "content-type" else value)
        for name, value in response.headers.multi_items()
        if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
    ]
    return type(response)(
        response.status_code,
        headers=headers,
        content=bytes(content),
        request=response.request,
        extensions=response.extensions,
    )


def _origin(request: Any) -> str:
    url = request.url
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme}://{url.host}{port}"
