import datetime as dt
import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import REASONS
from deeper_assets.sources.custom import ColumnMap, CustomSource
from deeper_assets_tests.postgres import own_postgres
from deeper_assets_tests.sources.reading import cut_source, loaded, picked, real_data, written

FILMS = Domain("films", "film", Scale(0.5, 5, 0.5), seen=True)
PLAIN = ColumnMap("u", "i", "r")
TIMED = ColumnMap("u", "i", "r", time="t")


def read(
    folder: Path, text: str, columns: ColumnMap = PLAIN, name: str = "ratings.csv"
) -> list[dict[str, Any]]:
    path = folder / name
    path.write_text(text, newline="")
    rows, _ = written(CustomSource(FILMS, columns, file=path), folder)
    assert {row["defect"] for row in rows if row["defect"]} <= set(REASONS)
    return rows


def test_a_row_a_line(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "u,i,r\r\n1,a,4.0\r\n")
    assert row == {
        "row": 1,
        "user_id": "1",
        "item_id": "a",
        "title": "a",
        "categories": None,
        "rating_text": "4.0",
        "rating": 4.0,
        "rated_at": None,
        "order_at": None,
        "position": 0,
        "has_place": True,
        "split": None,
        "file": "ratings.csv",
        "line": 2,
        "defect": None,
        "detail": None,
    }


def test_positions_follow_the_order_then_the_line(tmp_path: Path) -> None:
    text = "u,i,r,n\n1,a,4,30\n1,b,4,4\n2,c,4,1\n1,d,4,4\n1,e,4,x\n1,f,4,\n1,g,4,-0.5\n"
    rows = read(tmp_path, text, ColumnMap("u", "i", "r", order="n"))
    assert picked(rows, "item_id", "position", "defect", "detail") == [
        ("a", 3, None, None),
        ("b", 1, None, None),
        ("c", 0, None, None),
        ("d", 2, None, None),
        ("e", None, "unreadable_order", "found 'x', expected a number"),
        ("f", None, "unreadable_order", "found nothing, expected a number"),
        ("g", 0, None, None),
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("964982703", dt.datetime(2000, 7, 30, 18, 45, 3)),
        ("964982703.5", dt.datetime(2000, 7, 30, 18, 45, 3, 500000)),
        ("964982703250", dt.datetime(2000, 7, 30, 18, 45, 3, 250000)),
        ("0", dt.datetime(1970, 1, 1)),
        ("2000-07-30", dt.datetime(2000, 7, 30)),
        ("2000-07-30 18:45:03", dt.datetime(2000, 7, 30, 18, 45, 3)),
        ("2000-07-30T18:45:03Z", dt.datetime(2000, 7, 30, 18, 45, 3)),
        ("2000-07-30 18:45:03+02", dt.datetime(2000, 7, 30, 16, 45, 3)),
        ("2000-07-30T18:45:03.25-05:30", dt.datetime(2000, 7, 31, 0, 15, 3, 250000)),
    ],
)
def test_times_are_utc(tmp_path: Path, text: str, meant: dt.datetime) -> None:
    (row,) = read(tmp_path, f"u,i,r,t\n1,a,4,{text}\n", TIMED)
    assert (row["rated_at"], row["defect"]) == (meant, None)


@pytest.mark.parametrize(
    "text", ["yesterday", "", "2000-02-30", "infinity", "nan", "1e300", "inf", "-9.9e13", "10000-01-01"]
)
def test_a_time_that_is_none(tmp_path: Path, text: str) -> None:
    rows = read(tmp_path, f"u,i,r,t\n1,a,4,{text}\n1,b,4,5\n", TIMED)
    detail = f"found {text!r}, expected a time" if text else "found nothing, expected a time"
    assert picked(rows, "defect", "position", "rated_at", "detail")[0] == (
        "unreadable_time",
        None,
        None,
        detail,
    )
    assert rows[1]["position"] == 0


def test_where_the_order_decides_a_bad_time_keeps_its_place(tmp_path: Path) -> None:
    columns = ColumnMap("u", "i", "r", time="t", order="n")
    rows = read(tmp_path, "u,i,r,t,n\n1,a,4,never,2\n1,b,4,,1\n1,c,4,9,3\n", columns)
    assert picked(rows, "position", "defect") == [(1, "unreadable_time"), (0, None), (2, None)]


def test_the_same_rating_twice_takes_one_place(tmp_path: Path) -> None:
    text = "u,i,r,t\n1,a,4,10\n1,b,5,30\n1,a,4.0,10\n1,a,4,20\n2,a,4,10\n1,a,3,10\n"
    text += ",a,4,10\n,a,4,10\n1,,4,10\n1,,4,10\n"
    rows = read(tmp_path, text, TIMED)
    assert picked(rows, "position", "defect", "detail") == [
        (0, None, None),
        (5, None, None),
        (None, "duplicate_row", "already in line 2"),
        (4, None, None),
        (0, None, None),
        (1, None, None),
        (None, "missing_user", "no user id"),
        (None, "missing_user", "no user id"),
        (2, None, None),
        (3, None, None),
    ]
    assert picked(rows[8:], "item_id", "title") == [(None, None), (None, None)]


def test_ratings_keep_their_text_and_their_place(tmp_path: Path) -> None:
    rows = read(tmp_path, "u,i,r\n1,a,good\n1,b,\n1,c,nan\n1,d, 3.5 \n1,e,inf\n1,f,9\n")
    assert picked(rows, "rating_text", "rating", "position", "defect") == [
        ("good", None, 0, None),
        (None, None, 1, None),
        ("nan", None, 2, None),
        (" 3.5 ", 3.5, 3, None),
        ("inf", None, 4, None),
        ("9", 9.0, 5, None),
    ]


def unusable(what: str, shown: str) -> str:
    return f"the {what} holds a NUL or half a character, at �: {shown}"


def too_long(what: str, shown: str) -> str:
    return f"the {what} has 1001 characters, 1000 at most: {shown * 80}"


def test_texts_that_cannot_be_told_apart_or_do_not_end(tmp_path: Path) -> None:
    text = "u,i,r,n\na,1,4,A\na\0b,1,4,A\na\0c,1,4,A\na,2\0,4\0,B\na,3,4,C\0\n"
    text += f"{'u' * 1001},1,4,A\na,{'i' * 1001},4,D\na,5,4,{'t' * 1001}\na,{'j' * 1000},4,{'s' * 1000}\n"
    rows = read(tmp_path, text, ColumnMap("u", "i", "r", title="n"))
    assert picked(rows, "user_id", "position", "defect", "detail") == [
        ("a", 0, None, None),
        (None, None, "unusable_text", unusable("user id", "a�b")),
        (None, None, "unusable_text", unusable("user id", "a�c")),
        ("a", 1, "unusable_text", unusable("item id", "2�")),
        ("a", 2, "unusable_text", unusable("title", "C�")),
        (None, None, "unusable_text", too_long("user id", "u")),
        ("a", 3, "unusable_text", too_long("item id", "i")),
        ("a", 4, "unusable_text", too_long("title", "t")),
        ("a", 5, None, None),
    ]
    assert picked(rows, "item_id", "title", "rating_text")[3:5] == [("2�", "B", "4�"), ("3", "C�", "4")]
    assert picked(rows, "item_id", "title")[6:] == [
        ("i" * 1000, "D"),
        ("5", "t" * 1000),
        ("j" * 1000, "s" * 1000),
    ]


def test_a_parquet_file_and_a_query_may_hold_nuls_too(tmp_path: Path) -> None:
    query = "SELECT 'a' || chr(0) AS u, 'x' AS i, 4 AS r UNION ALL SELECT 'b', 'y' || chr(0), 4"
    path = tmp_path / "ratings.parquet"
    duckdb.connect().execute(f"COPY ({query}) TO '{path}'")
    for source in (CustomSource(FILMS, PLAIN, file=path), CustomSource(FILMS, PLAIN, query=query)):
        rows, _ = written(source, tmp_path)
        assert picked(rows, "user_id", "title", "defect") == [
            (None, "x", "unusable_text"),
            ("b", "y�", "unusable_text"),
        ]


def test_users_who_differ_after_a_nul_alone_add_up(tmp_path: Path) -> None:
    lines = ["u,i,r"] + [f"{user},e{item},4" for user in ("a", "a\0b", "a\0c") for item in range(50)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    accounting = cut_source(CustomSource(FILMS, PLAIN, file=tmp_path / "ratings.csv"), tmp_path).accounting
    assert accounting.adds_up
    assert (accounting.used.users, accounting.rejected.users, accounting.rejected.ratings) == (1, 0, 100)


def test_titles_and_splits(tmp_path: Path) -> None:
    text = 'u,i,r,"a title",s\n1,a,4,Tom &amp; Jerry &quot;1&quot;,train\n1,,4," x\n y ",EVAL\n'
    text += "1,c,4,,\n1,d,4,D,both\n"
    rows = read(tmp_path, text, ColumnMap("u", "i", "r", title="a title", split="s"))
    assert picked(rows, "item_id", "title", "split", "line", "position", "defect") == [
        ("a", 'Tom & Jerry "1"', "train", 2, 0, None),
        ("x y", "x y", "eval", 3, 1, None),
        ("c", None, None, 5, 2, None),
        ("d", "D", None, 6, 3, "unreadable_split"),
    ]
    assert rows[3]["detail"] == "found 'both', expected train or eval"


def test_bad_lines_are_rows(tmp_path: Path) -> None:
    rows = read(tmp_path, "u\ti\tr\n1\ta\t4\n\n1\tb\n1\tc\t5\n", name="ratings.tsv")
    assert picked(rows, "line", "position", "defect") == [
        (2, 0, None),
        (4, None, "malformed_line"),
        (5, 1, None),
    ]
    assert rows[1]["detail"] == "Expected Number of Columns: 3 Found: 2 In: 1\tb"
    assert rows[1]["user_id"] is None


def test_columns_called_like_ours(tmp_path: Path) -> None:
    rows = read(
        tmp_path, 'line,row,malformed,"a ""b"\n1,a,4,5\n', ColumnMap("line", "row", "malformed", time='a "b')
    )
    assert picked(rows, "user_id", "item_id", "rating", "line", "defect") == [("1", "a", 4.0, 2, None)]


def test_packed_and_parquet_files_say_the_same(tmp_path: Path) -> None:
    text = "u,i,r,t\n1,a,4,2020-01-02\n2,b,3.5,2020-01-01\n"
    plain = read(tmp_path, text, TIMED)
    packed, parquet = tmp_path / "ratings.csv.gz", tmp_path / "ratings.parquet"
    packed.write_bytes(gzip.compress(text.encode()))
    duckdb.connect().execute(f"COPY (FROM read_csv('{tmp_path / 'ratings.csv'}')) TO '{parquet}'")
    for path, first in ((packed, 2), (parquet, 1)):
        rows, _ = written(CustomSource(FILMS, TIMED, file=path), tmp_path)
        columns = ("user_id", "item_id", "rating", "rated_at", "position")
        assert picked(rows, *columns) == picked(plain, *columns)
        assert picked(rows, "file", "line") == [(path.name, first), (path.name, first + 1)]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.GZ", "a.parquet"])
def test_folders_that_are_called_like_columns_are_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / "r=9" / name
    path.parent.mkdir()
    text = b"u,i,r\n1,a,4\n"
    path.write_bytes(gzip.compress(text) if name.endswith("GZ") else text)
    if name.endswith("parquet"):
        duckdb.connect().execute(f"COPY (SELECT 1 AS u, 'a' AS i, 4 AS r) TO '{path}'")
    rows, _ = written(CustomSource(FILMS, PLAIN, file=path), tmp_path / "r=7")
    assert picked(rows, "user_id", "item_id", "rating_text") == [("1", "a", "4")]


def test_a_query_on_a_database_file(tmp_path: Path) -> None:
    path = tmp_path / "it's.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(
            "CREATE TABLE marks AS SELECT 7 AS u, 'a' AS i, 4 AS r, TIMESTAMPTZ '2020-01-01 00:00+02' AS t"
        )
    source = CustomSource(FILMS, TIMED, database=path, query="SELECT * FROM marks -- all of it\n;")
    (row,), _ = written(source, tmp_path)
    assert (row["user_id"], row["file"], row["line"]) == ("7", "query on it's.duckdb", 1)
    assert row["rated_at"] == dt.datetime(2019, 12, 31, 22)
    assert source.files() == [path]
    assert source.identity()["files"].keys() == {str(path)}
    with pytest.raises(
        DeeperError, match=r"query on it's\.duckdb cannot be read: Catalog Error: Table .*gone"
    ):
        written(CustomSource(FILMS, TIMED, database=path, query="FROM gone"), tmp_path)
    with pytest.raises(DeeperError, match="cannot be read"):  # it is only read
        written(CustomSource(FILMS, TIMED, database=path, query="DROP TABLE marks"), tmp_path)
    path.write_bytes(b"no database")
    with pytest.raises(DeeperError, match=r"it's\.duckdb cannot be opened"):
        written(source, tmp_path)


def test_a_query_on_files(tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"part_{part}.csv").write_text(f"u,i,r\n{part},a,4\n")
    (tmp_path / "names.csv").write_text("i,name\na,Alien\n")
    columns = ColumnMap("u", "i", "r", title="name")
    query = f"SELECT * FROM '{tmp_path}/part_*.csv' JOIN '{tmp_path}/names.csv' USING (i) ORDER BY u"
    source = CustomSource(FILMS, columns, query=query)
    rows, _ = written(source, tmp_path)
    assert picked(rows, "user_id", "title", "file", "line") == [
        ("1", "Alien", "query", 1),
        ("2", "Alien", "query", 2),
    ]
    assert [path.name for path in source.files()] == ["names.csv", "part_1.csv", "part_2.csv"]
    before = source.identity()
    (tmp_path / "names.csv").write_text("i,name\na,Aliens\n")
    assert source.identity() != before


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,i,rating\n")
    message = (
        r"ratings\.csv has no column u \(user\), r \(rating\); it has userId, i, rating\. Correct the columns"
    )
    with pytest.raises(DeeperError, match=message):
        written(CustomSource(FILMS, PLAIN, file=tmp_path / "ratings.csv"), tmp_path)
    with pytest.raises(DeeperError, match=r"query has no column r \(rating\); it has u, i"):
        written(CustomSource(FILMS, PLAIN, query="SELECT 1 AS u, 2 AS i"), tmp_path)


def test_a_column_that_is_spelt_otherwise_is_suggested(tmp_path: Path) -> None:
    columns = ColumnMap(user="user_id", item="movieId", rating="stars")
    (tmp_path / "ratings.csv").write_text("User ID, movieid ,Rating\n1,a,5\n")
    with pytest.raises(DeeperError) as error:
        written(CustomSource(FILMS, columns, file=tmp_path / "ratings.csv"), tmp_path)
    assert str(error.value).startswith(
        "ratings.csv has no column user_id (user; did you mean 'User ID'?), movieId (item; did you mean "
        "' movieid '?), stars (rating); it has User ID,  movieid , Rating."
    )


def test_what_is_no_source(tmp_path: Path) -> None:
    for wrong in ({}, {"file": Path("a.csv"), "query": "FROM t"}, {"database": Path("d")}, {"dsn_env": "X"}):
        with pytest.raises(DeeperError, match="domain 'films' needs either a file, or a query"):
            CustomSource(FILMS, PLAIN, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DeeperError, match=r"a\.xlsx is of no known kind; known endings: \.csv, \.tsv"):
        CustomSource(FILMS, PLAIN, file=Path("a.xlsx"))
    gone = CustomSource(FILMS, PLAIN, file=tmp_path / "gone.csv")
    assert gone.files() == []
    with pytest.raises(
        DeeperError, match=r"gone\.csv does not exist; expected the ratings of domain 'films'"
    ):
        gone.identity()


def test_identity(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("u,i,r\n")
    source = CustomSource(FILMS, PLAIN, file=path)
    before = source.identity()
    json.dumps(before)
    assert before["columns"]["user"] == "u"
    path.write_text("u,i,r\n1,a,4\n")
    assert source.identity()["files"] != before["files"]


def used(source: CustomSource, folder: Path) -> tuple[int, int, int]:
    """(users used, users with too few windows, ratings left over)."""
    done = cut_source(source, folder)
    accounting = done.accounting
    assert accounting.adds_up
    assert set(done.rejected["reason"]) == {"too_few_windows"}
    assert accounting.read.ratings == 100_836
    return accounting.used.users, accounting.rejected.users, accounting.left_over


def test_movielens_as_it_comes(tmp_path: Path) -> None:
    folder = real_data("raw/movielens/ml-latest-small")
    columns = ColumnMap("userId", "movieId", "rating", time="timestamp")
    plain = CustomSource(FILMS, columns, file=folder / "ratings.csv")
    query = f"SELECT r.*, title FROM '{folder}/ratings.csv' r JOIN '{folder}/movies.csv' USING (movieId)"
    joined = CustomSource(
        FILMS, ColumnMap("userId", "movieId", "rating", title="title", time="timestamp"), query=query
    )
    users = (
        duckdb.connect()
        .execute(
            f"SELECT count(*), count(*) FILTER (n >= 50), sum(n - least(n // 10 * 10, 70)) FILTER (n >= 50) "
            f"FROM (SELECT count(*) AS n FROM '{folder}/ratings.csv' GROUP BY userId)"
        )
        .fetchone()
    )
    assert users is not None
    expected = (users[1], users[0] - users[1], users[2])
    assert expected[:2] == (385, 225)
    assert used(plain, tmp_path) == used(joined, tmp_path) == expected
    first = written(joined, tmp_path)[0][0]
    assert isinstance(first["title"], str)
    assert first["rated_at"].tzinfo is None


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A connection string of a PostgreSQL with a table of ratings."""
    with own_postgres() as dsn:
        import psycopg

        with psycopg.connect(dsn) as session:
            session.execute("CREATE SEQUENCE counted")
            session.execute("CREATE TABLE marks (u int, i text, r numeric, t timestamptz)")
            session.execute(
                "INSERT INTO marks VALUES (1, 'b, \"c\"\nd é', 4.5, '2020-01-02 00:00+02'), "
                "(1, 'a', NULL, '2020-01-01'), (NULL, 'x', 3, '2020-01-01')"
            )
        yield dsn


def test_a_query_on_postgres(tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATINGS_DSN", postgres)
    source = CustomSource(
        FILMS,
        TIMED,
        query="SELECT * FROM marks ORDER BY t DESC, u -- {all}\n;",
        dsn_env="RATINGS_DSN",
    )
    rows, report = written(source, tmp_path)
    assert picked(rows, "user_id", "title", "rating", "position", "file", "line", "defect") == [
        ("1", 'b, "c" d é', 4.5, 1, "query on $RATINGS_DSN", 1, None),
        ("1", "a", None, 0, "query on $RATINGS_DSN", 2, None),
        (None, "x", 3.0, None, "query on $RATINGS_DSN", 3, "missing_user"),
    ]
    assert rows[0]["rated_at"] == dt.datetime(2020, 1, 1, 22)
    assert source.files() == []
    assert "opensesame" not in json.dumps(source.identity()) + str(report)


def test_postgres_errors_hold_no_secret(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(dsn: str | None, query: str = "SELECT 1 AS u") -> str:
        if dsn is None:
            monkeypatch.delenv("RATINGS_DSN", raising=False)
        else:
            monkeypatch.setenv("RATINGS_DSN", dsn)
        with pytest.raises(DeeperError) as caught:
            written(CustomSource(FILMS, PLAIN, query=query, dsn_env="RATINGS_DSN"), tmp_path)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        assert "opensesame" not in str(caught.value)
        assert "wrong-word" not in str(caught.value)
        return str(caught.value)

    assert fails(None).startswith("the environment variable RATINGS_DSN is not set")
    assert "cannot be reached (OperationalError)" in fails(postgres.replace("opensesame", "wrong-word"))
    assert "cannot be reached (ProgrammingError)" in fails("host opensesame")
    assert (
        fails(postgres, "SELECT * FROM gone")
        == 'the query on $RATINGS_DSN failed: relation "gone" does not exist'
    )
    assert "syntax error" in fails(postgres, "DELETE FROM marks RETURNING u")
    assert "read-only transaction" in fails(postgres, "SELECT nextval('counted') AS u, 1 AS i, 1 AS r")
    several = "SELECT 1 AS u) AS x LIMIT 0; COMMIT; CREATE TABLE evil (x int); SELECT * FROM (SELECT 1 AS u"
    assert "cannot insert multiple commands into a prepared statement" in fails(postgres, several)
    assert 'relation "evil" does not exist' in fails(postgres, "SELECT * FROM evil")
    assert fails(postgres).startswith(
        "the answer of the query on $RATINGS_DSN has no column i (item), r (rating)"
    )


def test_a_postgres_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and is silent; the connection string says how long to wait."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        monkeypatch.setenv("RATINGS_DSN", f"host=127.0.0.1 port={port} user=u dbname=d connect_timeout=2")
        with pytest.raises(DeeperError, match="cannot be reached"):
            written(CustomSource(FILMS, PLAIN, query="SELECT 1", dsn_env="RATINGS_DSN"), tmp_path)


def test_sums_of_floats_behind_a_view_have_the_same_hash_each_time(tmp_path: Path) -> None:
    """DuckDB adds them up in threads, in an order that differs, unless it is told otherwise."""
    with duckdb.connect(tmp_path / "v.duckdb") as database:
        database.execute(
            "COPY (SELECT i % 7 AS u, i % 11 AS i, 0.1 * (i % 13) + 1e-9 * i AS r FROM range(3000000) t(i))"
            f" TO '{tmp_path}/big.parquet'"
        )
        database.execute(f"CREATE VIEW v AS FROM '{tmp_path}/big.parquet'")
    query = "SELECT u, i, avg(r) AS r FROM v GROUP BY ALL"
    source = CustomSource(FILMS, PLAIN, query=query, database=tmp_path / "v.duckdb")
    with loaded(source, tmp_path) as (_, report):
        pass
    assert report.answer is not None
    assert {source._answer() for _ in range(4)} == {report.answer}


def test_json_lines_are_read_as_a_csv_is(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(
        '{"u": 1, "i": "a", "r": 4.0, "more": {"x": 1}}\n{"u": 1, "i":\n\n'
        '{"u": 1, "i": "b", "r": "good"}\n{"i": "c", "r": 1}\n'
    )
    rows, _ = written(CustomSource(FILMS, PLAIN, file=path), tmp_path)
    assert picked(rows, "line", "user_id", "item_id", "rating", "rating_text", "defect") == [
        (1, "1", "a", 4.0, "4.0", None),
        (2, None, None, None, None, "malformed_line"),
        (4, "1", "b", None, "good", None),
        (5, None, "c", 1.0, "1", "missing_user"),
    ]


def test_names_and_macros_of_the_database_are_not_taken_for_ours(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "mine.duckdb") as database:
        database.execute(
            "CREATE TABLE log AS SELECT 'u' || i % 3 AS u, 'i' || i AS i, i % 5 + 1 AS r FROM range(30) t(i)"
        )
        for name in (
            "ratings",
            "given",
            "given_rows",
            "items",
            "names",
            "twice",
            "duplicates",
            "kept",
            "people",
        ):
            database.execute(f"CREATE TABLE {name} AS SELECT 'x' AS item, 'y' AS title, 'z' AS categories")
        database.execute(
            "CREATE SCHEMA memory; CREATE TABLE memory.items AS SELECT 'i1' AS item, 'no' AS title"
        )
        database.execute("CREATE MACRO trim(text) AS 'all'; CREATE MACRO cleaned(text) AS 'mine ' || text")
    query = "SELECT u, cleaned(i) AS i, r FROM log"
    rows, _ = written(CustomSource(FILMS, PLAIN, query=query, database=tmp_path / "mine.duckdb"), tmp_path)
    assert [row["defect"] for row in rows if row["defect"]] == []
    assert picked(rows[:2], "user_id", "title") == [("u0", "mine i0"), ("u1", "mine i1")]
    assert {row["user_id"] for row in rows} == {"u0", "u1", "u2"}


def test_whether_a_row_is_a_copy_does_not_depend_on_others(tmp_path: Path) -> None:
    def copies(*times: str) -> int:
        text = "u,i,r,t\n" + "".join(f"1,a,4,{time}\n" for time in times)
        return sum(row["defect"] == "duplicate_row" for row in read(tmp_path, text, TIMED))

    assert copies("1", "1.0") == 1
    assert copies("1", "1", "1.0", "1.0") == 3
    assert copies("1", "2", "soon", "later") == 0


@pytest.mark.parametrize(
    "query",
    [
        "SELECT u, i, max(r) AS r FROM 'log.csv' GROUP BY ALL",
        "SELECT a.u, a.i, b.r FROM 'log.csv' a JOIN 'log.csv' b USING (n)",
        "SELECT u, i, r FROM 'log.csv' ORDER BY r",
    ],
)
def test_the_rows_of_a_query_come_in_one_order(tmp_path: Path, query: str) -> None:
    duckdb.execute(
        "COPY (SELECT n, 'u' || hash(n) % 50 AS u, 'i' || n % 3000 AS i, n % 5 + 1 AS r"
        " FROM range(300000) t(n))"
        f" TO '{tmp_path}/log.csv'"
    )
    source = CustomSource(FILMS, PLAIN, query=query, folder=tmp_path)
    orders = {tuple(picked(written(source, tmp_path)[0], "user_id", "item_id", "position")) for _ in range(3)}
    assert len(orders) == 1


@pytest.mark.parametrize("end", ["; -- all of it", ";;", " -- it's;\n;", "\n/* ; */"])
def test_a_query_may_end_in_a_semicolon_and_a_comment(tmp_path: Path, end: str) -> None:
    (tmp_path / "log.csv").write_text("u,i,r\n1,a,4\n")
    source = CustomSource(FILMS, PLAIN, query=f"SELECT * FROM 'log.csv' WHERE i <> ';'{end}", folder=tmp_path)
    assert picked(written(source, tmp_path)[0], "user_id", "item_id") == [("1", "a")]
