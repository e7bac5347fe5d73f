"""What a persona should not repeat of the ratings it was written from: names of items, and scores.

Both are judged by patterns for English, which err on the side of ordinary language.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from deeper_assets.method.prompts import one_line

Item = tuple[str, ...]
"""The words of a line that names an item and its marks, but for the marks."""


def names_item(text: str, titles: Sequence[str]) -> bool:
    """Whether `text` names one of `titles`, whose words stand in it as whole words in a row.

    Case, accents, punctuation, "&" for "and", a possessive 's, what a title has in parentheses and where it
    has its article ("Matrix, The (1999)") do not count. A title of one word, or of fewer than ten letters in
    all, is often ordinary language ("Up", "Hot Dogs"); it counts only where it is written as a name: in
    quotes, or with capitals where no sentence begins. So does the part of a title before a colon or dash. A
    title of one letter never counts.
    """
    own = Words.of(text)
    return any(
        own.holds(words) and (plain or own.holds_as_name(words))
        for title in titles
        for words, plain in _spellings(title)
    )


def states_score(text: str) -> bool:
    """Whether `text` states a score: a number, in digits or in words, in the company of marking.

    "4.5 stars", "3 out of 5", "a rating of 4", "mostly gives fives" do; "the highest mark", "two or three
    books" and "the 1990s" do not.
    """
    # Line by line too: the word that begins the next line is no noun that a number counts.
    return any(_SCORE.search(one_line(part).casefold()) for part in {text, *text.splitlines()})


def items_of(lines: Sequence[str]) -> frozenset[Item]:
    """The items of lines of an item and its marks, as words: "heat predicted 4 actual 5"."""
    return frozenset(item for line in lines for item in _items(line.split()))


def lists_ratings(text: str, items: frozenset[Item]) -> bool:
    """Whether a line of `text` gives one of the items and a mark, be it another mark than the prompt's.

    For Heat a line such as "Heat: 3, actual 5" does; "Heat", and prose that mentions Heat, do not.
    """
    lines = [Words.of(line).words for line in text.splitlines()]
    return any(_MARKING & set(line) and not items.isdisjoint(_items(line)) for line in lines)


_MARKING = frozenset({"predicted", "prediction", "actual", "rated", "rating"})


def _items(words: Sequence[str]) -> Iterator[Item]:
    """A line without "predicted 4" or "actual 5" at either end, or a number behind.

    Where a number is left before, it may be half of one, as in "rated 4.5": the line without it comes too.
    """
    start, end = 0, len(words)
    while end and words[end - 1].isdigit():
        end -= 2 if end > 1 and words[end - 2] in _MARKING else 1
    while start + 1 < end:
        if words[start] in _MARKING and words[start + 1].isdigit():
            start += 2
        elif start and words[start].isdigit() and words[start + 1] in _MARKING:
            start += 1  # the half of "predicted 4.5, actual 3"
        else:
            break
    if start < end:
        yield tuple(words[start:end])
        if words[start].isdigit() and start + 1 < end:
            yield tuple(words[start + 1 : end])


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s$")
_OPENS = "\"'“„‘«»*_"
_CLOSES = "\"'”“’»«*_"


@dataclass(frozen=True)
class Words:
    """A text as words.

    Attributes:
        text: with compatible forms unified and without accents.
        words: in lower case, without possessive 's and apostrophes.
        spans: where in `text` each of them stands.
        line: the words with a space before, between and after.
    """

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    line: str

    @classmethod
    def of(cls, text: str) -> "Words":
        """The words of `text`."""
        plain = text.replace("&", " and ")
        if not plain.isascii():
            plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
        matches = list(_WORD.finditer(plain))
        words = tuple(_bare(match[0]) for match in matches)
        return cls(plain, words, tuple(match.span() for match in matches), f" {' '.join(words)} ")

    def holds(self, words: str) -> bool:
        """Whether these words, single-spaced, stand in the text in a row."""
        return bool(words) and f" {words} " in self.line

    def holds_as_name(self, words: str) -> bool:
        """Whether they do so at least once in quotes, or with capitals where no sentence begins."""
        length, first, before = words.count(" ") + 1, 0, 0
        at = self.line.find(f" {words} ")
        while at >= 0:
            first += self.line.count(" ", before, at)
            start, end = self.spans[first][0], self.spans[first + length - 1][1]
            if self._quoted(start, end) or (
                self.text[start].isupper()
                and not self.text[self.spans[first + length - 1][0]].islower()
                and not self._begins_sentence(start)
            ):
                return True
            before, at = at, self.line.find(f" {words} ", at + 1)
        return False

    def _quoted(self, start: int, end: int) -> bool:
        before, after = self.text[max(0, start - 1) : start], self.text[end : end + 2].lstrip(".,!?")[:1]
        return before != "" and after != "" and before in _OPENS and after in _CLOSES

    def _begins_sentence(self, start: int) -> bool:
        before = self.text[max(0, start - 8) : start]
        return "\n" in before or before.rstrip(f"{_OPENS} (")[-1:] in {"", ".", "!", "?", ":", "-", "•", "#"}


def _bare(word: str) -> str:
    if not word.isalnum():
        word = _POSSESSIVE.sub("", word).replace("'", "").replace("’", "")
    return word.casefold()


_PARENTHESES = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_ARTICLE = re.compile(r"^(.+), (the|an?|le|la|les|l'|il|el|der|die|das)$", re.IGNORECASE)
_HEAD = re.compile(r"^(.+?)(?:: | [-–—] )")
_ORDINARY_LETTERS = 10


@lru_cache(maxsize=4096)
def _spellings(title: str) -> tuple[tuple[str, bool], ...]:
    """The ways to name a title, as words, and whether each counts however it is written."""
    bare = " ".join(_PARENTHESES.sub(" ", title).split())
    bare = _ARTICLE.sub(r"\2 \1", bare) or title
    head = _HEAD.match(bare)
    spellings: dict[str, bool] = {}
    for name, whole in ((bare, True), (title, True), *([(head[1], False)] if head else [])):
        words = Words.of(_ARTICLE.sub(r"\2 \1", name)).words
        letters = len("".join(words))
        if letters > 1:
            spellings.setdefault(" ".join(words), whole and len(words) > 1 and letters >= _ORDINARY_LETTERS)
    return tuple(spellings.items())


_SPELLED = "two|three|four|five|six|seven|eight|nine|ten"
_DIGITS = r"(?<![\w.,])(?:100|\d{1,2})(?:\.\d++)?+(?:\s?½)?+(?!\w)"
_NUMBER = rf"(?:{_DIGITS}|½|\b(?:{_SPELLED})(?: and a half)?+\b)"
_RANGE = r"(?:(?:\s(?:to|or|and|through)\s(?:an?\s)?|\s?[-–—]\s?){number})*+"
_NUMBERS = _NUMBER + _RANGE.format(number=_NUMBER)
_AMOUNTS = _DIGITS + _RANGE.format(number=_DIGITS)
# What may come after a number that is a score; before any other word it counts things ("4 books").
_NO_NOUN = (
    r"(?=\s*+(?:$|[^\w\s$€£%°'’–—-])|\s(?:to|for|or|and|out|of|on|at|with|in|as|is|are|was|but|when|whenever"
    r"|where|if|unless|because|even|rather|than|points?|ratings?|scores?|marks?|grades?|overall|instead)\b)"
)
_FILLER = (
    r"(?:\s(?:an?|the|of|at|as|in|is|are|was|were|be|it|them|this|that|these|most|mostly|usually|often|nearly"
    r"|almost|always|only|just|about|around|roughly|from|between|above|below|over|under|near|close|to|by|with"
    r"|not|no|more|less|fewer|lower|higher|up|down|average|averaging|averages|perfect|full|solid|strong|flat"
    r"|mere|straight|low|high|good|bad|things|everything|anything)){0,6}"
)
_RATES = (
    r"\b(?:rat(?:ings?|ed?|es|ing)|scor(?:es?|ed|ing)|mark(?:s|ed|ing)?|grad(?:es?|ed|ing)|averag(?:es?|ed|ing)"
    r"|predicted|actual)(?:\s?[:=])?"
)
_GIVES = r"\b(?:gives?|gave|given|giving|awards?|awarded|awarding|hands out|perfect|solid|straight|flat)"
_SCORE = re.compile(
    "|".join(
        (
            rf"(?:{_NUMBER}|\bone(?: and a half)?)[\s-]?(?:and-a-half-)?stars?\b",
            r"[★☆⭐]",
            rf"(?:{_NUMBER}|\bone)(?: stars?)? out of (?:an? )?{_NUMBER}{_NO_NOUN}",
            r"(?<![\w./])\d{1,3}(?:\.\d++)?+\s?/\s?(?:5|10|100)(?![\w/]|\.\d)",
            r"\b(?:fours|fives|(?:10|\d(?:\.\d)?)s)\b",
            rf"(?:{_RATES}|{_GIVES}){_FILLER}\s{_NUMBERS}{_NO_NOUN}",
            rf"{_RATES}(?:\s[^\s.!?;]++){{0,4}}?\s{_AMOUNTS}{_NO_NOUN}",
            r"\b(?:ratings?|scores?|marks?|grades?) of (?:about |around )?one\b(?! (?:of|or)\b)",
        )
    )
)
