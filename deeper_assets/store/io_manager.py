"""Dagster's I/O manager over the warehouse: an asset is stored in the table of its name, by its partition.

An asset's output is one transaction, and an input is read through a connection that cannot write. The hash of
the rows becomes the asset's data version, so that Dagster and the ledger agree on what is stale. Dagster's
`DbIOManager` cannot do this: it deletes and inserts by SQL of its own, takes ranges of partition keys only,
and gives the rows no version.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from dagster import (
    DagsterInvariantViolationError,
    DataVersion,
    InputContext,
    IOManager,
    MultiPartitionsDefinition,
    OutputContext,
    StaticPartitionsDefinition,
    TableColumn,
    TableColumnConstraints,
    TableSchema,
)

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.catalog import find_table
from deeper_assets.store.fitting import quote
from deeper_assets.store.ledger import Ingredients, Input, Partition, Stamp, Version
from deeper_assets.store.schema import PROVENANCE, Table
from deeper_assets.store.warehouse import Warehouse

Describe = Callable[[str, Partition], Ingredients]


def column_schema(table: str) -> TableSchema:
    """The declared columns of `table`, for the metadata `dagster/column_schema`.

    Raises:
        DeeperError: no such table is declared.
    """
    return TableSchema(
        columns=[
            TableColumn(
                name=column.name,
                type=column.type,
                description=column.meaning,
                constraints=TableColumnConstraints(
                    nullable=column.nullable, other=[column.check] if column.check else []
                ),
            )
            for column in (*find_table(table).columns, *PROVENANCE)
        ]
    )


OPTIONAL: Mapping[str, bool] = {"optional": True}
"""Metadata of an input that may never have been made; then it has no rows."""


class WarehouseIOManager(IOManager):
    """Stores DataFrames, and the rows of Parquet files, as partitions of a warehouse; loads DataFrames.

    A Parquet file that an asset returns as a `pathlib.Path` is deleted once its rows are stored. A single
    partition that has never been made cannot be loaded, unless the input has the metadata of `OPTIONAL`.
    `describe` gives the ingredients of a table's partition.
    """

    def __init__(self, warehouse: Warehouse, describe: Describe):
        self._warehouse, self._describe = warehouse, describe
        # What each step (run, key) has read: place → input, for the ledger.
        self._read: dict[tuple[str, str], dict[tuple[str, str], Input]] = {}

    def handle_output(self, context: OutputContext, obj: pd.DataFrame | Path) -> None:
        """Replace the asset's partition; see `Warehouse.replace`."""
        table = _table(context)
        partitions = _partitions(context, table)
        if len(partitions) > 1:
            raise DeeperError(
                f"table {table.name!r}: one run was to make {len(partitions)} partitions at once;"
                " each is traced to its own inputs, so make them in runs of their own (a backfill without"
                " BackfillPolicy.single_run)"
            )
        [partition] = partitions
        if not isinstance(obj, pd.DataFrame | Path):
            raise DeeperError(
                f"table {table.name!r} takes a DataFrame, or the Path of a Parquet file; its asset gave a"
                f" {type(obj).__name__}"
            )
        inputs = self._read.get((context.run_id, context.step_key), {})
        stamp = Stamp(context.run_id, self._describe(table.name, partition), tuple(inputs.values()))
        version = self._warehouse.replace(table.name, partition, obj, stamp)
        context.step_context.set_data_version(context.asset_key, DataVersion(version.content))
        context.add_output_metadata(
            {
                "dagster/row_count": version.row_count,
                "dagster/column_schema": column_schema(table.name),
                "dagster/table_name": f"{self._warehouse.path.stem}.main.{table.name}",
                "fingerprint": version.fingerprint,
                "content": version.content,
                "Query": _query(table, partition),
            }
        )
        if isinstance(obj, Path):
            obj.unlink()  # only now: the rows are stored

    def load_input(self, context: InputContext) -> pd.DataFrame:
        """The rows of the partitions that the input asks for; see `Warehouse.read`."""
        wanted = context.dagster_type.typing_type
        if wanted is not Any and not issubclass(wanted, pd.DataFrame):
            raise DeeperError(
                f"input {context.name!r} asks for a {wanted.__name__.lower()}; the warehouse gives rows:"
                " annotate it DataFrame"
            )
        table, metadata = _table(context), context.definition_metadata or {}
        partitions = _partitions(context, table)
        reading = self._warehouse.read(table.name, partitions, metadata.get("columns"))
        if len(partitions) == 1 and not reading.versions and not metadata.get("optional"):
            values = ", ".join(f"{column} {value!r}" for column, value in partitions[0].items())
            raise DeeperError(
                f"{values}{' of ' if values else ''}table {table.name!r} has never been materialized; make it"
                " with `deeper run`, or materialize it in the UI"
            )
        self._remember(context, reading.versions)
        return reading.frame

    def _remember(self, context: InputContext, versions: Sequence[Version]) -> None:
        try:
            step = context.step_context
        except DagsterInvariantViolationError:
            return  # loaded outside a run
        read = self._read.setdefault((step.run_id, step.step.key), {})
        for version in versions:
            read[version.place] = version.as_input()


def _table(context: InputContext | OutputContext) -> Table:
    if not context.has_asset_key:
        raise DeeperError(f"{context.name!r} is no asset; only assets are stored in the warehouse")
    return find_table(context.asset_key.path[-1])


def _partitions(context: InputContext | OutputContext, table: Table) -> list[dict[str, str]]:
    """The partitions of the asset that the context asks for, as values of the table's partition columns."""
    columns = table.partition
    if not context.has_asset_partitions:
        if columns:
            raise DeeperError(
                f"table {table.name!r} is partitioned by {', '.join(columns)}; its asset is not"
            )
        return [{}]
    definition = context.asset_partitions_def
    if isinstance(definition, MultiPartitionsDefinition):
        names = {one.name for one in definition.partitions_defs}
        kinds = [one.partitions_def for one in definition.partitions_defs]
    else:
        names, kinds = set(columns) if len(columns) == 1 else {"one dimension"}, [definition]
    if other := [type(kind).__name__ for kind in kinds if not isinstance(kind, StaticPartitionsDefinition)]:
        raise DeeperError(
            f"table {table.name!r} takes static partitions only; its asset has {', '.join(other)}"
        )
    if names != set(columns):
        raise DeeperError(
            f"table {table.name!r} is partitioned by {', '.join(columns) or 'nothing'}; its asset by"
            f" {', '.join(sorted(names))}"
        )
    keys = sorted(context.asset_partition_keys)
    if not isinstance(definition, MultiPartitionsDefinition):
        return [{columns[0]: str(key)} for key in keys]
    of_dimensions = [definition.get_partition_key_from_str(key).keys_by_dimension for key in keys]
    return [{column: values[column] for column in columns} for values in of_dimensions]


def _query(table: Table, partition: Partition) -> str:
    """SQL that selects the partition, for people."""
    texts = {column: value.replace("'", "''") for column, value in partition.items()}
    where = " AND\n".join(f"{quote(column)} in ('{text}')" for column, text in texts.items())
    return f"SELECT * FROM main.{table.name}" + (f" WHERE\n{where}" if where else "")
