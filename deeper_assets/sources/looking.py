"""A first look at ratings of somebody's own: which columns there are, and what the first rows hold.

Rows are read by DuckDB, as text, and SAMPLE of them at most. So a look takes a second, whatever the size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from deeper_assets.method.exceptions import DeeperError, first_line
from deeper_assets.method.sql import identifier, quoted
from deeper_assets.sources.csv_files import read_header
from deeper_assets.sources.postgres import asked_of_postgres
from deeper_assets.sources.reads import ask, bare, refuse_several, refuse_sqlite, start_in
from deeper_assets.sources.shape import readable, scratch, unreadable
from deeper_assets.sources.streams import CSV, JSON_LINES, KNOWN, PARQUET, Blocks, is_packed

SAMPLE = 100_000
"""Rows that are looked at, at most: the first ones."""

FEW = 12
"""Different values of a column that are listed, at most."""


@dataclass(frozen=True)
class Place:
    """Where rows lie; see `CustomSource` for what goes with what."""

    file: Path | None = None
    database: Path | None = None
    query: str | None = None
    dsn_env: str | None = None
    folder: Path | None = None

    @property
    def called(self) -> str:
        """What messages call it."""
        if self.file is not None:
            return self.file.name
        place = f"${self.dsn_env}" if self.dsn_env else self.database and self.database.name
        return f"the query on {place}" if place else "the query"


@dataclass(frozen=True)
class Column:
    """One column of the rows that were looked at.

    Attributes:
        name: as the source has it.
        filled: how many rows have a value.
        distinct: how many different values there are.
        numbers: how many values are finite numbers.
        times: how many look like a time: a date, or epoch seconds or milliseconds of the years 1990 to 2100.
        letters: how many values have a letter.
        examples: up to three different values, from the first rows.
        values: all values in order, where there are at most FEW; otherwise empty.
    """

    name: str
    filled: int
    distinct: int
    numbers: int
    times: int
    letters: int
    examples: tuple[str, ...]
    values: tuple[str, ...]

    def share(self, count: int) -> float:
        """A count as a share of the values; 0 where there are none."""
        return count / self.filled if self.filled else 0.0


@dataclass(frozen=True)
class Look:
    """What was looked at.

    Attributes:
        connection: holds the rows in the table `looked`, with the columns c0, c1, …
        called: what messages call the source.
        rows: how many rows were looked at.
        whole: whether the source has no more.
        columns: in the order of the source.
    """

    connection: duckdb.DuckDBPyConnection
    called: str
    rows: int
    whole: bool
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column | None:
        """The column called `name`; None where there is none."""
        return next((column for column in self.columns if column.name == name), None)

    def steadiness(self, item: str, title: str) -> float | None:
        """The share of the values of `item` with several rows whose `title` is always the same.

        None where no value of `item` has several rows.
        """
        names = [column.name for column in self.columns]
        by, of = f"c{names.index(item)}", f"c{names.index(title)}"
        [(share,)] = self.connection.execute(
            f"SELECT avg((titles <= 1)::INT) FROM (SELECT count(DISTINCT {of}) AS titles FROM memory.looked "
            f"WHERE {by} IS NOT NULL GROUP BY {by} HAVING count(*) > 1)"
        ).fetchall()
        return None if share is None else float(share)

    def __str__(self) -> str:
        told = []
        for column in self.columns:
            examples = ", ".join(_short(example) for example in column.examples)
            more = ", …" if column.distinct > len(column.examples) else ""
            told.append(f"{_short(column.name)} ({examples + more or 'empty'})")
        return ", ".join(told)


@contextmanager
def looked_at(place: Place) -> Iterator[Look]:
    """The first rows of a source.

    Raises:
        DeeperError: the source is not there, cannot be read, or has no rows.
    """
    with scratch() as (connection, folder):
        start_in(connection, place.folder)
        with unreadable(f"{place.called} cannot be read"):
            relation = _relation(connection, folder, place)
            types = {
                name: kind for name, kind, *_ in connection.execute(f"DESCRIBE FROM {relation}").fetchall()
            }
            texts = ", ".join(
                f"nullif({_as_text(name, kind)}, '') AS c{number}"
                for number, (name, kind) in enumerate(types.items())
            )
            connection.execute(
                f"CREATE TABLE memory.looked AS SELECT {texts} FROM {relation} LIMIT {SAMPLE + 1}"
            )
            yield _look(connection, place, list(types))


def tables_of(database: Path) -> list[str]:
    """The tables and views of a DuckDB file, by name.

    Raises:
        DeeperError: it is none, or cannot be opened.
    """
    try:
        path = refuse_sqlite(readable(database, "a DuckDB file"))
        # An extension that is missing is no reason to go to the internet.
        config: dict[str, Any] = {"autoinstall_known_extensions": "false"}
        with duckdb.connect(path, read_only=True, config=config) as connection:
            rows = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE NOT internal "
                "UNION SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
            ).fetchall()
    except duckdb.Error as error:
        raise DeeperError(f"{database} cannot be opened: {first_line(error)}") from error
    return [name for (name,) in rows]


def _relation(connection: duckdb.DuckDBPyConnection, folder: Path, place: Place) -> str:
    """SQL that stands behind FROM and gives the rows."""
    if place.file is not None:
        return _of_file(readable(place.file, "a file of ratings"), folder)
    query = bare(place.query)
    if place.dsn_env is not None:
        path = folder / "answer.csv"
        with asked_of_postgres(
            f"SELECT * FROM (\n{query}\n) AS asked LIMIT {SAMPLE + 1}", place.dsn_env
        ) as asked:
            asked.copy(path)
        return _of_file(path, folder)
    if place.database is not None:
        ask(connection, readable(place.database, "a DuckDB file"))
    refuse_several(connection, query)
    return f"(\n{query}\n)"


def _of_file(path: Path, folder: Path) -> str:
    name = path.name.lower()
    if name.endswith(PARQUET):
        return f"read_parquet({quoted(path)}, hive_partitioning = false)"
    how = "hive_partitioning = false, compression = 'none'"  # folders such as `stars=4` are no columns
    if name.endswith(JSON_LINES):
        if next(iter(Blocks(path)), b"").lstrip().startswith(b"["):
            raise DeeperError(
                f"{path} is a JSON array; one object a line is expected: jq -c '.[]' {path.name}"
            )
        path = _unpacked(path, folder)
        lines = "format = 'newline_delimited', maximum_depth = 1, ignore_errors = true"
        return f"read_json({quoted(path)}, {lines}, {how})"
    if not name.endswith(CSV):
        raise DeeperError(f"{path} is of no known kind; known endings: {', '.join(KNOWN)}")
    first = next(iter(Blocks(path)), b"")
    if b"\r" in first and b"\n" not in first:
        raise DeeperError(
            f"{path} ends its lines in a carriage return alone; convert it: tr '\\r' '\\n' < {path.name}"
        )
    names, delimiter = read_header(path)
    path = _unpacked(path, folder)
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
    return (  # what does not fit is looked at later, when all is read
        f"read_csv({quoted(path)}, auto_detect = false, header = true, delim = {quoted(delimiter)}, "
        f"quote = '\"', escape = '\"', columns = {{{columns}}}, ignore_errors = true, "
        f"strict_mode = false, {how})"
    )


def _unpacked(path: Path, folder: Path) -> Path:
    """The file itself; of a gzip file, which may break off, a file with the lines that are looked at."""
    if not is_packed(path):
        return path
    lines, target = 0, folder / "unpacked"
    with target.open("wb") as file:
        for block in Blocks(path):
            file.write(block)
            lines += block.count(b"\n")
            if lines > SAMPLE + 2:
                break
    return target


def _why_no_rows(path: Path) -> str:
    """What is wrong with a file of text of which no line could be read."""
    lines, columns = 0, ""
    for block in Blocks(path):
        try:
            block.decode()
        except UnicodeDecodeError as error:
            line = 1 + lines + block.count(b"\n", 0, error.start)
            return (
                f"{path} is not UTF-8 (line {line}); convert it: "
                f"iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name}"
            )
        lines += block.count(b"\n") + (not block.endswith(b"\n"))
    if path.name.lower().endswith(CSV):
        lines, columns = lines - 1, f" its header, which has {len(read_header(path)[0])} columns"
    if lines <= 0:
        return ""
    return f"none of the {lines:,} lines of {path} fits{columns or ' one object of JSON a line'}"


def _look(connection: duckdb.DuckDBPyConnection, place: Place, names: Sequence[str]) -> Look:
    [(more,)] = connection.execute(f"DELETE FROM memory.looked WHERE rowid >= {SAMPLE}").fetchall()
    [(rows,)] = connection.execute("SELECT count(*) FROM memory.looked").fetchall()
    if not rows:
        of_lines = place.file is not None and not place.file.name.lower().endswith(PARQUET)
        if of_lines and place.file is not None and (why := _why_no_rows(place.file)):
            raise DeeperError(why)
        raise DeeperError(f"{place.called} has no rows; its columns are {', '.join(names)}")
    counts = ", ".join(
        f"count(c{n}), count(DISTINCT c{n}), count(*) FILTER (isfinite(TRY_CAST(c{n} AS DOUBLE))), "
        f"count(*) FILTER ({_looks_like_time(f'c{n}')}), count(*) FILTER (regexp_matches(c{n}, '\\p{{L}}'))"
        for n in range(len(names))
    )
    [counted] = connection.execute(f"SELECT {counts} FROM memory.looked").fetchall()
    first = connection.execute("FROM memory.looked LIMIT 200").fetchall()
    columns = []
    for n, name in enumerate(names):
        filled, distinct, numbers, times, letters = counted[5 * n : 5 * n + 5]
        examples = tuple(dict.fromkeys(row[n] for row in first if row[n] is not None))[:3]
        values: tuple[str, ...] = ()
        if distinct <= FEW:
            listed = connection.execute(
                f"SELECT DISTINCT c{n} FROM memory.looked WHERE c{n} IS NOT NULL"
                f" ORDER BY TRY_CAST(c{n} AS DOUBLE), 1"
            ).fetchall()
            values = tuple(value for (value,) in listed)
        columns.append(Column(name, filled, distinct, numbers, times, letters, examples, values))
    return Look(connection, place.called, rows, not more, tuple(columns))


def _looks_like_time(column: str) -> str:
    """SQL: whether a text is a date, or a number of seconds or milliseconds in the years 1990 to 2100."""
    number = f"TRY_CAST({column} AS DOUBLE)"
    return (
        f"CASE WHEN {number} IS NULL THEN TRY_CAST({column} AS TIMESTAMPTZ) IS NOT NULL "
        f"ELSE {number} BETWEEN 6.3e8 AND 4.1e9 OR {number} BETWEEN 6.3e11 AND 4.1e12 END"
    )


def _as_text(name: str, kind: str) -> str:
    """SQL for a column as text; a text in JSON without its quotes."""
    column = identifier(name)
    return f"{column} ->> '$'" if kind == "JSON" else f"CAST({column} AS VARCHAR)"


def _short(text: str, width: int = 30) -> str:
    """A value of a source on one line."""
    plain = "".join(sign if sign.isprintable() else "�" for sign in text[:width])
    return plain + "…" * (len(text) > width)
