"""A user's own ratings: a CSV or Parquet file, a query on a DuckDB file, or a query on Postgres.

Everything is SQL inside DuckDB, which spills to disk. So tens of millions of rows fit in little memory.
"""

import glob
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError, did_you_mean, first_line
from deeper_assets.sources.csv_files import load_csv, read_header
from deeper_assets.sources.postgres import PostgresQuery, asked_of_postgres
from deeper_assets.sources.reads import Reads, named_files, what_is_read
from deeper_assets.sources.shape import (
    Answer,
    ReadReport,
    identifier,
    quoted,
    readable,
    scratch,
    sha256_of,
    write_parquet,
)

_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet",)

Refresh = Literal["changed", "always", "manual"]
"""When ratings are read again: when what is read has changed, on each run, or only when a run is told to.

A change of the settings that say what is read counts in each case.
"""


@dataclass(frozen=True)
class ColumnMap:
    """Which column holds what.

    Attributes:
        user: the user's id.
        item: the item's id.
        rating: the rating, in rating points.
        title: what the item is called; the item's id without it.
        time: when it was given: a timestamp (UTC without a zone), a date, or epoch seconds or milliseconds.
        order: a number that orders a user's ratings; the time without it, and without both the rows' order.
        split: train or eval; without it (or where it is empty) users are divided by a hash.
    """

    user: str
    item: str
    rating: str
    title: str | None = None
    time: str | None = None
    order: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class CustomSource:
    """One domain's ratings from a file or a query.

    Attributes:
        domain: whose ratings these are.
        columns: which column holds what.
        file: a .csv, .tsv (also .gz; a header line, UTF-8) or .parquet file.
        database: a DuckDB file that `query` is asked of; it is opened read-only.
        query: SQL that gives the rows; alone, DuckDB's SQL over files ("FROM 'ratings.csv' JOIN …").
        dsn_env: the environment variable with the connection string of the Postgres that `query` is asked of.
        folder: where relative paths in `query` start; the current folder without it.
        refresh: see `Refresh`.
        asks: whether a query is asked to see if its answer has changed.

    Raises:
        DeeperError: not exactly one of file, database + query, dsn_env + query, query alone.
    """

    domain: Domain
    columns: ColumnMap
    file: Path | None = None
    database: Path | None = None
    query: str | None = None
    dsn_env: str | None = None
    folder: Path | None = None
    refresh: Refresh = "changed"
    asks: bool = True

    def __post_init__(self) -> None:
        places = [place for place in (self.file, self.database, self.dsn_env) if place is not None]
        if len(places) > 1 or (self.file is None) == (self.query is None):
            raise DeeperError(
                f"the source of domain {self.domain.name!r} needs either a file, or a query with at most "
                "one of database (a DuckDB file) and dsn_env (the environment variable with a Postgres "
                "connection string)"
            )
        if self.file is not None and not self.file.name.lower().endswith((*_CSV, *_PARQUET)):
            known = ", ".join((*_CSV, *_PARQUET))
            raise DeeperError(f"{self.file} is of no known kind; known endings: {known}")

    def files(self) -> list[Path]:
        """The files that the settings name and that exist, those of the database included; none is opened."""
        files = [path for path in (self.file, *self._database_files()) if path is not None and path.exists()]
        if self.query is not None and self.dsn_env is None:
            with self._connection(attached=False) as (connection, _):
                files += named_files(connection, _bare(self.query))
        return files

    def identity(self) -> dict[str, Any]:
        """Kind, domain, columns, query, and the hash of each file that is read."""
        return self._identity(self._reads())

    def identity_since(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What would be read now, with the answer of a query where only that tells whether it has changed.

        What is not looked at counts as it was, as `before` says: the answer where `asks` is false or the
        ratings are read on each run anyway, and with `manual` whatever was read.

        Raises:
            DeeperError: see `identity`; or the query cannot be asked.
        """
        if self.refresh == "manual" and before.items() >= self.settings().items():
            return dict(before)
        reads = self._reads()
        now = self._identity(reads)
        if reads.complete:
            return now
        if self.asks and self.refresh == "changed":
            return {**now, "answer": asdict(self._answer())}
        return {**now, "answer": before["answer"]} if "answer" in before else now

    def _identity(self, reads: Reads) -> dict[str, Any]:
        return {**self.settings(), "files": {str(path): sha256_of(path) for path in reads.files}}

    def settings(self) -> dict[str, Any]:
        """Kind, domain, columns, and what is read."""
        return {
            "kind": "custom",
            "domain": self.domain.name,
            "columns": asdict(self.columns),
            "file": None if self.file is None else str(self.file),
            "database": None if self.database is None else str(self.database),
            "query": self.query,
            "dsn_env": self.dsn_env,
        }

    def write_raw_ratings(self, target: Path) -> ReadReport:
        """One row a line or record; see `ColumnMap` for how each column is read."""
        answer, name = None, self.file.name if self.file is not None else self._called
        with self._connection() as (connection, folder):
            if self.file is not None:
                self._load_file(connection, folder, self._input(), name)
            elif self.dsn_env is not None:
                path = folder / "answer.csv"
                with asked_of_postgres(_bare(self.query), self.dsn_env) as asked:
                    answer = self._counted(asked)
                    asked.copy(path)
                self._load_file(connection, folder, path, f"the answer of the {name}")
            else:
                complete = self._planned(connection).complete
                if not complete:
                    _add_up_in_order(connection)
                self._load_relation(connection, self._relation, name)
                answer = None if complete else self._hashed(connection, "given")
            rows = write_parquet(connection, self._judged(connection, name), target)
        return ReadReport(rows, answer=answer)

    @property
    def _called(self) -> str:
        """What messages and rows call the query."""
        place = f"${self.dsn_env}" if self.dsn_env else self.database and self.database.name
        return f"query on {place}" if place else "query"

    @property
    def _relation(self) -> str:
        return f"(\n{_bare(self.query)}\n)"

    def _input(self) -> Path:
        """The ratings file, or the database, which can be read."""
        given = self.file or self.database
        assert given is not None
        return readable(given, f"the {'ratings' if self.file else 'database'} of domain {self.domain.name!r}")

    def _database_files(self) -> list[Path]:
        """The database, and what has been written to it but not yet folded into its file."""
        if self.database is None:
            return []
        return [self.database, *self.database.parent.glob(f"{glob.escape(self.database.name)}.*wal")]

    @contextmanager
    def _connection(self, attached: bool = True) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
        """A connection for the query and a folder for temporary files; the database is `attached` to it."""
        with scratch() as (connection, folder):
            connection.execute("SET python_enable_replacements = false")  # no table is a variable of ours
            if self.folder is not None and not self._comma_in_folder:
                connection.execute("SET file_search_path = ?", [str(self.folder)])
            if self.database is not None and attached:
                try:
                    connection.execute(f"ATTACH {quoted(self._input())} AS asked (READ_ONLY)")
                    connection.execute("USE asked")
                except duckdb.Error as error:
                    raise DeeperError(f"{self.database} cannot be opened: {first_line(error)}") from error
            yield connection, folder

    def _reads(self) -> Reads:
        """What is read outside of Postgres."""
        if self.file is not None:
            return Reads((self._input(),), complete=True)
        if self.dsn_env is not None:
            return Reads((), complete=False)
        with self._connection() as (connection, _):
            return self._planned(connection)

    def _planned(self, connection: duckdb.DuckDBPyConnection) -> Reads:
        """What DuckDB says that the query reads, and the files of the database that it is asked of."""
        try:
            reads = what_is_read(connection, _bare(self.query))
        except duckdb.Error as error:
            raise self._unreadable(self._called, error) from error
        return Reads(tuple(sorted({*self._database_files(), *reads.files})), reads.complete)

    def _answer(self) -> Answer:
        """What the query answers now."""
        if self.dsn_env is not None:
            with asked_of_postgres(_bare(self.query), self.dsn_env) as asked:
                return self._counted(asked)
        with self._connection() as (connection, _):
            _add_up_in_order(connection)
            try:
                columns = self._selected(connection, self._relation, self._called)
                return self._hashed(connection, f"(SELECT {columns} FROM {self._relation})")
            except duckdb.Error as error:
                raise self._unreadable(self._called, error) from error

    def _counted(self, asked: PostgresQuery) -> Answer:
        """The rows that Postgres answers in the columns of `_mapped`, counted and hashed there."""
        self._check_columns(asked.columns, f"the answer of the {self._called}")
        return asked.answer(list(self._mapped().values()))

    def _hashed(self, connection: duckdb.DuckDBPyConnection, relation: str) -> Answer:
        """The rows of a relation with the columns of `_mapped`, counted and hashed."""
        # md5 is the same in every version of DuckDB; for the sum see `PostgresQuery.answer`.
        row = f"json_array({', '.join(self._mapped())})"
        [(rows, total)] = connection.execute(
            f"SELECT count(*), sum((md5_number({row}::VARCHAR) % 18446744073709551616)::UBIGINT) "
            f"FROM {relation}"
        ).fetchall()
        return Answer.of(rows, int(total or 0))

    def _load_file(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, path: Path, called: str
    ) -> None:
        """Make the table `given` from a CSV or Parquet file."""
        if path.name.lower().endswith(_PARQUET):
            self._load_relation(connection, f"read_parquet({quoted(path)})", called)
            return
        names, _ = read_header(path)
        self._check_columns(names, called)
        load_csv(connection, folder, path, "given", self._mapped())

    def _load_relation(self, connection: duckdb.DuckDBPyConnection, relation: str, called: str) -> None:
        """Make the table `given` from a table function, or a query in brackets."""
        try:
            columns = self._selected(connection, relation, called)
            connection.execute(
                "CREATE TEMP TABLE given AS "
                f"SELECT row_number() OVER () AS line, NULL::VARCHAR AS malformed, {columns} FROM {relation}"
            )
        except duckdb.Error as error:
            raise self._unreadable(called, error) from error

    def _selected(self, connection: duckdb.DuckDBPyConnection, relation: str, called: str) -> str:
        """The columns of `_mapped`, as SQL that selects them from a relation."""
        described = connection.execute(f"DESCRIBE FROM {relation}").fetchall()
        self._check_columns([name for name, *_ in described], called)
        return ", ".join(
            f"CAST({identifier(column)} AS VARCHAR) AS {name}" for name, column in self._mapped().items()
        )

    def _unreadable(self, called: str, error: duckdb.Error) -> DeeperError:
        hint = ""
        if self.query is not None and self._comma_in_folder:
            hint = f"; relative paths do not start in {self.folder}, because of the comma in its name"
        return DeeperError(f"{called} cannot be read: {first_line(error)}{hint}")

    @property
    def _comma_in_folder(self) -> bool:
        """Whether DuckDB would take the folder for several."""
        return "," in str(self.folder)

    def _mapped(self) -> dict[str, str]:
        """Name in the table `given`, where values are text → name in the source."""
        return {f"{name}_": column for name, column in asdict(self.columns).items() if column is not None}

    def _check_columns(self, names: list[str], called: str) -> None:
        missing = [
            f"{column} ({name[:-1]}{did_you_mean(column, names)})"
            for name, column in self._mapped().items()
            if column not in names
        ]
        if missing:
            raise DeeperError(
                f"{called} has no column {', '.join(missing)}; it has {', '.join(names)}. "
                f"Correct the columns of domain {self.domain.name!r}."
            )

    def _judged(self, connection: duckdb.DuckDBPyConnection, name: str) -> str:
        """SQL over the table `given` that gives raw_ratings."""
        for column in asdict(self.columns):
            connection.execute(f"ALTER TABLE given ADD COLUMN IF NOT EXISTS {column}_ VARCHAR")
        if self.columns.order is not None:
            unplaced, defect, expected = "order_at IS NULL", "unreadable_order", "a number"
        elif self.columns.time is not None:
            unplaced, defect, expected = "rated_at IS NULL", "unreadable_time", "a time"
        else:
            unplaced, defect, expected = "false", "unreadable_order", ""
        line = "row_number() OVER (ORDER BY line)" if self.dsn_env is not None else "line"
        time = _time("time_")
        return f"""
        WITH read AS (
            SELECT {line} AS line, malformed, trim(user_) AS user_id, trim(item_) AS item_,
                {_title("title_" if self.columns.title is not None else "item_")} AS title,
                rating_ AS rating_text, time_, order_, lower(trim(split_)) AS split_,
                TRY_CAST(rating_ AS DOUBLE) AS number, CASE WHEN isfinite(number) THEN number END AS rating,
                {time} AS rated_at, TRY_CAST(order_ AS DECIMAL(38, 9)) AS order_at
            FROM given
        ), seen AS (
            SELECT *, coalesce(nullif(item_, ''), title) AS item_id, first_value(line) OVER (
                PARTITION BY user_id, item_, coalesce(rating::VARCHAR, rating_text), time_, order_
                ORDER BY line
            ) AS first_line FROM read
        ), judged AS (
            SELECT *, CASE
                WHEN malformed IS NOT NULL THEN 'malformed_line'
                WHEN coalesce(user_id, '') = '' THEN 'missing_user'
                WHEN line > first_line AND coalesce(item_, '') <> '' THEN 'duplicate_row'
                WHEN {unplaced} THEN '{defect}'
                WHEN time_ IS NOT NULL AND rated_at IS NULL THEN 'unreadable_time'
                WHEN split_ NOT IN ('train', 'eval') AND split_ <> '' THEN 'unreadable_split'
            END AS defect FROM seen
        ), placed AS (
            SELECT *, defect IS NULL OR defect = 'unreadable_split'
                OR (defect = 'unreadable_time' AND NOT ({unplaced})) AS has_place FROM judged
        )
        SELECT {quoted(self.domain.name)} AS domain, row_number() OVER (ORDER BY line) - 1 AS row,
            nullif(user_id, '') AS user_id, nullif(item_id, '') AS item_id, title,
            rating_text, rating, rated_at,
            CASE WHEN has_place THEN
                row_number() OVER (PARTITION BY user_id, has_place ORDER BY order_at, rated_at, line) - 1
            END AS position,
            CASE WHEN split_ IN ('train', 'eval') THEN split_ END AS split,
            {quoted(name)} AS file, line, defect,
            CASE defect
                WHEN 'malformed_line' THEN malformed
                WHEN 'missing_user' THEN 'no user id'
                WHEN 'duplicate_row' THEN 'already in line ' || first_line
                WHEN 'unreadable_time' THEN 'found ' || coalesce('''' || left(time_, 80) || '''', 'nothing')
                    || ', expected a time'
                WHEN 'unreadable_order' THEN 'found ' || coalesce('''' || left(order_, 80) || '''', 'nothing')
                    || ', expected {expected}'
                WHEN 'unreadable_split' THEN 'found ''' || left(split_, 80) || ''', expected train or eval'
            END AS detail
        FROM placed"""


def _time(column: str) -> str:
    """SQL for a text as UTC timestamp: epoch seconds, from 1e11 on milliseconds, or a date and time."""
    number = f"TRY_CAST({column} AS DOUBLE)"
    seconds = (
        f"CASE WHEN abs({number}) < 1e11 THEN {number} WHEN abs({number}) < 1e14 THEN {number} / 1e3 END"
    )
    text = f"TRY_CAST({column} AS TIMESTAMPTZ)"
    read = f"""CASE WHEN {number} IS NOT NULL THEN make_timestamp(CAST(({seconds}) * 1e6 AS BIGINT))
        WHEN isfinite({text}) THEN {text} AT TIME ZONE 'UTC' END"""
    # Other years are misread, and no datetime of Python's holds them.
    return f"(SELECT read FROM (SELECT {read} AS read) WHERE year(read) BETWEEN 1 AND 9999)"


def _title(column: str) -> str:
    """SQL for a title: white space collapsed, the common HTML entities resolved."""
    entities = {
        "&quot;": '"',
        "&#34;": '"',
        "&#39;": "'",
        "&lt;": "<",
        "&gt;": ">",
        "&nbsp;": " ",
        "&amp;": "&",
    }
    for entity, sign in entities.items():
        column = f"replace({column}, {quoted(entity)}, {quoted(sign)})"
    return f"trim(regexp_replace({column}, '\\s+', ' ', 'g'))"


def _bare(query: str | None) -> str:
    """The query without the semicolon at its end."""
    return (query or "").strip().rstrip(";")


def _add_up_in_order(connection: duckdb.DuckDBPyConnection) -> None:
    """Has sums of floats be the same each time, so that their hash is."""
    connection.execute("SET threads = 1")
