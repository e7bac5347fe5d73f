"""Generated people who are several things at once: logs whose personas are known. No real people.

How a person comes about, all of it drawn from a hash of seed, domain and number:

- personas: two to four of the domain's eight themes; one person in eight has none and wanders;
- of five personas one begins half-way and one ends half-way, but the first one of a person lasts throughout;
- 28 sessions of four to seven events, minutes apart, with hours or days between them; a session is about one
  persona or two, whose events alternate as chance has it;
- items: forty of each theme, the n-th as likely as n to the power of -0.8; of five events of a persona two
  are of its twelve favourites, so things come again;
- noise: this share of the events belongs to no persona, and is of any theme. Half of it comes event by
  event, half as whole sessions about one theme; so half of the people who wander do, session by session.

Words and titles are those of generated ratings (`themes`); what reads them has word lists of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pandas as pd

from deeper_assets.method.domains import Domain
from deeper_assets.sources.chance import Chance
from deeper_assets.sources.themes import catalogue

WORLD = 2
"""Number of the world that is generated: another one gives other logs."""

ITEMS, FAVOURITES = 40, 12
"""Of a theme; of these, a persona's."""

_FALLING = 0.8
_REPEATS = 0.4
_SESSIONS = 28
_EVENTS = (4, 5, 6, 7)
_PERSONAS = (2, 3, 4)
_AIMLESS = 1 / 8
_BEGINS, _ENDS = 0.2, 0.4  # shares, the second one with the first
_FIRST_EVENT = datetime(2021, 1, 1)


@dataclass(frozen=True)
class Happened:
    """One event of a log; `theme` is the persona it was about, and None where it belongs to none."""

    user_id: str
    happened_at: datetime
    text: str
    theme: str | None


@dataclass(frozen=True)
class PlantedPersona:
    """What somebody is: a theme, from the first moment on and before the last (None: to the end)."""

    user_id: str
    theme: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class PlantedPeople:
    """`users` generated people of one domain; `noise` is the share of events of no persona."""

    domain: Domain
    seed: int
    users: int
    noise: float

    def identity(self) -> dict[str, Any]:
        """What decides the logs."""
        return {
            "kind": "people",
            "world": WORLD,
            "domain": self.domain.name,
            "item_type": self.domain.item_type,
            "seed": self.seed,
            "users": self.users,
            "noise": self.noise,
        }

    def log(self) -> Iterator[Happened]:
        """All events, by person and time."""
        for number in range(self.users):
            yield from self._person(number).log()

    def truth(self) -> Iterator[PlantedPersona]:
        """All personas; nobody stands here who has none."""
        for number in range(self.users):
            yield from self._person(number).truth()

    def _person(self, number: int) -> "_Person":
        return _Person(
            f"{self.domain.name}-p{number:05d}", self, Chance(self.seed, self.domain.name, f"p{number}")
        )

    @cached_property
    def titles(self) -> dict[str, list[str]]:
        """Of each theme, its items, the likeliest first."""
        words = catalogue(self.domain.name, self.domain.item_type)
        chance = Chance(self.seed, self.domain.name, "items")
        titles: dict[str, list[str]] = {}
        for theme in sorted(words.themes):
            named = dict.fromkeys(
                chance.one(words.patterns, theme, "pattern", number).format(
                    word=chance.one(words.themes[theme], theme, "word", number),
                    other=chance.one(words.others, theme, "other", number),
                )
                for number in range(20 * ITEMS)
            )
            titles[theme] = list(named)[:ITEMS]
        return titles

    @cached_property
    def popular(self) -> dict[str, float]:
        """The places of a theme's items and how likely each is, against the others."""
        return {str(place): (place + 1) ** -_FALLING for place in range(ITEMS)}


def planted_log(people: PlantedPeople | None) -> pd.DataFrame:
    """The log of generated people, a row an event; none where nothing is generated."""
    return pd.DataFrame(
        list(map(vars, people.log())) if people else [], columns=[field.name for field in fields(Happened)]
    )


def planted_personas_of(people: PlantedPeople | None) -> pd.DataFrame:
    """What they are, a row a persona."""
    columns = [field.name for field in fields(PlantedPersona)]
    return pd.DataFrame(list(map(vars, people.truth())) if people else [], columns=columns)


@dataclass(frozen=True)
class _Person:
    user_id: str
    world: PlantedPeople
    chance: Chance

    def log(self) -> Iterator[Happened]:
        every = sorted(self.world.titles)
        whole = self.world.noise / 2
        single = whole / (1 - whole)  # of the events of the other sessions
        for session, began in enumerate(self._sessions):
            about, is_own = self._subject(session, whole)
            moment = began
            for event in range(self.chance.one(_EVENTS, "events", session)):
                moment += timedelta(seconds=20 + int(280 * self.chance.share("pause", session, event)))
                noise = not about or self.chance.share("noise", session, event) < single
                theme = self.chance.one(every if noise else about, "theme", session, event)
                belongs = is_own and not noise
                text = self._item(theme, belongs, session, event)
                yield Happened(self.user_id, moment, text, theme if belongs else None)

    def _subject(self, session: int, whole: float) -> tuple[list[str], bool]:
        """The themes of a session, none where each event has its own; and whether they are personas."""
        alive = [persona for persona, (first, after) in self._lives.items() if first <= session < after]
        if not alive and self.chance.share("wanders") < 1 / 2:
            return [], False
        if not alive or self.chance.share("astray", session) < whole:
            return [self.chance.one(sorted(self.world.titles), "stray", session)], False
        two = self.chance.share("two", session) < 1 / 3
        return self.chance.order(alive, "about", session)[: 1 + two], True

    def truth(self) -> Iterator[PlantedPersona]:
        for persona, (first, after) in self._lives.items():
            until = self._sessions[after] if after < _SESSIONS else None
            yield PlantedPersona(self.user_id, persona, self._sessions[first], until)

    def _item(self, theme: str, belongs: bool, *event: object) -> str:
        titles = self.world.titles[theme]
        if belongs and self.chance.share("again", *event) < _REPEATS:
            favourites = self.chance.order(titles, "favourites")[:FAVOURITES]
            return self.chance.one(favourites, "favourite", *event)
        return titles[min(int(self.chance.weighted(self.world.popular, "item", *event)), len(titles) - 1)]

    @cached_property
    def _lives(self) -> dict[str, tuple[int, int]]:
        """Persona → its first session, and the first one after its last."""
        if self.chance.share("aimless") < _AIMLESS:
            return {}
        named = self.chance.order(sorted(self.world.titles), "persona")[
            : self.chance.one(_PERSONAS, "personas")
        ]
        lives = dict.fromkeys(named, (0, _SESSIONS))
        for persona in named[1:]:
            share = self.chance.share("life", persona)
            if share < _BEGINS:
                lives[persona] = (_SESSIONS // 2, _SESSIONS)
            elif share < _ENDS:
                lives[persona] = (0, _SESSIONS // 2)
        return lives

    @cached_property
    def _sessions(self) -> list[datetime]:
        moment = _FIRST_EVENT + timedelta(days=int(365 * self.chance.share("start")))
        moments = []
        for session in range(_SESSIONS):
            moment += timedelta(hours=3 + int(120 * self.chance.share("wait", session)))
            moments.append(moment)
        return moments
