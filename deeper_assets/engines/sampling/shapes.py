"""What is read of vLLM servers' answers. Only what has this shape is taken."""

from typing import Annotated

from pydantic import Field

from deeper_assets.engines.http import Part


class Card(Part):
    """A model or adapter that a server has."""

    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: Annotated[int, Field(ge=1)] | None = None


class Cards(Part):
    """All that it has."""

    data: list[Card]


class _Text(Part):
    finish_reason: str | None = None
    token_ids: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = None


class Texts(Part):
    """The text that was asked for; there is one."""

    choices: Annotated[list[_Text], Field(min_length=1, max_length=1)]
