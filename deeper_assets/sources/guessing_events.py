"""Guesses about a log of events of somebody's own: which column holds what, by names and contents."""

from collections.abc import Mapping

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.guessing import (
    NONE,
    Guessed,
    Guessing,
    amount_score,
    order_score,
    rating_score,
    time_score,
    user_score,
    words_of,
)
from deeper_assets.sources.looking import Column, Look

ONLY_OF_EVENTS = ("text", "session", "kind", "sign")
"""What a column can be of a log of events alone, as its flag is called."""

ONLY_OF_RATINGS = ("rating", "amount", "title", "split", "categories")
"""What a column can be of ratings alone."""

_SESSIONS = frozenset({"session", "sessionid", "visit", "visitid", "sid"})
_KINDS = frozenset({"kind", "action", "event", "type", "activity", "verb"})
_SIGNS = frozenset({"sign", "liked", "feedback", "thumb", "thumbs", "sentiment"})
_CODES = frozenset({"sku", "asin", "isbn", "gtin", "ean"})
_TEXTS = frozenset(
    {"text", "query", "search", "term", "keyword", "keywords", "message", "description", "page", "url"}
    | {
        "title",
        "name",
        "label",
        "what",
        "content",
        "product",
        "item",
        "song",
        "track",
        "film",
        "movie",
        "book",
    }
    | {"article", "artist", "recipe", "game", "video", "story", "show", "podcast", "episode", "course"}
)


def is_said_of_events(given: Mapping[str, str]) -> bool:
    """Whether a column is named that only events have."""
    return any(given.get(role, NONE) != NONE for role in ONLY_OF_EVENTS)


def is_rated(look: Look, given: Mapping[str, str]) -> bool:
    """Whether a column looks like a rating or an amount, or is named that only ratings have.

    Where it is said that no column is a rating, rows are counted as ratings.
    A column that only holds what ratings could hold is none where another one is called as of events.
    """
    if is_said_of_events(given):
        return False
    named = any(given.get(role, NONE) != NONE for role in ONLY_OF_RATINGS)
    if named or {"rating", "amount"} & given.keys():
        return True
    scores = [max(rating_score(column), amount_score(column)) for column in look.columns]
    of_events = any(words_of(column.name) & (_SESSIONS | _KINDS) for column in look.columns)
    return max(scores, default=0.0) >= (1 if of_events else 0.5)


def guess_events(look: Look, given: Mapping[str, str]) -> Guessed | None:
    """Which column of a log of events holds what.

    Args:
        look: what was looked at.
        given: what a column is → its name, or `NONE`, where that is said and not to be guessed.

    Returns:
        None where no text or no order can be guessed, and nothing is said that only events have.

    Raises:
        DeeperError: a column that is given is not there; or something is missing in what is said to be
            events. The message shows the columns, and the flag that answers.
    """
    guessing = Guessing(look, given)
    for role, score in (("session", _session), ("time", time_score), ("user", user_score), ("kind", _kind)):
        guessing.guess(role, score)
    if "time" not in guessing.columns:
        guessing.guess("order", order_score)
    for role, score in (("sign", _sign), ("text", _text), ("item", _item)):
        guessing.guess(role, score)
    columns = guessing.columns
    lacks = [f"--{role} COLUMN" for role in ("user", "text") if role not in columns]
    lacks += ["--time COLUMN or --order COLUMN"] if not {"time", "order"} & columns.keys() else []
    if lacks and not is_said_of_events(given):
        return None
    if lacks:
        raise DeeperError(
            f"not all of a log of events can be told of {look.called}; say it with {' and '.join(lacks)}."
            f" Its columns, with values: {look}"
        )
    if "session" not in columns:
        ends = "silence ends one (session_silence)" if "time" in columns else "every tenth event ends one"
        guessing.notes.append(f"no column looks like a session, so {ends}")
    roles = ("user", "text", "time", "order", "session", "item", "kind", "sign")
    return Guessed(
        {role: columns[role] for role in roles if role in columns}, guessing.unsure, guessing.notes
    )


def _session(column: Column) -> float:
    return 3.0 * bool(words_of(column.name) & _SESSIONS and column.share(column.times) < 0.9)


def _kind(column: Column) -> float:
    few = bool(column.values) and column.share(column.letters) > 0.5
    return 3.0 * bool(few and words_of(column.name) & _KINDS and "id" not in words_of(column.name))


def _sign(column: Column) -> float:
    return 3.0 * bool(words_of(column.name) & _SIGNS and column.share(column.numbers) > 0.9)


def _text(column: Column) -> float:
    words = words_of(column.name)
    if column.share(column.letters) < 0.5 or "id" in words:
        return 0
    if words & _TEXTS:
        return 3.0
    return 0.5 * (not column.values and any(" " in example for example in column.examples))


def _item(column: Column) -> float:
    words = words_of(column.name)
    return 3.0 * bool(words & _CODES or ("id" in words and words & _TEXTS))
