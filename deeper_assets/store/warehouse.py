"""The warehouse: one DuckDB file with partitions that are replaced whole, and a ledger of their origins.

Belongs here: opening the file, and the transaction. Does not: whose turn it is (`locking.py`), the rows
(`rows.py`) and the ledger (`ledger.py`) in an open connection, whether data fits (`fitting.py`), what rows
mean (`schema.py`), Dagster (`io_manager.py`).

One connection writes, or several read. So every call opens the file for one statement or transaction and
closes it again. Only a DuckDB without a file is kept, for the next reader.
"""

import atexit
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
from duckdb import DuckDBPyConnection

from deeper_assets.method.exceptions import DeeperError, first_line
from deeper_assets.store.catalog import find_table
from deeper_assets.store.ledger import Partition, Stamp, Version, versions_of_table
from deeper_assets.store.locking import Turns, is_damage
from deeper_assets.store.rows import (
    Reading,
    delete_partition,
    ensure_tables,
    insert_partition,
    read_partitions,
    read_rows,
)

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
        memory: what a writer may take, as DuckDB writes sizes; its own default without.
    """

    path: Path
    lock_timeout: float = 300.0
    memory: str | None = None

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
        with self._turns.turn(writing), self._writing() if writing else self._reading() as connection:
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
                if isinstance(error, duckdb.Error) and is_damage(error):
                    raise self._turns.damaged(error) from error
                if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
                    raise DeeperError(
                        f"cannot write to {self.path}: {first_line(error)}; make room on the disk or in"
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
        with self.connect(writing=False) as connection:
            return read_rows(connection, find_table(table), chosen, columns, provenance)

    def current(self, table: str | None = None) -> list[Version]:
        """The latest version of each partition, of one table or of all, the oldest first."""
        with self.connect(writing=False) as connection:
            return versions_of_table(connection, table, latest=True)

    def history(self, table: str | None = None) -> list[Version]:
        """Every version there ever was, of one table or of all, the oldest first."""
        with self.connect(writing=False) as connection:
            return versions_of_table(connection, table, latest=False)

    @property
    def _turns(self) -> Turns:
        return Turns(self.path, self.lock_timeout)

    def _create(self) -> None:
        # DuckDB refuses a file whose header is missing, so a process killed while making one would leave
        # a warehouse that nobody can open. The file is made under another name and appears whole. The turn
        # is a writer's, so no other process makes it meanwhile.
        if not self.path.exists():
            new = self.path.with_name(f".{self.path.name}.new")
            new.unlink(missing_ok=True)  # left by a kill
            duckdb.connect(new).close()
            new.rename(self.path)

    @contextmanager
    def _writing(self) -> Iterator[DuckDBPyConnection]:
        with self._turns.readable_errors():
            self._create()
            connection = self._turns.patiently(duckdb.connect, self.path)
        if self.memory is not None:
            connection.execute("SET memory_limit = ?", [self.memory])
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _reading(self) -> Iterator[DuckDBPyConnection]:
        # Starting DuckDB takes four times as long as opening a file in it, and a step opens the file once an
        # input. So a reader takes a DuckDB that an earlier one has left; after an error none is left.
        idle = _idle.setdefault(os.getpid(), [])
        try:
            connection = idle.pop()
        except IndexError:
            connection = duckdb.connect(":memory:")
        try:
            with self._turns.readable_errors():
                attach = "ATTACH ? AS warehouse (READ_ONLY)"
                self._turns.patiently(connection.execute, attach, [str(self.path)])
            connection.execute("USE warehouse")
            yield connection
            connection.execute("USE memory")
            connection.execute("DETACH warehouse")
        except BaseException as error:
            connection.close()
            if isinstance(error, duckdb.Error) and is_damage(error):
                raise self._turns.damaged(error) from error
            raise
        idle.append(connection)
