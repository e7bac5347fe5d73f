"""Which title a name means: the same but for case, spaces and quotes, a misspelling of it, or a short form.

Numbers decide. Sequels, volumes and packs differ in nothing else, so a name whose numbers differ from a
title's is never a misspelling of it, however much alike the rest is.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from deeper_assets.method.prompts import one_line

LIKE = 0.8
"""How much alike each word of a misspelt name is to the title's, by difflib: one letter in five differs."""

CLEARLY = 0.15
"""How much less alike every other title must be."""

QUOTES = str.maketrans("‘’‚‛`´“”„‟«»″", "''''''" + '"' * 7)
"""Quotes of any kind to plain ones."""

_LONGEST = 1000  # characters of a name or title
_MOST_WORDS = 60
_LONGEST_WORD = 40
_MOST_HEADS = 8
_FEWEST_FIRST_WORDS = 4
"""What a misspelling is looked for in, so that a hostile answer takes no time."""

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_ARTICLES = ("the", "a", "an")
_ARTICLE_BEHIND = re.compile(r", (?:the|an?)(?=$| ?[(\[])")
_WORD = re.compile(r"[^\W_]+")
_BRACKETS = re.compile(r" ?[(\[](?!\d{1,3}[)\]])([^()\[\]]*+)[)\]]", re.ASCII)
_YEAR = re.compile(r"(?:19|20)\d\d", re.ASCII)
_YEAR_BEHIND = re.compile(r" ?[(\[](?:19|20)\d\d[)\]]$", re.ASCII)
# Not before a number alone: "Saw (2)" and "Books 1, 2" are no longer forms of "Saw" and "Books 1".
_CUT = re.compile(r" ?[(\[](?!\d{1,3}[)\]])|[:;,](?= (?!\d))| [-–—|/](?= (?!\d))", re.ASCII)
_ROMAN = (
    *("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"),
    *("xi", "xii", "xiii", "xiv", "xv", "xvi", "xvii", "xviii", "xix", "xx"),
)
_COUNTED = (
    *("one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_NUMBERS = {word: str(number) for words in (_ROMAN, _COUNTED) for number, word in enumerate(words, 1)}


@lru_cache(maxsize=16_384)  # all candidates of a context are asked about the same titles
def normal(title: str) -> str:
    """What two spellings of one title have in common: entities, case, spaces and quotes do not count."""
    # Flattened before and after: a prompt shows titles flattened, and entities may hide more to flatten.
    text = one_line(html.unescape(one_line(title)))
    text = unicodedata.normalize("NFKC", text).casefold().translate(QUOTES)
    return " ".join(text.strip("\"' ").split())


def named_in_order(text: str, titles: Sequence[str]) -> bool:
    """Whether an answer that has no names beside its ratings nowhere names these titles in another order."""
    if not any(character.isalpha() for character in text):
        return True
    text = html.unescape(_ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), text))
    prose = " ".join(unicodedata.normalize("NFKC", text).casefold().translate(QUOTES).split())
    forms = [normal(title) for title in titles]
    first: dict[str, int] = {}
    # Longest first, each then blotted out: one title may be part of another.
    for form in sorted(set(forms) - {""}, key=len, reverse=True):
        mention = re.compile(rf"(?<!\w){re.escape(form)}(?!\w)")
        if mentioned := mention.search(prose):
            first[form] = mentioned.start()
            prose = mention.sub("\0" * len(form), prose)
    places = [first[form] for form in forms if form in first]
    return places == sorted(places)


def meant(name: str, titles: Iterable[str]) -> str | None:
    """The one title that a name misspells or shortens, where no other is nearly as much like it.

    Args:
        name: in normal form, as are the titles; none of them is equal to it.
        titles: each once, also those that other names stand for already: a name that is like one of these
            must not stand for another.
    """
    ranked = sorted(((likeness(name, title), title) for title in titles), reverse=True)
    if not ranked or ranked[0][0] < LIKE:
        return None
    (best, title), *others = ranked
    return title if all(other < best - CLEARLY for other, _ in others) else None


def likeness(name: str, title: str) -> float:
    """How much a name is like a title, or like a short form of it: 0 (another title) … 1 (the same words).

    It is the likeness of the least alike words. Short forms are what a model leaves off: brackets, everything
    behind a colon, comma or dash, and of long titles whatever comes after four words or more. A year in
    brackets may also have been added. The order of words may differ ("Matrix, The").
    """
    if max(len(name), len(title)) > _LONGEST:
        return 0.0
    if name.endswith("..") and len(start := name.rstrip(". ")) > _FEWEST_FIRST_WORDS:
        return float(title.startswith(start))
    own, forms = _words(name), _forms(title)
    if not own or not forms:
        return 0.0
    if _words(_YEAR_BEHIND.sub("", name)) == forms[0] or _begins(forms[0], own):
        return 1.0
    return max(_alike(own, form) for form in forms)


def _alike(ours: tuple[str, ...], theirs: tuple[str, ...]) -> float:
    if [word for word in ours if _is_number(word)] != [word for word in theirs if _is_number(word)]:
        return 0.0
    if sorted(ours) == sorted(theirs) or "".join(ours) == "".join(theirs):
        return 1.0
    if len(ours) != len(theirs) or len(ours) > _MOST_WORDS:
        return 0.0
    least = 1.0
    for our, their in zip(ours, theirs, strict=True):
        least = min(least, _words_alike(our, their))
        if least < LIKE - CLEARLY:
            return 0.0
    return least


@lru_cache(maxsize=65_536)
def _words_alike(our: str, their: str) -> float:
    if our == their:
        return 1.0
    if _is_number(our) or _is_number(their) or max(len(our), len(their)) > _LONGEST_WORD:
        return 0.0
    return SequenceMatcher(None, our, their, autojunk=False).ratio()


def _is_number(word: str) -> bool:
    return any(character.isdigit() for character in word)


def _begins(title: tuple[str, ...], name: tuple[str, ...]) -> bool:
    """Whether a name is the beginning of a long title, and what is left off is not first of all a number."""
    length = len(name)
    return (
        _FEWEST_FIRST_WORDS <= length < len(title)
        and title[:length] == name
        and not _is_number(title[length])
    )


@lru_cache(maxsize=16_384)
def _forms(title: str) -> tuple[tuple[str, ...], ...]:
    """The words of a title, then of its short forms."""
    texts = [
        title,
        _BRACKETS.sub(lambda group: group[0] if _YEAR.fullmatch(group[1]) else "", title),
        _BRACKETS.sub("", title),
        *[title[: cut.start()] for cut in _CUT.finditer(title)][:_MOST_HEADS],
    ]
    return tuple(dict.fromkeys(words for words in map(_words, texts) if words))


@lru_cache(maxsize=16_384)
def _words(text: str) -> tuple[str, ...]:
    """Words without accents, apostrophes, an article at the beginning and "and"; numbers as digits."""
    text = unicodedata.normalize("NFKD", _ARTICLE_BEHIND.sub("", text).replace("'", ""))
    text = "".join(character for character in text if not unicodedata.combining(character))
    words = [_NUMBERS.get(word, word) for word in _WORD.findall(text) if word != "and"]
    return tuple(words[1:] if len(words) > 1 and words[0] in _ARTICLES else words)
