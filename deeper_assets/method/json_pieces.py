"""The JSON that stands somewhere in an answer of a chat model, however it is wrapped.

No input, however hostile, raises anything but `UnreadableAnswer`, or takes long.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from deeper_assets.method.exceptions import UnreadableAnswer

LONGEST_ANSWER = 200_000
"""In characters. Ten ratings or a persona need a hundredth of it."""

_MOST_STARTS = 64
"""How many brackets are tried as the beginning of JSON, or as many as the caller says: an answer full of
brackets takes no time, and is not read, because its last word may not have been seen."""

# Possessive quantifiers (*+) keep these linear in the answer.
_THINKING = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_TRAILING_COMMA = re.compile(r",\s*+(?=[\]}])")
_BRACKET = re.compile(r"[\[{]")
_BEGINS_JSON = re.compile(r"\s*+[\"'\d{\[\-]")
_FINAL = re.compile(r"\b(?:final|finally|corrected|revised|definitive)\b", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:not|never|no)\b|n['’]t\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?\n]")
_NEAR = 100  # characters before a piece of JSON in which its mark stands

# A JSON object keeps its pairs as a tuple: a list never is one, and repeated keys are not lost.
Object = tuple[tuple[str, Any], ...]


def answer_text(answer: str | None) -> str:
    """An answer without white space around it.

    Raises:
        UnreadableAnswer: there is none, or too much of it.
    """
    if answer is None or not answer.strip():
        raise UnreadableAnswer("no_answer")
    if len(answer) > LONGEST_ANSWER:
        raise UnreadableAnswer("too_long")
    return answer.strip()


def json_text(answer: str | None) -> str:
    """An answer without thinking, and without commas that JSON does not have.

    Raises:
        UnreadableAnswer: there is none, or too much of it.
    """
    return _TRAILING_COMMA.sub("", _without_thinking(answer_text(answer)))


def _without_thinking(text: str) -> str:
    """What follows the last thinking; nothing where that never ends."""
    tags = list(_THINKING.finditer(text))
    if not tags:
        return text
    return text[tags[-1].end() :] if tags[-1][1] else ""


@dataclass(frozen=True)
class Piece:
    """A JSON list or object of an answer, from `start` to `end`.

    Attributes:
        value: None where what begins like JSON is broken.
        inside: it stands within a broken one, which may have said what the numbers are.
        final: the words before it call it final.
    """

    value: Any
    start: int
    end: int
    inside: bool
    final: bool


def fields_of(value: Object) -> dict[str, Any]:
    """An object's values by key, in lower case; of a key that comes again, the last one."""
    return {key.strip().lower(): part for key, part in value}


def is_wording(value: Any, longest: int) -> TypeGuard[str]:
    """Whether a value is a text with a letter in it, and of so many characters at most."""
    return isinstance(value, str) and len(value) <= longest and any(sign.isalpha() for sign in value)


def whole_numbers(value: Any, most: int) -> list[int]:
    """Numbers from 1 to `most`, in a list or alone; nobody minds that one stands as text or stands twice.

    Raises:
        UnreadableAnswer: `no_such_number`; it is another one, or none.
    """
    numbers: list[int] = []
    for given in value if isinstance(value, list) else [value]:
        is_text = isinstance(given, str) and given.strip().isdecimal() and len(given) < 9
        number = float(given) if is_text else given
        if not isinstance(number, float) or not 1 <= number <= most or number != int(number):
            raise UnreadableAnswer("no_such_number")
        numbers.append(int(number))
    return list(dict.fromkeys(numbers))


def listed_objects(answer: str | None, most: int, keys: Collection[str]) -> list[Object]:
    """The objects of a list in an answer; an empty list is an answer too.

    The JSON may stand in a fence, amid prose, within an object, or be an object alone; the last list that is
    not empty counts.

    Args:
        answer: what the model said.
        most: brackets that are looked through, at least.
        keys: an object with one of these is an entry, and no wrapper.

    Raises:
        UnreadableAnswer: `no_json`, or what `json_text` raises.
    """
    pieces = pieces_of(json_text(answer), most)
    whole = [_entries(piece.value, keys) for piece in pieces if not piece.inside]
    found = [entries for entries in whole if entries is not None]
    if not found or pieces[-1].value is None:
        raise UnreadableAnswer("no_json")
    return next((entries for entries in reversed(found) if entries), [])


def _entries(value: Any, keys: Collection[str]) -> list[Object] | None:
    """A list of objects: itself, the only list within an object, or an object alone; else None."""
    if isinstance(value, tuple):
        lists = [part for _, part in value if isinstance(part, list)]
        of_objects = [part for part in lists if part and all(isinstance(entry, tuple) for entry in part)]
        lists = of_objects or lists
        named = fields_of(value).keys() & {*keys}
        value = [value] if named else lists[0] if len(lists) == 1 else None
    if isinstance(value, list) and all(isinstance(entry, tuple) for entry in value):
        return value
    return None


def pieces_of(text: str, most: int = 0) -> list[Piece]:
    """The JSON lists and objects in `text`, outermost ones only, then all objects as one list.

    Only those from the last one called final on. The list of objects is for models that answer with an
    object a line.
    """
    pieces = list(_scanned(text, max(_MOST_STARTS, most)))
    for number in reversed(range(len(pieces))):
        if pieces[number].final:
            pieces = pieces[number:]
            break
    objects = [piece for piece in pieces if isinstance(piece.value, tuple)]
    if len(objects) > 1:
        values, inside = [piece.value for piece in objects], any(piece.inside for piece in objects)
        pieces.append(Piece(values, objects[0].start, objects[-1].end, inside, False))
    return pieces


def _scanned(text: str, most: int) -> Iterator[Piece]:
    # A whole number becomes a float at once: Python refuses to read an int of more than 4,300 digits.
    decoder = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float)
    start = after = open_brackets = 0
    for _ in range(most):
        bracket = _BRACKET.search(text, start)
        if bracket is None:
            return
        at = bracket.start()
        closed = text.count("]", start, at) + text.count("}", start, at)
        open_brackets = max(0, open_brackets - closed)
        final = _called_final(text[max(after, at - _NEAR) : at])
        try:
            value, start = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            start = bracket.end()
            if _BEGINS_JSON.match(text, start):
                yield Piece(None, at, start, open_brackets > 0, final)
            open_brackets += 1
        else:
            after = start
            yield Piece(value, at, start, open_brackets > 0, final)
    raise UnreadableAnswer("no_json")


def _called_final(words: str) -> bool:
    """Whether a sentence before a piece of JSON calls it final, and does not deny it."""
    return any(
        _FINAL.search(sentence) and not _DENIED.search(sentence) for sentence in _SENTENCE_END.split(words)
    )
