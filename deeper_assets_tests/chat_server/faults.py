"""Faults that the chat server makes on purpose, decided by the request itself and by nothing else.

So two clients that send the same requests meet the same faults, in whatever order they send them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

from deeper_assets.method.exceptions import DeeperError

PASSING = {
    "rate_limited": 0.15,
    "error_at_once": 0.08,
    "error_late": 0.08,
    "dropped": 0.12,
    "hanging": 0.01,
    "trickling": 0.01,
    "bomb": 0.03,
    "misshapen": 0.06,
    "miscounted": 0.03,
    "redirected": 0.03,
}
"""Faults that another try may be spared, and how `Faults.spread` shares out among all kinds.

Hanging and trickling are the rarest: each holds a client up for as long as that is willing to wait.
"""

LASTING = {"rejected": 0.10, "refused": 0.10, "filtered": 0.10, "cut": 0.10}
"""Faults of the request that every try meets again, with their part of `Faults.spread`."""

BATCH = {"batch_line": 0.6, "batch_expired": 0.5, "batch_failed": 0.5}
"""Faults of batches: each has a share of its own, of lines or of batches, and so its own factor."""


@dataclass(frozen=True)
class Faults:
    """How often which fault is made, each as a share (0 to 1).

    All but those of batches are shares of the requests as they are sent for the first time. A request
    without a lasting fault that is sent again is as likely to meet a passing one as before.

    Attributes:
        seed: another seed, other requests that meet faults.
        rate_limited: 429 with Retry-After, at once.
        error_at_once: 500, at once.
        error_late: 503, after the latency.
        dropped: the connection is closed without an answer, at once.
        hanging: no answer for as long as the client stays.
        trickling: a byte now and then, for as long as the client stays.
        bomb: 200, and a small answer that is a large one once it is decompressed.
        misshapen: 200, and JSON that is no completion.
        miscounted: the whole answer, and counts of tokens that nobody can believe.
        redirected: 307, to the same server under another name.
        rejected: lasting; 400 with the code `content_policy_violation`, at once.
        refused: lasting; the message is a refusal and has no content.
        filtered: lasting; half the text, and the finish reason `content_filter`.
        cut: lasting; half the text, and the finish reason `length`.
        batch_line: share of a batch's lines that end in its error file with status 500.
        batch_expired: share of batches that expire with half their lines answered.
        batch_failed: share of batches that fail as they are created, for want of room in the queue.

    Raises:
        DeeperError: a share lies outside 0 to 1, or the kinds of a request or batch add up to more than 1.
    """

    seed: int = 0
    rate_limited: float = 0.0
    error_at_once: float = 0.0
    error_late: float = 0.0
    dropped: float = 0.0
    hanging: float = 0.0
    trickling: float = 0.0
    bomb: float = 0.0
    misshapen: float = 0.0
    miscounted: float = 0.0
    redirected: float = 0.0
    rejected: float = 0.0
    refused: float = 0.0
    filtered: float = 0.0
    cut: float = 0.0
    batch_line: float = 0.0
    batch_expired: float = 0.0
    batch_failed: float = 0.0

    def __post_init__(self) -> None:
        for name in KINDS:
            if not 0 <= getattr(self, name) <= 1:
                raise DeeperError(f"faults: {name} = {getattr(self, name):g} is no share; give 0 to 1")
        for together in ([*PASSING, *LASTING], ["batch_expired", "batch_failed"]):
            if (total := self._sum(together)) > 1 + 1e-9:
                raise DeeperError(f"faults: {', '.join(together)} add up to {total:g}; give 1 at most")

    @classmethod
    def spread(cls, share: float, seed: int = 0) -> "Faults":
        """Every kind of fault: `share` of all requests, in the proportions of PASSING, LASTING and BATCH."""
        parts = PASSING | LASTING | BATCH
        return cls(seed, **{name: share * part for name, part in parts.items()})

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> "Faults":
        """Reads a share for all kinds (`0.2`) or shares of some (`dropped=0.1,refused=0.05`).

        Raises:
            DeeperError: it is neither, or names no kind of fault.
        """
        try:
            if "=" not in text:
                return cls.spread(float(text), seed)
            pairs = [part.split("=", 1) for part in text.split(",")]
            shares = {name.strip(): float(share) for name, share in pairs}
        except ValueError:
            raise DeeperError(
                f"faults {text!r} are neither a share (0.2) nor shares by kind (dropped=0.1,refused=0.05)"
            ) from None
        for name in shares:
            if name not in KINDS:
                raise DeeperError(f"faults: {name!r} is no kind of fault; known: {', '.join(KINDS)}")
        return cls(seed, **shares)

    def lasting(self, key: str) -> str | None:
        """The fault that every try of a request meets; None for most."""
        return self._draw(LASTING, 1, key)

    def passing(self, key: str, times: int) -> str | None:
        """The fault of one try of a request without a lasting one, which was sent `times` times before."""
        return self._draw(PASSING, 1 - self._sum(LASTING), key, times)

    def of_line(self, key: str, times: int) -> bool:
        """Whether a line of a batch fails."""
        return self._draw(["batch_line"], 1, key, times) is not None

    def of_batch(self, key: str, times: int) -> str | None:
        """What becomes of a batch whose file was sent `times` times before; None: it is completed."""
        return self._draw(["batch_expired", "batch_failed"], 1, key, times)

    def _draw(self, names: Iterable[str], among: float, *identity: Any) -> str | None:
        """One of the faults `names`, or none; `among` is the share of requests that can meet them at all."""
        place = _fraction(self.seed, *names, *identity) * among
        for name in names:
            place -= getattr(self, name)
            if place < 0:
                return name
        return None

    def _sum(self, names: Iterable[str]) -> float:
        return math.fsum(getattr(self, name) for name in names)


KINDS = tuple(field.name for field in fields(Faults) if field.name != "seed")
"""Every kind of fault."""


def _fraction(*identity: Any) -> float:
    """A number from 0 up to 1 that `identity` decides."""
    digest = blake2b("|".join(map(str, identity)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
