"""Guesses about ratings of somebody's own: which column holds what, and what an item is called.

A guess is made from names first, and from what the columns hold then. What is little certain says so.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deeper_assets.method.domains import Scale
from deeper_assets.method.exceptions import DeeperError, did_you_mean
from deeper_assets.sources.looking import Column, Look
from deeper_assets.sources.scales import USUAL, step_of

NONE = "none"
"""What a flag says for a column that there is to be none of."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_USERS = _set(
    "user reviewer customer member viewer listener reader rater author account person client visitor patient"
    " subject who uid username player buyer subscriber u"
)
_GENERIC = _set("item product object thing content entity iid i")
"""Words for an item that do not say what it is."""

_ITEMS = _GENERIC | _set(
    "movie film book song track album artist episode podcast show series recipe dish business place venue"
    " restaurant hotel beer wine game joke article news story video clip course anime manga asin isbn sku"
    " gtin ean what paper app"
)
_SAID_BY_CODE = {"asin": "product", "isbn": "book", "sku": "product", "gtin": "product", "ean": "product"}
_RATINGS = _set("rating stars star score overall mark marks grade rated")
_TIMES = _set("time timestamp date datetime day when created ts")
_SPLITS = _set("split fold subset partition")
_TITLES = _set("title name label")
_CATEGORIES = _set("categories category genres genre tags tag")
_ORDERS = _set("order position seq sequence step nr turn")
_NO_ITEMS = _set("review rating row line index session order transaction event parent")
"""What a column with an id is an id of, where it is none of an item."""

_FIGURES = _set("count counts avg average mean number num max min total sum helpful votes vote")
"""Words of columns that sum up."""

_AMOUNTS = _set(
    "plays play playcount count minutes seconds hours duration amount quantity qty clicks views purchases"
    " times price spent listens watched"
)
_NO_TYPES = _TITLES | _GENERIC | _set("id parent text query search term keyword keywords message description")
"""Words of a column's name that do not say what an item is."""

_NO_NAMES = _set("ratings rating reviews review log logs data dataset events the my raw all")
"""Words of a file's name that do not say what was rated."""


@dataclass(frozen=True)
class Guessed:
    """Which column holds what.

    Attributes:
        columns: what a column is → its name, in the order of a column map.
        unsure: of these, what speaks against the guess, with the flag that says otherwise.
        notes: what was seen beside that and may matter.
    """

    columns: Mapping[str, str]
    unsure: Mapping[str, str]
    notes: Sequence[str]


def guess_columns(look: Look, given: Mapping[str, str]) -> Guessed:
    """Which column holds what.

    Args:
        look: what was looked at.
        given: what a column is → its name, or NONE, where that is said and not to be guessed.

    Raises:
        DeeperError: a column that is given is not there; or the user, the item or the rating (without which
            there may be an amount) can neither be guessed nor is it given. The message shows the columns, and
            the flag that answers.
    """
    return Guessing(look, given).guessed()


class Guessing:
    """The guesses so far; see `guess_columns`."""

    def __init__(self, look: Look, given: Mapping[str, str]):
        self.look = look
        names = [column.name for column in look.columns]
        for role, name in given.items():
            if name not in names and name != NONE:
                raise DeeperError(
                    f"{look.called} has no column {name!r}{did_you_mean(name, names)} (--{role}); "
                    f"its columns, with values: {look}"
                )
        self.none = {role for role, name in given.items() if name not in names}
        self.columns = {role: name for role, name in given.items() if name in names}
        self.unsure: dict[str, str] = {}
        self.notes: list[str] = []

    def guessed(self) -> Guessed:
        """The columns of a log of ratings."""
        self.guess("rating", rating_score)
        if "rating" not in self.columns:
            self.guess("amount", amount_score)
        self.guess("time", time_score)
        self.guess("split", _split)
        self.guess("user", user_score)
        self.guess("item", self._item)
        self.guess("title", self._title)
        self.guess("categories", _categories)
        if "time" not in self.columns:
            self.guess("order", order_score)
        if "item" not in self.columns and "title" in self.columns:
            self.columns["item"] = self.columns.pop("title")
        self._refuse_missing()
        self._say_what_is_odd()
        self._say_what_is_left()
        roles = ("user", "item", "rating", "amount", "title", "time", "order", "split", "categories")
        return Guessed(
            {role: self.columns[role] for role in roles if role in self.columns}, self.unsure, self.notes
        )

    def guess(self, role: str, score: Callable[[Column], float]) -> None:
        """The free column with the best score above 0; two with the same are said."""
        if role in self.columns or role in self.none:
            return
        free = [column for column in self.look.columns if column.name not in self.columns.values()]
        scored = sorted(((score(column), column) for column in free), key=lambda pair: -pair[0])
        best = [column for value, column in scored if value == scored[0][0] > 0]
        if not best:
            return
        self.columns[role] = best[0].name
        others = ", ".join(column.name for column in best[1:])
        if others:
            self.unsure[role] = f"it may as well be {others}: --{role} COLUMN"
        elif scored[0][0] < 1:
            self.unsure[role] = f"its name does not say so, what it holds does; otherwise --{role} COLUMN"

    def _item(self, column: Column) -> float:
        words = words_of(column.name)
        is_id = "id" in words or bool(words & _SAID_BY_CODE.keys())
        of_rows = column.distinct == self.look.rows > 100
        if of_rows or words & (_USERS | _FIGURES) or (words & _NO_ITEMS and not words & _ITEMS):
            return 0
        score = 2.0 * bool(words & _ITEMS) + 2.0 * (
            (is_id and len(words) > 1) or words <= _SAID_BY_CODE.keys()
        )
        return score + 0.5 * ("parent" in words and score > 0)  # titles are of the parent

    def _title(self, column: Column) -> float:
        words = words_of(column.name)
        said = words & _TITLES or words <= _ITEMS - _SAID_BY_CODE.keys()
        if not said or words & _USERS or column.share(column.letters) < 0.5:
            return 0
        item = self.columns.get("item")
        if item is not None:
            steady = self.look.steadiness(item, column.name)
            if steady is not None and steady < 0.9:
                self.notes.append(
                    f"{column.name} differs in {1 - steady:.0%} of the items with several rows, so it is"
                    " taken for the title of a review and not of an item; if it is the item's:"
                    f" --title {column.name}"
                )
                return 0
        return 2.0 + ("title" in words) + bool(words & _ITEMS)

    def _refuse_missing(self) -> None:
        missing = [role for role in ("user", "item") if role not in self.columns]
        if "rating" not in {*self.columns, *self.none} and "amount" not in self.columns:
            missing.append("rating")
        if not missing:
            return
        asked = " and ".join(f"--{role} COLUMN" for role in missing)
        if "rating" in missing:
            asked += " (where nobody rated: --amount COLUMN, or --marks domain if each row counts one; of a"
            asked += " log of events: --text COLUMN)"
        raise DeeperError(
            f"no column of {self.look.called} looks like the {' or the '.join(missing)}; say which it is with"
            f" {asked}{self._without_header()}. Its columns, with values: {self.look}"
        )

    def _without_header(self) -> str:
        values = [column.name for column in self.look.columns if _called_like_a_value(column)]
        if not values:
            return ""
        return (
            f". Its first line seems to be a rating, not a header ({', '.join(values)}); a query can name"
            " the columns: \"SELECT column0 AS user, … FROM read_csv('FILE', header = false)\""
        )

    def _say_what_is_odd(self) -> None:
        used = [column for column in self.look.columns if column.name in self.columns.values()]
        if any(map(_called_like_a_value, used)):
            self.notes.append(self._without_header().removeprefix(". "))
        for column in used:
            roles = [role for role, name in self.columns.items() if name == column.name]
            if len(roles) > 1:
                self.notes.append(f"the column {column.name} is taken for the {' and for the '.join(roles)}")
            if "time" in roles and column.share(column.times) < 0.9:
                self.unsure["time"] = _no_time(column)

    def _say_what_is_left(self) -> None:
        if "title" not in self.columns and "title" not in self.none:
            item = self.look.column(self.columns["item"])
            if item is not None and (item.share(item.letters) < 0.5 or _codes(item)):
                self.notes.append(
                    f"no column looks like a title, so prompts call an item by its {item.name} "
                    f"('{item.examples[0]}'); where titles stand in another file, a query can join them"
                )
        if not {"time", "order"} & {*self.columns, *self.none}:
            self.notes.append("no column looks like a time or an order: the order of the rows counts")
        if "time" not in {*self.columns, *self.none}:
            free = [column for column in self.look.columns if column.name not in self.columns.values()]
            self.notes += [_no_time(column) for column in free if column.filled and _is_called_a_time(column)]
        for column in self.look.columns:
            if words_of(column.name) & _SPLITS and column.name not in self.columns.values() and column.values:
                self.notes.append(
                    f"{column.name} holds {', '.join(column.values)}: a split says train or eval, so it is"
                    " not used; a query can rename them"
                )


def rating_score(column: Column) -> float:
    """How much a column looks like ratings; from 1 on, its name says so. So it is with the others."""
    words = words_of(column.name)
    if column.share(column.numbers) < 0.9 or words & (_FIGURES | _AMOUNTS | {"id"}) or column.distinct > 250:
        return 0
    if words & _RATINGS and not words & _TIMES:
        return 3.0 + (len(words) == 1)
    few = 2 <= column.distinct <= 11 and len(column.values) == column.distinct
    return 0.5 * (few and _guess_of(column) in USUAL)


def amount_score(column: Column) -> float:
    """How much it looks like amounts."""
    words = words_of(column.name)
    return (2.0 + (len(words) == 1)) * bool(words & _AMOUNTS and column.share(column.numbers) > 0.9)


def time_score(column: Column) -> float:
    """How much it looks like times."""
    words = words_of(column.name)
    if column.share(column.times) < 0.9:
        return 0
    late = bool(words & {"updated", "modified", "deleted", "birth"})
    if _is_called_a_time(column):
        return 3.0 + ("timestamp" in words) - late
    return 0.5 * (column.numbers == 0)


def _is_called_a_time(column: Column) -> bool:
    return bool(words_of(column.name) & (_TIMES | {"at", "unix"}))


def _no_time(column: Column) -> str:
    """That a column holds no time, with an example and the way out."""
    example = column.examples[0] if column.examples else ""
    form = "%m/%d/%Y" if "/" in example else "%d.%m.%Y"
    form += ("", " %H:%M", " %H:%M:%S")[min(example.count(":"), 2)]
    return (
        f"{column.name} holds '{example}', which is not read as a time: expected is 2017-12-24 10:00:00, or"
        f' seconds since 1970; a query can convert it: "SELECT * REPLACE (strptime({column.name},'
        f" '{form}') AS {column.name}) FROM 'FILE'\""
    )


def _called_like_a_value(column: Column) -> bool:
    """Whether the name of a column is a number, or has the form of its own values, as i15 beside i7."""
    if re.fullmatch(r"-?\d[\d.]*", column.name):
        return True
    forms = {re.sub(r"\d+", "0", text) for text in column.examples}
    return forms == {re.sub(r"\d+", "0", column.name)} and bool(re.search(r"\d", column.name))


def _split(column: Column) -> float:
    values = {value.strip().lower() for value in column.values}
    return 3.0 * bool(values and values <= {"train", "eval"})


def user_score(column: Column) -> float:
    """How much it looks like users."""
    words = words_of(column.name)
    if not words & _USERS:
        return 0
    return 2.0 + ("id" in words) + (len(words) == 1) - bool(words & (_TITLES | _FIGURES))


def _categories(column: Column) -> float:
    return 3.0 * bool(words_of(column.name) & _CATEGORIES and column.share(column.letters) > 0.5)


def order_score(column: Column) -> float:
    """How much it looks like an order."""
    words = words_of(column.name)
    return 3.0 * bool(words & _ORDERS and "id" not in words and column.share(column.numbers) > 0.95)


def words_of(name: str) -> set[str]:
    """The words of a name in lower case: of `userId`, `user_id` and `userid` they are user and id."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+", name)]
    apart = set()
    for word in words:
        known = word.endswith("id") and word[:-2] in _USERS | _ITEMS | {"gmap"}
        apart |= {word[:-2], "id"} if known else {word}
    return apart


def _codes(column: Column) -> bool:
    """Whether the examples look like codes: no space, and a digit in each."""
    return all(re.search(r"\d", text) and " " not in text for text in column.examples)


def _guess_of(column: Column) -> Scale | None:
    """The scale of the values of a column of numbers, if they make one."""
    marks = [float(value) for value in column.values if re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value)]
    return Scale(min(marks), max(marks), step_of(sorted(set(marks)))) if len(set(marks)) > 1 else None


# -------------------------------------------------------------------------------------------------- names


def guess_item_type(item: str, title: str | None, place: str) -> tuple[str, str]:
    """What one item is called, in the singular, and what says so; "item" where nothing does.

    Args:
        item: name of the column of items.
        title: name of the column of titles, if there is one.
        place: name of the file or table, without its ending.
    """
    for name in (item, title or ""):
        words = [word for word in _in_order(name) if word not in _NO_TYPES]
        said = [_SAID_BY_CODE.get(word, word) for word in words if len(word) > 2]
        if said:
            return _singular(" ".join(said)), f"the column {name}"
    words = _of_place(place)
    return (_singular(" ".join(words)), f"the name {place}") if words else ("item", "nothing")


def guess_name(item_type: str, place: str, taken: Sequence[str]) -> str:
    """A name for the domain, which is none of those taken: of the file or table, or of what an item is."""
    for words in (_of_place(place), item_type.split(), ["own"]):
        name = re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower()).strip("_")[:36]
        if not re.match(r"[a-z]", name):
            continue
        return f"own_{name}" if name in taken else name
    return "own"


def _of_place(place: str) -> list[str]:
    return [word for word in _in_order(place) if word not in _NO_NAMES and len(word) > 2]


def _in_order(name: str) -> list[str]:
    known = words_of(name)
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+", name)]
    return [word if word in known else word.removesuffix("id") for word in words]


def _singular(words: str) -> str:
    """English words without the s of a plural, as far as that is simple."""
    if words.endswith(("ss", "us", "is", "series", "news")) or not words.endswith("s"):
        return words
    if words.endswith("ies") and not words.endswith(("movies", "cookies", "selfies")):
        return words[:-3] + "y"
    return words[: -2 if words.endswith(("shes", "ches", "xes")) else -1]
