"""Requests without an answer of use: which of them are sent again, and which may have been charged.

What fails for a moment (a timeout, a dropped connection, the statuses of `PASSING`, an answer that is too
large or of another shape, a redirect to somebody else) is sent again, after what the server asks for or ever
longer. What fails for good (400, 401, 403, 404, a page for people) is an error at once.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from deeper_assets.engines.chat.pacing import seconds_until_next
from deeper_assets.engines.chat.served import Served
from deeper_assets.engines.chat.shapes import Problem, ProblemBody
from deeper_assets.engines.http import PASSING, NotTakenError, beginning, is_page, other_shape

if TYPE_CHECKING:
    from tenacity import RetryCallState

Value = TypeVar("Value")
Shape = TypeVar("Shape", bound=BaseModel)

LONGEST_LIMITED = 900.0
"""Seconds for which a server may answer one request with 429; after them that is an error."""

_GATEWAY_TIMEOUTS = {504, 524}
"""Statuses of a gateway between us and the model that did not wait for the answer."""

_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}
"""HTTP client errors of requests that had no connection yet."""


@dataclass(eq=False)
class Failed(Exception):
    """A request that failed.

    Attributes:
        message: why.
        passes: whether it may be sent again.
        limited: whether the server asked for fewer requests (429).
        unsure: whether it may have been charged.
        headers: of the answer, lower-case.
    """

    message: str
    passes: bool
    limited: bool = False
    unsure: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


def failure_of(endpoint: Served, error: Exception) -> Failed:
    """What an error of the OpenAI client means."""
    from openai import APIConnectionError, APIStatusError

    if isinstance(error.__cause__, NotTakenError):
        return Failed(endpoint.words(str(error.__cause__)), passes=True, unsure=error.__cause__.unsure)
    if not isinstance(error, APIStatusError):
        # There is no answer. The request may have been charged, unless it never had a connection.
        cause = type(error.__cause__).__name__
        passes = isinstance(error, APIConnectionError)
        return Failed(endpoint.words(f"{error} ({cause})"), passes=passes, unsure=cause not in _NEVER_SENT)
    status, content = error.status_code, error.response.content
    problem = problem_in(content)
    without_money = problem.code == "insufficient_quota"  # comes as 429, too
    words = endpoint.words(problem.message or "") or beginning(content)
    return Failed(
        endpoint.words(f"status {status}: {words}{_about_page(endpoint, content)}"),
        passes=status in PASSING and not without_money,
        limited=status == 429 and not without_money,
        unsure=status in _GATEWAY_TIMEOUTS,
        headers={name.lower(): value for name, value in error.response.headers.items()},
    )


def _about_page(endpoint: Served, content: bytes) -> str:
    """What a page for people means, where an API would give JSON; nothing where it is none."""
    page = f"; see that {endpoint.setting}.base_url is an API's address: most end in /v1"
    return page if is_page(content) else ""


def problem_in(body: Any) -> Problem:
    """What an error's body says, its bytes or JSON that was read already, however a server nests it."""
    try:
        return _validated(ProblemBody, body).problem
    except ValidationError:
        return Problem()


def read(endpoint: Served, shape: type[Shape], content: Any, status: int = 200) -> Shape:
    """An answer that is none of an error, in this shape: from its bytes, or from JSON that was read already.

    Raises:
        Failed: it has another.
    """
    try:
        return _validated(shape, content)
    except ValidationError as error:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        other, page = other_shape(error, text), is_page(text)
    words = endpoint.words(f"status {status}, but {other}{_about_page(endpoint, text)}")
    raise Failed(words, passes=not page, unsure=not page)


def _validated(shape: type[Shape], content: Any) -> Shape:
    if isinstance(content, bytes):
        return shape.model_validate_json(content)
    return shape.model_validate(content)


async def patiently(endpoint: Served, ask: Callable[[], Awaitable[Value]]) -> Value:
    """What `ask` gives; it is called again while it fails for a moment.

    Raises:
        DeeperError: it failed for good, or too often.
    """
    from openai import OpenAIError
    from tenacity import AsyncRetrying, retry_if_exception

    async def once() -> Value:
        try:
            return await ask()
        except OpenAIError as error:
            raise failure_of(endpoint, error) from None

    patience = _Patience(endpoint.tries)
    try:
        return await AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, Failed) and error.passes),
            stop=patience,
            wait=_wait,
            reraise=True,
        )(once)
    except Failed as failure:
        message = f"{failure}{patience}"
    # Outside of `except`, so that no traceback quotes the server's answer: it may hold the key.
    raise endpoint.error(message)


class _Patience:
    """When to stop trying: after so many failures, or when the server has answered 429 for too long."""

    def __init__(self, tries: int):
        self._tries, self._failures = tries, 0
        self._limited_since: float | None = None

    def __call__(self, state: "RetryCallState") -> bool:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, Failed) and failure.limited:
            # From the first 429 on: before it the request may have waited long for its turn.
            self._limited_since = self._limited_since or time.monotonic()
            return time.monotonic() - self._limited_since > LONGEST_LIMITED
        self._failures += 1
        return self._failures >= self._tries

    def __str__(self) -> str:
        if self._failures < self._tries:
            return ""
        tries = "1 try" if self._tries == 1 else f"{self._tries} tries"
        return f" (after {tries}; what was answered is kept, and the next run goes on from there)"


def _wait(state: "RetryCallState") -> float:
    failure = state.outcome.exception() if state.outcome else None
    return seconds_until_next(state.attempt_number, getattr(failure, "headers", {}))
