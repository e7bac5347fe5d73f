"""Which embedder an experiment has."""

from typing import Literal

from pydantic import ConfigDict, Field

from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.embedding.endpoint import EmbeddingEndpoint
from deeper_assets.engines.embedding.endpoint_vectors import EndpointVectors
from deeper_assets.engines.embedding.sentence_vectors import SentenceVectors
from deeper_assets.engines.offline.word_vectors import WordVectors
from deeper_assets.method.protocols import Embedder


class EmbedderSettings(EmbeddingEndpoint):
    """What turns memories into vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    engine: Literal["offline", "minilm", "sentence_transformers", "openai"] = Field(
        "offline",
        description="word vectors of the memories; MiniLM, or any sentence model (the extra `embeddings` for"
        " both); or any OpenAI-compatible endpoint",
    )


def embedder_of(given: EmbedderSettings, journal: Journal) -> Embedder:
    """The embedder that settings ask for; the journal keeps what an endpoint is paid for."""
    match given.engine:
        case "offline":
            return WordVectors()
        case "minilm":
            return SentenceVectors()
        case "sentence_transformers":
            return SentenceVectors(given.model)
        case "openai":
            return EndpointVectors(given, journal)
