"""What all HTTP clients here share: which failures pass, and what an answer may take."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

PASSING = frozenset({408, 409, 429, *range(500, 600)})
"""Statuses of failures that pass: the same request may succeed a moment later."""


@dataclass(frozen=True)
class Bounds:
    """What an answer may take.

    Attributes:
        seconds: until its last byte is there.
        size: bytes, after decompression.
    """

    seconds: float
    size: int


@dataclass(eq=False)
class NotTakenError(Exception):
    """An answer that broke a bound, or a redirect to somebody else. Another try may go better.

    Attributes:
        message: what was wrong.
        unsure: whether the request may have been charged.
    """

    message: str
    unsure: bool

    def __str__(self) -> str:
        return self.message


def glimpse(text: str, size: int = 80) -> str:
    """The first characters of what a server said, in one line: enough to recognize it by."""
    start = " ".join(text[: 10 * size].split())
    return start if len(start) <= size and len(text) <= 10 * size else f"{start[:size]} …"


def is_page(content: bytes) -> bool:
    """Whether this is a page for people, where an API would give JSON."""
    return content[:4096].decode(errors="replace").lstrip("\ufeff \t\r\n").startswith("<")


class Part(BaseModel):
    """A part of an answer that is read. Only what has its shape is taken; all else is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def other_shape(error: ValidationError, content: bytes) -> str:
    """What is wrong with an answer that has not the shape of a `Part`, and how it begins."""
    wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, wrong["loc"]))
    what = f"{place}: {wrong['msg']}" if place else wrong["msg"]
    return f"an answer of another shape ({what}): {beginning(content)}"


def or_none(value: Any, read: Any) -> Any:
    """For a `WrapValidator`: None for what cannot be read, where the rest is of use without it."""
    try:
        return read(value)
    except ValidationError:
        return None


def beginning(content: bytes) -> str:
    """The first words of an answer."""
    return glimpse(content[:4096].decode(errors="replace")) or "an empty answer"
