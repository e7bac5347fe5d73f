"""What all HTTP clients here share: which failures pass, what an address and a key's variable may be."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

PASSING = frozenset({408, 409, 429, *range(500, 600)})
"""Statuses of failures that pass: the same request may succeed a moment later."""


def scrubbed(text: str, key: str | None, key_env: str) -> str:
    """`text` in one line and without the key, because servers like to repeat it in errors.

    The name of the environment variable that holds the key takes its place.
    """
    return " ".join((text.replace(key, f"${key_env}") if key else text).split())


def _without_secret(url: str) -> str:
    parts = urlsplit(url)
    if parts.password or parts.username:
        raise ValueError("an address with a password would be recorded; use the variable of key_env")
    return url


Address = Annotated[str, AfterValidator(_without_secret)]
"""A URL. Addresses are recorded with what they gave, so a key belongs in the environment."""

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""An environment variable's name: not, by mistake, the key itself."""
