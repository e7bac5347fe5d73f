"""A log of ratings, read by some reader of files, becomes the relation `ratings`; all of it in SQL.

A reader selects `typed` columns from the texts of a file, so that each line is looked at once, while it is
read. It makes the relation `given` of them, with `line` (BIGINT, 1-based) and `malformed` (what is wrong with
the line, or NULL). Where titles stand in a file of their own, `items` has them: the texts `item`, `title` and
`categories`.
"""

from collections.abc import Mapping

import duckdb
from duckdb import DuckDBPyConnection

from deeper_assets.method.sql import quoted
from deeper_assets.sources.shape import LONGEST_TEXT, ODDNESS, nobody, view_of_ratings

# --------------------------------------------------------------------------------------------------- values

TIME_OF = """
CREATE OR REPLACE TEMP MACRO moment(seconds) AS
    CASE WHEN seconds >= -62135596800 THEN make_timestamp((seconds * 1e6)::BIGINT) END;  -- from the year 1 on
CREATE OR REPLACE TEMP MACRO time_of(text) AS CASE
    WHEN abs(TRY_CAST(text AS DOUBLE)) < 1e11 THEN moment(TRY_CAST(text AS DOUBLE))
    WHEN abs(TRY_CAST(text AS DOUBLE)) < 1e14 THEN moment(TRY_CAST(text AS DOUBLE) / 1e3)
    WHEN TRY_CAST(text AS DOUBLE) IS NOT NULL THEN NULL
    WHEN year(TRY_CAST(text AS TIMESTAMPTZ)) BETWEEN 1 AND 9999  -- other years are misread
        AND isfinite(TRY_CAST(text AS TIMESTAMPTZ)) THEN TRY_CAST(text AS TIMESTAMPTZ) AT TIME ZONE 'UTC'
END;
"""
"""A text as UTC timestamp: epoch seconds, from 1e11 on milliseconds, or a date and time; NULL where none."""

_ENTITIES = {
    "&quot;": '"',
    "&#34;": '"',
    "&#39;": "'",
    "&lt;": "<",
    "&gt;": ">",
    "&nbsp;": " ",
    "&amp;": "&",
}


def _resolved(text: str) -> str:
    for entity, sign in _ENTITIES.items():
        text = f"replace({text}, {quoted(entity)}, {quoted(sign)})"
    return text


_UNTIDY = ("'&'", "'  '", "chr(9)", "chr(10)", "chr(12)", "chr(13)")

TEXT_OF = f"""
CREATE OR REPLACE TEMP MACRO text_of(text) AS trim(
    CASE WHEN {" OR ".join(f"contains(text, {sign})" for sign in _UNTIDY)}
    THEN regexp_replace({_resolved("text")}, '\\s+', ' ', 'g') ELSE text END
)
"""
"""A title or the like: white space collapsed, the common HTML entities resolved."""


# ------------------------------------------------------------------------------------------------ at the door


def typed(connection: DuckDBPyConnection, texts: Mapping[str, str]) -> dict[str, str]:
    """The columns of `given` that a reader selects: name → SQL.

    Args:
        connection: where the reader works; it gets the macros that these columns need.
        texts: SQL for the text of `user`, `item`, `rating` and, where the file has them, of `title`,
            `categories`, `time`, `order` and `split`.
    """
    for macro in (TIME_OF, TEXT_OF, ODDNESS):
        connection.execute(macro)
    user, item, rating = (f"({texts[name]})" for name in ("user", "item", "rating"))
    number = f"TRY_CAST({rating} AS DOUBLE)"
    time, order = texts.get("time"), texts.get("order")
    ids = {"user id": user, "item id": item} | ({"title": texts["title"]} if "title" in texts else {})
    may_be_odd = [f"contains({text}, chr(0)) OR strlen({text}) > {LONGEST_TEXT}" for text in ids.values()]
    oddness = ", ".join(f"oddness('{what}', {text})" for what, text in ids.items())
    columns = {
        "user_id": f"nullif(trim({user}), '')",
        "item": f"nullif(trim({item}), '')",
        "rating_text": rating,
        "rating": f"CASE WHEN isfinite({number}) THEN {number} END",
        "odd": f"CASE WHEN {' OR '.join(may_be_odd)} THEN coalesce({oddness}) END",
    }
    for name in ("title", "categories"):
        if name in texts:
            columns[name] = f"text_of({texts[name]})"
    if time is not None:
        columns["rated_at"] = f"time_of({time})"
        columns["time_text"] = f"CASE WHEN time_of({time}) IS NULL THEN left({time}, 80) END"
    if order is not None:
        columns["order_at"] = f"TRY_CAST({order} AS DECIMAL(38, 9))"
        columns["order_text"] = (
            f"CASE WHEN TRY_CAST({order} AS DECIMAL(38, 9)) IS NULL THEN left({order}, 80) END"
        )
    if "split" in texts:
        columns["split"] = f"lower(trim(left({texts['split']}, 80)))"
    same = [columns["user_id"], columns["item"], number, f"CASE WHEN {number} IS NULL THEN {rating} END"]
    same += [columns[name] for name in _PLACES if name in columns]
    return {**columns, "sign": f"hash({', '.join(same)})"}


_PLACES = ("rated_at", "time_text", "order_at", "order_text")
"""Columns that say where in a user's order a rating stands."""

_TYPES = {
    "title": "VARCHAR",
    "categories": "VARCHAR",
    "rated_at": "TIMESTAMP",
    "time_text": "VARCHAR",
    "order_at": "DECIMAL(38, 9)",
    "order_text": "VARCHAR",
    "split": "VARCHAR",
    "odd_title": "VARCHAR",
}
"""Of the columns that `given` may leave out."""


# ------------------------------------------------------------------------------------------------ statements


def make_ratings(connection: DuckDBPyConnection, called: str, *, repeats: bool = False) -> None:
    """Make the view `ratings` from `given` and, where there is one, `items`.

    Args:
        connection: one that has these relations.
        called: what `given` was read from, as rows and messages call it.
        repeats: whether rows that are alike are no copies: they say that something was done again.
    """
    columns = _columns(connection, "given")
    has_items = bool(_columns(connection, "items"))
    if has_items:
        connection.execute(NAMES)
    connection.execute(TWICE if not repeats else "CREATE OR REPLACE TEMP TABLE twice (sign UBIGINT)")
    same = ["user_id", "item", "rating", "CASE WHEN rating IS NULL THEN rating_text END"]
    same += [name for name in _PLACES if name in columns]
    connection.execute(duplicates(", ".join(same)))
    odd, repeated = (
        connection.execute(f"SELECT EXISTS ({query})").fetchall() == [(True,)]
        for query in ("FROM given WHERE odd IS NOT NULL", "FROM duplicates")
    )
    connection.execute(_ratings(called, columns, has_items, odd, repeated))


def _columns(connection: DuckDBPyConnection, relation: str) -> list[str]:
    try:
        return [name for name, *_ in connection.execute(f"DESCRIBE {relation}").fetchall()]
    except duckdb.CatalogException:
        return []


NAMES = """
CREATE OR REPLACE TEMP TABLE names AS
SELECT item, known.title, known.categories, known.odd AS odd_title FROM (
    SELECT trim(item) AS item, min(struct_pack(
        title := text_of(cleaned(title)), categories := text_of(cleaned(categories)),
        odd := oddness('title', title)
    )) AS known  -- one of them, and always the same, where an item comes twice
    FROM items WHERE trim(item) <> '' GROUP BY ALL
)
"""
"""What the items of a file of their own are called."""

TWICE = """
CREATE OR REPLACE TEMP TABLE twice AS
SELECT DISTINCT sign FROM (
    SELECT sign, lag(sign) OVER () AS before FROM (SELECT sign FROM given ORDER BY sign)
) WHERE sign = before
"""
"""The hashes that several ratings have. Sorting them takes half the time of grouping the ratings."""


def duplicates(same: str) -> str:
    """The lines that repeat a rating of the same user, and where it stands first."""
    return f"""
CREATE OR REPLACE TEMP TABLE duplicates AS
SELECT line, first_line FROM (
    SELECT line, min(line) OVER (PARTITION BY {same}) AS first_line
    FROM given WHERE sign IN (FROM twice) AND item IS NOT NULL AND user_id IS NOT NULL AND malformed IS NULL
) WHERE line > first_line
"""


def _ratings(called: str, columns: list[str], has_items: bool, odd: bool, repeated: bool) -> str:
    """The view `ratings`. What none of the rows needs (`odd` texts, `repeated` ratings) is left out."""
    elsewhere = {"title", *(["categories", "odd_title"] if has_items else [])}
    own = [f"given.{name}" for name in columns if name not in elsewhere]
    own += [
        f"NULL::{type_} AS {name}" for name, type_ in _TYPES.items() if name not in {*columns, *elsewhere}
    ]
    title = "given.title" if "title" in columns else "text_of(given.item)"
    unplaced, unordered, expected = "false", "unreadable_order", ""
    if "order_at" in columns:
        unplaced, expected = "order_at IS NULL", "a number"
    elif "rated_at" in columns:
        unplaced, unordered = "rated_at IS NULL", "unreadable_time"
    source = "given"
    if has_items:
        source, title = f"{source} LEFT JOIN names USING (item)", "names.title"
        own += ["names.categories", "names.odd_title"]
    if repeated:
        source = f"{source} LEFT JOIN duplicates USING (line)"
    first = "first_line" if repeated else "NULL::BIGINT"
    user, item, shown = ("user_id", "item", "called")
    if odd:
        user = f"CASE WHEN odd IS NULL OR NOT {nobody('user_id')} THEN user_id END"
        item, shown = "cleaned(item)", "cleaned(called)"
    query = f"""
    SELECT line - 1 AS "row", {user} AS user_id, coalesce({item}, {shown}) AS item_id, {shown} AS title,
        categories, cleaned(rating_text) AS rating_text, rating, rated_at, order_at, NULL AS position,
        ({user}) IS NOT NULL AND (defect IS NULL OR defect IN ('unreadable_split', 'unusable_text')
            OR (defect = 'unreadable_time' AND NOT ({unplaced}))) AS has_place,
        CASE WHEN split IN ('train', 'eval') THEN split END AS split, {quoted(called)} AS file, line, defect,
        replace(CASE defect
            WHEN 'malformed_line' THEN malformed
            WHEN 'missing_user' THEN 'no user id'
            WHEN 'duplicate_row' THEN 'already in line ' || first_line
            WHEN 'unreadable_time' THEN {expected_but("time_text", "a time")}
            WHEN 'unreadable_order' THEN {expected_but("order_text", expected)}
            WHEN 'unreadable_split' THEN {expected_but("split", "train or eval")}
            WHEN 'unusable_text' THEN coalesce(odd, odd_title)
        END, chr(0), '�') AS detail
    FROM (
        SELECT *, CASE
            WHEN malformed IS NOT NULL THEN 'malformed_line'
            WHEN user_id IS NULL THEN 'missing_user'
            WHEN first_line IS NOT NULL THEN 'duplicate_row'
            WHEN {unplaced} THEN '{unordered}'
            WHEN time_text IS NOT NULL THEN 'unreadable_time'
            WHEN split NOT IN ('train', 'eval') AND split <> '' THEN 'unreadable_split'
            WHEN coalesce(odd, odd_title) IS NOT NULL THEN 'unusable_text'
        END AS defect FROM (SELECT {", ".join(own)}, {title} AS called, {first} AS first_line FROM {source})
    )"""
    return view_of_ratings(query)


def expected_but(text: str, expected: str) -> str:
    """SQL for what a text says in the place of what was expected."""
    value = f"coalesce(chr(39) || {text} || chr(39), 'nothing')"
    return f"'found ' || {value} || ', expected {expected}'"
