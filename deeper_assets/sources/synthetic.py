"""Generated ratings, to try everything without data, in a world whose truth is known. No real ratings.

How a user comes about, all of it drawn from a hash of seed, domain and user number alone (so a user is the
same on every machine, and however many users are asked for):

- a habit: the share of the scale usually given (mean 0.8), and how far single ratings stray from it;
- a use of the scale: of five people, one marks everything close to that habit (tastes count 0.6 times)
  and one marks in extremes (they count 1.4 times);
- tastes: of the domain's eight themes, two or three are liked (0.1 to 0.25 of the scale), two or three
  disliked (0.25 to 0.55), the others neutral. In one user of four the strongest liking and the strongest
  dislike change places half-way;
- a history: a liked theme comes up more often than any other. Most titles hold a word of their theme; one in
  eight shows nothing of it;
- an item's quality, which everyone shares (standard deviation 0.05 of the scale);
- a rating = habit + use of the scale x (taste + quality) + noise, at the scale's nearest mark.

So there is much to find in words, and a persona that holds somebody's tastes predicts better than one that
holds the habit alone. How large the share of either is in real people, these ratings cannot say.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

from duckdb import DuckDBPyConnection

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import WINDOW, stable_share
from deeper_assets.sources.chance import Chance
from deeper_assets.sources.shape import RawRating, ReadReport, Source, load_rows
from deeper_assets.sources.themes import Catalogue, catalogue

WORLD = 2
"""Number of the world that is generated: another one gives other ratings."""

_LIKED, _DISLIKED = (0.1, 0.25), (-0.25, -0.55)  # of the scale
_QUALITY = 0.05  # of the scale
_USES = (0.6, 1.0, 1.0, 1.0, 1.4)
_FIRST_RATING = datetime(2020, 1, 1)
_WORDLESS = 8  # one title of so many holds no word of its theme


@dataclass(frozen=True)
class PlantedTruth:
    """One thing that is true of a generated user, from the rating at `since` on.

    Attributes:
        part: habit (share of the scale usually given), use (factor on tastes and quality), noise (standard
            deviation of a rating), taste (what a theme adds), all but `use` as shares of the scale; or appeal
            (how often a theme comes up, share of the items).
        name: of a taste or an appeal, its theme; otherwise empty.
    """

    user_id: str
    part: str
    name: str
    since: datetime
    value: float


@dataclass(frozen=True)
class PlantedItem:
    """A generated item: its theme, the word that its title shows of it (or none), its quality."""

    title: str
    theme: str
    word: str | None
    quality: float


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
        """Kind, world, domain, item type, scale, seed, numbers of users and windows, a hash of all words."""
        words = catalogue(self.domain.name, self.domain.item_type)
        text = json.dumps([{**words.themes}, words.patterns, words.others])
        return {
            "kind": "synthetic",
            "world": WORLD,
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

    def load(self, connection: DuckDBPyConnection, folder: Path) -> ReadReport:
        """The generated ratings, by user and time; the split is left open."""
        load_rows(connection, folder, (row for user in self._people() for row, _ in user.history()))
        return ReadReport(placed=True)

    def truth(self) -> tuple[list[PlantedTruth], list[PlantedItem]]:
        """What the users were generated with, and the items they rated, each once."""
        people = list(self._people())
        items = {item.title: item for user in people for _, item in user.history()}
        return [part for user in people for part in user.truth()], [items[title] for title in sorted(items)]

    def _people(self) -> Iterator["_Person"]:
        words = catalogue(self.domain.name, self.domain.item_type)
        return (_Person.of(self, number, words) for number in range(self.users))


def planted(source: Source | None) -> tuple[list[PlantedTruth], list[PlantedItem]]:
    """The truth behind the ratings of a source; nothing where they are not generated."""
    return source.truth() if isinstance(source, SyntheticSource) else ([], [])


@dataclass(frozen=True)
class _Person:
    """A generated user.

    Attributes:
        tastes: theme → what it adds, share of the scale, before and after the change.
        change: number of the first rating after it.
    """

    user_id: str
    source: SyntheticSource
    words: Catalogue
    chance: Chance
    habit: float
    use: float
    noise: float
    tastes: tuple[Mapping[str, float], Mapping[str, float]]
    change: int

    @classmethod
    def of(cls, source: SyntheticSource, number: int, words: Catalogue) -> "_Person":
        chance = Chance(source.seed, source.domain.name, number)
        themes = sorted(words.themes, key=lambda theme: chance.share("theme", theme))
        tastes = dict.fromkeys(themes, 0.0)
        for named, (least, most) in (
            (themes[: 2 + (chance.share("likes") < 0.5)], _LIKED),
            (themes[-2 - (chance.share("dislikes") < 0.5) :], _DISLIKED),
        ):
            tastes |= {theme: least + (most - least) * chance.share("strength", theme) for theme in named}
        changed = dict(tastes)
        if chance.share("changes") < 0.25:
            best, worst = max(tastes, key=tastes.__getitem__), min(tastes, key=tastes.__getitem__)
            changed |= {best: tastes[worst], worst: tastes[best]}
        return cls(
            f"{source.domain.name}-{number:05d}",
            source,
            words,
            chance,
            habit=min(max(0.8 + 0.15 * chance.normal("habit"), 0.3), 1.0),
            use=chance.one(_USES, "use"),
            noise=0.03 + 0.07 * chance.share("spread"),
            tastes=(tastes, changed),
            change=int(source.windows * WINDOW * (0.4 + 0.2 * chance.share("when"))),
        )

    def history(self) -> Iterator[tuple[RawRating, PlantedItem]]:
        """The ratings in order of time, and what was rated."""
        seen: set[str] = set()
        scale = self.source.domain.scale
        for position, rated_at in enumerate(self._moments()):
            tastes = self.tastes[position >= self.change]
            item = self._item(position, tastes, seen)
            seen.add(item.title)
            share = self.habit + self.use * (tastes[item.theme] + item.quality)
            share += self.noise * self.chance.normal("noise", position)
            rating = scale.mark_at(share)
            yield (
                RawRating(
                    user_id=self.user_id,
                    item_id=item.title,
                    title=item.title,
                    rating_text=f"{rating:g}",
                    rating=rating,
                    rated_at=rated_at.isoformat(),
                    position=position,
                ),
                item,
            )

    def truth(self) -> Iterator[PlantedTruth]:
        """All of it; what changes stands there twice."""
        moments = list(self._moments())
        for part, value in (("habit", self.habit), ("use", self.use), ("noise", self.noise)):
            yield PlantedTruth(self.user_id, part, "", moments[0], value)
        for part, (before, after) in (
            ("taste", self.tastes),
            ("appeal", tuple(_shares(_appeal(tastes)) for tastes in self.tastes)),
        ):
            for theme, value in before.items():
                yield PlantedTruth(self.user_id, part, theme, moments[0], value)
                if after[theme] != value:
                    yield PlantedTruth(self.user_id, part, theme, moments[self.change], after[theme])

    def _moments(self) -> Iterator[datetime]:
        moment = _FIRST_RATING + timedelta(days=int(365 * self.chance.share("start")))
        for position in range(self.source.windows * WINDOW):
            moment += timedelta(minutes=1 + int(10_000 * self.chance.share("wait", position)))
            yield moment

    def _item(self, position: int, tastes: Mapping[str, float], seen: set[str]) -> PlantedItem:
        """An item that the user has not rated yet, unless a hundred tries give no such one."""
        theme = self.chance.weighted(_appeal(tastes), "which theme", position)
        wordless = self.chance.share("wordless", position) < 1 / _WORDLESS
        for attempt in range(100):
            what = (position, attempt)
            other = self.chance.one(self.words.others, "other", *what)
            word = self.chance.one(self.words.themes[theme], "word", *what)
            if wordless:
                word = self.chance.one(self.words.others, "second", *what)
            title = self.chance.one(self.words.patterns, "pattern", *what).format(word=word, other=other)
            # A title without a word has one theme all the same, whoever rates it.
            own = self._hidden_theme(title) if wordless else theme
            item = PlantedItem(title, own, None if wordless else word, self._quality(title))
            if title not in seen and own == theme:
                break
        return item

    def _quality(self, title: str) -> float:
        share = stable_share(self.source.seed, self.source.domain.name, "quality", title)
        return _QUALITY * NormalDist().inv_cdf(max(share, 1e-12))

    def _hidden_theme(self, title: str) -> str:
        themes = sorted(self.words.themes)
        return themes[int(len(themes) * stable_share(self.source.seed, self.source.domain.name, title))]


def _appeal(tastes: Mapping[str, float]) -> dict[str, float]:
    """How often each theme comes up, against the others."""
    return {theme: 2.0 if value > 0 else 1.5 for theme, value in tastes.items()}


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}
