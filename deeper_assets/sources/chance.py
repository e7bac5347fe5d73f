"""Draws of generated people, each a hash of whose it is and what it is for: none depends on another."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist
from typing import TypeVar

from deeper_assets.method.windows import stable_share

_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Chance:
    """One user's draws."""

    seed: int
    domain: str
    user: int | str

    def share(self, *what: object) -> float:
        """In [0, 1), uniform."""
        return stable_share(self.seed, self.domain, self.user, *what)

    def normal(self, *what: object) -> float:
        """Standard normal."""
        return NormalDist().inv_cdf(max(self.share(*what), 1e-12))

    def one(self, things: Sequence[_Thing], *what: object) -> _Thing:
        """One of `things`, each as likely."""
        return things[int(len(things) * self.share(*what))]

    def weighted(self, weights: Mapping[str, float], *what: object) -> str:
        """One of the names, as likely as its weight says."""
        names = list(weights)
        bounds = list(accumulate(weights.values()))
        return names[min(bisect(bounds, self.share(*what) * bounds[-1]), len(names) - 1)]

    def order(self, things: Sequence[_Thing], *what: object) -> list[_Thing]:
        """All of `things` in an order of chance."""
        return sorted(things, key=lambda thing: self.share(*what, thing))
