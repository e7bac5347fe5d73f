"""A user's own ratings: a CSV or Parquet file, a query on a DuckDB file, or a query on Postgres.

Everything is SQL inside DuckDB, which spills to disk. So tens of millions of rows fit in little memory.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError, did_you_mean, first_line
from deeper_assets.sources.csv_files import load_csv, read_header
from deeper_assets.sources.shape import (
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

    Raises:
        DeeperError: not exactly one of file, database + query, dsn_env + query, query alone.
    """

    domain: Domain
    columns: ColumnMap
    file: Path | None = None
    database: Path | None = None
    query: str | None = None
    dsn_env: str | None = None

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
        """The file, the database file, or the files that a query on files names in quotes."""
        if self.query is not None and self.dsn_env is None and self.database is None:
            return _named_files(self.query)
        return [path for path in (self.file, self.database) if path is not None and path.exists()]

    def identity(self) -> dict[str, Any]:
        """Kind, domain, columns, query, the hash of each file; of Postgres what is asked, not its rows."""
        return {**self._asked(), "files": {str(path): sha256_of(path) for path in self._inputs()}}

    def settings(self) -> dict[str, Any]:
        """Kind, domain, columns, and what is read."""
        places = {"file": self.file, "database": self.database}
        return {**self._asked(), **{name: path and str(path) for name, path in places.items()}}

    def _asked(self) -> dict[str, Any]:
        return {
            "kind": "custom",
            "domain": self.domain.name,
            "columns": asdict(self.columns),
            "query": self.query,
            "dsn_env": self.dsn_env,
        }

    def write_raw_ratings(self, target: Path) -> ReadReport:
        """One row a line or record; see `ColumnMap` for how each column is read."""
        self._inputs()
        with scratch() as (connection, folder):
            if self.file is not None:
                self._load_file(connection, folder, self.file, self.file.name)
                name = self.file.name
            elif self.dsn_env is not None:
                answer = folder / "answer.csv"
                self._ask_postgres(self.dsn_env, answer)
                name = f"query on ${self.dsn_env}"
                self._load_file(connection, folder, answer, f"the answer of the {name}")
            else:
                name = f"query on {self.database.name}" if self.database is not None else "query"
                self._ask_duckdb(connection, name)
            return ReadReport(write_parquet(connection, self._judged(connection, name), target))

    def _inputs(self) -> list[Path]:
        """The files that are read, each of which can be."""
        given = self.file or self.database
        what = f"the {'ratings' if self.file else 'database'} of domain {self.domain.name!r}"
        return [readable(path, what) for path in ([given] if given is not None else self.files())]

    def _load_file(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, path: Path, called: str
    ) -> None:
        """Make the table `given` from a CSV or Parquet file."""
        if path.name.lower().endswith(_PARQUET):
            self._load_relation(connection, f"SELECT * FROM read_parquet({quoted(path)})", called)
            return
        names, _ = read_header(path)
        self._check_columns(names, called)
        load_csv(connection, folder, path, "given", self._mapped())

    def _load_relation(self, connection: duckdb.DuckDBPyConnection, query: str, called: str) -> None:
        """Make the table `given` from a query."""
        try:
            described = connection.execute(f"DESCRIBE {query}").fetchall()
            self._check_columns([name for name, *_ in described], called)
            columns = ", ".join(
                f"CAST({identifier(column)} AS VARCHAR) AS {name}" for name, column in self._mapped().items()
            )
            connection.execute(
                "CREATE TEMP TABLE given AS "
                f"SELECT row_number() OVER () AS line, NULL::VARCHAR AS malformed, {columns} FROM ({query})"
            )
        except duckdb.Error as error:
            raise DeeperError(f"{called} cannot be read: {first_line(error)}") from error

    def _ask_duckdb(self, connection: duckdb.DuckDBPyConnection, called: str) -> None:
        if self.database is not None:
            try:
                connection.execute(f"ATTACH {quoted(self.database)} AS asked (READ_ONLY)")
                connection.execute("USE asked")
            except duckdb.Error as error:
                raise DeeperError(f"{self.database} cannot be opened: {first_line(error)}") from error
        self._load_relation(connection, f"(\n{_bare(self.query)}\n)", called)

    def _ask_postgres(self, dsn_env: str, answer: Path) -> None:
        """Stream the query's answer to a CSV file; no message holds the connection string."""
        dsn = os.environ.get(dsn_env)
        if not dsn:
            raise DeeperError(
                f"the environment variable {dsn_env} is not set; set it to the Postgres connection string"
            )
        try:
            import psycopg
            from psycopg import sql
        except ImportError as error:
            raise DeeperError("Postgres needs psycopg: pip install 'deeper-assets[postgres]'") from error
        try:
            session = psycopg.connect(dsn)
        except psycopg.Error as error:
            kind = type(error).__name__
            raise DeeperError(
                f"the Postgres that ${dsn_env} names cannot be reached ({kind}); check the connection string"
            ) from None  # the driver's message may quote it
        copy = sql.SQL("COPY (\n{}\n) TO STDOUT (FORMAT csv, HEADER, ENCODING 'UTF8')")
        try:
            with session, answer.open("wb") as file:
                session.read_only = True
                session.execute(
                    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true)"
                )
                with session.cursor().copy(copy.format(sql.SQL(_bare(self.query)))) as chunks:
                    for chunk in chunks:
                        file.write(chunk)
        except psycopg.Error as error:
            message = error.diag.message_primary or type(error).__name__
            raise DeeperError(f"the query on ${dsn_env} failed: {message}") from None

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
    return f"""CASE WHEN {number} IS NOT NULL THEN make_timestamp(CAST(({seconds}) * 1e6 AS BIGINT))
        WHEN isfinite({text}) THEN {text} AT TIME ZONE 'UTC' END"""


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


def _named_files(query: str) -> list[Path]:
    """The files that stand in quotes in a query (also as a pattern, such as 'ratings_*.csv')."""
    files: set[Path] = set()
    for text in query.split("'")[1::2]:
        path = Path(text)
        folder, pattern = Path(path.anchor or "."), str(path.relative_to(path.anchor))
        if path.is_file():
            files.add(path)
        elif any(sign in pattern for sign in "*?["):
            files.update(match for match in folder.glob(pattern) if match.is_file())
    return sorted(files)
