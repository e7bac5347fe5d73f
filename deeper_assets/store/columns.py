"""What a table and a column are, and the columns that the store itself fills in. `schema.py` has all."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

ColumnType = Literal["VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "TIMESTAMP", "BLOB"]


@dataclass(frozen=True)
class Column:
    """One column: name, meaning (shown to people), SQL type, whether it may hold NULL, and a SQL CHECK."""

    name: str
    meaning: str
    type: ColumnType
    nullable: bool = False
    check: str | None = None


@dataclass(frozen=True)
class Table:
    """One table: its columns in order, the key no two rows of which may agree, and its partition columns.

    `partition` names the columns whose values are the partition key (empty: one unpartitioned whole).
    `key` is unique within a partition.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns an asset has to supply: all but provenance."""
        return tuple(column.name for column in self.columns)


text = partial(Column, type="VARCHAR")
integer = partial(Column, type="INTEGER")
long = partial(Column, type="BIGINT")
number = partial(Column, type="DOUBLE")
moment = partial(Column, type="TIMESTAMP")

PROVENANCE = (
    text("run_id", "Dagster run that wrote the row"),
    text("fingerprint", "hash of the code version, settings and input contents that made it"),
)
