"""One DuckDB file that remembers: partitions replaced whole, and a ledger of what each was made from.

Belongs here: opening the file, waiting for its lock, the transaction, the ledger. Does not: anything about
Dagster (`io_manager.py`), what a table's rows mean (`schema.py`), whether data fits a table (`fitting.py`).

One connection writes, or several read, and each is a lock. So nobody holds the file for longer than the one
statement or transaction it was opened for; only a DuckDB that no longer has the file is kept, for the next
reader. Names in the SQL come from `schema.py`; values are bound as parameters.
"""

import atexit
import fcntl
import hashlib
import itertools
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import duckdb
import numpy as np
import pandas as pd
from duckdb import DuckDBPyConnection
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.fitting import fit, quote, refuse
from deeper_assets.store.schema import LEDGER, PROVENANCE, TABLES, Column, Table

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Partition: TypeAlias = Mapping[str, str]
Result = TypeVar("Result")

# ---------------------------------------------------------------------------------------------- identity


@dataclass(frozen=True)
class Input:
    """A stored partition as another one read it: whose `content` it was, and which run had written it."""

    table: str
    partition: Partition
    run_id: str
    fingerprint: str
    content: str

    @property
    def place(self) -> tuple[str, str]:
        """The table, and the partition as text."""
        return self.table, canonical_json(self.partition)


@dataclass(frozen=True)
class Ingredients:
    """What determines a partition's rows beside its inputs: the code and the settings it depends on."""

    code_version: str
    settings: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Stamp:
    """Where a partition comes from: the run that writes it, its ingredients, and the inputs it has read."""

    run_id: str
    ingredients: Ingredients
    inputs: tuple[Input, ...] = ()

    @property
    def fingerprint(self) -> str:
        """See the function of the same name."""
        return fingerprint(self.ingredients, self.inputs)


@dataclass(frozen=True)
class Version:
    """One row of the ledger: one replacement of one partition. `version` counts up from 1 over all tables."""

    version: int
    table: str
    partition: Partition
    run_id: str
    fingerprint: str
    content: str
    row_count: int
    ingredients: Ingredients
    inputs: tuple[Input, ...]
    made_at: datetime

    @property
    def place(self) -> tuple[str, str]:
        """The table, and the partition as text."""
        return self.table, canonical_json(self.partition)

    def as_input(self) -> Input:
        """This version as an input of whatever has read it."""
        return Input(self.table, self.partition, self.run_id, self.fingerprint, self.content)


@dataclass(frozen=True)
class Reading:
    """Rows, and the version of each partition they came from, as they stood at one moment."""

    frame: pd.DataFrame
    versions: tuple[Version, ...]


def canonical_json(value: JSON) -> str:
    """`value` as JSON text that is the same for equal values: sorted keys, no spaces, no NaN.

    Raises:
        DeeperError: the value cannot be written as JSON.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DeeperError(f"{value!r} cannot be written as JSON: {error}") from error


def fingerprint(ingredients: Ingredients, inputs: Sequence[Input]) -> str:
    """Hash (32 hexadecimal digits) of what a partition is made from: code version, settings, input contents.

    Run ids and the inputs' own fingerprints stay out of it: a run that makes the same rows again, be it by
    other means, leaves whatever was made from them up to date.
    """
    made_from = sorted((*one.place, one.content) for one in inputs)
    text = canonical_json([ingredients.code_version, ingredients.settings, made_from])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# ---------------------------------------------------------------------------------------------- the file

_idle: dict[int, list[DuckDBPyConnection]] = {}
"""Process → its DuckDBs without a file; a forked process must not touch those of its parent."""


@atexit.register
def _close_idle() -> None:
    for connection in _idle.pop(os.getpid(), []):  # DuckDB complains of leaks where one is open at the end
        connection.close()


@dataclass(frozen=True)
class Warehouse:
    """The DuckDB file at `path`, opened afresh for each call.

    Attributes:
        path: the file; it and its folder are made by the first write. A file that does not exist reads as
            an empty warehouse.
        lock_timeout: how long to wait for others to let go of the file, seconds.
    """

    path: Path
    lock_timeout: float = 300.0

    @contextmanager
    def connect(self, writing: bool) -> Iterator[DuckDBPyConnection]:
        """A connection, closed whatever happens: read-only, or one that excludes every other.

        Raises:
            DeeperError: the file is still held by others after `lock_timeout`, or cannot be opened at all.
        """
        if not writing and not self.path.exists():
            with duckdb.connect(":memory:") as nothing:
                yield nothing
            return
        with self._turn(writing), self._writing() if writing else self._reading() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[DuckDBPyConnection]:
        """A writing connection inside a transaction: committed at the end, rolled back on any exception.

        Raises:
            DeeperError: as `connect`; also when the disk or the memory is full.
        """
        with self.connect(writing=True) as connection:
            connection.execute("BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                with suppress(duckdb.Error):  # a fatal error has ended the transaction already
                    connection.execute("ROLLBACK")
                if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
                    raise DeeperError(
                        f"cannot write to {self.path}: {_first_line(error)}; make room on the disk or in"
                        " memory and run again (what was stored stays as it was)"
                    ) from error
                raise

    def replace(self, table: str, partition: Partition, data: pd.DataFrame | Path, stamp: Stamp) -> Version:
        """Put `data` in the place of one partition, or leave the partition as it was and raise.

        Args:
            table: name of a declared table.
            partition: a value for each of the table's partition columns; empty for an unpartitioned table.
            data: the rows, with exactly the declared columns in any order; a path is a Parquet file's, and
                is read by DuckDB without passing through Python. No rows: the partition becomes empty.
            stamp: what goes into the provenance columns and the ledger.

        Raises:
            DeeperError: the data does not fit the declared table (every fault is named), or as `transaction`.
        """
        declared = find_table(table)
        with self.transaction() as connection:
            ensure_tables(connection, declared)
            delete_partition(connection, declared, partition)
            return insert_partition(connection, declared, partition, data, stamp)

    def read(
        self,
        table: str,
        partitions: Sequence[Partition] = ({},),
        columns: Sequence[str] | None = None,
        provenance: bool = False,
    ) -> Reading:
        """The rows of some partitions and the versions they came from; for the arguments see `load`.

        Args:
            table: name of a declared table.
            partitions: which ones. A partition that names only some of the partition columns stands for all
                that agree with it, so that the default is the whole table; none at all gives no rows.
            columns: as in `load`.
            provenance: as in `load`.
        """
        with self.connect(writing=False) as connection:
            return read_partitions(connection, find_table(table), partitions, columns, provenance)

    def load(
        self,
        table: str,
        partitions: Mapping[str, Sequence[str]] | None = None,
        columns: Sequence[str] | None = None,
        provenance: bool = False,
    ) -> pd.DataFrame:
        """The rows of a table, in the order of its key.

        Args:
            table: name of a declared table.
            partitions: the values wanted of each partition column; a column not named is not restricted.
            columns: the columns wanted, in that order; all declared ones if None.
            provenance: whether `run_id` and `fingerprint` come too, as the last columns.

        Returns:
            VARCHAR as str or None, BLOB as bytes or None (both object), DOUBLE as float64 with NaN, TIMESTAMP
            as datetime64[us] in UTC, INTEGER and BIGINT as int64, or as Int64 where the column may hold NULL.

        Raises:
            DeeperError: an unknown table or column, or as `connect`.
        """
        wanted = partitions or {}
        for column, values in wanted.items():
            if isinstance(values, str):
                raise TypeError(f"partitions[{column!r}] is a list of values, not one string")
        product = itertools.product(*wanted.values())
        chosen = [dict(zip(wanted, values, strict=True)) for values in product]
        return self.read(table, chosen, columns, provenance).frame

    def current(self, table: str | None = None) -> list[Version]:
        """The latest version of each partition, of one table or of all, the oldest first."""
        with self.connect(writing=False) as connection:
            return _versions(connection, table, latest=True)

    def history(self, table: str | None = None) -> list[Version]:
        """Every version there ever was, of one table or of all, the oldest first."""
        with self.connect(writing=False) as connection:
            return _versions(connection, table, latest=False)

    def _create(self) -> None:
        # DuckDB refuses a file whose header is missing, so a process killed while making one would leave
        # a warehouse that nobody can open. The file is made under another name and appears whole.
        if self.path.exists():
            return
        seed = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            duckdb.connect(seed).close()
            try:
                os.link(seed, self.path)  # unlike a renaming, never in the place of another process's file
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                seed.rename(self.path)
        finally:
            seed.unlink(missing_ok=True)

    @contextmanager
    def _turn(self, writing: bool) -> Iterator[None]:
        # DuckDB has a lock of its own, and it is not enough: eight processes that opened a file, inserted
        # a row, committed and closed lost 2 of 569 rows without an error (DuckDB 2.0.0), as one opened while
        # another closed. It also belongs to a whole process, whose threads take it from one another. So
        # whoever uses the warehouse holds this lock, from before the file is opened until it is closed.
        with ExitStack() as held:
            with self._lock(
                "queue", fcntl.LOCK_EX
            ):  # or readers that overlap would keep writers out for long
                held.enter_context(self._lock("lock", fcntl.LOCK_EX if writing else fcntl.LOCK_SH))
            yield

    @contextmanager
    def _lock(self, suffix: str, kind: int) -> Iterator[None]:
        file = self.path.with_name(f"{self.path.name}.{suffix}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._cannot_open(error) from error
        try:
            try:
                self._patiently(fcntl.flock, descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = self.path.with_name(f"{self.path.name}.lock")
                pid = holder.read_text().strip() if holder.exists() else ""
                raise self._held(_process(pid)) from error
            os.pwrite(descriptor, f"{os.getpid():<20}".encode(), 0)
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing leaves it to a forked child, if there is one
            os.close(descriptor)

    @contextmanager
    def _writing(self) -> Iterator[DuckDBPyConnection]:
        with self._readable_errors():
            self._create()
            connection = self._patiently(duckdb.connect, self.path)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _reading(self) -> Iterator[DuckDBPyConnection]:
        # To start DuckDB takes four times as long as to open a file in it, and a step opens it for each of
        # its inputs. So readers take a DuckDB that another has left; whatever fails takes its own along.
        idle = _idle.setdefault(os.getpid(), [])
        try:
            connection = idle.pop()
        except IndexError:
            connection = duckdb.connect(":memory:")
        try:
            with self._readable_errors():
                attach = "ATTACH ? AS warehouse (READ_ONLY)"
                self._patiently(connection.execute, attach, [str(self.path)])
            connection.execute("USE warehouse")
            yield connection
            connection.execute("USE memory")
            connection.execute("DETACH warehouse")
        except BaseException:
            connection.close()
            raise
        idle.append(connection)

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            if not _is_lock_conflict(error):
                raise self._cannot_open(error) from error
            found = re.search(r"\(PID (\d+)\)", str(error))
            raise self._held(_process(found[1] if found else str(os.getpid()))) from error

    def _patiently(self, function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        retrying = Retrying(
            retry=retry_if_exception(_is_lock_conflict),
            stop=stop_after_delay(self.lock_timeout),
            wait=wait_random(0.005, 0.05),
            reraise=True,
        )
        return retrying(function, *arguments, **named)

    def _held(self, by: str) -> DeeperError:
        return DeeperError(
            f"{self.path} is held by {by} and was not released within {self.lock_timeout:g} s; wait for it or"
            " end it, or raise lock_timeout (DEEPER_LOCK_TIMEOUT, seconds)"
        )

    def _cannot_open(self, error: BaseException) -> DeeperError:
        return DeeperError(
            f"cannot open the warehouse {self.path}: {_first_line(error)}; check that you may read and write"
            " it and that the disk has room, and if the file is damaged, put a copy in its place or move it"
            " away and run again"
        )


def _is_lock_conflict(error: BaseException) -> bool:
    by_another_program = "Could not set lock on file"
    by_this_process = ("different configuration than existing connections", "Unique file handle conflict")
    return isinstance(error, BlockingIOError) or (
        isinstance(error, duckdb.Error)
        and any(text in str(error) for text in (by_another_program, *by_this_process))
    )


def _process(pid: str) -> str:
    """The process with that id, for people: its command line where the system tells."""
    if not pid:
        return "another process"
    if pid == str(os.getpid()):
        return f"another connection of this process (PID {pid})"
    try:
        arguments = Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has ended since, or this is no Linux
        return f"another process (the last known is {pid})"
    return f"process {pid} ({' '.join(arguments).strip()[:200]})"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


# ------------------------------------------------------------------------- tables: inside a connection


def find_table(name: str) -> Table:
    """The declared table called `name`.

    Raises:
        DeeperError: there is none; the message lists those there are.
    """
    if name not in TABLES:
        raise DeeperError(f"table {name!r} is not declared; known: {', '.join(TABLES)}")
    return TABLES[name]


def ensure_tables(connection: DuckDBPyConnection, table: Table) -> None:
    """Create the table and the ledger where they do not exist.

    Raises:
        DeeperError: one exists with other columns than are declared.
    """
    for one in (_stored(table), LEDGER):
        if not _exists(connection, one):
            connection.execute(_definition(one))


def delete_partition(connection: DuckDBPyConnection, table: Table, partition: Partition) -> None:
    """Delete the rows of one partition; the ledger keeps its versions."""
    where, values = _where(table, [_whole(table, partition)])
    connection.execute(f"DELETE FROM {quote(table.name)} WHERE {where}", values)


def insert_partition(
    connection: DuckDBPyConnection,
    table: Table,
    partition: Partition,
    data: pd.DataFrame | Path,
    stamp: Stamp,
) -> Version:
    """Insert the rows of one partition, by column name, and enter it in the ledger.

    Args:
        connection: one inside a transaction, after `ensure_tables` and `delete_partition`.
        table: the declared table.
        partition: a value for each partition column.
        data: see `Warehouse.replace`.
        stamp: see `Warehouse.replace`.

    Raises:
        DeeperError: the data does not fit the declared table; every fault is named.
    """
    wanted = _whole(table, partition)
    selected = fit(connection, table, wanted, data)
    connection.execute(
        f"INSERT INTO {quote(table.name)} BY NAME SELECT *, ? AS run_id, ? AS fingerprint FROM ({selected})",
        [stamp.run_id, stamp.fingerprint],
    )
    _refuse_duplicates(connection, table, partition)
    row_count, content = _content(connection, table, partition)
    return _enter(connection, table, partition, stamp, row_count, content)


def read_partitions(
    connection: DuckDBPyConnection,
    table: Table,
    partitions: Sequence[Partition],
    columns: Sequence[str] | None = None,
    provenance: bool = False,
) -> Reading:
    """What `Warehouse.read` returns, from an open connection."""
    known = {column.name: column for column in _stored(table).columns}
    names = list(columns if columns is not None else table.column_names)
    names += [column.name for column in PROVENANCE if provenance and column.name not in names]
    if unknown := [name for name in names if name not in known]:
        raise DeeperError(f"table {table.name!r} has no column {unknown[0]!r}; it has {', '.join(known)}")
    where, values = _where(table, partitions)
    if _exists(connection, _stored(table)):
        order = ", ".join(quote(name) for name in dict.fromkeys(table.partition + table.key))
        selected = ", ".join(quote(name) for name in names)
        found = connection.execute(
            f"SELECT {selected} FROM {quote(table.name)} WHERE {where} ORDER BY {order}", values
        ).fetchnumpy()
    else:
        found = {name: np.array([], dtype=object) for name in names}
    frame = pd.DataFrame({name: _to_pandas(found[name], known[name]) for name in names})
    versions = [
        version
        for version in _versions(connection, table.name, latest=True)
        if any(partition.items() <= version.partition.items() for partition in partitions)
    ]
    return Reading(frame, tuple(versions))


def _to_pandas(values: Any, column: Column) -> Any:
    # By way of masked arrays, because DuckDB's own data frames turn an integer column with NULLs into
    # floats, which cannot hold every BIGINT.
    missing = np.ma.getmaskarray(values)
    data = np.ma.getdata(values)
    if column.type in ("INTEGER", "BIGINT"):
        whole = data.astype("int64")
        return pd.arrays.IntegerArray(whole, missing.copy()) if column.nullable else whole
    if column.type == "BLOB":
        blobs = [None if gone else bytes(blob) for blob, gone in zip(data, missing, strict=True)]
        return pd.Series(blobs, dtype=object)
    empty: Any = {"VARCHAR": None, "DOUBLE": np.nan, "TIMESTAMP": np.datetime64("NaT")}[column.type]
    kind = {"VARCHAR": "object", "DOUBLE": "float64", "TIMESTAMP": "datetime64[us]"}[column.type]
    copy = data.astype(kind)
    copy[missing] = empty
    return copy


def _stored(table: Table) -> Table:
    return Table(table.name, table.columns + PROVENANCE, table.key, table.partition)


def _definition(table: Table) -> str:
    # No primary key: some keys have columns that may be NULL, which it would forbid (and UNIQUE would take
    # two NULLs for different), and its index would be rewritten with every partition. `_refuse_duplicates`
    # asks once per replacement.
    columns = [
        f"{quote(column.name)} {column.type}"
        + ("" if column.nullable else " NOT NULL")
        + (f" CHECK ({column.check})" if column.check else "")
        for column in table.columns
    ]
    return f"CREATE TABLE {quote(table.name)} ({', '.join(columns)})"


def _shape(connection: DuckDBPyConnection, name: str) -> frozenset[str]:
    """The columns and checks of a table as DuckDB words them; none if there is no such table."""
    found = connection.execute(
        "SELECT sql FROM duckdb_tables()"
        " WHERE database_name = current_database() AND schema_name = 'main' AND table_name = ?",
        [name],
    ).fetchone()
    if found is None:
        return frozenset()
    [definition] = found
    return frozenset(definition[definition.index("(") + 1 : definition.rindex(")")].split(", "))


@cache
def _declared_shape(table: Table) -> frozenset[str]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(_definition(table))
        return _shape(connection, table.name)


def _exists(connection: DuckDBPyConnection, table: Table) -> bool:
    stored, declared = _shape(connection, table.name), _declared_shape(table)
    if stored and stored != declared:
        [(path,)] = connection.execute(
            "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        ).fetchall()
        raise DeeperError(
            f"table {table.name!r} of {path} was made by another version of this project: it has"
            f" {_listed(stored - declared)} where this version declares {_listed(declared - stored)};"
            " set DEEPER_HOME to a new folder, or move the file away, and run again"
        )
    return bool(stored)


def _listed(texts: frozenset[str]) -> str:
    return ", ".join(sorted(texts)) or "nothing"


def _whole(table: Table, partition: Partition) -> Partition:
    if set(partition) != set(table.partition):
        raise DeeperError(
            f"table {table.name!r} is partitioned by {', '.join(table.partition) or 'nothing'};"
            f" got {canonical_json(partition)}"
        )
    return partition


def _where(table: Table, partitions: Sequence[Partition]) -> tuple[str, list[str]]:
    for partition in partitions:
        if unknown := set(partition) - set(table.partition):
            raise DeeperError(
                f"table {table.name!r} is not partitioned by {', '.join(sorted(unknown))};"
                f" it is by {', '.join(table.partition) or 'nothing'}"
            )
    terms = [" AND ".join([f"{quote(name)} = ?" for name in one]) or "TRUE" for one in partitions]
    values = [value for partition in partitions for value in partition.values()]
    return " OR ".join(f"({term})" for term in terms) or "FALSE", values


def _refuse_duplicates(connection: DuckDBPyConnection, table: Table, partition: Partition) -> None:
    key = ", ".join(quote(name) for name in table.key)
    where, values = _where(table, [partition])
    twice = connection.execute(
        f"SELECT {key} FROM {quote(table.name)} WHERE {where} GROUP BY {key} HAVING count(*) > 1 LIMIT 1",
        values,
    ).fetchone()
    if twice is not None:
        found = ", ".join(f"{name} {value!r}" for name, value in zip(table.key, twice, strict=True))
        refuse(table, f"several rows have the key {found}")


# --------------------------------------------------------------------------------------------- the ledger


def _content(connection: DuckDBPyConnection, table: Table, partition: Partition) -> tuple[int, str]:
    """Number of rows, and a hash of them that knows neither their order nor who wrote them."""
    # A length before each value keeps ('ab', 'c') and ('a', 'bc') apart; no value starts with N, so NULL is
    # not the empty string. The sum of the rows' hashes needs no sorting and no memory.
    # A blob's text would be up to four times as long as the blob; its hash stands for it.
    texts = [
        f"sha256({quote(column.name)})" if column.type == "BLOB" else f"CAST({quote(column.name)} AS VARCHAR)"
        for column in table.columns
    ]
    row = " || ".join(f"CASE WHEN {t} IS NULL THEN 'N' ELSE strlen({t}) || ':' || {t} END" for t in texts)
    where, values = _where(table, [partition])
    [(count, total)] = connection.execute(
        f"SELECT count(*), coalesce(sum(md5_number_lower({row})), 0) FROM {quote(table.name)} WHERE {where}",
        values,
    ).fetchall()
    text = canonical_json([table.column_names, count, str(total)])
    return count, hashlib.sha256(text.encode()).hexdigest()[:32]


def _enter(
    connection: DuckDBPyConnection,
    table: Table,
    partition: Partition,
    stamp: Stamp,
    row_count: int,
    content: str,
) -> Version:
    [(last,)] = connection.execute(f"SELECT coalesce(max(version), 0) FROM {LEDGER.name}").fetchall()
    version = Version(
        version=last + 1,
        table=table.name,
        partition=dict(partition),
        run_id=stamp.run_id,
        fingerprint=stamp.fingerprint,
        content=content,
        row_count=row_count,
        ingredients=stamp.ingredients,
        inputs=stamp.inputs,
        made_at=datetime.now(UTC),
    )
    row = {
        "version": version.version,
        "table_name": version.table,
        "partition": canonical_json(version.partition),
        "run_id": version.run_id,
        "fingerprint": version.fingerprint,
        "content": version.content,
        "row_count": version.row_count,
        "code_version": version.ingredients.code_version,
        "settings": canonical_json(version.ingredients.settings),
        "inputs": canonical_json([asdict(one) for one in version.inputs]),
        "made_at": version.made_at.replace(tzinfo=None),
    }
    values = [row[name] for name in LEDGER.column_names]
    connection.execute(f"INSERT INTO {LEDGER.name} VALUES ({', '.join('?' * len(values))})", values)
    return version


def _versions(connection: DuckDBPyConnection, table: str | None, latest: bool) -> list[Version]:
    if not _exists(connection, LEDGER):
        return []
    only_latest = "QUALIFY version = max(version) OVER (PARTITION BY table_name, partition)"
    rows = connection.execute(
        f"SELECT {', '.join(LEDGER.column_names)} FROM {LEDGER.name}"
        f" WHERE $table IS NULL OR table_name = $table {only_latest if latest else ''} ORDER BY version",
        {"table": table},
    ).fetchall()
    return [_version(dict(zip(LEDGER.column_names, row, strict=True))) for row in rows]


def _version(row: Mapping[str, Any]) -> Version:
    return Version(
        version=row["version"],
        table=row["table_name"],
        partition=json.loads(row["partition"]),
        run_id=row["run_id"],
        fingerprint=row["fingerprint"],
        content=row["content"],
        row_count=row["row_count"],
        ingredients=Ingredients(row["code_version"], json.loads(row["settings"])),
        inputs=tuple(Input(**one) for one in json.loads(row["inputs"])),
        made_at=row["made_at"].replace(tzinfo=UTC),
    )
