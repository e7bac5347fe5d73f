"""Stored rows that are asked in SQL, because there may be too many of them for a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from deeper_assets.store.catalog import find_table
from deeper_assets.store.ledger import Partition
from deeper_assets.store.rows import stored_rows
from deeper_assets.store.warehouse import Warehouse


@dataclass(frozen=True)
class Relation:
    """Some partitions of a table, as an asset or a check takes them.

    The warehouse is open while a query runs, and no longer: whoever computes for hours holds nothing.
    """

    warehouse: Warehouse
    table: str
    partitions: tuple[Partition, ...]

    def ask(self, query: str, values: Sequence[Any] = ()) -> pd.DataFrame:
        """What a query over the relation `stored` gives, e.g. SELECT count(*) AS ratings FROM stored."""
        rows, places = stored_rows(find_table(self.table), self.partitions)
        with self.warehouse.connect(writing=False) as connection:
            return connection.execute(f"WITH stored AS ({rows}) {query}", [*places, *values]).df()
