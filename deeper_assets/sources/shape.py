"""The one shape in which every source writes its ratings: a Parquet file of one domain, as raw_ratings.

A source writes what it reads, a row a rating. What it cannot read is a row with a `defect` (one of
`method.windows.REASONS`) and a `detail`. `method.windows` decides later which ratings are used.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError

COLUMNS: Mapping[str, str] = {
    "domain": "VARCHAR",
    "row": "BIGINT",
    "user_id": "VARCHAR",
    "item_id": "VARCHAR",
    "title": "VARCHAR",
    "rating_text": "VARCHAR",
    "rating": "DOUBLE",
    "rated_at": "TIMESTAMP",
    "position": "BIGINT",
    "split": "VARCHAR",
    "file": "VARCHAR",
    "line": "BIGINT",
    "defect": "VARCHAR",
    "detail": "VARCHAR",
}


@dataclass(frozen=True)
class SourceFile:
    """A file that was read: its path, its size and the hash of its contents."""

    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ReadReport:
    """What a source wrote.

    Attributes:
        files: what was read; for a database query, what it answered.
        rows: rows written.
        defects: rows written per defect.
        merged_copies: agreeing copies of a rating that were merged into its row.
    """

    files: tuple[SourceFile, ...]
    rows: int
    defects: Mapping[str, int]
    merged_copies: int = 0


class Source(Protocol):
    """Where one domain's ratings come from."""

    @property
    def domain(self) -> Domain:
        """The domain whose ratings these are."""
        ...

    def files(self) -> list[Path]:
        """The input files that exist, so that a change of one is noticed."""
        ...

    def identity(self) -> dict[str, Any]:
        """Everything that determines the contents, as JSON; never a secret.

        Raises:
            DeeperError: an input file is missing or cannot be read.
        """
        ...

    def write_raw_ratings(self, target: Path) -> ReadReport:
        """Write the Parquet file `target` (columns of raw_ratings without provenance, by row).

        Raises:
            DeeperError: an input is missing or cannot be read at all; single bad lines are rows.
        """
        ...


@dataclass(frozen=True, slots=True)
class RawRating:
    """One row of raw_ratings but for its domain and its row number; `rated_at` as ISO text, UTC."""

    user_id: str | None = None
    item_id: str | None = None
    title: str | None = None
    rating_text: str | None = None
    rating: float | None = None
    rated_at: str | None = None
    position: int | None = None
    split: str | None = None
    file: str | None = None
    line: int | None = None
    defect: str | None = None
    detail: str | None = None


_FIELDS = tuple(RawRating.__dataclass_fields__)


@contextmanager
def scratch() -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """An in-memory DuckDB (UTC, rows in order, spilling to disk) and a folder, both gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="deeper-") as folder:
        connection = duckdb.connect(":memory:", config={"temp_directory": f"{folder}/spill"})
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection, Path(folder)
        finally:
            connection.close()


def write_rows(domain: Domain, rows: Iterable[RawRating], target: Path) -> tuple[int, dict[str, int]]:
    """Write `rows`, numbered from 0, to the Parquet file `target`; (rows, rows per defect)."""
    with scratch() as (connection, folder):
        lines = folder / "rows.jsonl"
        with lines.open("w", encoding="utf-8", errors="replace") as file:  # lone surrogates are no UTF-8
            for number, row in enumerate(rows):
                values = {name: getattr(row, name) for name in _FIELDS}
                file.write(
                    json.dumps({"domain": domain.name, "row": number, **values}, ensure_ascii=False) + "\n"
                )
        columns = ", ".join(f"{name}: '{type_}'" for name, type_ in COLUMNS.items())
        read = (
            f"SELECT * FROM read_json({quoted(lines)}, format = 'newline_delimited', columns = {{{columns}}})"
        )
        return write_parquet(connection, read, target)


def write_parquet(
    connection: duckdb.DuckDBPyConnection, query: str, target: Path
) -> tuple[int, dict[str, int]]:
    """Write a query that gives raw_ratings to `target`, whole or not at all; (rows, rows per defect)."""
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        columns = ", ".join(f"CAST({name} AS {type_}) AS {name}" for name, type_ in COLUMNS.items())
        connection.execute(
            f"COPY (SELECT {columns} FROM ({query}) ORDER BY row) TO {quoted(unfinished)} (FORMAT parquet)"
        )
        counts = connection.execute(
            f"SELECT defect, count(*) FROM read_parquet({quoted(unfinished)}) GROUP BY defect ORDER BY defect"
        ).fetchall()
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return sum(n for _, n in counts), {defect: n for defect, n in counts if defect is not None}


def quoted(value: object) -> str:
    """`value` as a SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def read_file(path: Path, what: str) -> SourceFile:
    """Size and hash of an input file.

    Raises:
        DeeperError: it is missing, no file, or cannot be opened; the message names `what` was expected.
    """
    if not path.exists():
        raise DeeperError(f"{path} does not exist; expected {what}. Put it there, or correct the setting.")
    if not path.is_file():
        raise DeeperError(f"{path} is a folder; expected {what}. Name the file itself.")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DeeperError(
            f"{path} cannot be read ({error.strerror}); expected {what}. Check its permissions."
        ) from error
    return SourceFile(path, path.stat().st_size, digest)
