"""Reads what a chat model answers: predicted ratings, and personas.

Unknown is never a number. An answer that cannot be read raises `UnreadableAnswer` with one word out of
`REASONS`, which gets counted; no input, however hostile, raises anything else or takes long.

Departs from the paper: the paper leaves open what happens to an answer with the wrong number of ratings or a
rating off the scale. Here such an answer counts as no answer.
"""

import html
import json
import math
import re
import unicodedata
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from deeper_assets.method.domains import Scale
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.prompts import one_line

REASONS: Mapping[str, str] = {
    "no_answer": "the model gave no text",
    "cut_off": "the answer was longer than a model may answer",
    "content_filter": "the server's filter withheld prompt or answer",
    "rejected": "the server cannot take this prompt",
    "too_long": "the answer is too long to be one",
    "no_json": "the answer holds no JSON list or object",
    "wrong_count": "not one rating an item",
    "not_a_number": "a rating is missing or not a finite number",
    "outside_scale": "a rating lies outside the scale",
    "no_persona": "nothing is left of the persona without its wrapping",
    "refusal": "the model refused",
    "echo": "the answer repeats the prompt, or has a tag in the middle of the persona",
}
"""Why an answer could not be read: word → meaning."""

LONGEST_ANSWER = 200_000
"""In characters. Ten ratings or a persona need a hundredth of it."""

_MOST_STARTS = 64
"""How many brackets are tried as the beginning of JSON, so that an answer full of brackets takes no time."""

_MOST_WRAPPERS = 3
"""How many objects around the ratings are looked through."""

_NAME_KEYS = ("item", "title", "name", "item_name", "item_title")
_RATING_KEYS = ("predicted_rating", "predicted", "rating", "score")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_QUOTES = str.maketrans("‘’‚‛`´“”„‟«»″", "''''''" + '"' * 7)

# Possessive quantifiers (*+) keep these linear in the answer.
_FENCE = re.compile(r"```(?:[^\S\n]*+\w*+[^\S\n]*+\n)?(.*?)```", re.DOTALL)
_OPENING_TAG = re.compile(r"<(\w{0,20}persona)>")
_TAG = re.compile(r"</?\w{0,20}persona>")
_BRACKET = re.compile(r"[\[{]")
_LEAD_IN = re.compile(
    r"(?:(?:sure|certainly|of course|okay)[,.!]? )?(?:here(?:['’]s| is) )?"
    r"(?:(?:the|an?|your|my) )?"
    r"(?:(?:refined|updated|revised|merged|new|user|person's|short-term|long-term) )*+"
    r"(?:persona|description|profile)(?: of (?:the|this) (?:user|person))?[*_ ]*+[:\n][*_ ]*+",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"(?:(?:i'm |i am )?(?:very |so )?sorry|i apologi[sz]e|i (?:can't|cannot|can not|won't)"
    r"|(?:i'm|i am) (?:unable|not able)|as an ai|unfortunately, i (?:can|am|'m))\b",
    re.IGNORECASE,
)
_LONGEST_REFUSAL = 400

# A JSON object keeps its pairs as a tuple: a list never is one, and repeated keys are not lost.
_Object = tuple[tuple[str, Any], ...]
_Entry = tuple[str | None, float]


def parse_ratings(answer: str | None, titles: Sequence[str], scale: Scale) -> tuple[float, ...]:
    """The predicted rating of every title, in the order of `titles` (rating points, anywhere on the scale).

    The JSON may stand in a fence or amid prose: a list of objects, of numbers or of [name, number], an object
    of names and numbers, or one of these within an object. An entry that names a title is that title's
    (repeated titles in order of appearance). The other entries fill the remaining titles, in order. If
    several pieces of JSON are readable, one that names items is preferred, and of these the last: a model's
    final word.

    Raises:
        UnreadableAnswer: with a word out of `REASONS`.
    """
    text = _text(answer)
    first_failure: UnreadableAnswer | None = None
    readable: list[tuple[bool, tuple[float, ...]]] = []
    for value in _json_values(text):
        try:
            entries = _entries(value, titles)
            ratings = _in_order(entries, titles, scale)
        except UnreadableAnswer as unreadable:
            first_failure = first_failure or unreadable
        else:
            readable.append((any(name is not None for name, _ in entries), ratings))
    if readable:
        return next((ratings for named, ratings in reversed(readable) if named), readable[-1][1])
    raise first_failure or UnreadableAnswer("no_json")


def parse_persona(answer: str | None) -> str:
    """The persona in an answer, without fence, tags, enclosing quotes or a lead-in such as "Persona:".

    Control characters other than line breaks are dropped, so that the text can be stored anywhere.

    Raises:
        UnreadableAnswer: with a word out of `REASONS`; nothing is left, a tag stands within what is left, or
            it is a bare refusal.
    """
    text = _text(answer)
    fenced = _FENCE.search(text)
    text = _without_tags(fenced[1] if fenced else text)
    text = _without_quotes(_without_lead_in(_without_quotes(text)))
    text = "\n".join(line for line in map(_printable, text.splitlines()) if line)
    if not any(character.isalpha() for character in text):
        raise UnreadableAnswer("no_persona")
    if _TAG.search(text):
        raise UnreadableAnswer("echo")
    if len(text) <= _LONGEST_REFUSAL and _REFUSAL.match(text.translate(_QUOTES)):
        raise UnreadableAnswer("refusal")
    return text


def _text(answer: str | None) -> str:
    if answer is None or not answer.strip():
        raise UnreadableAnswer("no_answer")
    if len(answer) > LONGEST_ANSWER:
        raise UnreadableAnswer("too_long")
    return answer.strip()


def _json_values(text: str) -> Iterator[Any]:
    """Every JSON list and object in `text`, outermost ones only; then all objects as one list.

    The list of objects is for models that answer with an object a line.
    """
    # A whole number becomes a float at once: Python refuses to read an int of more than 4,300 digits.
    decoder = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float)
    objects: list[_Object] = []
    start = 0
    for _ in range(_MOST_STARTS):
        bracket = _BRACKET.search(text, start)
        if bracket is None:
            break
        try:
            value, start = decoder.raw_decode(text, bracket.start())
        except (ValueError, RecursionError):
            start = bracket.end()
            continue
        if isinstance(value, tuple):
            objects.append(value)
        yield value
    if len(objects) > 1:
        yield objects


def _entries(value: Any, titles: Sequence[str]) -> list[_Entry]:
    """A JSON list or object as (name or None, rating) entries."""
    for _ in range(_MOST_WRAPPERS):
        inner = (
            [part for _, part in value if isinstance(part, list | tuple)] if isinstance(value, tuple) else []
        )
        if len(inner) != 1:
            break
        value = inner[0]
    if isinstance(value, list):
        return [_entry(element) for element in value]
    if len(value) != len(titles) and _find(value, _RATING_KEYS) is not None:
        return [_entry(value)]
    return [(name, _number(part)) for name, part in value]


def _entry(element: Any) -> _Entry:
    if isinstance(element, tuple):
        rating = _find(element, _RATING_KEYS)
        if rating is not None:
            name = _find(element, _NAME_KEYS)
            return (name if isinstance(name, str) else None), _number(rating)
        if len(element) == 1:
            return element[0][0], _number(element[0][1])
        raise UnreadableAnswer("not_a_number")
    if isinstance(element, list):
        if len(element) == 2 and isinstance(element[0], str):
            return element[0], _number(element[1])
        raise UnreadableAnswer("not_a_number")
    return None, _number(element)


def _find(pairs: _Object, keys: Sequence[str]) -> Any:
    """The value under the first of `keys` that `pairs` has, spelled in any case; None without any."""
    by_key = {_plain_key(key): value for key, value in reversed(pairs)}
    return next((by_key[key] for key in keys if key in by_key), None)


@lru_cache(maxsize=1024)  # the same few names, over and over
def _plain_key(key: str) -> str:
    return re.sub(r"[\s_-]+", "_", key.strip().casefold())


def _number(value: Any) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, float) or not math.isfinite(value):
        raise UnreadableAnswer("not_a_number")
    return value


def _in_order(entries: Sequence[_Entry], titles: Sequence[str], scale: Scale) -> tuple[float, ...]:
    if len(entries) != len(titles):
        raise UnreadableAnswer("wrong_count")
    waiting: dict[str, deque[int]] = defaultdict(deque)
    for position, title in enumerate(titles):
        waiting[_normal(title)].append(position)
    ratings: dict[int, float] = {}
    unmatched: list[float] = []
    for name, rating in entries:
        if not scale.lowest <= rating <= scale.highest:
            raise UnreadableAnswer("outside_scale")
        places = waiting.get(_normal(name)) if name is not None else None
        if places:
            ratings[places.popleft()] = rating
        else:
            unmatched.append(rating)
    left_over = (position for position in range(len(titles)) if position not in ratings)
    ratings.update(zip(left_over, unmatched, strict=True))
    return tuple(ratings[position] for position in range(len(titles)))


@lru_cache(maxsize=16_384)  # all candidates of a context are asked about the same titles
def _normal(title: str) -> str:
    """What two spellings of one title have in common: entities, case, spaces and quotes do not count."""
    # Flattened before and after: a prompt shows titles flattened, and entities may hide more to flatten.
    text = one_line(html.unescape(one_line(title)))
    text = unicodedata.normalize("NFKC", text).casefold().translate(_QUOTES)
    return " ".join(text.strip("\"' ").split())


def _printable(line: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", line).strip()


def _without_tags(text: str) -> str:
    """What stands between a persona's tags, or behind an opening one; without stray tags at either end."""
    opening = _OPENING_TAG.search(text)
    if opening is not None and text[opening.end() :].strip():
        closing = text.find(f"</{opening[1]}>", opening.end())
        text = text[opening.end() : closing] if closing >= 0 else text[opening.end() :]
    start, end = 0, len(text)
    tags = list(_TAG.finditer(text))
    for tag in tags:
        if text[start : tag.start()].strip():
            break
        start = tag.end()
    for tag in reversed(tags):
        if tag.start() < start or text[tag.end() : end].strip():
            break
        end = tag.start()
    return text[start:end]


def _without_quotes(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] in "\"'“‘«" and text[-1] in "\"'”’»":
        return text[1:-1].strip()
    return text


def _without_lead_in(text: str) -> str:
    text = text.lstrip("#*_ \n")
    lead_in = _LEAD_IN.match(text)
    return text[lead_in.end() :].strip() if lead_in else text.strip()
