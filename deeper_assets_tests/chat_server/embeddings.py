"""What the chat server answers to the body of a request for embeddings, as OpenAI writes it.

A text's vector is the mean of those of its words, which hashes draw.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from deeper_assets_tests.chat_server.completions import MODELS, Question, Reply, Wrong, json_object, tokens

DIMENSIONS = 8


def vector_of(text: str) -> list[float]:
    """The vector of a text: numbers from -1 to 1."""
    words = [
        [byte / 127.5 - 1 for byte in blake2b(word.encode(), digest_size=DIMENSIONS).digest()]
        for word in text.lower().split()
    ]
    return [sum(numbers) / len(words) for numbers in zip(*words, strict=True)]


@lru_cache(1024)
def read(body: bytes) -> Question:
    """What `body` asks and what it is answered; never raises."""
    key = blake2b(body, digest_size=16).hexdigest()
    try:
        request = json_object(body)
        key = blake2b(json.dumps(request, sort_keys=True).encode(), digest_size=16).hexdigest()
        return Question(key, _reply(request["model"], _texts(request)))
    except Wrong as wrong:
        return Question(key, wrong.reply)


def _texts(request: Mapping[str, Any]) -> list[str]:
    if request.get("model") not in MODELS:
        raise Wrong(404, f"The model {request.get('model')!r} does not exist.", "model_not_found", "model")
    if request.get("encoding_format", "float") != "float":
        raise Wrong(400, "The stand-in writes numbers as numbers.", param="encoding_format")
    match request.get("input"):
        case [*texts] if texts and all(isinstance(text, str) and text.strip() for text in texts):
            return texts
    raise Wrong(400, "The input is no list of texts that are not empty.", param="input")


def _reply(model: str, texts: Sequence[str]) -> Reply:
    counted = sum(map(tokens, texts))
    listed = [
        {"object": "embedding", "index": index, "embedding": vector_of(text)}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": counted, "total_tokens": counted}
    answer = {"object": "list", "data": listed, "model": model, "usage": usage}
    return Reply(200, json.dumps(answer).encode(), counted)
