"""The one shape in which every source writes its ratings: a Parquet file of one domain, as raw_ratings.

A source writes what it reads, a row a rating. What it cannot read is a row with a `defect` (one of
`method.windows.REASONS`) and a `detail`. `method.windows` decides later which ratings are used.
"""

import hashlib
import json
import re
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

LONGEST_TEXT = 1_000
"""Characters of an id or a title, at most; the longest published title has 352. Longer ones fill prompts."""

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Answer:
    """What a query answered: how many rows, and a hash of them that their order does not change."""

    rows: int
    hash: str

    @classmethod
    def of(cls, rows: int, total: int) -> "Answer":
        """The answer of so many rows, the numbers of whose hashes add up to `total`."""
        return cls(rows, f"{total % 2**64:016x}")


@dataclass(frozen=True)
class ReadReport:
    """What a source has written.

    Attributes:
        rows: how many rows.
        merged_copies: how many agreeing copies of a rating it merged into its row.
        answer: of a query of which only its answer tells whether that has changed, what was read.
    """

    rows: int
    merged_copies: int = 0
    answer: Answer | None = None


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
        """What determines the contents, as JSON, but for the `answer` of a query; never a secret.

        Raises:
            DeeperError: an input file is missing or cannot be read.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """The part of `identity` that is known without looking at any file."""
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


def write_rows(domain: Domain, rows: Iterable[RawRating], target: Path) -> int:
    """Write `rows`, numbered from 0, to the Parquet file `target`; how many there were."""
    with scratch() as (connection, folder):
        lines = folder / "rows.jsonl"
        with lines.open("w", encoding="utf-8") as file:
            for number, row in enumerate(rows):
                values = {name: getattr(row, name) for name in _FIELDS}
                line = json.dumps({"domain": domain.name, "row": number, **values}, ensure_ascii=False)
                # Lone surrogates are no UTF-8; as NULs they are rejected with the NULs.
                file.write(_SURROGATE.sub(r"\\u0000", line) + "\n")
        columns = ", ".join(f"{name}: '{type_}'" for name, type_ in COLUMNS.items())
        read = (
            f"SELECT * FROM read_json({quoted(lines)}, format = 'newline_delimited', columns = {{{columns}}})"
        )
        return write_parquet(connection, read, target)


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> int:
    """Write a query that gives raw_ratings to `target`, whole or not at all; how many rows it gave.

    A rating whose user, item or title holds a NUL or is too long is written as `unusable_text`: pandas takes
    texts for equal that differ after a NUL alone.
    """
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        columns = ", ".join(f"CAST({name} AS {type_}) AS {name}" for name, type_ in COLUMNS.items())
        ((rows,),) = connection.execute(
            f"COPY ({_with_usable_text(f'SELECT {columns} FROM ({query})')} ORDER BY row) "
            f"TO {quoted(unfinished)} (FORMAT parquet)"
        ).fetchall()
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return int(rows)


def _with_usable_text(query: str) -> str:
    """SQL for the rows of `query` (raw_ratings) without NULs, and with texts that end.

    A rating without a usable user id is nobody's and has no place; any other keeps its place.
    """
    cases = []
    for name in ("user_id", "item_id", "title"):
        what, shown = name.replace("_", " "), f"left(replace({name}, chr(0), '�'), 80)"
        cases.append(
            f"WHEN contains({name}, chr(0)) "
            f"THEN 'the {what} holds a NUL or half a character, at �: ' || {shown}"
        )
        cases.append(
            f"WHEN length({name}) > {LONGEST_TEXT} THEN 'the {what} has ' || length({name}) "
            f"|| ' characters, {LONGEST_TEXT} at most: ' || {shown}"
        )
    clean = [
        f"left(replace({name}, chr(0), '�'), {LONGEST_TEXT}) AS {name}"
        for name in ("item_id", "title", "rating_text")
    ]
    nobody = f"contains(user_id, chr(0)) OR length(user_id) > {LONGEST_TEXT}"
    unusable = "defect IS NULL AND wrong IS NOT NULL"
    return f"""
        SELECT * EXCLUDE (wrong) REPLACE (
            CASE WHEN {nobody} THEN NULL ELSE user_id END AS user_id, {", ".join(clean)},
            CASE WHEN {nobody} THEN NULL ELSE position END AS position,
            CASE WHEN {unusable} THEN 'unusable_text' ELSE defect END AS defect,
            CASE WHEN {unusable} THEN wrong ELSE replace(detail, chr(0), '�') END AS detail
        ) FROM (SELECT *, CASE {" ".join(cases)} END AS wrong FROM ({query}))"""


def quoted(value: object) -> str:
    """`value` as a SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def readable(path: Path, what: str) -> Path:
    """`path`, where an input file lies.

    Raises:
        DeeperError: it is missing, a folder, or cannot be opened; the message names `what` was expected.
    """
    if not path.exists():
        raise DeeperError(f"{path} does not exist; expected {what}. Put it there, or correct the setting.")
    if not path.is_file():
        raise DeeperError(f"{path} is a folder; expected {what}. Name the file itself.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise DeeperError(
            f"{path} cannot be read ({error.strerror}); expected {what}. Check its permissions."
        ) from error
    return path


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
