"""Stored rows that are asked in SQL, because there may be too many of them for a frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from deeper_assets.store.catalog import find_table
from deeper_assets.store.fitting import Query
from deeper_assets.store.ledger import Partition
from deeper_assets.store.rows import stored_rows
from deeper_assets.store.warehouse import Warehouse


@dataclass(frozen=True)
class Relation:
    """Some partitions of a table, or what a query makes of them, as an asset takes it and hands it over.

    The warehouse is open while a query runs, and no longer: whoever computes for hours holds nothing.

    Attributes:
        warehouse: which holds the table.
        table: its name.
        partitions: which ones.
        queries: what was `select`ed of them, one query of the rows of the one before.
    """

    warehouse: Warehouse
    table: str
    partitions: tuple[Partition, ...]
    queries: tuple[str, ...] = ()

    def select(self, query: str) -> "Relation":
        """What a query over the relation `stored` gives: SELECT * FROM stored WHERE split = 'train'."""
        return replace(self, queries=(*self.queries, query))

    def ask(self, query: str, values: Sequence[Any] = ()) -> pd.DataFrame:
        """What a query over the relation `stored` gives, as a frame; `values` are those that it binds."""
        with self.warehouse.connect(writing=False) as connection:
            return connection.execute(f"WITH stored AS ({self.rows.sql}) {query}", list(values)).df()

    def first(self, count: int) -> tuple[pd.DataFrame, int]:
        """The first rows, and how many there are in all."""
        total = int(self.ask("SELECT count(*) AS rows FROM stored")["rows"].iloc[0])
        return self.ask("FROM stored ORDER BY ALL LIMIT ?", [count]), total

    @property
    def rows(self) -> Query:
        """The rows, for a connection to the warehouse."""
        sql = stored_rows(find_table(self.table), self.partitions)
        for query in self.queries:
            sql = f"WITH stored AS ({sql}) {query}"
        return Query(sql)
