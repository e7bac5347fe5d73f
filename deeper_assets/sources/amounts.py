"""Behaviour without ratings becomes marks: clicks, purchases, minutes, plays.

What a source says of a user and an item is added up: the amounts of its rows, or where no column holds one,
its rows. The sum is dated as the first of its rows. Its rank among others makes the mark:

* The group of a sum is all sums of the domain, those of its user, or those of its item (`Marks`).
* Its share is its mid-rank: the part of its group that is smaller, and half of the part that is equal, itself
  included. So a sum that stands alone, or among equal ones, has the share 1/2, and equal sums have one share.
* The marks of the scale have equal parts of the shares, from the lowest on: of five marks the second has the
  shares from 1/5 to less than 2/5. So in a group without ties each mark is given about as often as any other.
  (`Scale.mark_at` would give those at the two ends half as often.)

A row without a readable amount, or with a negative one, is rejected, and takes no place: its item may have
others. 0 is an amount. Rows that are alike count each, because a log without times repeats itself. More rows
move marks: they say how much it was among what is known.
"""

from collections.abc import Mapping
from typing import Literal

from duckdb import DuckDBPyConnection

from deeper_assets.method.domains import Scale
from deeper_assets.sources.shape import view_of_ratings

Marks = Literal["domain", "user", "item"]
"""Among which amounts an amount is ranked: those of its domain, of its user, or of its item."""

_GROUPS: Mapping[Marks, str] = {"domain": "true", "user": "sums.user_id", "item": "sums.item_id"}


def make_marks(connection: DuckDBPyConnection, scale: Scale, marks: Marks, counted: bool) -> int:
    """Replace the relation `ratings`, whose ratings are amounts, by one whose ratings are marks.

    Args:
        connection: one that has the view `ratings`, without duplicates.
        scale: whose marks.
        marks: the group of an amount.
        counted: whether amounts are but numbers of rows.

    Returns:
        How many rows were added to others.
    """
    connection.execute("ALTER VIEW ratings RENAME TO said")
    for statement in (AMOUNTS, SUMS, shares(marks), marked(scale, marks, counted), RATINGS):
        connection.execute(statement)
    [(added,)] = connection.execute("SELECT coalesce(sum(rows_) - count(*), 0)::BIGINT FROM sums").fetchall()
    return int(added)


AMOUNTS = """
CREATE OR REPLACE TEMP VIEW amounts AS
SELECT * EXCLUDE (wrong) REPLACE (false AS has_place, NULL AS position, wrong AS defect, CASE wrong
    WHEN defect THEN detail
    WHEN 'missing_user' THEN 'no user id'
    WHEN 'not_a_number' THEN 'found ' || coalesce(chr(39) || left(rating_text, 80) || chr(39), 'nothing')
        || ', expected an amount'
    WHEN 'negative_amount' THEN left(rating_text, 80) || ': an amount is 0 or more'
    WHEN 'empty_title' THEN 'the title is empty'
END AS detail)
FROM (
    SELECT *, TRY_CAST(rating AS DECIMAL(38, 9)) AS amount, CASE
        WHEN defect IS NOT NULL THEN defect
        WHEN user_id IS NULL THEN 'missing_user'
        WHEN amount IS NULL THEN 'not_a_number'
        WHEN amount < 0 THEN 'negative_amount'
        WHEN item_id IS NULL THEN 'empty_title'
    END AS wrong FROM said
)
"""
"""The rows with the first thing that is wrong with each; `amount` is exact, so that sums do not depend on the
order in which they are added."""

SUMS = """
CREATE OR REPLACE TEMP TABLE sums AS
SELECT user_id, item_id, sum(amount) AS amount, count(*) AS rows_, min("row") AS "row",
    min(rated_at) AS rated_at, min(order_at) AS order_at, min(split) AS split
FROM amounts WHERE defect IS NULL GROUP BY user_id, item_id
"""
"""The sum of each user and item, at the time and place of its first row; eval where the source says both."""


def shares(marks: Marks) -> str:
    """The mid-rank of each different sum of a group, as a fraction `twice_below` / (2 · `size`)."""
    return f"""
CREATE OR REPLACE TEMP TABLE shares AS
WITH counted AS (SELECT {_GROUPS[marks]} AS of, amount, count(*) AS equal FROM sums GROUP BY ALL)
SELECT of, amount, 2 * sum(equal) OVER (PARTITION BY of ORDER BY amount) - equal AS twice_below,
    sum(equal) OVER (PARTITION BY of) AS size
FROM counted
"""


def marked(scale: Scale, marks: Marks, counted: bool) -> str:
    """The sums with their marks, called as the first row of each is."""
    number = round((scale.highest - scale.lowest) / scale.step) + 1
    written = "sums.rows_::VARCHAR"
    if not counted:
        total = "sums.amount::DOUBLE || ' in ' || sums.rows_ || ' rows'"
        written = f"CASE WHEN sums.rows_ = 1 THEN said.rating_text ELSE {total} END"
    return f"""
CREATE OR REPLACE TEMP TABLE marked AS
SELECT sums."row", sums.user_id, sums.item_id, said.title, said.categories, {written} AS rating_text,
    {scale.lowest!r} + (twice_below * {number} // (2 * size))::DOUBLE * {scale.step!r} AS rating,
    sums.rated_at, sums.order_at, sums.split, said.file, said.line
FROM sums JOIN shares ON shares.of = {_GROUPS[marks]} AND shares.amount = sums.amount
JOIN said ON said."row" = sums."row"
"""


RATINGS = view_of_ratings("""
    SELECT *, true AS has_place, NULL AS position, NULL AS defect, NULL AS detail FROM marked
    UNION ALL BY NAME SELECT * REPLACE (NULL AS rating) FROM amounts WHERE defect IS NOT NULL
""")
