"""Asking a chat model prompt by prompt, many at once.

Prompts that the server cannot take are unreadable answers with a reason, as refusals, filtered and cut
answers are. A request that waits for its next try leaves its place at the server to another. Answers are
asked for as JSON by schema, or as the prompt says it where the endpoint refuses schemas.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from deeper_assets.engines.chat.endpoint import Endpoint
from deeper_assets.engines.chat.entries import Entry, Key
from deeper_assets.engines.chat.failures import Failed, failure_of, patiently, problem_in, read
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.pacing import AdaptiveLimit, seconds_asked_for
from deeper_assets.engines.chat.shapes import Completion
from deeper_assets.engines.chat.workers import TAKEN_POLL, Workers


class _NoSchemas(Exception):
    """The endpoint does not know how to answer by a schema."""


class Live:
    """The questions of one call. At most `endpoint.concurrency` of them are at the server at once.

    `attempt` says how often these prompts have been asked before. `schema` is the JSON schema of the answers;
    None for prose.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        journal: Journal,
        client: Any,
        attempt: int,
        schema: Mapping[str, Any] | None,
    ):
        self._endpoint, self._journal, self._client = endpoint, journal, client
        self._attempt, self._schema = attempt, schema
        self._limit = AdaptiveLimit(endpoint.concurrency)
        self._workers: Workers[str, Entry] = Workers()
        self.refused_schemas = False

    async def ask(self, prompts: Sequence[str]) -> dict[str, Entry]:
        """Every prompt's answer. After an error nothing more is sent, but what is on its way is kept.

        Raises:
            DeeperError: a request failed for good, or after all tries; the cap is reached.
        """
        return await self._workers.every(prompts, self._one, self._endpoint.concurrency)

    async def _one(self, prompt: str) -> Entry:
        try:
            return await patiently(self._endpoint, partial(self._try, prompt))
        except _NoSchemas:
            self._schema, self.refused_schemas = None, True
            return await patiently(self._endpoint, partial(self._try, prompt))

    async def _try(self, prompt: str) -> Entry:
        self._workers.go_on()
        async with self._limit.slot():
            body = self._endpoint.body(prompt, self._schema)
            key = self._endpoint.key(body, self._attempt)
            known = await self._claimed(key, body)
            if known is not None:
                return known
            entry, unsure = None, True
            try:
                entry = await self._send(body)
            except Failed as failure:
                unsure = failure.unsure
                self._limit.hear(failure.limited, seconds_asked_for(failure.headers) or 0.0)
                raise
            except _NoSchemas:
                unsure = False
                raise
            finally:
                if entry is None:
                    self._journal.release(key, unsure=unsure)
            self._journal.record(key, self._endpoint.model, body, entry)
            self._limit.hear(limited=False)
            return entry

    async def _claimed(self, key: Key, body: Mapping[str, Any]) -> Entry | None:
        """Waits until the request may be sent; or for its answer, if another process has sent it."""
        most_usd = self._endpoint.most_usd(body)
        while True:
            self._workers.go_on()
            verdict = self._journal.claim(key, self._endpoint.model, most_usd)
            if isinstance(verdict, Entry):
                self._journal.book_hits([verdict], self._endpoint.model)
                return verdict
            if verdict == "granted":
                return None
            if verdict == "over the cap":
                raise self._journal.cap_error()
            await asyncio.sleep(TAKEN_POLL)

    async def _send(self, body: Mapping[str, Any]) -> Entry:
        from openai import APIStatusError, OpenAIError

        try:
            answer = await self._client.chat.completions.with_raw_response.create(**body)
        except OpenAIError as error:
            if isinstance(error, APIStatusError):
                status, content = error.status_code, error.response.content
                if status == 400 and (entry := self._endpoint.refusal(problem_in(content))):
                    return entry
                if status in {400, 422} and "response_format" in body and _is_about_schemas(content):
                    raise _NoSchemas from None
            raise failure_of(self._endpoint, error) from None
        return self._endpoint.entry(read(self._endpoint, Completion, answer.content, answer.status_code))


def _is_about_schemas(content: bytes) -> bool:
    text = content.decode(errors="replace").lower()
    return any(word in text for word in ("response_format", "json_schema", "structured output", "guided"))
