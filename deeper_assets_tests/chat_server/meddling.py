"""Stands between a client and a server, in the client's process."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from deeper_assets.engines import bounded_client


def meddle(monkeypatch: pytest.MonkeyPatch, handle: Callable[[Any, Any], Awaitable[Any]]) -> None:
    """Lets `handle` take what clients send: it gets each request, and a function that sends it on."""

    class Between(bounded_client.BoundedClient):
        async def send(self, request: Any, **options: Any) -> Any:
            return await handle(request, partial(super().send, request, **options))

    monkeypatch.setattr(bounded_client, "BoundedClient", Between)
