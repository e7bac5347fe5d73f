"""What may be secret: keys, where they come from, and values of settings that no error repeats."""

import base64
import html
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from deeper_assets.method.exceptions import DeeperError


def key_in(variable: str) -> str | None:
    """The key that an environment variable holds; None where it holds none.

    Raises:
        DeeperError: no request could carry it.
    """
    key = os.environ.get(variable, "").strip()
    if not all("!" <= sign <= "~" for sign in key):
        raise DeeperError(
            f"the environment variable {variable} holds no key: white space or other characters that no key"
            " has are in it"
        )
    return key or None


_PIECE = 8
"""Characters of a key that a text may not show."""


def scrubbed(text: str, key: str | None, key_env: str) -> str:
    """`text` in one line and without the key, because servers like to repeat it in errors."""
    return " ".join(without_key(text, key, key_env).split())


def without_key(text: str, key: str | None, key_env: str) -> str:
    """`text` without the key: plain or encoded, whole or any eight characters of it.

    The name of the environment variable that holds the key takes its place.
    """
    if not key:
        return text
    lowered = _lowered(text)
    hidden = bytearray(len(text))
    for size, pieces in _pieces(key).items():
        for start in range(len(text) - size + 1):
            if lowered[start : start + size] in pieces:
                hidden[start : start + size] = b"\1" * size
    if not any(hidden):
        return text
    kept: list[str] = []
    for place, sign in enumerate(text):
        if not hidden[place]:
            kept.append(sign)
        elif not place or not hidden[place - 1]:
            kept.append(f"${key_env}")
    return "".join(kept)


def is_placeholder(key: str) -> bool:
    """Whether a key is a word for servers that want none, such as `not-needed`: no real one is as simple."""
    return len(key) < 2 * _PIECE or not any(sign.isdigit() for sign in key)


@lru_cache(maxsize=8)
def _pieces(key: str) -> dict[int, frozenset[str]]:
    """What a text may not contain, by its length."""
    pieces: dict[int, set[str]] = {}
    for form, size in _forms(key):
        long = min(size, len(form))
        pieces.setdefault(long, set()).update(form[at : at + long] for at in range(len(form) - long + 1))
    return {long: frozenset(of) for long, of in pieces.items() if long}


def _forms(key: str) -> Iterator[tuple[str, int]]:
    """How a key may be written, in small letters, and how many characters show eight of it."""
    content = key.encode()
    for form in {key, quote(key, safe=""), html.escape(key)}:
        yield _lowered(form), _PIECE
    yield content.hex(), 2 * _PIECE
    yield "".join(f"\\u{ord(sign):04x}" for sign in key), 6 * _PIECE
    for shift in range(3):  # base64 writes three bytes at a time, so it matters what stands before
        whole = base64.b64encode(bytes(shift) + content).decode().rstrip("=")
        # The first and last characters hold bits of what stands before and after.
        form = whole[shift + (shift > 0) : len(whole) - ((shift + len(content)) % 3 > 0)]
        for alphabet in {form, form.replace("+", "-").replace("/", "_")}:
            yield _lowered(alphabet), -(-4 * _PIECE // 3)


def _lowered(text: str) -> str:
    """In small letters as far as ASCII goes, which keeps the length."""
    return text.translate(_SMALL)


_SMALL = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


UNSPOKEN = "unspoken"
"""Type of the validation errors of values that may be secret: whoever tells of them leaves the value out."""


def _unspoken(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise PydanticCustomError(UNSPOKEN, "{why}", {"why": why}) from None


MAY_BE_SECRET = WrapValidator(_unspoken)
"""Marks a type whose values may be secret, a wrong one above all: no validation error repeats them."""


def _plain_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        readable = parts.port is None or parts.port > 0
    except ValueError:
        readable = False
    if not readable or parts.scheme not in {"http", "https"} or not parts.hostname or url.split() != [url]:
        raise ValueError("expected an address such as http://127.0.0.1:8000/v1")
    if parts.password or parts.username:
        raise ValueError("an address with a password would be recorded; use the variable of key_env")
    if "?" in url or "#" in url:
        raise ValueError(
            "an address ends before '?' and '#': what stands there would be recorded; a key belongs in the "
            "variable of key_env"
        )
    return url


def _variable_name(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "expected the name of an environment variable, in capital letters, digits and underscores, and "
            "not what the variable holds"
        )
    return name


Address = Annotated[str, AfterValidator(_plain_address), MAY_BE_SECRET]
"""A URL. Addresses are recorded with what they gave, so a key belongs in the environment."""

VariableName = Annotated[str, AfterValidator(_variable_name), MAY_BE_SECRET]
"""An environment variable's name: not, by mistake, what it holds. Few keys are of capital letters alone."""
