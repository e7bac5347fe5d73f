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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Literal

from deeper_assets.engines.chat.endpoint import Endpoint
from deeper_assets.engines.chat.failures import patiently
from deeper_assets.engines.chat.journal import Batch, Entry, Journal, Key
from deeper_assets.engines.http import PASSING
from deeper_assets.method.exceptions import DeeperError

LABEL = "deeper_assets"
"""Key of a batch's metadata under which the provider keeps our name of it."""

LARGEST_FILE = 190_000_000
"""Bytes of one batch file; the provider takes 200 MB."""

_PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_NO_ROOM = {"token_limit_exceeded"}
"""Error codes of batches that have no room in the provider's queue at the moment."""

_OVER = {"completed", "failed", "expired", "cancelled"}


class Batches:
    """The batch service of an endpoint. The journal keeps the answers, the open batches and the cap."""

    def __init__(self, endpoint: Endpoint, journal: Journal, client: Any):
        self._endpoint, self._journal, self._client = endpoint, journal, client

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
                "turn; what was answered is kept, and the next run goes on from there"
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
                file = await patiently(
                    endpoint,
                    partial(self._client.files.create, file=(f"{name}.jsonl", content), purpose="batch"),
                )
                await self._create(name, file.id)
            except BaseException:
                journal.abandon_batch(name)
                raise
        return set(granted)

    async def _create(self, name: str, file: str) -> None:
        tries = count()

        async def create() -> Any:
            # The lost answer may have said that the batch has begun. A second batch would cost again.
            begun = await self._named(name) if next(tries) else None
            return begun or await self._client.batches.create(
                input_file_id=file, endpoint=_PATH, completion_window="24h", metadata={LABEL: name}
            )

        made = await patiently(self._endpoint, create)
        self._journal.name_batch(name, made.id)

    async def _read_if_over(self, batch: Batch) -> None:
        id_ = batch.provider_id or await self._adopt(batch)
        if id_ is None:
            return
        theirs = await patiently(self._endpoint, partial(self._client.batches.retrieve, id_))
        if theirs.status in _OVER:
            entries, wrong = await self._results(theirs)
            self._journal.record_batch(batch.name, entries)
            if wrong is not None:
                raise self._endpoint.error(f"batch {theirs.id}: {wrong}")

    async def _adopt(self, batch: Batch) -> str | None:
        """The id of an abandoned batch, found by our name. Without one, its requests may be asked anew."""
        if not batch.abandoned:
            return None
        theirs = await patiently(self._endpoint, partial(self._named, batch.name))
        if theirs is None:
            self._journal.record_batch(batch.name, {})
            return None
        self._journal.name_batch(batch.name, theirs.id)
        return str(theirs.id)

    async def _named(self, name: str) -> Any:
        """The provider's batch that has our name; None where there is none."""
        async for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get(LABEL) == name:
                return batch
        return None

    async def _results(self, batch: Any) -> tuple[dict[Key, Entry], str | None]:
        """The answers of a batch that is over, and what is wrong with it for good; lines may have neither."""
        entries: dict[Key, Entry] = {}
        wrong = _why_failed(batch)
        for file in (batch.output_file_id, batch.error_file_id):
            if file is None:
                continue
            content = await patiently(self._endpoint, partial(self._client.files.content, file))
            # Lines of bytes: text would also be cut at the line breaks of Unicode within answers.
            for line in content.content.splitlines():
                if line.strip():
                    result = json.loads(line)
                    digest, _, attempt = str(result["custom_id"]).rpartition("-")
                    entry, problem = self._outcome(result.get("response") or {})
                    if entry:
                        entries[digest, int(attempt)] = entry
                    wrong = problem or wrong
        return entries, wrong

    def _outcome(self, response: Mapping[str, Any]) -> tuple[Entry | None, str | None]:
        """A line's answer, or what is wrong with it for good; neither where it may be asked again."""
        status, body = response.get("status_code"), response.get("body") or {}
        if status == 200:
            return self._endpoint.entry(body, in_batch=True), None
        error = body.get("error") or {}
        if status == 400 and (entry := self._endpoint.refusal(error)):
            return entry, None
        if status is None or status in PASSING:
            return None, None
        problem = f"status {status}: {error.get('message')}"
        # Live requests find that out by trying; a batch would take hours.
        return None, problem + ("; set chat.structured to false" if "response_format" in problem else "")


def _why_failed(batch: Any) -> str | None:
    """Why a batch was not even begun, if the file is to blame and not a full queue."""
    errors = (batch.errors.data if batch.errors else None) or []
    if batch.status != "failed" or (errors and all(error.code in _NO_ROOM for error in errors)):
        return None
    return "; ".join(str(error.message) for error in errors[:3]) or "it failed, without a reason"


def _line(key: Key, body: Mapping[str, Any]) -> bytes:
    request = {"custom_id": f"{key[0]}-{key[1]}", "method": "POST", "url": _PATH, "body": body}
    return json.dumps(request, ensure_ascii=False).encode() + b"\n"
