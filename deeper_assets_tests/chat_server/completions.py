"""What the chat server answers to the body of a request, as OpenAI's chat completions write it.

Tokens are counted as four bytes of UTF-8 each, rounded up: OpenAI's own rule of thumb for English. The
stand-in has no tokenizer, and a count that is honest about its rule is enough to check sums with.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets_tests.chat_server.faults import Faults

MODELS = ("local", "gpt-4o-mini-2024-07-18")
"""Names the stand-in answers to: those of the built-in profiles."""

_BYTES_A_TOKEN = 4
_REMEMBERED = 16_384
"""Bodies whose answer is kept, so that it is not computed again when a client tries again."""


@dataclass(frozen=True)
class Reply:
    """An answer as it goes over the wire.

    Attributes:
        status: of HTTP; a completion, and nothing else, has 200.
        body: JSON.
        prompt_tokens: of a completion, else 0.
        completion_tokens: of a completion, else 0.
    """

    status: int
    body: bytes
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Question:
    """A request's body, understood.

    Attributes:
        key: hash of what it says, whatever the order of its names and the space between them.
        reply: what it gets from a server without passing faults.
        fault: the lasting fault in that reply; None where there is none.
    """

    key: str
    reply: Reply
    fault: str | None = None


class Wrong(Exception):
    """A request that cannot be answered."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.reply = problem(status, message, code, param)


def problem(status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
    """An error in OpenAI's shape."""
    kinds = {401: "authentication_error", 429: "requests"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status, json.dumps({"error": error}).encode())


def tokens(text: str) -> int:
    """How many tokens a text is counted as."""
    return -(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN)


class Completions:
    """Answers bodies by the offline chat model.

    Args:
        faults: the lasting ones among them are in the answers.
        schemas: whether `response_format` is known; else it is refused, as simple servers do.
    """

    def __init__(self, faults: Faults, schemas: bool = True) -> None:
        self._faults, self._schemas = faults, schemas
        self._model = OfflineChatModel()
        self.read = lru_cache(_REMEMBERED)(self._read)

    def _read(self, body: bytes) -> Question:
        """What `body` asks and what it is answered; never raises."""
        key = blake2b(body, digest_size=16).hexdigest()
        try:
            request = json_object(body)
            plain = json.dumps(request, sort_keys=True).encode()
            key = blake2b(plain, digest_size=16).hexdigest()
            prompt = _only_message(request)
            self._refuse_unknown(request)
            fault = self._faults.lasting(key)
            if fault == "rejected":
                message = "This request was rejected because of our usage policy."
                return Question(key, problem(400, message, "content_policy_violation"), fault)
            return Question(key, self._completion(key, request, prompt, fault), fault)
        except Wrong as wrong:
            return Question(key, wrong.reply)

    def _refuse_unknown(self, request: Mapping[str, Any]) -> None:
        model = request.get("model")
        if model not in MODELS:
            known = ", ".join(MODELS)
            raise Wrong(
                404, f"The model {model!r} does not exist; known: {known}.", "model_not_found", "model"
            )
        asked_for = [name for name in ("stream", "tools", "functions", "logprobs") if request.get(name)]
        if request.get("n") not in (None, 1):
            asked_for.append("n")
        if request.get("response_format") and not self._schemas:
            asked_for.append("response_format")
        for name in asked_for:
            raise Wrong(400, f"Unsupported parameter: {name!r}.", "unsupported_parameter", name)

    def _completion(self, key: str, request: Mapping[str, Any], prompt: str, fault: str | None) -> Reply:
        text, reason = self._text(prompt, _wants_object(request)), "stop"
        if fault in {"filtered", "cut"}:
            # Half a text is what tells clients that look at the reason from those that do not.
            text, reason = text[: len(text) // 2], "length" if fault == "cut" else "content_filter"
        if (limit := _most_tokens(request)) is not None and tokens(text) > limit:
            text = text.encode(errors="replace")[: limit * _BYTES_A_TOKEN].decode(errors="ignore")
            reason = "length"
        refusal = "I'm sorry, I can't help with that." if fault == "refused" else None
        message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
        counts = tokens(prompt), tokens(refusal or text)
        completion = {
            "id": f"chatcmpl-{key}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
            "usage": usage(*counts),
            "system_fingerprint": self._model.name,
        }
        return Reply(200, json.dumps(completion, ensure_ascii=False).encode(errors="replace"), *counts)

    def _text(self, prompt: str, wants_object: bool) -> str:
        """The model's answer; where it sees no task, an empty one."""
        (answer,) = self._model.answer([prompt])
        text = answer.text or ""
        # A list can be no outermost value under a schema, so the list of ratings stands in an object.
        return f'{{"ratings": {text}}}' if wants_object and text.startswith("[") else text


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """Token counts in OpenAI's shape; nothing is ever read from a cache of prompts."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def json_object(body: bytes) -> dict[str, Any]:
    """The body of a request; raises Wrong where it is no JSON object."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise Wrong(400, "The body of the request is no JSON object.")
    return request


def _only_message(request: Mapping[str, Any]) -> str:
    match request.get("messages"):
        case [{"role": "user", "content": str(text)}]:
            return text
        case _:
            raise Wrong(
                400, "The stand-in answers one user message with a text as content.", param="messages"
            )


def _wants_object(request: Mapping[str, Any]) -> bool:
    match request.get("response_format"):
        case None | {"type": "text"}:
            return False
        case {"type": "json_schema", "json_schema": {"name": str(), "schema": dict()}}:
            return True
        case _:
            raise Wrong(
                400, "Invalid response_format: text or a json_schema is known.", param="response_format"
            )


def _most_tokens(request: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = request.get(name)
        if limit is not None:
            if not isinstance(limit, int) or limit < 1:
                raise Wrong(400, f"Invalid {name}: {limit!r} is no positive whole number.", param=name)
            return limit
    return None
