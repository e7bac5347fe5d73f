"""A frozen chat model behind any OpenAI-compatible endpoint: paid for once, within a cap, whatever fails.

Every answer is in the journal before it is used, so a killed run starts again without asking twice. What
fails for a moment (timeouts, dropped connections, 429, 5xx) is sent again, after what the server asks for or
ever longer; meanwhile its place is another's. What fails for good (400, 401, 403, 404) is an error at once,
but for prompts that the server cannot take, which are unreadable answers with a reason, as refusals, filtered
and cut answers are. Answers are asked for as JSON by schema where the endpoint knows how, and as the prompt
says it where it does not.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from deeper_assets.engines.chat.journal import Entry, Journal, Key, request_key
from deeper_assets.engines.chat.pacing import AdaptiveLimit, seconds_asked_for, seconds_until_next
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.protocols import Answer

if TYPE_CHECKING:
    from tenacity import RetryCallState

OPENAI = "https://api.openai.com/v1"

WAITING = 4
"""Requests that are open for each one at the server: those that wait for their next try are among them."""

LONGEST_LIMITED = 900.0
"""Seconds for which a server may say 429 to one request until that is an error."""

_TAKEN_POLL = 0.2
_OF_THE_PROMPT = {
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "context_length_exceeded": "rejected",
    "string_above_max_length": "rejected",
    "invalid_prompt": "rejected",
}
"""Error codes of status 400 that are about one prompt, not about how we ask; and the reason they become."""

_GATEWAY_TIMEOUTS = {504, 524}
"""Statuses of something between us and the model that did not wait for the answer."""

_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}
"""HTTP client errors of requests that had no connection yet."""


@dataclass(frozen=True)
class Prices:
    """US dollars a million tokens.

    Attributes:
        input, output: of prompts and of answers.
        cached_input: of what the server had read before; None where it costs the same.
        batch_share: what a request in a batch costs, as a share of that.
    """

    input: float
    output: float
    cached_input: float | None = None
    batch_share: float = 0.5

    def cost(self, input_tokens: int, cached_tokens: int, output_tokens: int) -> float:
        """US dollars of one answer, asked for live."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = (input_tokens - cached_tokens) * self.input + cached_tokens * cached
        return (fresh + output_tokens * self.output) / 1e6


@dataclass(frozen=True)
class OpenAIChat:
    """A chat model that is asked over HTTP.

    Attributes:
        model: what the endpoint calls it.
        journal: keeps every answer, and the spending cap.
        base_url: of the endpoint, with /v1.
        key_env: environment variable that holds its key; endpoints other than OpenAI's may need none.
        temperature: 0 for the answer it thinks best.
        max_tokens: an answer is cut after as many, and then unreadable.
        structured: whether to ask for JSON by schema.
        concurrency: requests at the server at once, of this process.
        timeout: seconds to wait for an answer.
        tries: how often a request is sent until a failure of the moment is an error.
        prices: None where they are not known; a cap needs them.
        mode: `batch` hands requests in as files, for less money and more patience.
        batch_requests: requests in such a file, at most.
        batch_poll: seconds between looks at a batch.
    """

    model: str
    journal: Journal
    base_url: str = OPENAI
    key_env: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 1024
    structured: bool = True
    concurrency: int = 64
    timeout: float = 120.0
    tries: int = 8
    prices: Prices | None = None
    mode: Literal["live", "batch"] = "live"
    batch_requests: int = 50_000
    batch_poll: float = 30.0
    _without_schemas: list[bool] = field(default_factory=list, init=False, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Changes with anything that changes an answer."""
        where = "" if self.base_url == OPENAI else f" at {self.base_url}"
        form = "JSON by schema" if self.structured else "prose"
        return f"{self.model}{where}, temperature {self.temperature:g}, {self.max_tokens} tokens, {form}"

    def answer(
        self, prompts: Sequence[str], *, attempt: int = 0, schema: Mapping[str, Any] | None = None
    ) -> list[Answer]:
        """Answers each prompt, in order; see `ChatModel`. Equal prompts are asked once.

        Raises:
            DeeperError: no key; an endpoint that refuses it or does not know the model; a request that still
                fails after all tries; the cap is reached. What has been answered until then is kept.
        """
        if not prompts:
            return []
        if self.journal.cap_usd is not None and self.prices is None:
            raise DeeperError(
                f"max_cost_usd is {self.journal.cap_usd:g}, but what {self.model} costs is not known: set "
                "chat.prices (input and output, US dollars a million tokens)"
            )
        distinct = list(dict.fromkeys(prompts))
        found = asyncio.run(self._answers(distinct, attempt, schema))
        return [
            Answer(entry.text if entry.reason is None else None, entry.reason)
            for entry in map(found.__getitem__, prompts)
        ]

    async def _answers(
        self, prompts: Sequence[str], attempt: int, schema: Mapping[str, Any] | None
    ) -> dict[str, Entry]:
        found = self._known(prompts, attempt, schema)
        self.journal.book_hits(found.values(), self.model)
        missing = [prompt for prompt in prompts if prompt not in found]
        if not missing:
            return found
        async with self.client() as client:
            from deeper_assets.engines.chat.batches import ask_in_batches, settle

            bodies = {self.key(body, attempt): body for body in self._bodies(missing, schema)}
            if self.mode == "batch":
                await ask_in_batches(self, client, bodies)
                return found | self._known(missing, attempt, schema)
            await settle(self, client, list(bodies))  # that a killed run may have handed in
            asking = _Asking(self, client, attempt, schema)
            return found | await asking.all(missing)

    def _known(
        self, prompts: Sequence[str], attempt: int, schema: Mapping[str, Any] | None
    ) -> dict[str, Entry]:
        """What the journal has of these prompts."""
        keys = [self.key(body, attempt) for body in self._bodies(prompts, schema)]
        entries = self.journal.answers(keys)
        return {prompt: entries[key] for prompt, key in zip(prompts, keys, strict=True) if key in entries}

    def _bodies(self, prompts: Iterable[str], schema: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        return [self.body(prompt, schema) for prompt in prompts]

    def body(self, prompt: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        """The request for one prompt, but for the endpoint and the key."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt.encode(errors="replace").decode()}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if schema is not None and self.structured and not self._without_schemas:
            form = {"name": "answer", "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def key(self, body: Mapping[str, Any], attempt: int) -> Key:
        """What the journal knows a request by."""
        return request_key(self.base_url, body), attempt

    def most_usd(self, body: Mapping[str, Any], share: float = 1.0) -> float | None:
        """The most that a request can cost: no token is shorter than a byte, and answers are cut."""
        if self.prices is None:
            return None
        size = sum(len(message["content"].encode()) + _WRAPPING for message in body["messages"])
        size += len(str(body.get("response_format", "")))
        return share * self.prices.cost(size, 0, self.max_tokens)

    def entry(
        self, completion: Mapping[str, Any], share: float = 1.0, most_usd: float | None = None
    ) -> Entry:
        """A completion, as the endpoint gives it, as an entry of the journal.

        Args:
            completion: what it answered.
            share: of the price, that it costs.
            most_usd: what it is taken to have cost where the endpoint does not count its tokens.
        """
        usage = completion.get("usage") or {}
        counts = (
            int(usage.get("prompt_tokens") or 0),
            int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
        )
        cost = most_usd
        if usage and self.prices is not None:
            cost = share * self.prices.cost(*counts)
        return Entry(*_read(completion), *counts, cost)

    def refused(self, error: Mapping[str, Any]) -> Entry | None:
        """The body of an error of status 400 that is about the prompt, as an entry; None if it is not."""
        reason = _OF_THE_PROMPT.get(str(error.get("code")))
        return Entry(None, reason, 0, 0, 0, 0.0) if reason else None

    def client(self) -> Any:
        """An AsyncOpenAI client that tries nothing twice by itself: what is sent again has to be counted."""
        from openai import AsyncOpenAI

        key = os.environ.get(self.key_env, "")
        if not key and self.base_url == OPENAI:
            raise DeeperError(
                f"{self.model} needs a key: set the environment variable {self.key_env}, or chat.base_url to "
                "an endpoint that needs none"
            )
        return AsyncOpenAI(api_key=key or "none", base_url=self.base_url, timeout=self.timeout, max_retries=0)

    def scrubbed(self, text: str) -> str:
        """`text` without the key: servers like to repeat it in errors."""
        key = os.environ.get(self.key_env, "")
        return " ".join((text.replace(key, f"${self.key_env}") if key else text).split())


_WRAPPING = 16
"""Tokens around a message, at most."""


class _Failed(Exception):
    """A request that came to nothing.

    Attributes:
        passing: whether it may be sent again.
        limited: whether the server said that it is asked too much.
        unsure: whether it may have been charged.
        headers: of the answer, lower-case.
    """

    def __init__(
        self,
        message: str,
        *,
        passing: bool = False,
        limited: bool = False,
        unsure: bool = False,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.passing, self.limited, self.unsure = passing, limited, unsure
        self.headers = headers or {}


class _NoSchemas(Exception):
    """The endpoint does not know how to answer by a schema."""


class _Asking:
    """One call's worth of questions, at most so many of them at the server at once."""

    def __init__(self, chat: OpenAIChat, client: Any, attempt: int, schema: Mapping[str, Any] | None):
        self._chat, self._client, self._attempt, self._schema = chat, client, attempt, schema
        self._limit = AdaptiveLimit(chat.concurrency)
        self._error: BaseException | None = None

    async def all(self, prompts: Sequence[str]) -> dict[str, Entry]:
        """Every prompt's answer. After an error nothing more is sent, but what is on its way is kept."""
        left = iter(prompts)
        found: dict[str, Entry] = {}

        async def work() -> None:
            for prompt in left:
                if self._error is not None:
                    return
                try:
                    found[prompt] = await self._one(prompt)
                except Exception as error:  # noqa: BLE001 - raised below, when all others have ended
                    self._error = self._error or error

        workers = min(len(prompts), WAITING * self._chat.concurrency)
        await asyncio.gather(*(work() for _ in range(workers)))
        if self._error is not None:
            raise self._error
        return found

    async def _one(self, prompt: str) -> Entry:
        try:
            return await self._patiently(prompt)
        except _NoSchemas:
            self._chat._without_schemas.append(True)
            return await self._patiently(prompt)

    async def _patiently(self, prompt: str) -> Entry:
        from tenacity import AsyncRetrying, retry_if_exception

        patience = _Patience(self._chat.tries)
        try:
            return await AsyncRetrying(
                retry=retry_if_exception(lambda error: isinstance(error, _Failed) and error.passing),
                stop=patience,
                wait=_wait,
                reraise=True,
            )(self._try, prompt)
        except _Failed as failure:
            said = self._chat.scrubbed(str(failure))
        # Outside of `except`, so that no traceback quotes what the server said: it may hold the key.
        raise DeeperError(f"{self._chat.model} at {self._chat.base_url}: {said}{patience}")

    async def _try(self, prompt: str) -> Entry:
        if self._error is not None:
            raise self._error
        async with self._limit.slot():
            body = self._chat.body(prompt, self._schema)
            key = self._chat.key(body, self._attempt)
            known = await self._claimed(key, body)
            if known is not None:
                return known
            entry, unsure = None, True
            try:
                entry = await self._send(body)
            except _Failed as failure:
                unsure = failure.unsure
                self._limit.hear(failure.limited, seconds_asked_for(failure.headers) or 0.0)
                raise
            except _NoSchemas:
                unsure = False
                raise
            finally:
                if entry is None:
                    self._chat.journal.release(key, unsure)
            self._chat.journal.record(key, self._chat.model, body, entry)
            self._limit.hear(limited=False)
            return entry

    async def _claimed(self, key: Key, body: Mapping[str, Any]) -> Entry | None:
        """Waits until the request may be sent; or for its answer, if someone else has sent it."""
        journal = self._chat.journal
        while True:
            if self._error is not None:
                raise self._error
            verdict = journal.claim(key, self._chat.model, self._chat.most_usd(body))
            if isinstance(verdict, Entry):
                journal.book_hits([verdict], self._chat.model)
                return verdict
            if verdict == "granted":
                return None
            if verdict == "too dear":
                raise over_cap(self._chat)
            await asyncio.sleep(_TAKEN_POLL)

    async def _send(self, body: Mapping[str, Any]) -> Entry:
        from openai import APIStatusError, OpenAIError

        try:
            completion = await self._client.chat.completions.with_raw_response.create(**body)
            return self._chat.entry(_json(completion.text), most_usd=self._chat.most_usd(body))
        except APIStatusError as error:
            if error.status_code == 400 and (entry := self._chat.refused(_error_of(error))):
                return entry
            if error.status_code in {400, 422} and "response_format" in body and _is_about_schemas(error):
                raise _NoSchemas from None
            raise _status_failure(error) from None
        except OpenAIError as error:
            raise _connection_failure(error) from None


def over_cap(chat: OpenAIChat) -> DeeperError:
    """The error of a cap that is reached."""
    spent, _ = chat.journal.committed_usd()
    return DeeperError(
        f"max_cost_usd {chat.journal.cap_usd:g} is reached: {spent:.4f} are spent in {chat.journal.path}, "
        "and the next request could go beyond; what was answered is kept. Raise it and run again to go on"
    )


class _Patience:
    """When to stop trying: after so many failures, or when the server has been saying 429 for too long."""

    def __init__(self, tries: int):
        self._tries, self._failures = tries, 0
        self._limited_since: float | None = None

    def __call__(self, state: "RetryCallState") -> bool:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, _Failed) and failure.limited:
            # From the first 429 on: before it the request may have waited long for its turn.
            self._limited_since = self._limited_since or time.monotonic()
            return time.monotonic() - self._limited_since > LONGEST_LIMITED
        self._failures += 1
        return self._failures >= self._tries

    def __str__(self) -> str:
        if self._failures < self._tries:
            return ""
        return f" (after {self._tries} tries; what was answered is kept, and the next run goes on from there)"


def _wait(state: "RetryCallState") -> float:
    failure = state.outcome.exception() if state.outcome else None
    return seconds_until_next(state.attempt_number, getattr(failure, "headers", {}))


def _read(completion: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Text and reason of a completion."""
    choices = completion.get("choices") or [{}]
    message, finish = choices[0].get("message") or {}, choices[0].get("finish_reason")
    text = message.get("content")
    if message.get("refusal"):
        return str(message["refusal"]), "refusal"
    if finish == "content_filter":
        return text, "content_filter"
    if finish == "length":
        return text, "cut_off"
    if not text:
        return None, "no_answer"
    return str(text), None


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _Failed("the answer is no JSON object", passing=True, unsure=True)
    return value


def _error_of(error: Any) -> dict[str, Any]:
    """What an error's body says, however a server nests it."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error", body)
    return inner if isinstance(inner, dict) else {"message": str(inner)}


def _is_about_schemas(error: Any) -> bool:
    said = f"{_error_of(error)}".lower()
    return any(word in said for word in ("response_format", "json_schema", "structured output", "guided"))


def _status_failure(error: Any) -> _Failed:
    """What a status other than success means."""
    said = _error_of(error)
    message = f"status {error.status_code}: {said.get('message') or error.message}"
    limited = error.status_code == 429 and said.get("code") != "insufficient_quota"
    passing = limited or error.status_code in {408, 409} or error.status_code >= 500
    unsure = error.status_code in _GATEWAY_TIMEOUTS
    headers = {name.lower(): value for name, value in error.response.headers.items()}
    return _Failed(message, passing=passing, limited=limited, unsure=unsure, headers=headers)


def _connection_failure(error: Exception) -> _Failed:
    """A request without an answer. It may have been charged, unless it never had a connection."""
    cause = type(error.__cause__).__name__
    return _Failed(f"{error} ({cause})", passing=True, unsure=cause not in _NEVER_SENT)
