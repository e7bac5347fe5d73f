"""Workers that ask for many things at once, and stop together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")

WAITING = 4
"""Open requests for each request at the server. The others wait for their turn, or for their next try."""

TAKEN_POLL = 0.2
"""Seconds between looks at a request that another process has sent."""


class Workers(Generic[Item, Value]):
    """Those of one call. After an error nothing more is begun, but what is on its way is kept."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    async def every(
        self, items: Sequence[Item], ask: Callable[[Item], Awaitable[Value]], concurrency: int
    ) -> dict[Item, Value]:
        """What `ask` gives for each item, while `concurrency` of them may be at the server at once.

        Raises:
            Exception: the first one that `ask` has raised, when all others have ended.
        """
        left = iter(items)
        values: dict[Item, Value] = {}

        async def work() -> None:
            for item in left:
                if self._error is not None:
                    return
                try:
                    values[item] = await ask(item)
                except Exception as error:  # noqa: BLE001 - raised below, when all others have ended
                    self._error = self._error or error

        await asyncio.gather(*(work() for _ in range(min(len(items), WAITING * concurrency))))
        self.go_on()
        return values

    def go_on(self) -> None:
        """Does nothing; raises the error of the worker that has failed, if one has."""
        if self._error is not None:
            raise self._error
