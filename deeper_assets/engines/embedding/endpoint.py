"""An embedding model behind an OpenAI-compatible endpoint: requests, keys, prices, and what is answered."""

import base64
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from deeper_assets.engines.chat.endpoint import Price
from deeper_assets.engines.chat.entries import Entry, Key, request_key
from deeper_assets.engines.chat.failures import Failed
from deeper_assets.engines.chat.served import ANYWAY, Served
from deeper_assets.engines.chat.shapes import Embeddings
from deeper_assets.engines.http import Bounds
from deeper_assets.engines.secrets import ModelName

AT_ONCE = 32
"""Texts of a request, at most; some servers take no more."""

_WRAPPING = 16
"""Tokens around a text, at most."""

_A_VECTOR = 2**18
"""Bytes that a vector may have as JSON: ten thousand numbers."""


class EmbeddingEndpoint(Served):
    """An embedding model behind an OpenAI-compatible endpoint."""

    setting: ClassVar[str] = "embedder"

    model: ModelName = Field(
        "text-embedding-3-small",
        description="what the endpoint calls it; of sentence_transformers, a folder or a name on the Hub",
    )
    concurrency: int = Field(
        8, ge=1, description="requests at once, of one process; fewer while the server says 429"
    )
    price: Price | None = Field(
        None, description="US dollars a million tokens; null: unknown; `max_cost_usd` needs it"
    )

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        """The request for these texts, but for the endpoint and the key."""
        whole = [text.encode(errors="replace").decode() for text in texts]
        return {"model": self.model, "input": whole, "encoding_format": "float"}

    def key(self, text: str) -> Key:
        """What the journal knows a text by, whatever else is asked with it."""
        return request_key(self.base_url, self.body([text])), 0

    def most_usd(self, text: str) -> float | None:
        """The most that a text can cost, as no token is shorter than a byte; None for an unknown price."""
        return None if self.price is None else (len(_bytes(text)) + _WRAPPING) * self.price / 1e6

    def entries(self, texts: Sequence[str], answer: Embeddings) -> list[Entry]:
        """What was answered to a request, an entry of the journal a text.

        The request's tokens are shared out by the length of its texts. Costs are None where the price is not
        known, or the endpoint counts no tokens that could be believed.

        Raises:
            Failed: it has not one vector for each of the texts, or vectors of different dimensions.
        """
        vectors = {part.index: part.embedding for part in answer.data}
        if len(answer.data) != len(texts) or vectors.keys() != set(range(len(texts))):
            raise _wrong(f"{len(answer.data)} vectors, numbered {_listed(vectors)}, for {len(texts)} texts")
        if len(sizes := {len(vector) for vector in vectors.values()}) > 1:
            raise _wrong(f"vectors of {_listed(sizes)} dimensions for texts of one request")
        counts = None if answer.usage is None else _shared(answer.usage.prompt_tokens, texts)
        return [
            Entry(_packed(vectors[place]), None, count, 0, 0, self._usd(count if counts else None))
            for place, count in enumerate(counts or [0] * len(texts))
        ]

    def bounds(self, path: str) -> Bounds:  # noqa: ARG002
        """What an answer may take."""
        return Bounds(self.timeout, ANYWAY + AT_ONCE * _A_VECTOR)

    def _usd(self, tokens: int | None) -> float | None:
        return None if self.price is None or tokens is None else tokens * self.price / 1e6


def unpacked_vector(entry: Entry) -> npt.NDArray[np.float64]:
    """The vector of a journal's entry, as `EmbeddingEndpoint.entries` has packed it."""
    return np.frombuffer(base64.b64decode(entry.text or ""), "<f4").astype(np.float64)


def _packed(vector: Sequence[float]) -> str:
    """A vector as OpenAI writes it in base64: numbers of four bytes."""
    return base64.b64encode(np.array(vector, "<f4").tobytes()).decode()


def _shared(tokens: int, texts: Sequence[str]) -> list[int]:
    """So many tokens, shared out by the texts' bytes; the parts add up to them."""
    sizes = [len(_bytes(text)) for text in texts]
    ends = [round(tokens * end / sum(sizes)) for end in accumulate(sizes, initial=0)]
    return [end - start for start, end in pairwise(ends)]


def _wrong(what: str) -> Failed:
    return Failed(f"status 200, but {what}", passes=True, unsure=True)


def _listed(numbers: Any) -> str:
    few = sorted(numbers)[:8]
    return ", ".join(map(str, few)) + (", …" if len(numbers) > len(few) else "")


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")
