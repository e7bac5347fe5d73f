"""Food.com: `RAW_interactions.csv`, with reviews in quotes over several lines, and `RAW_recipes.csv`.

The lines stand by recipe. No such file was at hand. The sizes are those that the publisher states: 1,132,367
interactions of 226,570 users with 231,637 recipes. Other rates are chosen.
"""

from pathlib import Path

import duckdb

from deeper_assets_tests.benchmarks.generated_files.writing import (
    by_share,
    exponential,
    histories,
    reviews_by_item,
    write_lines,
)

TAIL, MOST, LEAST_MEAN = 1.25, 7_671, 3.0
"""Share of users with n interactions or more: n ** -TAIL, which makes nearly the 5 a user that there are."""

PER_RECIPE = 5
"""Interactions."""

SHARES = (("5", 0.72), ("4", 0.165), ("0", 0.054), ("3", 0.036), ("2", 0.0125), ("1", 0.0125))
"""Of each mark; 0 means that no rating was given."""

WITH_LINE_ENDS, WITH_QUOTES = 0.08, 0.03
"""Of the reviews: over several lines, and with quotation marks."""

WITHOUT_NAME = 1 / 231_637
"""Of the recipes."""


def write_food(connection: duckdb.DuckDBPyConnection, rows: int, folder: Path) -> None:
    """`rows` interactions, on more lines; a date is a day. A few of them come twice, by chance."""
    histories(connection, rows, f"least({MOST}, floor(pow(1 - uniform('n', u), -1 / {TAIL})))", LEAST_MEAN)
    recipes = max(1, rows // PER_RECIPE)
    reviews_by_item(connection, recipes)
    review = f"replace(prose(phrases, {exponential(6, 'length')}, u * {MOST} + k), '\"', '')"
    write_lines(
        connection,
        folder / "RAW_interactions.csv",
        f"""
        SELECT concat_ws(',', 1000 + u * 7, 137 + item,
            strftime(day(11000 + below(5000, 'first', u) + below(2000, 'day', u, k // 3)), '%Y-%m-%d'),
            {by_share(SHARES, "uniform('rating', u, k)")},
            concat('"', CASE WHEN uniform('lines', u, k) < {WITH_LINE_ENDS}
                THEN replace(review, '. ', '.' || chr(13) || chr(10)) || chr(10) ELSE review END,
                CASE WHEN uniform('quotes', u, k) < {WITH_QUOTES} THEN ' He said ""more!""' END, '"')
        ) FROM (SELECT *, {review} AS review FROM reviews, phrases)""",
        header="user_id,recipe_id,date,rating,review",
    )
    write_lines(
        connection,
        folder / "RAW_recipes.csv",
        f"""
        SELECT concat_ws(',',
            CASE WHEN uniform('name', item) < {WITHOUT_NAME} THEN '' ELSE title || '  ' || code(item)[5:] END,
            137 + item, 5 + item % 90, 1000 + item % 999 * 7, '2005-09-16',
            printf('"[''60-minutes-or-less'', ''%s'']"', replace(tag, ' ', '-')),
            '"[51.5, 0.0, 13.0]"', 2, printf('"[''%s'', ''serve'']"', tag),
            concat('"', replace(prose(phrases, 3, -item), '"', '""').replace('. ', chr(10)), '"'),
            '"[''sugar'', ''butter'']"', 2
        ) FROM (
            SELECT *, regexp_replace(lower(name(phrases, item)), '[",]', '', 'g') AS title,
                regexp_replace(lower(name(phrases, item % 50)), '["'',]', '', 'g') AS tag
            FROM phrases, range(1, {recipes + 1}) AS r(item)
        )""",
        header="name,id,minutes,contributor_id,submitted,tags,nutrition,n_steps,steps,description,"
        "ingredients,n_ingredients",
    )
