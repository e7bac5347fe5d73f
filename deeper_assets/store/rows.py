"""The rows of partitions, inside an open connection: deleted, inserted, hashed and read.

Names in the SQL come from `schema.py`; values are bound as parameters.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from duckdb import DuckDBPyConnection

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import identifier, quoted
from deeper_assets.store.catalog import create, exists, with_provenance
from deeper_assets.store.columns import PROVENANCE, Column, Table
from deeper_assets.store.fitting import Data, fit, refuse
from deeper_assets.store.ledger import (
    LEDGER,
    Partition,
    Stamp,
    Version,
    canonical_json,
    current_versions,
    digest,
    enter,
)


@dataclass(frozen=True)
class Reading:
    """Rows, and the version of each partition they came from, as they stood at one moment."""

    frame: pd.DataFrame
    versions: tuple[Version, ...]


def ensure_tables(connection: DuckDBPyConnection, table: Table) -> None:
    """Create the table and the ledger where they do not exist.

    Raises:
        DeeperError: one exists with other columns than are declared.
    """
    create(connection, with_provenance(table))
    create(connection, LEDGER)


def delete_partition(connection: DuckDBPyConnection, table: Table, partition: Partition) -> None:
    """Delete the rows of one partition; the ledger keeps its versions."""
    where, values = _where(table, [_whole(table, partition)])
    connection.execute(f"DELETE FROM {identifier(table.name)} WHERE {where}", values)


def insert_partition(
    connection: DuckDBPyConnection,
    table: Table,
    partition: Partition,
    data: Data,
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
        f"INSERT INTO {identifier(table.name)} BY NAME"
        f" SELECT *, ? AS run_id, ? AS fingerprint FROM ({selected})",
        [stamp.run_id, stamp.fingerprint],
    )
    _refuse_duplicates(connection, table, partition)
    row_count, content = _content(connection, table, partition)
    return enter(connection, table, partition, stamp, row_count, content)


def first_rows(data: pd.DataFrame | Path, count: int) -> tuple[pd.DataFrame, int]:
    """Rows that are to be stored, of a file only the first `count`; and how many there are in all."""
    if isinstance(data, pd.DataFrame):
        return data, len(data)
    with duckdb.connect() as connection:
        rows = connection.read_parquet(glob.escape(str(data)), hive_partitioning=False)
        [(total,)] = rows.count("*").fetchall()
        return rows.limit(count).df(), total


def read_partitions(
    connection: DuckDBPyConnection,
    table: Table,
    partitions: Sequence[Partition],
    columns: Sequence[str] | None = None,
    provenance: bool = False,
) -> Reading:
    """What `Warehouse.read` returns, from an open connection."""
    frame = read_rows(connection, table, partitions, columns, provenance)
    return Reading(frame, tuple(current_versions(connection, table, partitions)))


def read_rows(
    connection: DuckDBPyConnection,
    table: Table,
    partitions: Sequence[Partition],
    columns: Sequence[str] | None = None,
    provenance: bool = False,
) -> pd.DataFrame:
    """The rows alone, which `Warehouse.load` returns."""
    stored = with_provenance(table)
    known = {column.name: column for column in stored.columns}
    names = list(columns if columns is not None else table.column_names)
    names += [column.name for column in PROVENANCE if provenance and column.name not in names]
    if unknown := [name for name in names if name not in known]:
        raise DeeperError(f"table {table.name!r} has no column {unknown[0]!r}; it has {', '.join(known)}")
    where, values = _where(table, partitions)
    if exists(connection, stored):
        order = ", ".join(identifier(name) for name in dict.fromkeys(table.partition + table.key))
        selected = ", ".join(identifier(name) for name in names)
        arrays = connection.execute(
            f"SELECT {selected} FROM {identifier(table.name)} WHERE {where} ORDER BY {order}", values
        ).fetchnumpy()
    else:
        arrays = {name: np.array([], dtype=object) for name in names}
    return pd.DataFrame({name: _to_pandas(arrays[name], known[name]) for name in names})


def stored_rows(table: Table, partitions: Sequence[Partition]) -> str:
    """SQL for the rows of some partitions; it binds no values, so that a view can hold it."""
    _where(table, partitions)  # which refuses what is no partition
    terms = [
        " AND ".join([f"{identifier(name)} = {quoted(value)}" for name, value in one.items()]) or "TRUE"
        for one in partitions
    ]
    where = " OR ".join(f"({term})" for term in terms) or "FALSE"
    return (
        f"SELECT {', '.join(map(identifier, table.column_names))} FROM {identifier(table.name)} WHERE {where}"
    )


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
    terms = [" AND ".join([f"{identifier(name)} = ?" for name in one]) or "TRUE" for one in partitions]
    values = [value for partition in partitions for value in partition.values()]
    return " OR ".join(f"({term})" for term in terms) or "FALSE", values


def _refuse_duplicates(connection: DuckDBPyConnection, table: Table, partition: Partition) -> None:
    key = ", ".join(identifier(name) for name in table.key)
    where, values = _where(table, [partition])
    twice = connection.execute(
        f"SELECT {key} FROM {identifier(table.name)} WHERE {where}"
        f" GROUP BY {key} HAVING count(*) > 1 LIMIT 1",
        values,
    ).fetchone()
    if twice is not None:
        key = ", ".join(f"{name} {value!r}" for name, value in zip(table.key, twice, strict=True))
        refuse(table, f"several rows have the key {key}")


def _content(connection: DuckDBPyConnection, table: Table, partition: Partition) -> tuple[int, str]:
    """Number of rows, and a hash that depends on their values, and not on their order or who wrote them."""
    # A length before each value keeps ('ab', 'c') and ('a', 'bc') apart; no value starts with N, so NULL is
    # not the empty string. The sum of the rows' hashes needs no sorting and no memory.
    # A blob's text would be up to four times as long as the blob; its hash stands for it.
    texts = [
        f"sha256({identifier(column.name)})"
        if column.type == "BLOB"
        else f"CAST({identifier(column.name)} AS VARCHAR)"
        for column in table.columns
    ]
    row = " || ".join(f"CASE WHEN {t} IS NULL THEN 'N' ELSE strlen({t}) || ':' || {t} END" for t in texts)
    where, values = _where(table, [partition])
    [(count, total)] = connection.execute(
        f"SELECT count(*), coalesce(sum(md5_number_lower({row})), 0)"
        f" FROM {identifier(table.name)} WHERE {where}",
        values,
    ).fetchall()
    return count, digest([table.column_names, count, str(total)])
