"""Whether data fits a declared table, and how it is cast if it does. A refusal names table, column and value.

A DOUBLE column takes whole numbers too, and an INTEGER column floats without fractions. A column that holds
only NULLs fits any type. NaN is NULL. Text is never read as a number or as bytes, nor a truth value as a
number.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import numpy as np
import pandas as pd
from duckdb import DuckDBPyConnection

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import identifier
from deeper_assets.store.columns import Column, Table

_SIGNED = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"})
_INTEGERS = _SIGNED | {f"U{name}" for name in _SIGNED}
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_ZONED = "TIMESTAMP WITH TIME ZONE"
_FITTING = {
    "VARCHAR": frozenset({"VARCHAR"}),
    "INTEGER": _INTEGERS | _FLOATS,
    "BIGINT": _INTEGERS | _FLOATS,
    "DOUBLE": _INTEGERS | _FLOATS | {"DECIMAL"},
    "TIMESTAMP": frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", _ZONED}),
    "BLOB": frozenset({"BLOB"}),
}


@dataclass(frozen=True)
class Query:
    """SQL for rows that the connection to the warehouse can give itself."""

    sql: str


Data = pd.DataFrame | Path | Query
"""Rows to be stored; a path is a Parquet file's."""


def refuse(table: Table, misfit: str) -> NoReturn:
    """Raise the DeeperError for data that does not fit `table`."""
    declared = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    raise DeeperError(f"table {table.name!r} refuses the data: {misfit} (declared: {declared})")


def fit(connection: DuckDBPyConnection, table: Table, partition: Mapping[str, str], data: Data) -> str:
    """SQL that selects the data's rows with the declared names and types, from the temporary view `incoming`.

    Raises:
        DeeperError: the data does not fit; every faulty column is named.
    """
    types = _register(connection, table, data)
    _refuse_misfits(connection, table, partition, types)
    casts = ", ".join(f"{_cast(c, types[c.name], 'CAST')} AS {identifier(c.name)}" for c in table.columns)
    return f"SELECT {casts} FROM incoming"


def _register(connection: DuckDBPyConnection, table: Table, data: Data) -> dict[str, str]:
    """The DuckDB type of each column."""
    if isinstance(data, Path):
        if not data.is_file():
            refuse(table, f"there is no file {data}")
        try:
            relation = connection.read_parquet(glob.escape(str(data)), hive_partitioning=False)
        except duckdb.Error as error:
            raise DeeperError(f"{data} cannot be read as Parquet: {error}") from error
        _refuse_other_columns(table, relation.columns)
        connection.register("incoming", relation)
    elif isinstance(data, Query):
        connection.execute(f"CREATE OR REPLACE TEMP VIEW incoming AS {data.sql}")
        described = connection.execute("DESCRIBE incoming").fetchall()
        _refuse_other_columns(table, [name for name, *_ in described])
    else:
        _refuse_other_columns(table, list(data.columns))
        columns = {column.name: _plain(table, column, data[column.name]) for column in table.columns}
        connection.register("incoming", pd.DataFrame(columns))
    described = connection.execute("SELECT column_name, column_type FROM (DESCRIBE incoming)").fetchall()
    return {name: re.sub(r"^DECIMAL\([0-9,]*\)$", "DECIMAL", kind).strip('"') for name, kind in described}


def _refuse_other_columns(table: Table, names: Sequence[object]) -> None:
    misfits = [f"column {name!r} is missing" for name in table.column_names if name not in names]
    misfits += [f"column {name!r} is not declared" for name in names if name not in table.column_names]
    misfits += [f"column {name!r} comes twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if misfits:
        refuse(table, "; ".join(misfits))


def _plain(table: Table, column: Column, given: "pd.Series[Any]") -> "pd.Series[Any]":
    """The values as a type that DuckDB knows without guessing from a sample of them."""
    name, values = column.name, given.reset_index(drop=True)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    if not (values.dtype == object or isinstance(values.dtype, pd.StringDtype)):
        return values
    kind = pd.api.types.infer_dtype(values, skipna=True)
    plain: Any
    try:
        match kind:
            case "empty":
                plain = np.full(len(values), None, dtype=object)
            case "string":
                for text in values.dropna():
                    text.encode()  # a lone surrogate is not text
                plain = values.astype(pd.StringDtype("python"))
            case "integer":
                plain = values.astype("Int64")
            case "floating" | "mixed-integer-float" | "decimal":
                plain = np.array([np.nan if pd.isna(value) else float(value) for value in values])
            case "boolean":
                plain = values.astype("boolean")
            case "datetime" | "datetime64":
                moments = [None if pd.isna(value) else _in_utc(value) for value in values]
                plain = np.array(moments, dtype="datetime64[us]")
            case "bytes" if column.type == "BLOB":
                plain = values
            case _:
                refuse(table, f"column {name!r} holds {kind} values, e.g. {_shown(values.dropna().iloc[0])}")
    except (TypeError, ValueError, OverflowError) as error:
        refuse(table, f"column {name!r} cannot be stored: {error}")
    return pd.Series(plain)


def _shown(value: object) -> str:
    """A value for people; bytes may be a whole model, so only the first of them are shown."""
    return f"{value[:20]!r} ({len(value)} bytes)" if isinstance(value, bytes) else repr(value)


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _cast(column: Column, incoming: str, cast: str) -> str:
    """SQL for a column of type `incoming` as its declared type.

    `cast` is CAST, or TRY_CAST where a value that does not fit is to become NULL.
    """
    if incoming not in _FITTING[column.type]:  # it holds NULLs only, else it has been refused
        return f"CAST(NULL AS {column.type})"
    name = identifier(column.name)
    if incoming == _ZONED:
        return f"make_timestamp(epoch_us({name}))"
    if incoming in _FLOATS:
        name = f"nullif({name}, 'NaN'::{incoming})"
    return f"{cast}({name} AS {column.type})"


def _refuse_misfits(
    connection: DuckDBPyConnection, table: Table, partition: Mapping[str, str], types: Mapping[str, str]
) -> None:
    rules = [
        (column.name, must, wrong)
        for column in table.columns
        for must, wrong in _rules(column, types[column.name])
    ]
    rules += [(name, f"must be {value!r}", f"{identifier(name)} <> ?") for name, value in partition.items()]
    bound = [value for value in partition.values() for _ in ("counted", "shown")]
    counts = ", ".join(
        f"count(*) FILTER ({wrong}), min({_example(name, types[name])}) FILTER ({wrong})"
        for name, _, wrong in rules
    )
    casts = ", ".join(
        f"{name} AS {_raw(c.name)}, {_cast(c, types[c.name], 'TRY_CAST')} AS {name}"
        for c in table.columns
        for name in [identifier(c.name)]
    )
    [result] = connection.execute(f"SELECT {counts} FROM (SELECT {casts} FROM incoming)", bound).fetchall()
    misfits = [
        f"column {name!r} {must} ({count} rows do not{'' if example is None else f', e.g. {example!r}'})"
        for (name, must, _), count, example in zip(rules, result[::2], result[1::2], strict=True)
        if count
    ]
    if misfits:
        refuse(table, "; ".join(misfits))


def _raw(name: str) -> str:
    return identifier(f"raw {name}")


def _example(name: str, incoming: str) -> str:
    """SQL for an incoming value as people may read it; for a blob, its length."""
    return f"octet_length({_raw(name)}) || ' bytes'" if incoming == "BLOB" else f"{_raw(name)}::VARCHAR"


def _rules(column: Column, incoming: str) -> list[tuple[str, str]]:
    """What the column must be, and SQL for the rows in which it is not.

    In that SQL, the raw name is the incoming column. The plain name is the same column as the declared type,
    with NULL where a value cannot be cast.
    """
    name, raw = identifier(column.name), _raw(column.name)
    present = f"{raw} IS NOT NULL" + (f" AND NOT isnan({raw})" if incoming in _FLOATS else "")
    rules = []
    if incoming not in _FITTING[column.type]:
        rules.append((f"must be {column.type}, not {incoming}", present))
    elif column.type in ("INTEGER", "BIGINT"):
        rules.append((f"must fit {column.type}", f"{present} AND {name} IS NULL"))
        if incoming in _FLOATS:
            rules.append(("must be whole", f"{present} AND isfinite({raw}) AND {raw} <> trunc({raw})"))
    elif column.type == "DOUBLE":
        rules.append(("must be finite", f"isinf({name})"))
    if not column.nullable:
        rules.append(("must not be NULL", f"NOT ({present})"))
    if column.check:
        rules.append((f"must satisfy {column.check}", f"NOT ({column.check})"))
    return rules
