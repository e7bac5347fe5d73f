"""A frozen chat model behind any OpenAI-compatible endpoint.

Every answer is in the journal before it is used, so a run that was killed goes on without asking twice.
`live` and `batches` are the two ways to ask.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deeper_assets.engines.chat.batches import Batches
from deeper_assets.engines.chat.endpoint import Endpoint
from deeper_assets.engines.chat.entries import Entry, Key
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.live import Live
from deeper_assets.engines.chat.served import OPENAI
from deeper_assets.method.protocols import Answer


@dataclass
class OpenAIChat:
    """A chat model that is asked over HTTP."""

    endpoint: Endpoint
    journal: Journal
    _knows_schemas: bool = field(default=True, init=False, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Changes with anything that changes an answer."""
        at = self.endpoint
        where = "" if at.base_url == OPENAI else f" at {at.base_url}"
        form = "JSON by schema" if at.structured else "prose"
        return f"{at.model}{where}, temperature {at.temperature:g}, {at.max_tokens} tokens, {form}"

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
        self.endpoint.refuse_unknown_price(
            self.journal,
            self.endpoint.prices is not None,
            "chat.prices (input and output, US dollars a million tokens)",
        )
        if not (self.endpoint.structured and self._knows_schemas):
            schema = None
        entries = asyncio.run(self._entries(prompts, attempt, schema))
        return [
            Answer(entry.text if entry.reason is None else None, entry.reason)
            for entry in map(entries.__getitem__, prompts)
        ]

    async def _entries(
        self, prompts: Sequence[str], attempt: int, schema: Mapping[str, Any] | None
    ) -> dict[str, Entry]:
        endpoint, journal = self.endpoint, self.journal
        keys = {
            prompt: endpoint.key(endpoint.body(prompt, schema), attempt) for prompt in dict.fromkeys(prompts)
        }
        known = self._known(keys)
        journal.book_hits(known.values(), endpoint.model)
        missing = {prompt: key for prompt, key in keys.items() if prompt not in known}
        if not missing:
            return known
        async with endpoint.client() as client:
            batches = Batches(endpoint, journal, client)
            if endpoint.mode == "batch":
                await batches.ask({key: endpoint.body(prompt, schema) for prompt, key in missing.items()})
                return known | self._known(missing)
            await batches.settle(list(missing.values()))  # those that a killed run may have handed in
            live = Live(endpoint, journal, client, attempt, schema)
            try:
                return known | await live.ask(list(missing))
            finally:
                if live.refused_schemas:
                    self._knows_schemas = False

    def _known(self, keys: Mapping[str, Key]) -> dict[str, Entry]:
        """What the journal has of these prompts."""
        entries = self.journal.answers(list(keys.values()))
        return {prompt: entries[key] for prompt, key in keys.items() if key in entries}
