"""Fetches one file over HTTP, and goes on where an earlier try broke off, also that of a killed process.

A rest is asked for with If-Range and what tells versions of the file apart: a strong ETag, or else
Last-Modified. So a file that has changed meanwhile is begun anew. Without either of them, every file is.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol, TypeVar

import httpx2

from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.sources.downloads.parts import SPARE, Part, Version, held, refuse_a_full_disk

LARGEST = 64 * 10**9
"""Bytes that a file may have; several times those of the largest that is known."""

_REDIRECTS = 5
_SHORT = 1000
"""Bytes that a text may have."""

_PASSING = frozenset({408, 425, 429, *range(500, 600)})
"""Statuses of failures that pass."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        window: seconds within which an answer has to begin, and then `least` more bytes of it to come.
        least: bytes.
        tries: how often in a row a try may bring less than `least`, and how often a file is begun.
        pause: seconds before the second of such tries; they double from one to the next.
        longest: seconds before a try at most. A server that asks for more is left alone.
    """

    window: float = 60
    least: int = 16 * 1024
    tries: int = 6
    pause: float = 1
    longest: float = 300


PATIENCE = Patience()


class Watcher(Protocol):
    """Who is told how far it is."""

    def came(self, name: str, have: int, size: int | None) -> None:
        """Of the file `name`, `have` bytes of `size` are there; None where the server does not say."""

    def told(self, text: str) -> None:
        """Something that a person wants to know."""


class DamagedError(Exception):
    """A file that came is not what it should be; the message says how."""


@dataclass(eq=False)
class _PassingError(Exception):
    """A try that broke off; the next one may go better.

    Attributes:
        why: what went wrong.
        gained: whether it brought bytes worth speaking of.
        wait: seconds that the server asks for before the next one.
    """

    why: str
    gained: bool = False
    wait: float | None = None


def fetch(
    address: str,
    target: Path,
    check: Callable[[Path], None],
    watcher: Watcher,
    patience: Patience = PATIENCE,
    largest: int = LARGEST,
) -> int:
    """Fetches a file, unless it is there. In the end `target` is there, whole and checked, or not at all.

    Args:
        address: http or https.
        target: its path in the end, in a folder that is there.
        check: raises a `DamagedError` where a file, whole by its length, is not what it should be.
        watcher: is told how far it is.
        patience: with the server.
        largest: bytes that are taken at most.

    Returns:
        Bytes that came over the network for it.

    Raises:
        DeeperError: it could not be had. What has come is kept where the rest may come later.
    """
    with held(target) as part:
        if target.exists():
            return 0
        session = _Session(address, watcher, patience)
        asyncio.run(session.run(lambda client: session.go_on(client, part, largest)))
        try:
            check(part.path)
        except DamagedError as error:
            part.empty()
            raise DeeperError(f"{address} came, but {error}; the next try begins anew") from error
        part.finish(target)
        return session.came


def fetch_text(address: str, watcher: Watcher, patience: Patience = PATIENCE) -> str | None:
    """A text of 1,000 bytes at most; None where there is none at this address.

    Raises:
        DeeperError: it could not be had, or is longer.
    """
    session = _Session(address, watcher, patience)
    return asyncio.run(session.run(session.text))


@dataclass
class _Session:
    """One request after the other for one file, until it is there."""

    address: str
    watcher: Watcher
    patience: Patience
    begun: int = field(default=0, init=False)
    came: int = field(default=0, init=False)

    async def run(self, attempt: Callable[[httpx2.AsyncClient], Awaitable[_Result]]) -> _Result:
        """Repeats an attempt until it is done.

        Raises:
            DeeperError: too many in a row brought nothing, or the server wants to be left alone.
        """
        fruitless = 0
        async with httpx2.AsyncClient(timeout=None) as client:
            while True:
                try:
                    return await attempt(client)
                except _PassingError as error:
                    fruitless = 0 if error.gained else fruitless + 1
                    pause = self._pause(error, fruitless)
                    self.watcher.told(f"{self.address}: {error.why}; again in {pause:.3g} s")
                await asyncio.sleep(pause)

    def _pause(self, error: _PassingError, fruitless: int) -> float:
        """Seconds before the next try, after so many in a row that brought nothing."""
        problem, onward = f"{self.address}: {error.why}", "The same command goes on from here"
        if max(fruitless, self.begun) >= self.patience.tries:
            raise DeeperError(f"{problem}; that was the last of several tries. {onward}") from error
        pause = self.patience.pause * 2 ** max(0, fruitless - 1) if error.wait is None else error.wait
        if pause > self.patience.longest:
            raise DeeperError(f"{problem}, and asks to wait {pause:,.0f} s. {onward}") from error
        return pause

    async def go_on(self, client: httpx2.AsyncClient, part: Part, largest: int) -> None:
        """Asks once for what is missing of the file, and adds it.

        Raises:
            DeeperError: it cannot be had.
            _PassingError: it is not whole yet.
        """
        version, have = part.version(self.address), part.have
        if version is not None and version.size == have:
            return
        asked = {}
        if version is not None and version.validator and have:
            asked = {"range": f"bytes={have}-", "if-range": version.validator}
        async with self._answer(client, asked) as response:
            if asked and response.status_code == 416 and _total(response) == have:
                return  # nothing is missing: the server had not said the size
            if asked and response.status_code == 416:
                part.empty()
                raise _PassingError("the server has no such rest of it, so it is begun anew")
            _refuse_other_than_a_file(response, {200, 206} if asked else {200})
            if response.status_code == 200:
                self.begun += 1
                version, have = Version(self.address, _validator(response), _total(response)), 0
            elif version is None or not _continues(response, version, have):
                part.empty()
                raise _PassingError("the server sent another part than the one asked for: it is begun anew")
            if version.size is not None and version.size > largest:
                raise DeeperError(f"{self.address} has {version.size:,} bytes; at most {largest:,} are taken")
            refuse_a_full_disk(part.path.parent, (version.size or 0) - have)
            if response.status_code == 200:
                part.begin(version)
            await self._receive(response, part, version.size, largest)

    async def text(self, client: httpx2.AsyncClient) -> str | None:
        """Asks once for a short text."""
        async with self._answer(client, {}) as response:
            if response.status_code in {404, 410}:
                return None
            _refuse_other_than_a_file(response, {200})
            content = bytearray()

            def take(block: bytes) -> None:
                content.extend(block)
                if len(content) > _SHORT:
                    raise DeeperError(f"{self.address} is no short text; it begins {bytes(content[:40])!r}")

            await self._read(response, take)
            return content.decode(errors="replace")

    async def _receive(self, response: httpx2.Response, part: Part, size: int | None, largest: int) -> None:
        """Adds the content of an answer to what has come of a file of `size` bytes."""
        bound = largest if size is None else size
        have = looked = part.have

        def take(block: bytes) -> None:
            nonlocal have, looked
            if have + len(block) > bound:
                part.empty()
                raise DeeperError(f"{self.address}: the server sends more than {bound:,} bytes")
            part.add(block)
            have += len(block)
            self.came += len(block)
            if have - looked >= SPARE // 2:
                looked = have
                refuse_a_full_disk(part.path.parent, 0)
            self.watcher.came(part.path.stem, have, size)

        came = await self._read(response, take)
        if size is not None and have < size:
            why = f"it ended after {have:,} of {size:,} bytes"
            raise _PassingError(why, came >= self.patience.least)

    async def _read(self, response: httpx2.Response, take: Callable[[bytes], None]) -> int:
        """Hands on the content of an answer as it comes, and says how many bytes it had.

        It is not unpacked: where a header calls it packed, that is what the file is anyway.
        """
        came, reached, window = 0, self.patience.least, self.patience.window
        try:
            async with asyncio.timeout(window) as limit:
                async for block in response.aiter_raw():
                    take(block)
                    came += len(block)
                    if came >= reached:
                        reached = came + self.patience.least
                        limit.reschedule(asyncio.get_running_loop().time() + window)
        except TimeoutError:
            why = f"fewer than {self.patience.least:,} bytes came in {window:g} s"
            raise _PassingError(why, came >= self.patience.least) from None
        except httpx2.TransportError as error:
            why = f"the connection broke ({one_line(error)})"
            raise _PassingError(why, came >= self.patience.least) from error
        return came

    @asynccontextmanager
    async def _answer(
        self, client: httpx2.AsyncClient, asked: dict[str, str]
    ) -> AsyncIterator[httpx2.Response]:
        """The answer to a request with these headers, after redirects. Its content has not been read."""
        headers = {"accept-encoding": "identity", "user-agent": "deeper-assets", **asked}
        request = client.build_request("GET", self.address, headers=headers)
        try:
            async with asyncio.timeout(self.patience.window):
                response = await _after_redirects(client, request)
        except TimeoutError:
            raise _PassingError(f"no answer within {self.patience.window:g} s") from None
        except httpx2.TransportError as error:
            if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
                raise DeeperError(f"{self.address}: {one_line(error)}") from error
            raise _PassingError(f"no answer ({one_line(error)})") from error
        try:
            yield response
        finally:
            await response.aclose()


async def _after_redirects(client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    """The answer at the end of redirects, of which none leads from https to anything else."""
    first = request.url
    for _ in range(_REDIRECTS + 1):
        response = await client.send(request, stream=True, follow_redirects=False)
        if response.next_request is None:
            return response
        await response.aclose()
        onward = response.next_request
        if onward.url.scheme not in {"https", request.url.scheme}:
            raise DeeperError(
                f"{first} redirects to {onward.url}: nothing is fetched from there, only by https"
            )
        request = onward
    raise DeeperError(f"{first} redirects more than {_REDIRECTS} times in a row")


def _refuse_other_than_a_file(response: httpx2.Response, expected: set[int]) -> None:
    """Raises where an answer brings neither the file nor the rest of it."""
    status, url = response.status_code, response.url
    if status in _PASSING:
        raise _PassingError(f"the server answers with status {status}", wait=_wait(response))
    if status in {404, 410}:
        raise DeeperError(f"{url} is not there (status {status}); its publisher may have moved it")
    if status not in expected:
        raise DeeperError(f"{url}: the server answers with status {status}")
    if response.headers.get("content-type", "").lower().startswith("text/html"):
        raise DeeperError(f"{url}: the server answers with a page in the place of the file")


def _total(response: httpx2.Response) -> int | None:
    """Bytes of the whole file, where the answer says so."""
    headers = response.headers
    if response.status_code in {206, 416}:
        given = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d{1,18})", headers.get("content-range", "").strip())
        return int(given[1]) if given else None
    length = headers.get("content-length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length) and "transfer-encoding" not in headers else None


def _validator(response: httpx2.Response) -> str:
    """What tells this version of a file from others, as If-Range takes it; that takes no weak ETag."""
    etag = response.headers.get("etag", "").strip()
    return etag if etag.startswith('"') else response.headers.get("last-modified", "").strip()


def _continues(response: httpx2.Response, version: Version, have: int) -> bool:
    """Whether a partial answer is the rest of this version; some servers do not know If-Range."""
    given = re.match(r"bytes (\d{1,18})-", response.headers.get("content-range", "").strip())
    return (
        given is not None
        and int(given[1]) == have
        and _validator(response) in {version.validator, ""}
        and _total(response) in {version.size, None}
    )


def _wait(response: httpx2.Response) -> float | None:
    """Seconds that a Retry-After asks for: a number, or a moment."""
    asked = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", asked):
        return float(asked)
    try:
        moment = parsedate_to_datetime(asked)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
