"""Which item each predicted rating belongs to. A rating that cannot be placed for certain makes no answer.

A name that is a title's, but for case, spaces, quotes and a number before or behind it, decides alone. A name
that misspells or shortens exactly one title, clearly, is corrected. Positions count only where no rating has
a name; numbers must then agree with them. In the end every title has its one rating, or nothing is read.
"""

import re
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.prompts import one_line
from deeper_assets.method.titles import meant, normal

Placing = Literal["name", "position", "correction"]
"""How a rating found its item."""

_MOST_CORRECTIONS = 20
"""Names of one answer that are corrected: one with more of them is of other items."""

_ONLY_A_NUMBER = re.compile(r"(?:([^\W\d_]{1,20})[ _.-]*)?[#(\[]?([0-9]{1,4})[)\].:]?")
_NUMBER_BEFORE = re.compile(
    r"(?:[-*•] )?(?:item )?[#(\[]?(?P<number>[0-9]{1,4}) ?[.):\]–-]+(?P<name>(?=\D).+)"
)
_NUMBER_BEHIND = re.compile(r"(?P<name>.+?) ?[(\[#]#?(?P<number>[0-9]{1,4})[)\]]?")


@dataclass(frozen=True)
class Entry:
    """A rating as it stands in an answer, with the name and the number beside it, if there are any."""

    name: str | None
    number: int | None
    rating: float


@dataclass(frozen=True)
class PlacedRatings:
    """One rating a title, in the order of the titles (rating points), and how each was placed."""

    ratings: tuple[float, ...]
    placed: tuple[Placing, ...]


def place(entries: Sequence[Entry], titles: Sequence[str]) -> PlacedRatings:
    """Gives every title its rating.

    Args:
        entries: as many as there are titles.
        titles: may hold one several times; its ratings are taken in order of appearance.

    Raises:
        UnreadableAnswer: "misplaced".
    """
    names = [entry.name for entry in entries if entry.name is not None]
    if not names:
        return _by_position(entries, [entry.number for entry in entries])
    if len(names) < len(entries):
        raise UnreadableAnswer("misplaced")
    known = _known(tuple(titles))
    means = [known.exact(name) for name in names]
    if None not in means:
        return _by_name(entries, means, [False] * len(entries), known, [entry.number for entry in entries])
    counting = _numbers_alone(names, known)
    if counting is not None:
        return _by_position(entries, counting)
    return _by_unclear_names(entries, names, known)


@dataclass(frozen=True)
class _Known:
    """The titles asked about.

    Attributes:
        places: title → where it stands.
        spellings: normal form → the titles that have it: one, but for oddities such as "Up" beside "UP".
    """

    places: dict[str, list[int]]
    spellings: dict[str, list[str]]

    def exact(self, name: str) -> str | None:
        """The title of this name. Of several with its normal form, the one spelled alike.

        Raises:
            UnreadableAnswer: "misplaced": none of several is spelled alike.
        """
        spellings = self.spellings.get(normal(name))
        if spellings is None:
            return None
        if len(spellings) == 1:
            return spellings[0]
        if (flat := one_line(name)) in spellings:
            return flat
        raise UnreadableAnswer("misplaced")


@lru_cache(maxsize=4096)  # all candidates of a context are asked about the same titles
def _known(titles: tuple[str, ...]) -> _Known:
    places: dict[str, list[int]] = defaultdict(list)
    spellings: dict[str, list[str]] = defaultdict(list)
    for place_, title in enumerate(map(one_line, titles)):
        if title not in places:
            spellings[normal(title)].append(title)
        places[title].append(place_)
    return _Known(dict(places), dict(spellings))


def _by_position(entries: Sequence[Entry], numbers: Sequence[int | None]) -> PlacedRatings:
    for counted in (numbers, [entry.number for entry in entries]):
        if any(number is not None for number in counted) and _first_number(counted, ordered=True) is None:
            raise UnreadableAnswer("misplaced")
    by_position: Placing = "position"
    return PlacedRatings(tuple(entry.rating for entry in entries), (by_position,) * len(entries))


def _by_unclear_names(entries: Sequence[Entry], names: Sequence[str], known: _Known) -> PlacedRatings:
    """Places names some of which are no title's as they stand: numbered, misspelt or shortened ones."""
    numbers = [entry.number for entry in entries]
    numbered = _without_numbers(names, _NUMBER_BEFORE) or _without_numbers(names, _NUMBER_BEHIND)
    if numbered is not None:
        names, numbers = [name for name, _ in numbered], [number for _, number in numbered]
    means = [known.exact(name) for name in names]
    corrected = [title is None for title in means]
    if sum(corrected) > _MOST_CORRECTIONS:
        raise UnreadableAnswer("misplaced")
    for i, name in enumerate(names):
        form = meant(normal(name), known.spellings) if corrected[i] else None
        if form is not None and len(known.spellings[form]) == 1:
            [means[i]] = known.spellings[form]
    return _by_name(entries, means, corrected, known, numbers)


def _by_name(
    entries: Sequence[Entry],
    means: Sequence[str | None],
    corrected: Sequence[bool],
    known: _Known,
    numbers: Sequence[int | None],
) -> PlacedRatings:
    """One rating a title, from the title that each entry means.

    What was corrected, numbers must confirm; which of the places of one title is meant, they must not deny.
    """
    waiting = {title: deque(places) for title, places in known.places.items()}
    ratings: list[float] = [0.0] * len(entries)
    placed: list[Placing] = ["name"] * len(entries)
    first = _first_number(numbers)
    for i, (entry, title) in enumerate(zip(entries, means, strict=True)):
        if title is None or not waiting[title]:
            raise UnreadableAnswer("misplaced")
        here = waiting[title].popleft()
        ratings[here] = entry.rating
        agrees = numbers[i] is None or (first is not None and numbers[i] == here + first)
        if corrected[i]:
            placed[here] = "correction"
        if not agrees and (corrected[i] or (first is not None and len(known.places[title]) > 1)):
            raise UnreadableAnswer("misplaced")
    return PlacedRatings(tuple(ratings), tuple(placed))


def _numbers_alone(names: Sequence[str], known: _Known) -> list[int] | None:
    """The numbers in names such as "3" or "item 3"; None where names say anything else, or are titles."""
    matches = [_ONLY_A_NUMBER.fullmatch(one_line(name)) for name in names]
    if any(match is None for match in matches) or any(normal(name) in known.spellings for name in names):
        return None
    words = {(match[1] or "").casefold() for match in matches if match}
    if len(words) > 1 or any(word and word in form for word in words for form in known.spellings):
        return None
    return [int(match[2]) for match in matches if match]


def _without_numbers(names: Sequence[str], numbered: re.Pattern[str]) -> list[tuple[str, int]] | None:
    """Names and numbers apart, where every name has one and they are the numbers of a list in any order."""
    matches = [numbered.fullmatch(one_line(name)) for name in names]
    apart = [(match["name"], int(match["number"])) for match in matches if match]
    if len(apart) < len(names) or _first_number([number for _, number in apart]) is None:
        return None
    return apart


def _first_number(numbers: Sequence[int | None], ordered: bool = False) -> int | None:
    """0 or 1 where the numbers count the entries from there, in any order or `ordered`; otherwise None."""
    counted = (
        list(numbers) if ordered else sorted(numbers, key=lambda number: -1 if number is None else number)
    )
    return next((first for first in (0, 1) if counted == list(range(first, first + len(counted)))), None)
