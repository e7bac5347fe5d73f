"""Logs whose titles stand in a file of their own."""

import duckdb
import pytest

from deeper_assets.sources.logs import make_ratings, typed
from deeper_assets.sources.shape import scratch


def rated(items: str, log: str = "('u', 'a', '4', '9')") -> list[tuple[object, ...]]:
    """(item_id, title, categories, defect, detail, has_place) of ratings (user, item, rating, time)."""
    with scratch() as (connection, _):
        columns = typed(connection, {"user": "u", "item": "i", "rating": "r", "time": "t"})
        selected = ", ".join(f"{text} AS {name}" for name, text in columns.items())
        connection.execute(
            f"CREATE TEMP TABLE rows_ AS SELECT {selected} FROM (VALUES {log}) log(u, i, r, t)"
        )
        connection.execute(
            "CREATE TEMP VIEW given AS SELECT rowid + 2 AS line, NULL::VARCHAR AS malformed, * FROM rows_"
        )
        connection.execute(
            f"CREATE TEMP TABLE items AS SELECT * FROM (VALUES {items}) t(item, title, categories)"
        )
        make_ratings(connection, "ratings.csv")
        return connection.execute(
            'SELECT item_id, title, categories, defect, detail, has_place FROM ratings ORDER BY "row"'
        ).fetchall()


def test_items_are_called_as_their_file_says() -> None:
    items = "(' a ', 'Tom &amp;  Jerry', 'Kids, Fun'), ('b', NULL, NULL), ('', 'nothing', '')"
    log = "('u', 'a', '4', '9'), ('u', 'b', '4', '9'), ('u', 'c', '4', '9'), ('u', NULL, '4', '9')"
    assert rated(items, log) == [
        ("a", "Tom & Jerry", "Kids, Fun", None, None, True),
        ("b", None, None, None, None, True),  # which has no title: `cutting` rejects it
        ("c", None, None, None, None, True),
        (None, None, None, None, None, True),
    ]


def test_an_item_that_comes_twice_has_one_title_whatever_the_order() -> None:
    two = ["('a', 'Beta', 'x')", "('a', 'Alpha', 'y')"]
    assert rated(", ".join(two)) == rated(", ".join(reversed(two))) == [("a", "Alpha", "y", None, None, True)]


@pytest.mark.parametrize(
    ("title", "detail"),
    [
        ("'x' || chr(0)", "the title holds a NUL or half a character, at �: x�"),
        ("repeat('x', 1001)", f"the title has 1001 characters, 1000 at most: {'x' * 80}"),
    ],
)
def test_an_odd_title_keeps_its_ratings_out(title: str, detail: str) -> None:
    [row] = rated(f"('a', {title}, 'y')")
    assert row[3:] == ("unusable_text", detail, True)
    assert len(str(row[1])) <= 1000


def test_copies_are_told_from_others() -> None:
    with scratch() as (connection, _):
        columns = typed(connection, {"user": "u", "item": "i", "rating": "r"})
        selected = ", ".join(f"{text} AS {name}" for name, text in columns.items())
        log = "('u', 'a', '4'), ('u', 'a', ' 4.0'), ('u', 'a', '5'), ('v', 'a', '4')"
        log += ", ('u', 'a', 'x'), ('u', 'a', 'y')"
        connection.execute(f"CREATE TEMP TABLE rows_ AS SELECT {selected} FROM (VALUES {log}) log(u, i, r)")
        connection.execute(
            "CREATE TEMP VIEW given AS SELECT rowid + 1 AS line, NULL::VARCHAR AS malformed, * FROM rows_"
        )
        make_ratings(connection, "log")
        found = connection.execute('SELECT line, defect, detail FROM ratings ORDER BY "row"').fetchall()
    assert found == [
        (1, None, None),
        (2, "duplicate_row", "already in line 1"),
        *((line, None, None) for line in (3, 4, 5, 6)),
    ]


def test_a_hash_that_two_ratings_share_makes_no_copy_of_them() -> None:
    with scratch() as (connection, _):
        connection.execute(
            "CREATE TEMP TABLE given AS SELECT * FROM (VALUES"
            " (1, NULL, 'u', 'a', '4', 4.0, 7::UBIGINT, NULL::VARCHAR),"
            " (2, NULL, 'v', 'a', '4', 4.0, 7, NULL)"
            ") t(line, malformed, user_id, item, rating_text, rating, sign, odd)"
        )
        typed(connection, {"user": "u", "item": "i", "rating": "r"})  # the macros
        make_ratings(connection, "log")
        assert connection.execute("SELECT defect FROM ratings").fetchall() == [(None,), (None,)]


def test_sorting_finds_every_hash_that_comes_twice() -> None:
    """Also over more rows than DuckDB sorts at once, in several threads."""
    with scratch() as (connection, _):
        typed(connection, {"user": "u", "item": "i", "rating": "r"})
        connection.execute(
            "CREATE TEMP TABLE given AS SELECT (hash(i % 900000) >> 1)::UBIGINT AS sign, i AS line,"
            " NULL::VARCHAR AS malformed, 'u' || i % 900000 AS user_id, 'a' AS item,"
            " '4' AS rating_text, 4.0 AS rating,"
            " NULL::VARCHAR AS odd FROM range(1000000) t(i)"
        )
        make_ratings(connection, "log")
        answer: duckdb.DuckDBPyConnection = connection.execute("SELECT count(*), min(line) FROM duplicates")
        assert answer.fetchall() == [(100_000, 900_000)]
