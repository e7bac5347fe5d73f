"""Generated ratings, to try everything without data. They are no substitute for real ones.

How a user comes about, all of it drawn from a hash of seed, domain and user number alone (so a user is the
same on every machine, and however many users are asked for):

- a habit: the share of the scale usually given (mean 0.86, so 4.4 of 5) and how far single ratings stray;
- tastes: of the domain's eight themes, two or three are liked, two or three disliked, the others neutral;
- a history: liked themes come up more often than disliked ones; an item's title holds a word of its theme;
- a rating = habit + taste (liked +0.10, disliked −0.35 of the scale) + noise, at the scale's nearest mark.

Real items have a quality of their own, real tastes change, and titles do not show everything; here it is
otherwise. So a text model learns more from these titles than from real ones, and figures on them say nothing
about people.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import WINDOW, stable_share
from deeper_assets.sources.shape import RawRating, ReadReport, write_rows
from deeper_assets.sources.themes import Catalogue, catalogue

_LIKED, _DISLIKED = 0.10, -0.35  # of the scale
_FIRST_RATING = datetime(2020, 1, 1)


@dataclass(frozen=True)
class SyntheticSource:
    """`users` generated users of one domain with `windows` windows of ten ratings each."""

    domain: Domain
    seed: int
    users: int
    windows: int = 7

    def __post_init__(self) -> None:
        if self.users < 1 or self.windows < 1:
            raise DeeperError(
                f"{self.users} users with {self.windows} windows: synthetic ratings need at least one of each"
            )

    def files(self) -> list[Path]:
        """None: nothing is read."""
        return []

    def identity(self) -> dict[str, Any]:
        """Kind, domain, item type, scale, seed, numbers of users and windows, the hash of all title words."""
        words = catalogue(self.domain.name, self.domain.item_type)
        text = json.dumps([{**words.themes}, words.patterns, words.others])
        return {
            "kind": "synthetic",
            "domain": self.domain.name,
            "item_type": self.domain.item_type,
            "scale": str(self.domain.scale),
            "seed": self.seed,
            "users": self.users,
            "windows": self.windows,
            "words": hashlib.sha256(text.encode()).hexdigest(),
        }

    def settings(self) -> dict[str, Any]:
        """All of it: no file is looked at."""
        return self.identity()

    def write_raw_ratings(self, target: Path) -> ReadReport:
        """Write the generated ratings, by user and time; the split is left open."""
        words = catalogue(self.domain.name, self.domain.item_type)
        ratings = (row for user in range(self.users) for row in self._history(user, words))
        return ReadReport(write_rows(self.domain, ratings, target))

    def _history(self, number: int, words: Catalogue) -> Iterator[RawRating]:
        chance = _Chance(self.seed, self.domain.name, number)
        themes = sorted(words.themes, key=lambda theme: chance.share("theme", theme))
        liked = themes[: 2 + (chance.share("likes") < 0.5)]
        disliked = themes[-2 - (chance.share("dislikes") < 0.5) :]
        habit = min(max(0.86 + 0.14 * chance.normal("habit"), 0.45), 1.0)
        spread = 0.05 + 0.10 * chance.share("spread")
        tastes = {theme: _LIKED * (theme in liked) + _DISLIKED * (theme in disliked) for theme in themes}
        appeal = {theme: 3.0 if theme in liked else 1.0 if theme in disliked else 1.5 for theme in themes}
        scale = self.domain.scale
        rated_at = _FIRST_RATING + timedelta(days=int(365 * chance.share("start")))
        seen: set[str] = set()
        for position in range(self.windows * WINDOW):
            theme, title = _item(chance, position, words, appeal, seen)
            seen.add(title)
            rated_at += timedelta(minutes=1 + int(10_000 * chance.share("wait", position)))
            share = habit + tastes[theme] + spread * chance.normal("noise", position)
            rating = scale.nearest(scale.lowest + share * (scale.highest - scale.lowest))
            yield RawRating(
                user_id=f"{self.domain.name}-{number:05d}",
                item_id=title,
                title=title,
                rating_text=f"{rating:g}",
                rating=rating,
                rated_at=rated_at.isoformat(),
                position=position,
            )


@dataclass(frozen=True)
class _Chance:
    """One user's draws. Each is a hash of the user and its purpose, so no draw depends on another."""

    seed: int
    domain: str
    user: int

    def share(self, *what: object) -> float:
        """In [0, 1), uniform."""
        return stable_share(self.seed, self.domain, self.user, *what)

    def normal(self, *what: object) -> float:
        """Standard normal."""
        return NormalDist().inv_cdf(max(self.share(*what), 1e-12))

    def one(self, things: tuple[str, ...], *what: object) -> str:
        """One of `things`, each as likely."""
        return things[int(len(things) * self.share(*what))]


def _item(
    chance: _Chance, position: int, words: Catalogue, appeal: dict[str, float], seen: set[str]
) -> tuple[str, str]:
    """An item's (theme, title). The user has not rated it yet, unless a hundred tries give no such title."""
    point = chance.share("which theme", position) * sum(appeal.values())
    theme = next(iter(appeal))
    for theme, weight in appeal.items():  # noqa: B007 - the last theme takes what rounding leaves
        point -= weight
        if point < 0:
            break
    title = ""
    for attempt in range(100):
        what = (position, attempt)
        pattern = chance.one(words.patterns, "pattern", *what)
        title = pattern.format(
            word=chance.one(words.themes[theme], "word", *what),
            other=chance.one(words.others, "other", *what),
        )
        if title not in seen:
            break
    return theme, title
