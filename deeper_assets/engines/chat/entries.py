"""What the journal is asked and what it keeps: purposes, keys, answers, amounts, batches."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True)
class Purpose:
    """What an answer is asked for: the asset, its domain, and the Dagster run that makes it."""

    asset: str = ""
    domain: str = ""
    run_id: str = ""


_NO_PURPOSE = Purpose()
PURPOSE = ContextVar("purpose", default=_NO_PURPOSE)
"""What is asked for at the moment."""


@contextmanager
def asking_for(purpose: Purpose) -> Iterator[None]:
    """Books everything that is asked within on this purpose."""
    token = PURPOSE.set(purpose)
    try:
        yield
    finally:
        PURPOSE.reset(token)


Key: TypeAlias = tuple[str, int]
"""Hash of the full request, and the number of the attempt."""


@dataclass(frozen=True)
class Entry:
    """One answer as the journal keeps it.

    Attributes:
        text: what the model answered; None where it answered nothing.
        reason: why it cannot be used, a word out of `method.parsing.REASONS`; None where it can be read.
        input_tokens, output_tokens: as the server counted them; input includes cached ones.
        cached_tokens: of the input, those the server had read before.
        cost_usd: None where prices are not known.
    """

    text: str | None
    reason: str | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None


@dataclass(frozen=True)
class Usage:
    """What was asked for one purpose of one model. The table `chat_usage` says what each amount is."""

    asset: str
    domain: str
    run_id: str
    model: str
    requests: int
    hits: int
    unreadable: int
    retries: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float
    saved_usd: float
    unsure_usd: float


@dataclass(frozen=True)
class Batch:
    """Requests that were given to the provider's batch service in one file.

    Attributes:
        name: ours; the provider gets it with the batch, to find it again by.
        provider_id: theirs; None until it has come.
        abandoned: whether handing it in failed, or the process that did it is gone.
        age: seconds since it was opened.
    """

    name: str
    provider_id: str | None
    abandoned: bool
    age: float


Claim: TypeAlias = Entry | Literal["granted", "taken", "no room yet", "over the cap"]


def request_key(base_url: str, body: Mapping[str, Any]) -> str:
    """Hash (hex) of a full request: where it goes, and all that it says."""
    text = json.dumps([base_url, body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


_BELIEVED = 100
"""Times its most that an answer may cost, as its server counts."""


def believed(entry: Entry, most_usd: float) -> Entry:
    """With the most that it can have cost, where nobody counted that, or beyond all belief.

    A server may count more than the most: it may put words of its own before a prompt. So a good deal more is
    booked as it says, and the cap is reached the sooner.
    """
    if most_usd and (entry.cost_usd is None or entry.cost_usd > _BELIEVED * most_usd):
        return replace(entry, input_tokens=0, cached_tokens=0, output_tokens=0, cost_usd=most_usd)
    return entry
