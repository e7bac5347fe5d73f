"""Asking a chat model through OpenAI's Batch API: half the price, up to a day's wait.

A batch is in the journal before anything of it leaves this machine, under a name that the provider gets with
it, and its provider's id before it is waited for. So a killed run finds its batches again: by id, or by name
where it was killed before the id came. What a batch leaves open (lines that failed, an expired or cancelled
batch) is handed in again.
"""

import asyncio
import json
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Literal, TypeVar

from deeper_assets.engines.chat.journal import Batch, Entry, Key
from deeper_assets.engines.chat.openai_chat import OpenAIChat, over_cap
from deeper_assets.method.exceptions import DeeperError

LABEL = "deeper_assets"
"""Key of a batch's metadata under which the provider keeps our name of it."""

LARGEST_FILE = 190_000_000
"""Bytes of one batch file; the provider takes 200 MB."""

_PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_NO_ROOM = {"token_limit_exceeded"}
"""Error codes of batches that the provider has no room for in its queue at the moment."""

_FOR_GOOD = {400, 401, 403, 404, 422}
_OVER = {"completed", "failed", "expired", "cancelled"}

Value = TypeVar("Value")


async def ask_in_batches(chat: OpenAIChat, client: Any, requests: Mapping[Key, Mapping[str, Any]]) -> None:
    """Gets an answer for every request into the journal.

    Args:
        chat: what to ask, and its journal.
        client: of its endpoint.
        requests: key → body.

    Raises:
        DeeperError: the provider refuses a batch; requests still fail after all tries; the cap is reached.
            What has been answered until then is kept.
    """
    await settle(chat, client, list(requests))
    left, failures = _unanswered(chat, requests), 0
    while left and failures < chat.tries:
        waiting = left
        while waiting and (granted := await _hand_in(chat, client, waiting)):
            waiting = {key: body for key, body in waiting.items() if key not in granted}
        handed_in = chat.journal.holding(list(left))
        if not handed_in:  # others ask for these live, or have on its way what the cap leaves
            await asyncio.sleep(chat.batch_poll)
        await settle(chat, client, list(left))
        before, left = len(left), _unanswered(chat, requests)
        failures += bool(handed_in) and len(left) == before
    if left:
        raise DeeperError(
            f"{chat.model} at {chat.base_url}: {len(left)} of {len(requests)} requests came back unanswered "
            f"from {failures} batches in turn; what was answered is kept, and the next run goes on from there"
        )


def _unanswered(chat: OpenAIChat, requests: Mapping[Key, Mapping[str, Any]]) -> dict[Key, Mapping[str, Any]]:
    answered = chat.journal.answers(list(requests))
    return {key: body for key, body in requests.items() if key not in answered}


async def _hand_in(chat: OpenAIChat, client: Any, requests: Mapping[Key, Mapping[str, Any]]) -> set[Key]:
    """Hands in as many requests as one file holds and the cap allows; their keys."""
    part: dict[Key, Mapping[str, Any]] = {}
    size, dearest = 0, 0.0
    for key, body in requests.items():
        line = len(_line(key, body))
        if part and (len(part) == chat.batch_requests or size + line > LARGEST_FILE):
            break
        part[key] = body
        size += line
        dearest = max(dearest, chat.most_usd(body, _share(chat)) or 0.0)
    name = uuid.uuid4().hex
    granted = chat.journal.open_batch(name, chat.base_url, chat.model, part, dearest)
    if not granted and not chat.journal.batches(chat.base_url) and dearest > chat.journal.room():
        raise over_cap(chat)
    if granted:
        content = b"".join(_line(key, part[key]) for key in granted)
        try:
            file = await _patiently(
                chat, lambda: client.files.create(file=(f"{name}.jsonl", content), purpose="batch")
            )
            await _create(chat, client, name, file.id)
        except BaseException:
            chat.journal.abandon_batch(name)
            raise
    return set(granted)


async def _create(chat: OpenAIChat, client: Any, name: str, file: str) -> None:
    tries = count()

    async def create() -> Any:
        # The answer that was lost may have been that it has begun; a second one would be paid for, too.
        begun = await _find(client, name) if next(tries) else None
        return begun or await client.batches.create(
            input_file_id=file, endpoint=_PATH, completion_window="24h", metadata={LABEL: name}
        )

    made = await _patiently(chat, create)
    chat.journal.name_batch(name, made.id)


async def settle(chat: OpenAIChat, client: Any, keys: Sequence[Key]) -> None:
    """Waits for the open batches that hold any of these requests, whoever handed them in, and reads them.

    Those of killed processes are read too, if they are over: nobody else may ever ask for them.

    Raises:
        DeeperError: as `ask_in_batches`.
    """
    while True:
        holding = chat.journal.holding(keys)
        for batch in chat.journal.batches(chat.base_url):
            if batch.name in holding:
                await _look_at(chat, client, batch)
            elif batch.abandoned:
                with suppress(DeeperError):  # it is for those who ask for its requests to say what is wrong
                    await _look_at(chat, client, batch)
        if not chat.journal.holding(keys):
            return
        await asyncio.sleep(chat.batch_poll * random.uniform(0.9, 1.1))


async def _look_at(chat: OpenAIChat, client: Any, batch: Batch) -> None:
    """Reads a batch if it is over."""
    id_ = batch.provider_id or await _adopt(chat, client, batch)
    if id_ is None:
        return
    found = await _patiently(chat, partial(client.batches.retrieve, id_))
    if found.status in _OVER:
        entries, wrong = await _results(chat, client, found)
        chat.journal.record_batch(batch.name, entries)
        if wrong is not None:
            said = chat.scrubbed(f"batch {found.id}: {wrong}")
            raise DeeperError(f"{chat.model} at {chat.base_url}: {said}")


async def _adopt(chat: OpenAIChat, client: Any, batch: Batch) -> str | None:
    """Finds the id of a batch that was left before it had come; or gives its requests free again."""
    if not batch.abandoned:
        return None
    known = await _patiently(chat, partial(_find, client, batch.name))
    if known is None:
        chat.journal.record_batch(batch.name, {})
        return None
    chat.journal.name_batch(batch.name, known.id)
    return str(known.id)


async def _find(client: Any, name: str) -> Any:
    """The provider's batch that has our name; None where there is none."""
    async for batch in client.batches.list(limit=100):
        if (batch.metadata or {}).get(LABEL) == name:
            return batch
    return None


async def _results(chat: OpenAIChat, client: Any, batch: Any) -> tuple[dict[Key, Entry], str | None]:
    """The answers of a batch that is over, and what is wrong with it for good; lines may have neither."""
    entries: dict[Key, Entry] = {}
    wrong = _refusal(batch)
    for file in (batch.output_file_id, batch.error_file_id):
        if file is None:
            continue
        content = await _patiently(chat, partial(client.files.content, file))
        for line in content.content.splitlines():  # of text, it would cut at line breaks within answers
            if line.strip():
                said = json.loads(line)
                response = said.get("response") or {}
                status, body = response.get("status_code"), response.get("body") or {}
                error = body.get("error") or {}
                digest, _, attempt = str(said["custom_id"]).rpartition("-")
                if status == 200:
                    entries[digest, int(attempt)] = chat.entry(body, _share(chat))
                elif status == 400 and (entry := chat.refused(error)):
                    entries[digest, int(attempt)] = entry
                elif status in _FOR_GOOD:
                    wrong = f"status {status}: {error.get('message')}"
                    # A batch is too long to find out by trying, as live requests do.
                    wrong += "; set chat.structured to false" if "response_format" in wrong else ""
    return entries, wrong


def _refusal(batch: Any) -> str | None:
    """Why a batch was not even begun, if the file is to blame and not a full queue."""
    errors = (batch.errors.data if batch.errors else None) or []
    if batch.status != "failed" or (errors and all(error.code in _NO_ROOM for error in errors)):
        return None
    return "; ".join(str(error.message) for error in errors[:3]) or "it failed, without a reason"


async def _patiently(chat: OpenAIChat, ask: Callable[[], Awaitable[Value]]) -> Value:
    """What `ask` gives; tried again while it fails for a moment only."""
    from openai import APIConnectionError, APIStatusError, OpenAIError
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    def passes(error: BaseException) -> bool:
        if isinstance(error, APIStatusError):
            return error.status_code in {408, 409, 429} or error.status_code >= 500
        return isinstance(error, APIConnectionError)

    async def once() -> Value:  # a lambda would not be seen to be awaited
        return await ask()

    try:
        return await AsyncRetrying(
            retry=retry_if_exception(passes),
            stop=stop_after_attempt(chat.tries),
            wait=wait_random_exponential(multiplier=0.5, max=60),
            reraise=True,
        )(once)
    except OpenAIError as error:
        said = chat.scrubbed(str(error))
    raise DeeperError(f"{chat.model} at {chat.base_url}: {said}; batches that are handed in are found again")


def _line(key: Key, body: Mapping[str, Any]) -> bytes:
    request = {"custom_id": f"{key[0]}-{key[1]}", "method": "POST", "url": _PATH, "body": body}
    return json.dumps(request, ensure_ascii=False).encode() + b"\n"


def _share(chat: OpenAIChat) -> float:
    return chat.prices.batch_share if chat.prices else 1.0
