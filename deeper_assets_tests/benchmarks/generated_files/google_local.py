"""Google Local of 2021: `review-New_York_10.json.gz` and `meta-New_York.json.gz`.

Users and places have ten reviews or more. The lines stand by place. No such file was at hand: all rates
are chosen.
"""

from pathlib import Path

import duckdb

from deeper_assets_tests.benchmarks.generated_files.writing import (
    by_share,
    exponential,
    histories,
    json_line,
    reviews_by_item,
    write_lines,
)

FEWEST, MOST, TAIL = 10, 3_000, 1.4
"""Reviews of a user: at least, at most, and the share of users with n or more is (n / 10) ** -1.4."""

LEAST_MEAN = 20

PER_PLACE = 120
"""Reviews."""

SHARES = (("'5'", 0.59), ("'4'", 0.22), ("'3'", 0.10), ("'1'", 0.05), ("'2'", 0.03), ("'null'", 0.01))
"""Of each mark, and of reviews without one."""

WITHOUT_TEXT = 0.42

SAME_LINE = 0.005
"""Of the reviews: the line stands in the file twice."""

META_TWICE, META_WITHOUT_NAME = 0.01, 0.001
"""Of the places: with two lines in the meta file, and with null for a name."""

_RATING = by_share(SHARES, "uniform('rating', u, k)")
_RATING = by_share(SHARES, "uniform('rating', u, k)")
_PLACE = "printf('\"0x%016x:0x%016x\"', item * 2654435761, item * 40503)"


def write_google_local(connection: duckdb.DuckDBPyConnection, rows: int, folder: Path) -> None:
    """`rows` lines; times in milliseconds; the id of a user is a number of 21 digits, as text."""
    counts = f"least({MOST}, floor({FEWEST} * pow(1 - uniform('n', u), -1 / {TAIL})))"
    histories(connection, rows, counts, LEAST_MEAN)
    places = max(1, rows // PER_PLACE)
    reviews_by_item(connection, places)
    text = f"as_json(prose(phrases, {exponential(2, 'length')}, u * {MOST} + k))"
    line = json_line(
        {
            "user_id": "as_json('1' || lpad((u * 2654435761)::VARCHAR, 20, '0'))",
            "name": "as_json(name(phrases, u))",
            "time": "(1400000000000 + below(150000000000, 'first', u) + below(80000000000, 'time', u, k))",
            "rating": f"({_RATING})",
            "text": f"CASE WHEN uniform('text', u, k) < {WITHOUT_TEXT} THEN 'null' ELSE {text} END",
            "pics": "'null'",
            "resp": "'null'",
            "gmap_id": _PLACE,
        }
    )
    write_lines(
        connection,
        folder / "review-New_York_10.json.gz",
        f"""
        SELECT {line} FROM phrases, (
            SELECT *, unnest(range(CASE WHEN uniform('twice', u, k) < {SAME_LINE} THEN 2 ELSE 1 END)) AS copy
            FROM reviews
        ) LIMIT {rows}""",
    )
    place = json_line(
        {
            "name": f"CASE WHEN uniform('name', item) < {META_WITHOUT_NAME} THEN 'null' "
            "ELSE as_json(title) END",
            "address": "as_json(printf('%s, %d Main St, New York, NY 1%04d', title, item, item % 10000))",
            "gmap_id": _PLACE,
            "description": "'null'",
            "latitude": "'40.7'",
            "longitude": "'-73.9'",
            "category": "'[' || as_json(name(phrases, item % 300)) || ', \"Store\"]'",
            "avg_rating": "'4.2'",
            "hours": """'[["Thursday", "6:30AM–6PM"], ["Friday", "Closed"]]'""",
            "MISC": """'{"Accessibility": ["Wheelchair accessible entrance"]}'""",
            "state": "'\"Open ⋅ Closes 6PM\"'",
            "url": "as_json('https://www.google.com/maps/place//data=' || item)",
        }
    )
    write_lines(
        connection,
        folder / "meta-New_York.json.gz",
        f"""
        SELECT {place} FROM (
            SELECT *, name(phrases, item) AS title, unnest(range(
                CASE WHEN uniform('meta twice', item) < {META_TWICE} THEN 2 ELSE 1 END
            )) AS copy FROM phrases, range(1, {places + 1}) AS r(item)
        )""",
    )
