"""How many requests are at a server at once, and how long a request that failed waits for its next try.

When a server answers 429 to a good share of the requests, nothing is sent for as long as it asks to wait, and
the number of requests at once falls by that share. It grows by a tenth of the limit after each round of
requests that goes well. A few answers of 429 change nothing. No library that we know does this for asyncio:
rate limiters (aiolimiter, pyrate-limiter) must be given the rate, which a provider does not tell, and those
that adapt go by latency. Waiting between tries is tenacity's.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

TOLERATED = 0.2
"""Up to this share of 429 among the answers of a round they count as chance, not as a limit. Where 4 % of all
answers are 429 without a reason, a tenth would stop everything once in twenty rounds, a fifth hardly ever."""

_SMALLEST_ROUND = 8
_GROWTH = 0.1

LONGEST_WAIT = 60.0
"""Seconds that a request waits at most between two tries, unless the server asks for more."""

LONGEST_ASKED = 900.0
"""Seconds that a server may ask to wait at most; if it asks for more, it gets as many."""


class AdaptiveLimit:
    """Lets at most `most` requests go at once; fewer while the server says that it is too many."""

    def __init__(self, most: int):
        self.most = most
        self.now = float(most)
        self._at_once = 0
        self._heard: list[bool] = []
        self._quiet_until = 0.0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a free place and holds it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._at_once < int(self.now))
            self._at_once += 1
        while (left := self._quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(left)
        try:
            yield
        finally:
            async with self._changed:
                self._at_once -= 1
                self._changed.notify(max(0, int(self.now) - self._at_once))

    def hear(self, limited: bool, wait: float = 0.0) -> None:
        """Takes note of an answer: whether it was 429, and how many seconds it asked to wait then."""
        self._heard.append(limited)
        if limited and sum(self._heard) > TOLERATED * max(_SMALLEST_ROUND, self.now):
            self._quiet_until = max(self._quiet_until, time.monotonic() + wait)
        if len(self._heard) < max(_SMALLEST_ROUND, self.now):
            return
        share = sum(self._heard) / len(self._heard)
        self._heard.clear()
        if share > TOLERATED:
            self.now = max(1.0, self.now * (1 - share))
        else:
            self.now = min(float(self.most), self.now + max(1.0, self.most * _GROWTH))


def seconds_until_next(tries: int, headers: Mapping[str, str]) -> float:
    """Seconds until the next try: what the server asks for, and a random time that grows with the tries.

    `tries` have failed, 1 or more; the headers are those of the last answer.
    """
    longest = min(LONGEST_WAIT, 0.1 * 2 ** min(tries, 10))
    # Random, because all requests that were told the same would else come back at the same moment.
    return (seconds_asked_for(headers) or 0.0) + random.uniform(0, longest)


def seconds_asked_for(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to wait; None where it does not say. The headers' names are lower-case."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):  # a date: servers of chat models send none
            continue
        if seconds >= 0:
            return min(seconds, LONGEST_ASKED)
    return None
