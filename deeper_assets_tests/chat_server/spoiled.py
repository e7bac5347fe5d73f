"""Answers of status 200 that a careful client does not take, or not as they are."""

import gzip
import json
from dataclasses import replace
from functools import lru_cache
from typing import Any

from deeper_assets_tests.chat_server.completions import Reply

BOMB_SIZE = 64_000_000
"""Bytes of the answer once it is decompressed."""

SHAPES = [
    b'{"choices": "x"}',
    b'{"choices": {}}',
    b'{"choices": [{}]}',
    b'{"choices": [{"message": {"content": ["a", "b"]}}]}',
    b'{"choices": [{"message": {"content": "\\ud83d"}}]}',
    b'{"choices": [{"message": "x", "finish_reason": 5}]}',
    b'{"error": {"message": "The upstream is busy."}}',
    b"[]",
    b"null",
    b"1e400",
    b"[" * 5000,
    b'{"choices": [{"message": {"content": "cut off in the mid',
]
"""JSON, or nearly, that is no completion."""

COUNTS: list[Any] = ["many", [], {}, float("nan"), 1e30, -1_200_000_000, 10**30, None]
"""What nobody can believe as a number of tokens."""


def misshapen(key: str) -> bytes:
    """One of the shapes, by the request's key."""
    return SHAPES[int(key, 16) % len(SHAPES)]


def miscounted(reply: Reply, key: str) -> Reply:
    """The same answer with one of the counts as its tokens, by the request's key."""
    completion = json.loads(reply.body)
    count = COUNTS[int(key, 16) % len(COUNTS)]
    completion["usage"] |= {"prompt_tokens": count, "completion_tokens": count}
    body = json.dumps(completion, ensure_ascii=False).encode(errors="replace")
    return replace(reply, body=body, prompt_tokens=0, completion_tokens=0)


@lru_cache(maxsize=1)
def bomb() -> bytes:
    """A valid completion, compressed, that is mostly white space."""
    start = json.dumps({"choices": [{"message": {"content": "x"}}]})
    return gzip.compress(start.encode().ljust(BOMB_SIZE))
