"""What the stand-in can have a taste for: themes by kind of item, and the title words that signal them.

The inventory itself is `themes.toml`. Where a title signals no theme, a plain word stands in ("anything with
garlic"); for kinds of item that nobody foresaw, any such word that several titles share.
"""

import html
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

LITERAL = "anything with "
"""How a theme that is just a title word begins."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_DECADE = re.compile(r"\(((?:19|20)\d)\d\)")
_ZIP_CODE = re.compile(r"\b[A-Z]{2} \d{5}\b")
_PLAIN = re.compile(r"[a-z]{4,15}")


@dataclass(frozen=True)
class Theme:
    """One theme.

    Attributes:
        phrase: its name in a persona; unique.
        why: what a persona says it is valued for.
        words: the title words (or pairs of words) that signal it, as `title_words` gives them.
    """

    phrase: str
    why: str
    words: frozenset[str]


@dataclass(frozen=True)
class Kind:
    """One kind of item.

    Attributes:
        item_types: what prompts call it.
        person: what to call someone who rates it.
        themes: its themes.
        words: words that make a theme of their own ("anything with garlic"); None: any that titles share.
    """

    item_types: tuple[str, ...]
    person: str
    themes: tuple[Theme, ...]
    words: frozenset[str] | None


ANY_KIND = Kind((), "person", (), None)
"""For items that `themes.toml` knows nothing about: only the words of their titles are left."""


@cache
def kinds() -> tuple[Kind, ...]:
    """The kinds of item in `themes.toml`."""
    return tuple(
        Kind(
            tuple(table["item_types"]),
            table["person"],
            tuple(
                Theme(theme["phrase"], theme["why"], frozenset(map(_signal, theme["words"].lower().split())))
                for theme in table["themes"]
            ),
            frozenset(table["words"].split()),
        )
        for table in _inventory().values()
        if isinstance(table, dict)
    )


@cache
def themes() -> dict[str, Theme]:
    """Every theme by its phrase."""
    return {theme.phrase: theme for kind in kinds() for theme in kind.themes}


@cache
def junk_words() -> frozenset[str]:
    """Words that say nothing about taste: they never make a theme of their own."""
    return frozenset(str(_inventory()["junk"]).split())


@cache
def prose_words() -> frozenset[str]:
    """Words that descriptions of people are full of; in a persona they name no taste."""
    return frozenset(str(_inventory()["prose"]).split())


def find_kind(prose: str) -> Kind:
    """The kind of item a prompt's own words speak of: the one with the longest item type among them."""
    prose = f" {' '.join(_WORD.findall(prose.lower()))} "
    named = [
        (len(item_type), kind)
        for kind in kinds()
        for item_type in kind.item_types
        if f" {item_type} " in prose
    ]
    return max(named, key=lambda pair: pair[0], default=(0, ANY_KIND))[1]


@lru_cache(maxsize=50_000)
def title_words(title: str) -> frozenset[str]:
    """The words of a title, singular and lower case, its pairs of neighbouring words, and its decade.

    The address after a shop's name does not count.
    """
    title = html.unescape(title)
    decade = _DECADE.search(title)
    words = [_singular(word) for word in _WORD.findall(_without_address(title).lower())]
    pairs = (f"{first} {second}" for first, second in pairwise(words))
    return frozenset([*words, *pairs, *([f"{decade[1]}0s"] if decade else [])])


def words_of(phrase: str) -> frozenset[str]:
    """The title words that signal the theme called `phrase`; none for an unknown theme."""
    if phrase.startswith(LITERAL):
        return frozenset([_singular(phrase.removeprefix(LITERAL))])
    theme = themes().get(phrase)
    return theme.words if theme else frozenset()


def themes_of(titles: Sequence[str], kind: Kind) -> list[list[str]]:
    """The phrases of the themes each title signals, in order of `titles`.

    A title that signals none gets the plain words that make a theme for its kind. No theme is given whose
    phrase holds one of the titles, so that a persona never quotes one.
    """
    # The words of each title between spaces; only a short one can be part of a phrase.
    quotable = [f" {' '.join(_WORD.findall(title.lower()))} " for title in titles if len(title) < 60]
    quotable = [title for title in quotable if title.strip()]
    shared = Counter(word for title in titles for word in _plain_words(title)) if kind.words is None else None
    by_title = []
    for title in titles:
        words = title_words(title)
        phrases = [theme.phrase for theme in kind.themes if not words.isdisjoint(theme.words)] or [
            LITERAL + word
            for word in _plain_words(title)
            if (shared[word] > 1 if shared is not None else word in (kind.words or ()))
        ]
        by_title.append([phrase for phrase in phrases if not _quotes(phrase, quotable)])
    return by_title


def _quotes(phrase: str, titles: Sequence[str]) -> bool:
    spaced = f" {phrase.lower()} "
    return any(title in spaced for title in titles)


def _plain_words(title: str) -> list[str]:
    """The words of a title that read naturally after "anything with": no codes, brands in capitals, junk."""
    words = _WORD.findall(_without_address(html.unescape(title)))
    return [
        word.lower()
        for word in dict.fromkeys(words)
        if _PLAIN.fullmatch(word.lower())
        and not word.isupper()
        and word.lower() not in junk_words()
        and any(vowel in word.lower() for vowel in "aeiouy")
    ]


def _without_address(title: str) -> str:
    return title.partition(",")[0] if _ZIP_CODE.search(title) else title


def _signal(word: str) -> str:
    """A word of `themes.toml` in the form that `title_words` gives."""
    if word[0].isdigit():
        return word
    return " ".join(map(_singular, _WORD.findall(word.replace("_", " "))))


def _singular(word: str) -> str:
    """A crude stem: the same for singular and plural, which is all that matters here."""
    word = word.replace("’", "'").removesuffix("'s")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")):
        word = word[:-1]
    if len(word) <= 4:
        return word
    if word.endswith("ie"):
        return word[:-2] + "y"
    return word[:-1] if word.endswith(("she", "che", "sse", "xe", "oe")) else word


@cache
def _inventory() -> dict[str, Any]:
    text = files(__package__).joinpath("themes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
