"""The one shape in which every source gives its ratings: the relation `ratings` of a DuckDB connection.

It has a row a rating, or a row a line that cannot be read: that one has a `defect` (one of
`method.windows.REASONS`) and a `detail`. `method.cutting` decides which ratings are used, and says what its
columns mean.
"""

import errno
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import duckdb

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError, first_line
from deeper_assets.method.sql import identifier, quoted
from deeper_assets.sources.folders import CUTTING, cutting_folder, handing_folder, turn

COLUMNS: Mapping[str, str] = {
    "row": "BIGINT",
    "user_id": "VARCHAR",
    "item_id": "VARCHAR",
    "title": "VARCHAR",
    "categories": "VARCHAR",
    "rating_text": "VARCHAR",
    "rating": "DOUBLE",
    "rated_at": "TIMESTAMP",
    "order_at": "DECIMAL(38, 9)",
    "position": "BIGINT",
    "has_place": "BOOLEAN",
    "split": "VARCHAR",
    "file": "VARCHAR",
    "line": "BIGINT",
    "defect": "VARCHAR",
    "detail": "VARCHAR",
}
"""Of the relation `ratings`."""

_CAST = ", ".join(f'CAST("{name}" AS {type_}) AS "{name}"' for name, type_ in COLUMNS.items())


def view_of_ratings(query: str) -> str:
    """The statement that makes the view `ratings` of a query that gives its columns, in any order."""
    return f"CREATE OR REPLACE TEMP VIEW ratings AS SELECT {_CAST} FROM ({query})"


LONGEST_TEXT = 1_000
"""Characters of an id or a title, at most; the longest published title has 352. Longer ones fill prompts."""

ODDNESS = f"""
CREATE OR REPLACE TEMP MACRO cleaned(text) AS left(replace(text, chr(0), '�'), {LONGEST_TEXT});
CREATE OR REPLACE TEMP MACRO oddness(what, text) AS CASE
    WHEN contains(text, chr(0))
    THEN 'the ' || what || ' holds a NUL or half a character, at �: ' || left(replace(text, chr(0), '�'), 80)
    WHEN length(text) > {LONGEST_TEXT}
    THEN 'the ' || what || ' has ' || length(text) || ' characters, {LONGEST_TEXT} at most: '
        || left(text, 80)
END;
"""
"""What is wrong with a text that holds a NUL, after which pandas sees no difference, or is too long."""


def nobody(user: str) -> str:
    """SQL for whether a user id is so odd that the rating is nobody's: it has no place in anybody's order."""
    return f"(contains({user}, chr(0)) OR length({user}) > {LONGEST_TEXT})"


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
    """How a source has given its ratings.

    Attributes:
        placed: whether it says each rating's position; otherwise the user's time order does.
        merged_copies: how many rows it merged into others: agreeing copies of a rating, further amounts.
        answer: of a query of which only its answer tells whether that has changed, what was read.
    """

    placed: bool
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

    def load(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> ReadReport:
        """Make the temporary relation `ratings`, with the columns of `COLUMNS`.

        Args:
            connection: one of `Workshop.open`, for this source alone.
            folder: for temporary files.

        Raises:
            DeeperError: an input is missing or cannot be read at all; single bad lines are rows.
        """
        ...


@dataclass(frozen=True, slots=True)
class RawRating:
    """A rating of a source that says positions; `rated_at` as ISO text, UTC."""

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


@dataclass(frozen=True)
class Workshop:
    """Where histories are cut: a DuckDB without a file, which spills to disk beyond its memory.

    Attributes:
        folder: where its temporary files lie; made where it does not exist.
        memory: what DuckDB may take, as it writes sizes ("2 GB").
    """

    folder: Path
    memory: str

    @contextmanager
    def open(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
        """A connection (UTC, rows in order) and an empty folder for files, both gone afterwards.

        One is open at a time in a `folder`, over all processes: so `memory` is what all of them take. What a
        process left there that was killed is deleted.

        Raises:
            DeeperError: memory or the disk did not suffice.
        """
        with turn(self.folder), cutting_folder(self.folder) as folder:
            files = folder / "files"
            files.mkdir()
            config: dict[str, Any] = {"temp_directory": f"{folder}/spill", "memory_limit": self.memory}
            connection = duckdb.connect(":memory:", config=config)
            try:
                connection.execute("SET TimeZone = 'UTC'")
                yield connection, files
            except (duckdb.Error, OSError) as error:
                if not lacks_room(error):
                    raise
                raise DeeperError(
                    f"the histories cannot be cut in {self.memory} of memory and the space in {self.folder}: "
                    f"{first_line(error)}; raise the setting memory, or make room on the disk"
                ) from error
            finally:
                connection.close()

    def hand_over(self, files: Sequence[Path]) -> list[Path]:
        """The files, of the folder that is open, where they stay until whoever stores them deletes them.

        What is not deleted is swept once this process has ended.
        """
        folder = handing_folder(self.folder)
        return [file.rename(folder / f"{file.parents[1].name}-{file.name}") for file in files]


def write(connection: duckdb.DuckDBPyConnection, relation: str, folder: Path) -> Path:
    """A Parquet file in `folder` with the rows of a relation of the connection."""
    file = folder / f"{relation}.parquet"
    connection.execute(f"COPY {identifier(relation)} TO {quoted(file)} (FORMAT parquet)")
    return file


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def lacks_room(error: BaseException) -> bool:
    """Whether memory or the disk of a `Workshop` did not suffice, which is no matter of what is read."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    if isinstance(error, duckdb.IOException):
        # DuckDB gives no code. Where it cannot use a file of ours, its message has the path or the reason.
        named = re.search(rf"/{CUTTING}\w+/(spill|files)", str(error))
        return named is not None or any(os.strerror(code) in str(error) for code in _NO_ROOM)
    return isinstance(error, duckdb.OutOfMemoryException)


@contextmanager
def unreadable(told: str, *kinds: type[Exception], hint: str = "") -> Iterator[None]:
    """What goes wrong in reading, as a DeeperError: `told`, the first line of the error, the `hint`.

    A lack of room is no matter of what is read: `Workshop.open` tells of it. `kinds` are of errors beside
    those of DuckDB.
    """
    caught: tuple[type[Exception], ...] = (duckdb.Error, *kinds)
    try:
        yield
    except caught as error:
        if lacks_room(error):
            raise
        raise DeeperError(f"{told}: {first_line(error)}{hint}") from error


SIZE = r"([0-9]+(?:\.[0-9]+)?) ?([KMGT])(i?)B"
"""How DuckDB writes sizes, as a regular expression."""

LEAST_MEMORY = 200
"""Megabytes of a `Workshop` in which every kind of source can be read."""


def enough_memory(size: str) -> str:
    """A size that DuckDB can cut histories in.

    Raises:
        ValueError: it is less than `LEAST_MEMORY`, or no size.
    """
    if (match := re.fullmatch(SIZE, size)) is None:
        raise ValueError(f"{size!r} is no size; expected one such as 4 GB")
    number, prefix, binary = match.groups()
    if float(number) * (1024 if binary else 1000) ** (1 + "KMGT".index(prefix)) < LEAST_MEMORY * 10**6:
        raise ValueError(f"memory of {size} is too little for histories; give {LEAST_MEMORY} MB or more")
    return size


def quarter_of_memory() -> str:
    """A quarter of the memory that this machine, or the container that it is, has; at least 1 GB."""
    bytes_ = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        bytes_ = min(bytes_, int(text))
    return f"{max(bytes_ // 4 // 10**6, 1000)} MB"


@contextmanager
def scratch() -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A small `Workshop`, opened in the folder of the system: to look at something."""
    with (
        tempfile.TemporaryDirectory(prefix="deeper-") as folder,
        Workshop(Path(folder), "1 GB").open() as both,
    ):
        yield both


def load_rows(connection: duckdb.DuckDBPyConnection, folder: Path, rows: Iterable[RawRating]) -> None:
    """Make the table `ratings` from rows that say their positions, numbered from 0."""
    lines = folder / "rows.jsonl"
    with lines.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            values = {name: getattr(row, name) for name in _FIELDS}
            line = json.dumps({"row": number, **values}, ensure_ascii=False)
            # Lone surrogates are no UTF-8; as NULs they are rejected with the NULs.
            file.write(_SURROGATE.sub(r"\\u0000", line) + "\n")
    columns = ", ".join(f"{name}: '{type_}'" for name, type_ in COLUMNS.items())
    read = (
        f"FROM read_json({quoted(lines)}, format = 'newline_delimited', hive_partitioning = false, "
        f"columns = {{{columns}}})"
    )
    connection.execute(ODDNESS)
    odd = ", ".join(f"oddness('{what}', {name})" for what, name in _TOLD.items())
    is_nobody = f"coalesce({nobody('user_id')}, false)"
    connection.execute(f"""
        CREATE TEMP TABLE ratings AS SELECT * EXCLUDE (odd) REPLACE (
            CASE WHEN NOT {is_nobody} THEN user_id END AS user_id,
            cleaned(item_id) AS item_id, cleaned(title) AS title, cleaned(rating_text) AS rating_text,
            CASE WHEN NOT {is_nobody} THEN position END AS position,
            position IS NOT NULL AND NOT {is_nobody} AS has_place,
            CASE WHEN defect IS NULL AND odd IS NOT NULL THEN 'unusable_text' ELSE defect END AS defect,
            CASE WHEN defect IS NULL AND odd IS NOT NULL THEN odd ELSE replace(detail, chr(0), '�') END
                AS detail
        ) FROM (SELECT *, coalesce({odd}) AS odd {read})""")
    lines.unlink()


_TOLD = {"user id": "user_id", "item id": "item_id", "title": "title"}
"""What a person is told is odd → its column."""


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
    """The hash of a file's content; what has not changed since is not read again by the same process."""
    stat = path.stat()
    about = (path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    # A file that was written just now may be written again without its times showing it.
    settled = time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED
    return _hashed(*about) if settled else _hashed.__wrapped__(*about)


_SETTLED = 2.0
"""Seconds after which another change of a file changes its times, on any usual file system."""


@lru_cache(maxsize=1000)
def _hashed(path: Path, *_about: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
