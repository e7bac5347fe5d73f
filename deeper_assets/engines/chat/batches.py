"""Asking a chat model through OpenAI's Batch API: half the price, up to a day's wait.

A batch is in the journal before anything of it leaves this machine, under a name that the provider gets too.
Once it is handed in, the journal also has the provider's id. So a run that was killed finds its batches
again: by id, or by name where it was killed before the id came. Requests that a batch leaves without an
answer (lines that failed, an expired or cancelled batch) are handed in again.
"""

import asyncio
import json
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Literal

from deeper_assets.engines.chat.endpoint import Endpoint
from deeper_assets.engines.chat.entries import Batch, Entry, Key
from deeper_assets.engines.chat.failures import Failed, Shape, patiently, problem_in, read
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.shapes import (
    BatchLine,
    BatchPage,
    Completion,
    LineResponse,
    StoredFile,
    TheirBatch,
)
from deeper_assets.engines.http import PASSING, glimpse
from deeper_assets.method.exceptions import DeeperError

LABEL = "deeper_assets"
"""Key of a batch's metadata under which the provider keeps our name of it."""

LARGEST_FILE = 190_000_000
"""Bytes of one batch file; the provider takes 200 MB."""

LONGEST = 48 * 3600.0
"""Seconds that a batch may take; the provider promises half of them."""

_PAGES = 100
"""Pages of the list of batches in which ours is looked for; each has 100."""

_PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_NO_ROOM = {"token_limit_exceeded"}
"""Error codes of batches that have no room in the provider's queue at the moment."""

_OVER = {"completed", "failed", "expired", "cancelled"}


class Batches:
    """The batch service of an endpoint. The journal keeps the answers, the open batches and the cap."""

    def __init__(self, endpoint: Endpoint, journal: Journal, client: Any):
        self._endpoint, self._journal, self._raw = endpoint, journal, client.with_raw_response
        self._unreadable = ""

    async def ask(self, requests: Mapping[Key, Mapping[str, Any]]) -> None:
        """Gets an answer for every request (key → body) into the journal.

        Raises:
            DeeperError: the provider refuses a batch; requests still fail after all tries; the cap is
                reached. What has been answered until then is kept.
        """
        await self.settle(list(requests))
        left, failures = self._unanswered(requests), 0
        while left and failures < self._endpoint.tries:
            waiting = left
            while waiting and (granted := await self._hand_in(waiting)):
                waiting = {key: body for key, body in waiting.items() if key not in granted}
            handed_in = self._journal.holding(list(left))
            if not handed_in:  # another process asks for these live, or uses all the room under the cap
                await asyncio.sleep(self._endpoint.batch_poll)
            await self.settle(list(left))
            before, left = len(left), self._unanswered(requests)
            failures += bool(handed_in) and len(left) == before
        if left:
            raise self._endpoint.error(
                f"{len(left)} of {len(requests)} requests came back unanswered from {failures} batches in "
                f"turn{self._unreadable}; what was answered is kept, and the next run goes on from there"
            )

    async def settle(self, keys: Sequence[Key]) -> None:
        """Waits for the open batches that hold any of these requests, whoever handed them in; reads them.

        Batches of killed processes are read too, once they are over: perhaps nobody asks for them again.

        Raises:
            DeeperError: as `ask`.
        """
        while True:
            holding = self._journal.holding(keys)
            for batch in self._journal.batches(self._endpoint.base_url):
                if batch.name in holding:
                    await self._read_if_over(batch)
                elif batch.abandoned:
                    with suppress(DeeperError):  # whoever asks for its requests will get the error
                        await self._read_if_over(batch)
            if not self._journal.holding(keys):
                return
            await asyncio.sleep(self._endpoint.batch_poll * random.uniform(0.9, 1.1))

    def _unanswered(self, requests: Mapping[Key, Mapping[str, Any]]) -> dict[Key, Mapping[str, Any]]:
        answered = self._journal.answers(list(requests))
        return {key: body for key, body in requests.items() if key not in answered}

    async def _hand_in(self, requests: Mapping[Key, Mapping[str, Any]]) -> set[Key]:
        """Hands in as many requests as one file holds and the cap allows; their keys."""
        endpoint, journal = self._endpoint, self._journal
        part: dict[Key, Mapping[str, Any]] = {}
        size, most_usd = 0, 0.0
        for key, body in requests.items():
            line = len(_line(key, body))
            if part and (len(part) == endpoint.batch_requests or size + line > LARGEST_FILE):
                break
            part[key] = body
            size += line
            most_usd = max(most_usd, endpoint.most_usd(body, in_batch=True) or 0.0)
        name = uuid.uuid4().hex
        granted = journal.open_batch(name, endpoint.base_url, endpoint.model, part, most_usd)
        if not granted and not journal.batches(endpoint.base_url) and most_usd > journal.room():
            raise journal.cap_error()
        if granted:
            content = b"".join(_line(key, part[key]) for key in granted)
            try:
                create = partial(self._raw.files.create, file=(f"{name}.jsonl", content), purpose="batch")
                file = await patiently(endpoint, partial(self._read, StoredFile, create))
                await self._create(name, file.id)
            except BaseException:
                journal.abandon_batch(name)
                raise
        return set(granted)

    async def _create(self, name: str, file: str) -> None:
        tries = count()
        make = partial(
            self._raw.batches.create,
            input_file_id=file,
            endpoint=_PATH,
            completion_window="24h",
            metadata={LABEL: name},
        )

        async def create() -> str:
            # The lost answer may have said that the batch has begun. A second batch would cost again.
            begun = await self._named(name) if next(tries) else None
            return begun or (await self._read(TheirBatch, make)).id

        self._journal.name_batch(name, await patiently(self._endpoint, create))

    async def _read_if_over(self, batch: Batch) -> None:
        id_ = batch.provider_id or await self._adopt(batch)
        if id_ is None:
            return
        retrieve = partial(self._raw.batches.retrieve, id_)
        theirs = await patiently(self._endpoint, partial(self._read, TheirBatch, retrieve))
        if theirs.status in _OVER:
            results = await self._results(theirs)
            self._journal.record_batch(batch.name, results.entries, unsure=results.unreadable is not None)
            if results.unreadable is not None:
                self._unreadable = f" ({results.unreadable})"
            if results.wrong is not None:
                raise self._endpoint.error(f"batch {theirs.id}: {results.wrong}")
        elif batch.age > LONGEST:
            raise self._endpoint.error(
                f"batch {theirs.id} is {theirs.status} after {batch.age / 3600:.0f} hours; cancel it at the"
                " provider, and run again"
            )

    async def _adopt(self, batch: Batch) -> str | None:
        """The id of an abandoned batch, found by our name. Without one, its requests may be asked anew."""
        if not batch.abandoned:
            return None
        theirs = await patiently(self._endpoint, partial(self._named, batch.name))
        if theirs is None:
            self._journal.record_batch(batch.name, {})
        else:
            self._journal.name_batch(batch.name, theirs)
        return theirs

    async def _named(self, name: str) -> str | None:
        """The provider's id of the batch that has our name; None where there is none."""
        after: dict[str, str] = {}
        for _ in range(_PAGES):
            page = await self._read(BatchPage, partial(self._raw.batches.list, limit=100, **after))
            listed = [batch for batch in page.data if batch is not None]
            for batch in listed:
                if (batch.metadata or {}).get(LABEL) == name:
                    return batch.id
            if not page.has_more or not listed:
                return None
            after = {"after": listed[-1].id}
        raise Failed(f"its list of batches goes on after {_PAGES} pages", passes=False)

    async def _read(self, shape: type[Shape], ask: Callable[[], Awaitable[Any]]) -> Shape:
        """What the provider says, in this shape."""
        answer = await ask()
        return read(self._endpoint, shape, answer.content, answer.status_code)

    async def _results(self, batch: TheirBatch) -> "_Results":
        """What a batch that is over has given."""
        results = _Results(wrong=_why_failed(batch))
        for file in (batch.output_file_id, batch.error_file_id):
            if file is None:
                continue
            content = await patiently(self._endpoint, partial(self._raw.files.content, file))
            # Lines of bytes: text would also be cut at the line breaks of Unicode within answers.
            for line in filter(bytes.strip, content.content.splitlines()):
                try:
                    result = read(self._endpoint, BatchLine, line)
                    entry, problem = self._outcome(result.response or LineResponse())
                except Failed as failure:
                    results.unreadable = str(failure)
                    continue
                if entry:
                    digest, _, attempt = result.custom_id.rpartition("-")
                    results.entries[digest, int(attempt)] = entry
                results.wrong = problem or results.wrong
        return results

    def _outcome(self, response: LineResponse) -> tuple[Entry | None, str | None]:
        """A line's answer, or what is wrong with it for good; neither where it may be asked again.

        Raises:
            Failed: it has another shape.
        """
        status = response.status_code
        if status == 200:
            return self._endpoint.entry(read(self._endpoint, Completion, response.body), in_batch=True), None
        problem = problem_in(response.body)
        if status == 400 and (entry := self._endpoint.refusal(problem)):
            return entry, None
        if status is None or status in PASSING:
            return None, None
        text = f"status {status}: {glimpse(problem.message or '', 300)}"
        # Live requests find that out by trying; a batch would take hours.
        return None, text + ("; set chat.structured to false" if "response_format" in text else "")


@dataclass
class _Results:
    """What a batch has given.

    Attributes:
        entries: the answers.
        wrong: what is wrong with it for good.
        unreadable: why a line could not be read; whose it was, and whether it was charged, is not known.
    """

    entries: dict[Key, Entry] = field(default_factory=dict)
    wrong: str | None = None
    unreadable: str | None = None


def _why_failed(batch: TheirBatch) -> str | None:
    """Why a batch was not even begun, if the file is to blame and not a full queue."""
    errors = (batch.errors.data if batch.errors else None) or []
    if batch.status != "failed" or (errors and all(error.code in _NO_ROOM for error in errors)):
        return None
    reasons = [glimpse(str(error.message), 300) for error in errors[:3]]
    return "; ".join(reasons) or "it failed, without a reason"


def _line(key: Key, body: Mapping[str, Any]) -> bytes:
    request = {"custom_id": f"{key[0]}-{key[1]}", "method": "POST", "url": _PATH, "body": body}
    return json.dumps(request, ensure_ascii=False).encode() + b"\n"
