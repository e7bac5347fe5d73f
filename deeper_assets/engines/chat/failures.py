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

from deeper_assets.engines.chat.endpoint import Endpoint
from deeper_assets.engines.chat.pacing import seconds_until_next
from deeper_assets.engines.chat.shapes import Problem, ProblemBody
from deeper_assets.engines.http import PASSING, NotTakenError, glimpse, is_page

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


def failure_of(error: Exception) -> Failed:
    """What an error of the OpenAI client means."""
    from openai import APIConnectionError, APIStatusError

    if isinstance(error.__cause__, NotTakenError):
        return Failed(str(error.__cause__), passes=True, unsure=error.__cause__.unsure)
    if not isinstance(error, APIStatusError):
        # There is no answer. The request may have been charged, unless it never had a connection.
        cause = type(error.__cause__).__name__
        passes = isinstance(error, APIConnectionError)
        return Failed(f"{error} ({cause})", passes=passes, unsure=cause not in _NEVER_SENT)
    problem, status = problem_of(error), error.status_code
    without_money = problem.code == "insufficient_quota"  # comes as 429, too
    return Failed(
        f"status {status}: {glimpse(problem.message or '', 300) or _first_words(error.response.content)}",
        passes=status in PASSING and not without_money,
        limited=status == 429 and not without_money,
        unsure=status in _GATEWAY_TIMEOUTS,
        headers={name.lower(): value for name, value in error.response.headers.items()},
    )


def problem_of(error: Any) -> Problem:
    """What the body of a status error says, however a server nests it."""
    try:
        return ProblemBody.model_validate_json(error.response.content).problem
    except ValidationError:
        return Problem()


def problem_in(body: Any) -> Problem:
    """The same of JSON that was read already."""
    try:
        return ProblemBody.model_validate(body).problem
    except ValidationError:
        return Problem()


def read(shape: type[Shape], content: Any) -> Shape:
    """An answer of status 200 in this shape: from its bytes, or from JSON that was read already.

    Raises:
        Failed: it has another.
    """
    from_json = isinstance(content, bytes)
    try:
        return shape.model_validate_json(content) if from_json else shape.model_validate(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    words = _first_words(content if from_json else json.dumps(content).encode())
    if is_page(words):
        raise Failed(f"status 200, but {words}", passes=False)
    place = ".".join(map(str, wrong["loc"]))
    what = f"{place}: {wrong['msg']}" if place else wrong["msg"]
    raise Failed(f"status 200, but an answer of another shape ({what}): {words}", passes=True, unsure=True)


def _first_words(content: bytes) -> str:
    """What an answer begins with, and what a page for people means."""
    text = content[:4096].decode(errors="replace")
    hint = "; see that chat.base_url is an API's address: most end in /v1" if is_page(text) else ""
    return f"{glimpse(text) or 'an empty answer'}{hint}"


async def patiently(endpoint: Endpoint, ask: Callable[[], Awaitable[Value]]) -> Value:
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
            raise failure_of(error) from None

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
        return f" (after {self._tries} tries; what was answered is kept, and the next run goes on from there)"


def _wait(state: "RetryCallState") -> float:
    failure = state.outcome.exception() if state.outcome else None
    return seconds_until_next(state.attempt_number, getattr(failure, "headers", {}))
