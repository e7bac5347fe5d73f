"""Amazon reviews of 2018 (`<Category>.json.gz`, `meta_<Category>.json.gz`) and of 2023 (`.jsonl.gz`).

The lines of 2018 stand by product, those of 2023 by user. Products have shorter texts than real ones.
"""

from pathlib import Path

import duckdb

from deeper_assets_tests.benchmarks.generated_files.writing import (
    by_share,
    exponential,
    histories,
    json_line,
    reviews_by_item,
    skewed_item,
    write_lines,
)

CATEGORY = "Movies_and_TV"

TAIL, MOST = 1.5, 5_000
"""Share of users with n reviews or more: n ** -TAIL, so 2.6 reviews a user, and 5,000 at most. Chosen."""

LEAST_MEAN = 2.0

PER_PRODUCT = 50
"""Reviews. Chosen."""

SHARES = (("5", 0.6795), ("4", 0.1483), ("3", 0.1061), ("1", 0.0368), ("2", 0.0293))
"""Of each mark in AMAZON_FASHION_5."""

COPIES = (("1", 0.9713), ("2", 0.0251), ("3", 0.0010), ("4", 0.0023), ("5", 0.0003))
"""How many lines a review has in AMAZON_FASHION_5, one for each style: 3,176 lines of 3,068 reviews."""

WITHOUT_TEXT, WITH_STYLE, WITH_VOTE = 16 / 3_176, 3_107 / 3_176, 297 / 3_176
"""Of the lines of AMAZON_FASHION_5."""

SENTENCES = 3.2
"""Of a text: as long as gives the lines of 2018 the 445 bytes of AMAZON_FASHION_5, in the mean."""

BROKEN, PYTHON_LITERALS = 1 / 100_000, 1 / 1_000
"""Of the lines of 2018. Chosen: AMAZON_FASHION_5 has none, files of 2014 have nothing but Python literals."""

SAME_LINE = 0.01
"""Of the lines of 2023: it stands there twice. Chosen."""

META_TWICE, META_MISSING, UNFORMATTED = 0.01, 0.01, 0.002
"""Of the products: with two lines in the meta file, with none, with a page's source as title. Chosen."""

_RATING = by_share(SHARES, "uniform('rating', u, k)")
_DAY = "(12000 + below(4000, 'first', u) + below(1500, 'day', u, k // 3))"
"""Days since 1970; a user writes three reviews on a day, and all of them within four years."""

_STYLE = """concat('{"Size:": " ', style, '", "Color:": ', as_json(name(phrases, item + style)), '}')"""
_TEXT = f"as_json(prose(phrases, {exponential(SENTENCES, 'length')}, u * {MOST} + k))"
_SUMMARY = f"as_json(name(phrases, u * {MOST} + k))"
_PAGE = """'<span id="t">var aPageStart = (new Date()).getTime();' || repeat(' function () {}', 200)"""
_TITLE = (
    f"as_json(CASE WHEN uniform('page', item) < {UNFORMATTED} THEN {_PAGE} "
    "ELSE name(phrases, item) || ' ' || code(item)[5:] END)"
)
_DESCRIPTION = "'[' || as_json(prose(phrases, 6, -item)) || ']'"
_CATEGORIES = """'["Movies & TV", ' || as_json(name(phrases, item % 40)) || ']'"""


def write_amazon_2018(connection: duckdb.DuckDBPyConnection, rows: int, folder: Path) -> None:
    """`rows` lines, a few of them broken. Times are midnights, so a user's reviews of a day have the same."""
    products = _histories(connection, rows)
    reviews_by_item(connection, products)
    line = json_line(
        {
            "overall": f"({_RATING}) || '.0'",
            "vote": f"CASE WHEN uniform('vote', u, k) < {WITH_VOTE} THEN as_json(k || '') END",
            "verified": "(uniform('verified', u, k) < 0.8)",
            "reviewTime": "strftime(day, '\"%m %-d, %Y\"')",
            "reviewerID": "as_json('A' || code(u) || code(u * 3)[:5])",
            "asin": "as_json('B0' || code(item))",
            "style": f"CASE WHEN copies > 1 OR uniform('style', u, k) < {WITH_STYLE} THEN {_STYLE} END",
            "reviewerName": "as_json(name(phrases, u))",
            "reviewText": f"CASE WHEN uniform('text', u, k) >= {WITHOUT_TEXT} THEN {_TEXT} END",
            "summary": _SUMMARY,
            "unixReviewTime": "epoch(day)::BIGINT",
        }
    )
    # Keys in single quotes and a capital True: Python reads it, JSON does not.
    literal = """regexp_replace(line, '"([A-Za-z:]+)": ', '''\\1'': ', 'g')
        .replace(': true', ': True').replace(': false', ': False')"""
    write_lines(
        connection,
        folder / f"{CATEGORY}.json.gz",
        f"""
        SELECT CASE WHEN uniform('broken', review, style) < {BROKEN} THEN left(line, 150)
            WHEN uniform('literal', review, style) < {PYTHON_LITERALS} THEN {literal} ELSE line END
        FROM (
            SELECT u * {MOST} + k AS review, style, {line} AS line FROM phrases, (
                SELECT *, unnest(range(copies)) AS style FROM (
                    SELECT *, day({_DAY}) AS day, {by_share(COPIES, "uniform('copies', u, k)")} AS copies
                    FROM reviews
                )
            )
        ) LIMIT {rows}""",
    )
    product = json_line(
        {
            "category": _CATEGORIES,
            "tech1": "'\"\"'",
            "description": _DESCRIPTION,
            "title": _TITLE,
            "also_buy": """concat('["B0', code(item + 1), '", "B0', code(item + 2), '"]')""",
            "brand": "as_json(name(phrases, item % 999))",
            "feature": "'[]'",
            "rank": "as_json(item || ' in Movies & TV (')",
            "main_cat": "'\"Movies & TV\"'",
            "price": "'\"$9.99\"'",
            "asin": "as_json('B0' || code(item))",
        }
    )
    _write_products(connection, folder / f"meta_{CATEGORY}.json.gz", product, products)


def write_amazon_2023(connection: duckdb.DuckDBPyConnection, rows: int, folder: Path) -> None:
    """`rows` lines; times in milliseconds. An `asin` is one of the variants of its `parent_asin`."""
    products = _histories(connection, rows)
    line = json_line(
        {
            "rating": f"({_RATING}) || '.0'",
            "title": _SUMMARY,
            "text": _TEXT,
            "images": "'[]'",
            "asin": "as_json('B0' || code(item * 4 + below(4, 'variant', u, k)))",
            "parent_asin": "as_json('B0' || code(item * 4))",
            "user_id": "as_json('AE' || code(u) || code(u * 3) || code(u * 5))",
            "timestamp": f"({_DAY} * 86400000 + below(86400000, 'ms', u, k))",
            "helpful_vote": "below(3, 'votes', u, k)",
            "verified_purchase": "'true'",
        }
    )
    write_lines(
        connection,
        folder / f"{CATEGORY}.jsonl.gz",
        f"""
        SELECT {line} FROM phrases, (
            SELECT *, unnest(range(CASE WHEN uniform('twice', u, k) < {SAME_LINE} THEN 2 ELSE 1 END)) AS copy
            FROM (SELECT u, k, {skewed_item(products)} AS item
                FROM (SELECT u, unnest(range(n)) AS k FROM histories))
        ) LIMIT {rows}""",
    )
    product = json_line(
        {
            "main_category": "'\"Movies & TV\"'",
            "title": _TITLE,
            "average_rating": "'4.2'",
            "rating_number": "item",
            "features": "'[]'",
            "description": _DESCRIPTION,
            "price": "'null'",
            "store": "as_json(name(phrases, item % 999))",
            "categories": _CATEGORIES,
            "details": '\'{"Format": "DVD"}\'',
            "parent_asin": "as_json('B0' || code(item * 4))",
            "bought_together": "'null'",
        }
    )
    _write_products(connection, folder / f"meta_{CATEGORY}.jsonl.gz", product, products)


def _histories(connection: duckdb.DuckDBPyConnection, rows: int) -> int:
    """Makes the table `histories`; how many products there are."""
    histories(connection, rows, f"least({MOST}, floor(pow(1 - uniform('n', u), -1 / {TAIL})))", LEAST_MEAN)
    return max(1, rows // PER_PRODUCT)


def _write_products(connection: duckdb.DuckDBPyConnection, path: Path, line: str, products: int) -> None:
    write_lines(
        connection,
        path,
        f"""
        SELECT {line} FROM phrases, (
            SELECT item, unnest(range(
                CASE WHEN uniform('meta', item) < {META_MISSING} THEN 0
                    WHEN uniform('meta twice', item) < {META_TWICE} THEN 2 ELSE 1 END
            )) AS copy FROM range(1, {products + 1}) AS r(item)
        )""",
    )
