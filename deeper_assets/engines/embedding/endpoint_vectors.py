"""An embedder behind any OpenAI-compatible endpoint.

Every vector is in the journal before it is used, under its own text. So a run that was killed goes on without
paying twice, and so does one that has a few texts more.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from deeper_assets.engines.chat.entries import Entry
from deeper_assets.engines.chat.failures import Failed, failure_of, patiently, read
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.pacing import AdaptiveLimit, seconds_asked_for
from deeper_assets.engines.chat.served import OPENAI
from deeper_assets.engines.chat.shapes import Embeddings
from deeper_assets.engines.chat.workers import TAKEN_POLL, Workers
from deeper_assets.engines.embedding.centring import REACH, centred
from deeper_assets.engines.embedding.endpoint import AT_ONCE, EmbeddingEndpoint, unpacked_vector

Texts = tuple[str, ...]


@dataclass(frozen=True)
class EndpointVectors:
    """Vectors of an embedding model that is asked over HTTP, from the mean of `known` texts."""

    endpoint: EmbeddingEndpoint
    journal: Journal

    @property
    def name(self) -> str:
        """Changes with anything that changes a vector."""
        where = "" if self.endpoint.base_url == OPENAI else f" at {self.endpoint.base_url}"
        return f"{self.endpoint.model}{where}, centred"

    @property
    def reach(self) -> float:
        """See `Embedder`."""
        return REACH

    def identity(self) -> str:
        """Its name says everything."""
        return self.name

    def embed(self, texts: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.float64]:
        """See `Embedder`. Equal texts are asked once, and blank ones never: they say nothing.

        Raises:
            DeeperError: no key; an endpoint that refuses it or does not know the model; a request that still
                fails after all tries; the cap is reached; vectors of different dimensions. What has been
                answered until then is kept.
        """
        endpoint = self.endpoint
        endpoint.refuse_unknown_price(
            self.journal, endpoint.price is not None, "embedder.price (US dollars a million tokens)"
        )
        asked = tuple(text for text in dict.fromkeys([*texts, *known]) if text.strip())
        entries = asyncio.run(self._entries(asked)) if asked else {}
        vectors = {text: unpacked_vector(entry) for text, entry in entries.items()}
        sizes = sorted({len(vector) for vector in vectors.values()})
        if len(sizes) > 1:
            raise endpoint.error(
                f"its vectors have {' and '.join(map(str, sizes))} dimensions: another model has this name"
                f" by now. `deeper journal prune --model {endpoint.model}` forgets the vectors of both, and"
                " they are paid for again"
            )
        nothing = np.zeros(sizes[0] if sizes else 1)
        return centred(texts, known, lambda text: vectors.get(text, nothing))

    async def _entries(self, texts: Texts) -> dict[str, Entry]:
        """The journal's entry of each text; those that are missing are asked for."""
        answered = self.journal.answers([self.endpoint.key(text) for text in texts])
        there = {text: answered[key] for text in texts if (key := self.endpoint.key(text)) in answered}
        self.journal.book_hits(there.values(), self.endpoint.model)
        missing = [text for text in texts if text not in there]
        if not missing:
            return there
        async with self.endpoint.client() as client:
            return there | await _Asking(self.endpoint, self.journal, client).ask(missing)


class _Asking:
    """The requests of one call. At most `endpoint.concurrency` of them are at the server at once."""

    def __init__(self, endpoint: EmbeddingEndpoint, journal: Journal, client: Any):
        self._endpoint, self._journal, self._client = endpoint, journal, client
        self._limit = AdaptiveLimit(endpoint.concurrency)
        self._workers: Workers[Texts, dict[str, Entry]] = Workers()

    async def ask(self, texts: Sequence[str]) -> dict[str, Entry]:
        """Every text's answer."""
        parts = [tuple(texts[first : first + AT_ONCE]) for first in range(0, len(texts), AT_ONCE)]
        answers = await self._workers.every(parts, self._part, self._endpoint.concurrency)
        return {text: entry for part in answers.values() for text, entry in part.items()}

    async def _part(self, texts: Texts) -> dict[str, Entry]:
        """The answers of some texts. Those that another process has asked for are waited for."""
        answers: dict[str, Entry] = {}
        while left := tuple(text for text in texts if text not in answers):
            more = await patiently(self._endpoint, partial(self._try, left))
            if not more:
                await asyncio.sleep(TAKEN_POLL)
            answers |= more
        return answers

    async def _try(self, texts: Texts) -> dict[str, Entry]:
        """The answers of those texts that may be asked for now, in one request, or have been answered."""
        endpoint, journal = self._endpoint, self._journal
        async with self._limit.slot():
            self._workers.go_on()
            keys = {text: endpoint.key(text) for text in texts}
            most = {keys[text]: endpoint.most_usd(text) for text in texts}
            claims = journal.claim_all(most, endpoint.model)
            answers = {text: claim for text in texts if isinstance(claim := claims[keys[text]], Entry)}
            journal.book_hits(answers.values(), endpoint.model)
            granted = [text for text in texts if claims[keys[text]] == "granted"]
            if not granted:
                if not answers and "over the cap" in claims.values():
                    raise journal.cap_error()
                return answers
            entries, unsure = None, True
            try:
                entries = await self._send(granted)
            except Failed as failure:
                unsure = failure.unsure
                self._limit.hear(failure.limited, seconds_asked_for(failure.headers) or 0.0)
                raise
            finally:
                if entries is None:
                    journal.release(*(keys[text] for text in granted), unsure=unsure)
            new = dict(zip(granted, entries, strict=True))
            journal.record_all(
                {keys[text]: (endpoint.body([text]), entry) for text, entry in new.items()}, endpoint.model
            )
            self._limit.hear(limited=False)
            return answers | new

    async def _send(self, texts: Sequence[str]) -> list[Entry]:
        from openai import OpenAIError

        body = self._endpoint.body(texts)
        try:
            answer = await self._client.embeddings.with_raw_response.create(**body)
        except OpenAIError as error:
            raise failure_of(self._endpoint, error) from None
        return self._endpoint.entries(
            texts, read(self._endpoint, Embeddings, answer.content, answer.status_code)
        )
