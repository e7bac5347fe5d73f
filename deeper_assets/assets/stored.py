"""What every asset that is a table of the warehouse has in common."""

from typing import Any

from deeper_assets.store.io_manager import column_schema, partition_expr
from deeper_assets.store.schema import TABLES


def stored(table: str) -> dict[str, Any]:
    """Arguments for `@asset` (or AssetOut) of the asset that is this table: where it goes, what it holds."""
    metadata: dict[str, Any] = {"dagster/column_schema": column_schema(table)}
    if TABLES[table].partition:
        metadata["partition_expr"] = partition_expr(table)
    return {"io_manager_key": "warehouse", "metadata": metadata, "kinds": {"duckdb"}}
