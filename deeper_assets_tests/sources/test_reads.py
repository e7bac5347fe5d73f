from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.reads import Reads, named_files, what_is_read


@pytest.fixture(scope="module")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reads")
    for name in ("rated.csv", "more.csv", "it's.csv"):
        (folder / name).write_text("u,i,r\n1,a,4\n")
    (folder / "lines.ndjson").write_text('{"u": 1}\n')
    with duckdb.connect(folder / "base.duckdb") as base:
        base.execute(f"SET file_search_path = '{folder}'")
        for path in ("one.parquet", "hive/k=1/part.parquet", "hive/k=2/part.parquet"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            base.execute(f"COPY (SELECT 1 AS u) TO '{folder / path}'")
        base.execute("BEGIN")
        base.execute("CREATE TABLE marks AS SELECT 1 AS u, 'a' AS i, 3 AS r")
        base.execute("CREATE VIEW plain AS FROM marks")
        base.execute("CREATE VIEW over_file AS FROM 'rated.csv'")
        base.execute("CREATE VIEW over_text AS FROM read_text('*.csv')")
        base.execute("CREATE VIEW over_hive AS FROM 'hive/*/*.parquet'")
        base.execute("CREATE MACRO most() AS (SELECT max(u) FROM 'rated.csv')")
        base.execute("CREATE MACRO all_marks() AS TABLE FROM read_csv('rated.csv')")
        base.execute("COMMIT")
    return folder


@pytest.fixture
def folder(_filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with CSV files, one.parquet, lines.ndjson, hive/k=1 and k=2, base.duckdb."""
    monkeypatch.chdir(_filled)
    return _filled


@pytest.fixture
def asked(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'base.duckdb' AS asked (READ_ONLY)")
        connection.execute("USE asked")
        connection.execute("SET python_enable_replacements = false")
        yield connection


HIVE = ("hive/k=1/part.parquet", "hive/k=2/part.parquet")
RATED = ("rated.csv",)
BOTH = ("more.csv", "rated.csv")


@pytest.mark.parametrize(
    ("query", "files"),
    [
        ("FROM 'rated.csv'", RATED),
        ('FROM "rated.csv"', RATED),
        ("FROM rated.csv", RATED),
        ("FROM read_csv($$rated.csv$$)", RATED),
        ("FROM read_csv($tag$rated.csv$tag$)", RATED),
        ("FROM read_csv(E'rated\\x2Ecsv')", RATED),
        ("-- it's here\nFROM 'rated.csv' -- it's all", RATED),
        ("/* 'more.csv' */ SELECT 'more.csv' AS u FROM 'rated.csv'", RATED),
        ("FROM 'it''s.csv'", ("it's.csv",)),
        ("FROM 'file://rated.csv'", ()),
        ("FROM read_csv('ra' || 'ted' || lower('.CSV'))", RATED),
        ("FROM read_csv(['rated.csv', 'more.csv'])", BOTH),
        ("FROM read_csv_auto('rated.csv', header = true, delim = ',')", RATED),
        ("FROM '*e*.csv'", BOTH),
        ("FROM './hive/../rated.csv'", ("hive/../rated.csv",)),
        ("FROM parquet_scan('one.parquet')", ("one.parquet",)),
        ("FROM 'hive/*/*.parquet'", HIVE),
        ("FROM read_parquet('hive/**', hive_partitioning = true) WHERE k = 1", HIVE),
        ("FROM read_parquet('hive')", HIVE),
        ("FROM read_ndjson('lines.ndjson')", ("lines.ndjson",)),
        ("FROM 'lines.ndjson'", ("lines.ndjson",)),
        ("FROM read_text('[mr]*e[d.]*')", BOTH),
        ("FROM 'rated.csv' WHERE false", RATED),
        ("SELECT * FROM (SELECT * FROM 'rated.csv') UNION ALL FROM 'more.csv'", BOTH),
        ("SELECT (SELECT max(u) FROM 'more.csv') AS u FROM 'rated.csv'", BOTH),
        ("SELECT 1 AS u WHERE EXISTS (FROM 'rated.csv')", RATED),
        ("WITH t AS (FROM 'rated.csv') FROM t JOIN 'more.csv' USING (u)", BOTH),
        ('WITH "rated.csv" AS (SELECT 1 AS u) FROM "rated.csv"', ()),
        ('WITH "rated.csv" AS (FROM "more.csv") FROM "rated.csv"', ("more.csv",)),
        ("WITH RECURSIVE t AS (SELECT 1 AS u UNION ALL SELECT u + 1 FROM t WHERE u < 3) FROM t", ()),
        ("FROM (PIVOT 'rated.csv' ON i IN ('a') USING sum(r))", RATED),
        ("FROM (DESCRIBE FROM 'rated.csv')", RATED),
        ("FROM 'rated.csv' AS a, LATERAL (SELECT a.u + 1)", RATED),
        ("FROM marks", ()),
        ("FROM asked.main.marks AS m JOIN 'rated.csv' USING (u)", RATED),
        ("FROM marks WHERE u IN (SELECT u FROM 'more.csv')", ("more.csv",)),
        ("FROM plain", ()),
        ("SELECT unnest(range(3)) AS u", ()),
        ("FROM range(3)", ()),
        ("VALUES (1), (2)", ()),
        ("SELECT now() AS u", ()),
    ],
)
def test_all_that_is_read_is_named(
    folder: Path, asked: duckdb.DuckDBPyConnection, query: str, files: tuple[str, ...]
) -> None:
    if "file://" in query:
        query, files = query.replace("file://", f"file://{folder}/"), RATED
    assert what_is_read(asked, query) == Reads(tuple(folder / name for name in files), complete=True)


@pytest.mark.parametrize(
    ("query", "files"),
    [
        ("FROM over_file", RATED),
        ("FROM OVER_FILE JOIN 'rated.csv' USING (u)", RATED),
        ("FROM over_text", ()),
        ("FROM over_hive", HIVE[:1]),
        ("FROM asked.over_hive JOIN 'hive/k=1/part.parquet' USING (u)", HIVE[:1]),
        ("SELECT most() AS u", RATED),
        ("FROM all_marks()", RATED),
        ("FROM query('FROM ''rated.csv''')", RATED),
        ("FROM query_table(['rated.csv'])", RATED),
        ("FROM 'base.duckdb'", ("base.duckdb",)),
        ("FROM duckdb_settings()", ()),
        ("FROM 'rated.csv' WHERE r < random()", RATED),
        ("FROM 'rated.csv' WHERE now() > TIMESTAMP '2020-01-01'", RATED),
        ("FROM 'rated.csv' WHERE CURRENT_DATE > DATE '2020-01-01'", RATED),
        ("FROM 'rated.csv' USING SAMPLE 1 ROWS", RATED),
        ("FROM information_schema.tables", ()),
    ],
)
def test_what_may_hide_more_is_not_called_complete(
    folder: Path, asked: duckdb.DuckDBPyConnection, query: str, files: tuple[str, ...]
) -> None:
    assert what_is_read(asked, query) == Reads(tuple(folder / name for name in files), complete=False)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("FROM gone", "Table with name gone does not exist"),
        ("FROM 'gone.csv'", "No files found"),
        ("FROM folder", "Table with name folder does not exist"),  # no variable of a program is read
        ("COPY marks TO 'written.csv'", "syntax error"),
        ("DROP TABLE marks", "syntax error"),
        ("ATTACH 'other.duckdb'", "syntax error"),
        ("SELECT 1; SELECT 2", "expected one statement, found 2"),
        ("SELECT 1) ; DROP TABLE marks; SELECT (1", "syntax error"),
        ("-- nothing", "expected one statement, found 0"),
        ("FROM 'rated.csv' WHERE 'open", "unterminated"),
    ],
)
def test_what_is_no_query_of_one_statement_is_refused(
    folder: Path, asked: duckdb.DuckDBPyConnection, query: str, reason: str
) -> None:
    with pytest.raises(duckdb.Error, match=reason):
        what_is_read(asked, query)
    assert not (folder / "written.csv").exists()


def test_a_remote_file_is_out_of_sight(folder: Path, asked: duckdb.DuckDBPyConnection) -> None:
    asked.execute("SET autoinstall_known_extensions = false")
    query = "FROM 'rated.csv' UNION ALL FROM read_csv('https://nowhere.invalid/more.csv')"
    assert named_files(asked, query) == [folder / "rated.csv"]


def test_names_alone_open_nothing(folder: Path, asked: duckdb.DuckDBPyConnection) -> None:
    asked.execute("CALL enable_logging('FileSystem')")
    query = (
        """WITH "more.csv" AS (SELECT 1) FROM read_csv('r*.csv'), gone, "more.csv", over_hive, 'hive/**'"""
    )
    assert named_files(asked, query) == sorted(folder / name for name in (*HIVE, *BOTH))
    assert asked.execute("FROM duckdb_logs_parsed('FileSystem') WHERE op = 'OPEN'").fetchall() == []


def test_relative_paths_start_in_the_folder_of_the_search_path(
    folder: Path, asked: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    asked.execute("SET file_search_path = ?", [str(folder)])
    for query in ("FROM 'rated.csv'", "FROM read_csv('rat*.csv')"):
        assert what_is_read(asked, query) == Reads((folder / "rated.csv",), complete=True)
    (elsewhere / "rated.csv").symlink_to(folder / "rated.csv")
    assert what_is_read(asked, "FROM 'rated.csv'").files == (elsewhere / "rated.csv",)
    (elsewhere / "rated.csv").unlink()
    (elsewhere / "rated.csv").write_text("u,i,r\n2,b,1\n")
    with pytest.raises(DeeperError, match=r"rated\.csv lies in .*elsewhere and in .*; write the whole path"):
        what_is_read(asked, "FROM 'rated.csv'")
