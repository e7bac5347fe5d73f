"""What may be secret: keys, where they come from, and values of settings that no error repeats."""

import base64
import html
import os
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
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


def scrubbed(text: str, key: str | None, key_env: str) -> str:
    """`text` in one line and without the key, because servers like to repeat it in errors."""
    return " ".join(without_key(text, key, key_env).split())


def without_key(text: str, key: str | None, key_env: str, *, telling: bool = False) -> str:
    """`text` without the key: plain or in a usual encoding, whole or any eight characters of it.

    The name of the environment variable that holds the key takes its place.

    Args:
        text: what a server said.
        key: that of the server.
        key_env: the variable's name.
        telling: only a long key as a whole, and pieces that tell of one: not words or a row of digits, which
            a text may hold anyway.
    """
    if not key or len(key) < _SHORTEST:
        return text
    # A key may be broken into lines.
    places = [place for place, sign in enumerate(text) if not sign.isspace()]
    lowered = _lowered("".join(text[place] for place in places))
    hidden = bytearray(len(text))
    for size, pieces in _pieces(key, telling).items():
        for start in _starts(lowered, size, pieces):
            first, last = places[start], places[start + size - 1]
            hidden[first : last + 1] = b"\1" * (last + 1 - first)
    if not any(hidden):
        return text
    kept: list[str] = []
    for place, sign in enumerate(text):
        if not hidden[place]:
            kept.append(sign)
        elif not place or not hidden[place - 1]:
            kept.append(f"${key_env}")
    return "".join(kept)


_PIECE = 8
"""Characters of a key that a text may not show."""

_SHORTEST = 4
"""Characters below which a key is none, but a letter that every text holds."""


@dataclass(frozen=True)
class _Pieces:
    """What a text may not contain, all of one length; `halves` has every half of them."""

    whole: frozenset[str]
    halves: frozenset[str]

    @classmethod
    def of(cls, size: int, pieces: Set[str]) -> "_Pieces":
        """Pieces of this length."""
        half = size // 2
        places = range(size - half + 1)
        return cls(frozenset(pieces), frozenset(piece[at : at + half] for piece in pieces for at in places))


def _starts(text: str, size: int, pieces: _Pieces) -> Iterator[int]:
    """Where in a text pieces begin. Each covers a half that begins at a multiple of its length."""
    half = size // 2
    for at in range(0, len(text), half):
        if text[at : at + half] in pieces.halves:
            for start in range(max(0, at - size + half), at + 1):
                if text[start : start + size] in pieces.whole:
                    yield start


@lru_cache(maxsize=8)
def _pieces(key: str, telling: bool) -> dict[int, _Pieces]:
    """The pieces of a key by their length."""
    whole: dict[int, set[str]] = {}
    for form, size in _forms(key):
        long = min(size, len(form))
        for at in range(len(form) - long + 1):
            if not telling or size > _PIECE or _tells(form[at : at + long]):
                whole.setdefault(long, set()).add(_lowered(form[at : at + long]))
        if telling and len(key) >= 2 * _PIECE:
            whole.setdefault(len(form), set()).add(_lowered(form))
    return {size: _Pieces.of(size, pieces) for size, pieces in whole.items()}


def _tells(piece: str) -> bool:
    """Whether no text would hold this piece, were it not of a key: of two kinds of letters and digits."""
    kinds = (str.islower, str.isupper, str.isdigit)
    return (
        len(piece) == _PIECE
        and len(set(piece)) > _PIECE / 2
        and sum(any(map(kind, piece)) for kind in kinds) > 1
    )


def _forms(key: str) -> Iterator[tuple[str, int]]:
    """How a key may be written, and how many characters show eight of it."""
    slash = {key.replace("/", "\\/"), key.replace("/", "&#x2F;")}
    for form in {key, quote(key, safe=""), html.escape(key), *slash}:
        yield form, _PIECE
    if len(key) < _PIECE:
        return
    content = key.encode()
    yield content.hex(), 2 * _PIECE
    for sign in ("%{:02x}", "\\u{:04x}", "&#x{:x};", "&#{};"):
        yield "".join(map(sign.format, content)), len(sign.format(ord("0"))) * _PIECE
    for shift in range(3):  # base64 writes three bytes at a time, so it matters what stands before
        whole = base64.b64encode(bytes(shift) + content).decode().rstrip("=")
        # The first and last characters hold bits of what stands before and after.
        form = whole[shift + (shift > 0) : len(whole) - ((shift + len(content)) % 3 > 0)]
        for alphabet in {form, form.replace("+", "-").replace("/", "_")}:
            yield alphabet, -(-4 * _PIECE // 3)


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


def _no_address(name: str) -> str:
    if "://" in name:
        raise ValueError("expected a folder or a model's name, and not an address")
    return name


ModelName = Annotated[str, AfterValidator(_no_address), MAY_BE_SECRET]
"""A model's folder, or what the Hub or an endpoint calls it."""
