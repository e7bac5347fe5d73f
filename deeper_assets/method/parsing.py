"""Reads what a chat model answers: predicted ratings, and personas.

Unknown is never a number, and no rating is given to an item that it may not belong to. An answer that cannot
be read raises `UnreadableAnswer` with one word out of `REASONS`, which gets counted; no input, however
hostile, raises anything else or takes long.

Departs from the paper: the paper leaves open what happens to an answer with the wrong number of ratings, a
rating off the scale, or names that are not the items'. Here such an answer counts as no answer.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from deeper_assets.method.domains import Scale
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.json_pieces import Object, Piece, answer_text, json_text, pieces_of
from deeper_assets.method.placing import Entry, PlacedRatings, place
from deeper_assets.method.titles import QUOTES, named_in_order, normal

RATINGS_VERSION = "3"
"""Of the code that reads ratings: with another one, predictions are stale."""

REASONS: Mapping[str, str] = {
    "no_answer": "the model gave no text",
    "cut_off": "the answer was longer than a model may answer",
    "content_filter": "the server's filter withheld prompt or answer",
    "rejected": "the server cannot take this prompt",
    "too_long": "the answer is too long to be one",
    "no_json": "the answer holds no JSON list or object, or ends in one that is broken",
    "wrong_count": "not one rating an item",
    "not_a_number": "a rating is missing or not a finite number",
    "outside_scale": "a rating lies outside the scale",
    "misplaced": "it is not certain which item a rating belongs to",
    "contradictory": "the answer rates the items twice, and differently",
    "only_counts": "the numbers are the scale's own marks or those of the items, in order",
    "no_intent": "an intent has no words, or too many",
    "no_evidence": "an intent names no event",
    "no_such_number": "the answer names an event, a group or a memory that there is not",
    "repeated_group": "a set of personas has a group twice",
    "wrong_verdicts": "not one verdict a claim",
    "no_label": "a persona has no label or no description",
    "no_persona": "nothing is left of the persona without its wrapping",
    "refusal": "the model refused",
    "echo": "the answer repeats the prompt, or has a tag in the middle of the persona",
}
"""Why an answer could not be read: word → meaning."""

_MOST_WRAPPERS = 3
"""How many objects around the ratings are looked through."""

_FEWEST_COUNTS = 5
"""From so many on, unnamed ratings that count up or down are a scale that is quoted. Fewer may be ratings,
where they are the whole answer."""

_ANSWER_WORDS = frozenset(
    {"json", "index", "item", "items", "rating", "ratings", "prediction", "predictions"}
)
"""Words of an answer that has nothing beside its ratings."""

_RATING_KEYS = ("predict_rating", "predicted_rating", "prediction", "predicted", "rating", "score")
_ROLES: Mapping[str, Sequence[str]] = {
    "name": ("item_name", "item", "title", "name", "item_title"),
    "rating": _RATING_KEYS,
    "number": (
        *("index", "idx", "id", "position", "number", "no", "nr"),
        *("item_number", "item_index", "item_id"),
    ),
    "rank": ("rank", "ranking"),
    "prose": (
        *("reason", "reasoning", "rationale", "explanation", "justification"),
        *("comment", "note", "notes"),
    ),
}
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)

# Possessive quantifiers (*+) keep these linear in the answer.
_SORTED = re.compile(
    r"\b(?:sorted|revers\w{1,4}|descending|ascending|(?:highest|lowest|best|worst)[\s-]++(?:to|first))\b",
    re.IGNORECASE,
)
"""What says that ratings without names stand in an order of their own."""
_LETTERS = re.compile(r"[^\W\d_]+")
_FENCE = re.compile(r"```(?:[^\S\n]*+\w*+[^\S\n]*+\n)?(.*?)```", re.DOTALL)
_OPENING_TAG = re.compile(r"<(\w{0,20}persona)>")
_TAG = re.compile(r"</?\w{0,20}persona>")
_LEAD_IN = re.compile(
    r"(?:(?:sure|certainly|of course|okay)[,.!]? )?(?:here(?:['’]s| is) )?"
    r"(?:(?:the|an?|your|my) )?"
    r"(?:(?:refined|rewritten|updated|revised|improved|merged|new|user|person's|short-term|long-term) )*+"
    r"(?:persona|description|profile)(?: of (?:the|this) (?:user|person))?[*_ ]*+[:\n][*_ ]*+",
    re.IGNORECASE,
)
_LEAD_IN_LINE = re.compile(
    r"[^\n.!?]{0,120}\b(?:persona|description|profile)\b[^\n.!?]{0,120}:[*_ ]*+\n(?=\s*+\w)", re.IGNORECASE
)
"""Whatever else a first line says of the text that it announces."""
_REFUSAL = re.compile(
    r"(?:(?:i'm |i am )?(?:very |so )?sorry|i apologi[sz]e|i (?:can't|cannot|can not|won't)"
    r"|(?:i'm|i am) (?:unable|not able)|as an ai|unfortunately, i (?:can|am|'m)"
    r"|(?:i'm|i am|i'd be|i would be|i'll be) (?:ready|happy|glad) to (?:help|assist)(?: you\b|(?=[.!]))"
    r"|please (?:provide|share|paste))\b",
    re.IGNORECASE,
)
_LONGEST_REFUSAL = 400


def parse_ratings(answer: str | None, titles: Sequence[str], scale: Scale) -> PlacedRatings:
    """The predicted rating of every title (anywhere on the scale), and how it was placed.

    The JSON may stand in a fence or amid prose: a list of objects, of numbers or of [name, number], an object
    of names and numbers, or one of these within an object; the paper's own is a list of objects with
    `item_name` and `predict_rating` (Table 5). If several pieces of JSON can be read they have to agree, but
    for those before the last one that is called final (or corrected, revised); what stands in tags of
    thinking is left out. Unnamed numbers that are the scale's marks in order are no ratings: a model that
    quotes the scale is likelier than one that happens to rate in this order.

    Raises:
        UnreadableAnswer: with a word out of `REASONS`.
    """
    text = json_text(answer)
    pieces = pieces_of(text, 4 * len(titles))
    failure: UnreadableAnswer | None = None
    readings: list[PlacedRatings] = []
    end = 0
    for piece in pieces:
        try:
            readings.append(_reading(piece, titles, scale))
            end = max(end, piece.end)
        except UnreadableAnswer as unreadable:
            failure = failure or unreadable
    if not readings:
        raise failure or UnreadableAnswer("no_json")
    if any(piece.value is None and piece.start >= end for piece in pieces):
        raise UnreadableAnswer("no_json")
    return _agreed(readings, text, titles, scale)


def parse_persona(answer: str | None) -> str:
    """The persona in an answer, without fence, tags, enclosing quotes or a lead-in such as "Persona:".

    Control characters other than line breaks are dropped, so that the text can be stored anywhere.

    Raises:
        UnreadableAnswer: with a word out of `REASONS`; nothing is left, a tag stands within what is left, or
            it is a bare refusal.
    """
    text = answer_text(answer)
    fenced = _FENCE.search(text)
    text = _without_tags(fenced[1] if fenced else text)
    text = _without_quotes(_without_lead_in(_without_quotes(text)))
    text = "\n".join(line for line in map(_printable, text.splitlines()) if line)
    if not any(character.isalpha() for character in text):
        raise UnreadableAnswer("no_persona")
    if _TAG.search(text):
        raise UnreadableAnswer("echo")
    if len(text) <= _LONGEST_REFUSAL and _REFUSAL.match(text.translate(QUOTES)):
        raise UnreadableAnswer("refusal")
    return text


def _reading(piece: Piece, titles: Sequence[str], scale: Scale) -> PlacedRatings:
    if piece.value is None:
        raise UnreadableAnswer("no_json")
    entries = _entries(piece.value, titles)
    if len(entries) != len(titles):
        raise UnreadableAnswer("wrong_count")
    if not all(scale.lowest <= entry.rating <= scale.highest for entry in entries):
        raise UnreadableAnswer("outside_scale")
    reading = place(entries, titles)
    if piece.inside and "position" in reading.placed:
        raise UnreadableAnswer("no_json")
    return reading


def _agreed(
    readings: Sequence[PlacedRatings], text: str, titles: Sequence[str], scale: Scale
) -> PlacedRatings:
    """The one thing that all readings say, as the one says it that needs positions and corrections least."""
    named = [reading for reading in readings if "position" not in reading.placed]
    by_position = [reading for reading in readings if "position" in reading.placed]
    reason = "misplaced"
    if by_position and (_SORTED.search(text) or not named_in_order(text, titles)):
        by_position = []
    elif len(readings) > 1 or len(titles) >= _FEWEST_COUNTS or not _ANSWER_WORDS.issuperset(_words(text)):
        by_position = [reading for reading in by_position if not _only_counts(reading.ratings, scale)]
        reason = "only_counts"
    trusted = named + by_position
    if not trusted:
        raise UnreadableAnswer(reason)
    if len({reading.ratings for reading in trusted}) > 1:
        raise UnreadableAnswer("contradictory")
    return max(
        trusted, key=lambda reading: (reading.placed.count("name"), reading.placed.count("correction"))
    )


def _words(text: str) -> list[str]:
    return _LETTERS.findall(text.casefold())


def _only_counts(ratings: Sequence[float], scale: Scale) -> bool:
    """Whether the ratings are the scale's marks in order, or number the items. One alone does neither."""
    if len(ratings) < 2:
        return False
    numbers = range(len(ratings))
    marks = [scale.lowest + number * scale.step for number in numbers]
    counts = [[float(number + first) for number in numbers] for first in (0, 1)]
    counts += [marks] if math.isclose(marks[-1], scale.highest) else []
    up = min(tuple(ratings), tuple(ratings)[::-1])
    return any(all(map(math.isclose, up, count)) for count in counts)


def _entries(value: Any, titles: Sequence[str]) -> list[Entry]:
    """A JSON list or object as entries."""
    forms = frozenset(map(normal, titles))
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(value, tuple) or (len(value) == len(titles) > 1 and _rated_by_key(value)):
            break
        inner = [part for _, part in value if isinstance(part, list | tuple)]
        if len(inner) != 1 or any(normal(key) in forms for key, part in value if part is not inner[0]):
            break
        value = inner[0]
    if isinstance(value, list):
        return [_entry(element, forms) for element in value]
    if _rated_by_key(value):
        return [Entry(key, None, _number(_find(part, _RATING_KEYS))) for key, part in value]
    if _find(value, _RATING_KEYS) is not None and not all(normal(key) in forms for key, _ in value):
        return [_entry(value, forms)]
    return [Entry(key, None, _number(part)) for key, part in value]


def _rated_by_key(value: Object) -> bool:
    """Whether an object has names for keys, and an object with the rating under each."""
    return all(isinstance(part, tuple) and _find(part, _RATING_KEYS) is not None for _, part in value)


def _entry(element: Any, forms: Collection[str]) -> Entry:
    """An element of a list; `forms` are the titles' normal forms, one of which may be called "Rating"."""
    if isinstance(element, tuple):
        rating = _find(element, _RATING_KEYS)
        if rating is not None and not (len(element) == 1 and normal(element[0][0]) in forms):
            name, number = _named(element, forms)
            return Entry(name, number, _number(rating))
        if len(element) == 1:
            return Entry(element[0][0], None, _number(element[0][1]))
        raise UnreadableAnswer("not_a_number")
    if isinstance(element, list):
        if len(element) == 2 and isinstance(element[0], str):
            return Entry(element[0], None, _number(element[1]))
        raise UnreadableAnswer("not_a_number")
    return Entry(None, None, _number(element))


def _named(pairs: Object, forms: Collection[str]) -> tuple[str | None, int | None]:
    """The name and the number that an object with a rating has for its item; not the names of two titles.

    A text under an unknown key is taken for a name: where it is none, the answer is not read, which is better
    than to overlook a name.
    """
    names: dict[str, str] = {}
    number: int | None = None
    for key, value in pairs:
        role = _role(key)
        if role in ("rating", "prose") or value is None:
            continue
        counts = role in ("name", "number")
        if counts and (whole := _whole(value)) is not None:
            number = whole if number is None else number
        elif isinstance(value, str):
            earlier = names.setdefault("name" if role == "name" else "other", value)
            named = {normal(earlier), normal(value)}
            if len(named) > 1 and named.issubset(forms):
                raise UnreadableAnswer("misplaced")
        elif counts or isinstance(value, tuple):
            raise UnreadableAnswer("misplaced")
    name = names.get("name", names.get("other"))
    if name is None and any(_role(key) == "rank" for key, _ in pairs):
        raise UnreadableAnswer("misplaced")
    return name, number


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _find(pairs: Object, keys: Sequence[str]) -> Any:
    """The value under the first of `keys` that `pairs` has, spelled in any case; None without any.

    Raises:
        UnreadableAnswer: "contradictory": the key is there twice, with different values.
    """
    by_key: dict[str, Any] = {}
    for spelling, value in pairs:
        key = _plain_key(spelling)
        if key in keys and by_key.setdefault(key, value) != value:
            raise UnreadableAnswer("contradictory")
    return next((by_key[key] for key in keys if key in by_key), None)


@lru_cache(maxsize=1024)  # the same few names, over and over
def _plain_key(key: str) -> str:
    return re.sub(r"[\s_-]+", "_", key.strip().casefold())


@lru_cache(maxsize=1024)
def _role(key: str) -> str | None:
    """What a key of an object with a rating says of its value: name, rating, number, rank, prose, or None."""
    return next((role for role, keys in _ROLES.items() if _plain_key(key) in keys), None)


def _number(value: Any) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, float) or not math.isfinite(value):
        raise UnreadableAnswer("not_a_number")
    return value


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
    lead_in = _LEAD_IN.match(text) or _LEAD_IN_LINE.match(text)
    return text[lead_in.end() :].strip() if lead_in else text.strip()
