"""The first look at somebody's own ratings: columns of every kind of source, and what they hold."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources import looking
from deeper_assets.sources.looking import Column, Place, looked_at, tables_of
from deeper_assets_tests.postgres import own_postgres
from deeper_assets_tests.sources.reading import real_data

CSV = "who,stars,at,\nanna,4,2024-01-01,x\nben,,1700000000,\nanna,4.5,never,\n"
COLUMNS = (
    Column("who", 3, 2, 0, 0, 3, ("anna", "ben"), ("anna", "ben")),
    Column("stars", 2, 2, 2, 0, 0, ("4", "4.5"), ("4", "4.5")),
    Column("at", 3, 3, 1, 2, 1, ("2024-01-01", "1700000000", "never"), ("1700000000", "2024-01-01", "never")),
)


def columns(place: Place) -> tuple[Column, ...]:
    with looked_at(place) as look:
        assert (look.rows, look.whole) == (3, True)
        return tuple(column for column in look.columns if column.name)


def test_what_columns_of_a_csv_hold(tmp_path: Path) -> None:
    text = CSV.replace("at,\n", "at,more\n")
    (tmp_path / "r.csv").write_text(text)
    with gzip.open(tmp_path / "r.tsv.gz", "wt") as file:
        file.write(text.replace(",", "\t"))
    more = Column("more", 1, 1, 0, 0, 1, ("x",), ("x",))
    assert columns(Place(file=tmp_path / "r.csv")) == (*COLUMNS, more)
    assert columns(Place(file=tmp_path / "r.tsv.gz")) == (*COLUMNS, more)


@pytest.mark.parametrize("name", ["r.csv", "r.csv.GZ", "r.jsonl", "r.jsonl.GZ", "r.parquet"])
def test_a_folder_that_is_called_like_a_column_is_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / "stars=9" / name
    path.parent.mkdir()
    text = b"who,stars\nanna,4\n" if "csv" in name else b'{"who": "anna", "stars": 4}\n'
    path.write_bytes(gzip.compress(text) if name.endswith("GZ") else text)
    if name.endswith("parquet"):
        duckdb.connect().execute(f"COPY (SELECT 'anna' AS who, 4 AS stars) TO '{path}'")
    with looked_at(Place(file=path)) as look:
        assert [(column.name, column.examples) for column in look.columns] == [
            ("who", ("anna",)),
            ("stars", ("4",)),
        ]


def test_other_kinds_of_sources_look_the_same(tmp_path: Path) -> None:
    rows = "(VALUES ('anna', 4, '2024-01-01'), ('ben', NULL, '1700000000'), ('anna', 4.5, 'never'))"
    query = f'SELECT who, stars::DOUBLE AS stars, "at" FROM {rows} AS t(who, stars, "at")'
    with duckdb.connect(tmp_path / "r.duckdb") as connection:
        connection.execute(f"CREATE TABLE rated AS {query}")
        connection.execute("CREATE VIEW seen AS FROM rated")
        connection.execute(f"COPY rated TO '{tmp_path}/r.parquet'")
        connection.execute(f"COPY rated TO '{tmp_path}/r.jsonl.gz' (FORMAT json, COMPRESSION gzip)")
    whole = Column("stars", 2, 2, 2, 0, 0, ("4.0", "4.5"), ("4.0", "4.5"))
    for place in (
        Place(file=tmp_path / "r.parquet"),
        Place(file=tmp_path / "r.jsonl.gz"),
        Place(query="FROM 'r.parquet';", folder=tmp_path),
        Place(database=tmp_path / "r.duckdb", query="SELECT * FROM rated"),
        Place(database=tmp_path / "r.duckdb", query="FROM seen"),
    ):
        assert columns(place) == (COLUMNS[0], whole, COLUMNS[2]), place
    assert tables_of(tmp_path / "r.duckdb") == ["rated", "seen"]


def test_a_postgres_is_asked_for_the_first_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SAMPLE", 3)
    with own_postgres() as dsn:
        monkeypatch.setenv("RATINGS_DSN", dsn)
        query = "SELECT 'u' || n AS who, n AS stars FROM generate_series(1, 9) AS n"
        with looked_at(Place(query=query, dsn_env="RATINGS_DSN")) as look:
            assert (look.rows, look.whole) == (3, False)
            assert look.columns[0].examples == ("u1", "u2", "u3")
            assert look.called == "the query on $RATINGS_DSN"


def test_a_look_ends_after_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SAMPLE", 2)
    (tmp_path / "r.csv").write_text(CSV.replace("at,\n", "at,more\n"))
    with looked_at(Place(file=tmp_path / "r.csv")) as look:
        assert (look.rows, look.whole) == (2, False)
        assert [column.filled for column in look.columns] == [2, 1, 2, 1]


def test_whether_titles_are_of_the_item(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("i,name,head\na,A,good\na,A,bad\nb,B,x\nb,B,x\nc,C,y\n")
    with looked_at(Place(file=tmp_path / "r.csv")) as look:
        assert look.steadiness("i", "name") == 1
        assert look.steadiness("i", "head") == 0.5
    (tmp_path / "r.csv").write_text("i,name\na,A\nb,B\n")
    with looked_at(Place(file=tmp_path / "r.csv")) as look:
        assert look.steadiness("i", "name") is None


def test_lines_that_do_not_fit_hinder_no_look(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(b'a,b\r\n1,2\n3\n"4,5\n6,7,8\n')
    with looked_at(Place(file=tmp_path / "r.csv")) as look:
        assert look.rows >= 1
    (tmp_path / "r.jsonl").write_text('{"a": 1, "b": {"c": [1]}}\n{"a":\nnull\n')
    with looked_at(Place(file=tmp_path / "r.jsonl")) as look:
        assert look.columns[0].examples == ("1",)
        assert look.columns[1].examples == ('{"c":[1]}',)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", b"a,b\n", r"r\.csv has no rows; its columns are a, b"),
        ("r.csv", b"", r"r\.csv is empty"),
        ("r.txt", b"a,b\n1,2\n", r"r\.txt is of no known kind; known endings: \.csv, "),
        ("r.parquet", b"a,b\n1,2\n", r"r\.parquet cannot be read: "),
        ("r.csv.gz", b"a,b\n1,2\n", r"r\.csv\.gz cannot be unpacked"),
        (
            "r.csv",
            b"a,b\n\xe4,2\n\xe4,3\n",
            r"r\.csv is not UTF-8 \(line 2\); convert it: iconv -f latin1 -t",
        ),
        ("r.csv", b"a,b\n1\n2\n3", r"none of the 3 lines of .*r\.csv fits its header, which has 2 columns"),
        ("r.csv", b"a,b\r1,2\r", r"r\.csv ends its lines in a carriage return alone; convert it: tr"),
        ("list.json", b' [{"a": 1}, {"a": 2}]', r"list\.json is a JSON array; one object a line is expected"),
    ],
)
def test_what_cannot_be_looked_at(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DeeperError, match=message), looked_at(Place(file=tmp_path / name)):
        pass


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_of_a_packed_file_that_breaks_off_the_rest_is_looked_at(tmp_path: Path, kind: str) -> None:
    rows = [
        f'{{"a": "user {n * n}", "b": {n}}}' if kind == "jsonl" else f"user {n * n},{n}" for n in range(5000)
    ]
    packed = gzip.compress("\n".join(["a,b"] * (kind == "csv") + rows).encode())
    (tmp_path / f"r.{kind}.gz").write_bytes(packed[: len(packed) // 2])
    with looked_at(Place(file=tmp_path / f"r.{kind}.gz")) as look:
        assert 1000 < look.rows < 4000
        assert look.columns[0].examples == ("user 0", "user 1", "user 4")


def test_a_file_of_sqlite_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rated (n INT)")
        connection.commit()
    with pytest.raises(DeeperError, match=r"r\.db is a SQLite file, not one of DuckDB; write the ratings to"):
        tables_of(path)
    with (
        pytest.raises(DeeperError, match=r"r\.db is a SQLite file"),
        looked_at(Place(database=path, query="FROM rated")),
    ):
        pass


def test_a_query_is_one_statement(tmp_path: Path) -> None:
    query = "SELECT 1 AS a); CREATE TABLE b AS (SELECT 2"
    with pytest.raises(DeeperError, match="the query cannot be read: "), looked_at(Place(query=query)):
        pass
    with pytest.raises(DeeperError, match=r"nothing\.duckdb does not exist"):
        tables_of(tmp_path / "nothing.duckdb")


def test_real_files_are_looked_at() -> None:
    with looked_at(Place(file=real_data("raw") / "movielens/ml-latest-small/ratings.csv")) as look:
        assert [column.name for column in look.columns] == ["userId", "movieId", "rating", "timestamp"]
        assert look.columns[2].values == tuple(f"{mark / 2}" for mark in range(1, 11))
        assert (look.rows, look.whole) == (100_000, False)
    with looked_at(Place(file=real_data("raw") / "amazon/AMAZON_FASHION_5.json.gz")) as look:
        assert look.column("reviewerID").examples[0] == "ALJ66O1Y6SLHA"  # type: ignore[union-attr]
        assert (look.rows, look.whole) == (3176, True)
