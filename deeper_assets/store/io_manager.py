"""Dagster's I/O manager over the warehouse: an asset is stored in the table of its name, by its partition.

Dagster's `DbIOManager` calls the steps in order (connect, delete, insert). The client and the handler here do
each step with the warehouse's own functions. So an asset's output is one transaction, and an input is read
through a connection that cannot write. The hash of the rows becomes the asset's data version, so that Dagster
and the ledger agree on what is stale.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
from dagster import (
    DagsterInvariantViolationError,
    DataVersion,
    InputContext,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    OutputContext,
    PartitionsDefinition,
    StaticPartitionsDefinition,
    TableColumn,
    TableColumnConstraints,
    TableSchema,
)
from dagster._core.definitions.metadata import RawMetadataValue
from dagster._core.storage.db_io_manager import (
    DbIOManager,
    DbTypeHandler,
    TablePartitionDimension,
    TableSlice,
)
from dagster_duckdb.io_manager import DuckDbClient
from duckdb import DuckDBPyConnection

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import identifier
from deeper_assets.store.catalog import find_table
from deeper_assets.store.columns import PROVENANCE
from deeper_assets.store.ledger import (
    Ingredients,
    Input,
    Partition,
    Stamp,
    Version,
    current_versions,
)
from deeper_assets.store.relation import Relation
from deeper_assets.store.rows import delete_partition, ensure_tables, insert_partition, read_partitions
from deeper_assets.store.warehouse import Warehouse

Describe = Callable[[str, Partition], Ingredients]
"""Gives the ingredients of a table's partition."""

Tell = Callable[[Version], Mapping[str, RawMetadataValue]]
"""Gives what people are told, beside its figures, of a partition that has just been stored."""


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


def partition_expr(table: str) -> str | dict[str, str]:
    """The asset metadata `partition_expr` of a partitioned table: its column, or a column for each dimension.

    Raises:
        DeeperError: no such table is declared, or it has no partitions.
    """
    columns = find_table(table).partition
    if not columns:
        raise DeeperError(f"table {table!r} has no partitions")
    return columns[0] if len(columns) == 1 else {column: column for column in columns}


OPTIONAL: Mapping[str, bool] = {"optional": True}
"""Metadata of an input that may never have been made; then it has no rows."""


class WarehouseIOManager(DbIOManager):
    """Stores DataFrames, and the rows of Parquet files, as partitions of a warehouse.

    It loads DataFrames, and a `Relation` where an input asks for that; what an asset makes of one in SQL it
    may hand over as a relation, too, which the warehouse then runs. A Parquet file that an asset returns as a
    `pathlib.Path` is deleted once its rows are stored. A single partition that has never been made cannot be
    loaded, unless the input has the metadata of `OPTIONAL`.
    """

    def __init__(self, warehouse: Warehouse, describe: Describe, tell: Tell):
        super().__init__(
            type_handlers=[_RowsHandler(warehouse, describe, tell)],
            db_client=_WarehouseClient(warehouse),
            database=warehouse.path.stem,  # what DuckDB calls the file's catalog
            schema="main",
            default_load_type=pd.DataFrame,
        )

    def handle_output(self, context: OutputContext, obj: object) -> None:
        """Replace the asset's partition; see `Warehouse.replace`."""
        super().handle_output(context, obj)
        # Metadata of the output would stand in the event log twice; that of the asset stands there once.
        context.step_context.add_asset_metadata(context.consume_logged_metadata(), context.asset_key)
        if isinstance(obj, Path):
            obj.unlink()  # only now: the transaction has been committed

    def _get_table_slice(
        self,
        context: OutputContext | InputContext,
        output_context: OutputContext,  # noqa: ARG002
    ) -> TableSlice:
        # The base class wants contiguous ranges of keys, and `partition_expr` metadata on every asset. So the
        # slice is only what the UI shows; `_partitions` decides what is read and written.
        if not context.has_asset_key:
            raise DeeperError(f"{context.name!r} is no asset; only assets are stored in the warehouse")
        table = find_table(context.asset_key.path[-1])
        partitions = _partitions(context)
        return TableSlice(
            table=table.name,
            schema="main",
            database=self._database,
            columns=(context.definition_metadata or {}).get("columns"),
            partition_dimensions=[
                TablePartitionDimension(
                    identifier(column), list(dict.fromkeys(one[column] for one in partitions))
                )
                for column in table.partition
            ],
        )


def _partitions(context: InputContext | OutputContext) -> list[dict[str, str]]:
    """The partitions of the asset that the context asks for, as values of the table's partition columns."""
    table = find_table(context.asset_key.path[-1])
    if not context.has_asset_partitions:
        if table.partition:
            raise DeeperError(
                f"table {table.name!r} is partitioned by {', '.join(table.partition)}; its asset is not"
            )
        return [{}]
    definition = context.asset_partitions_def
    dimensions = _dimensions(definition, table.partition, table.name)
    return [dimensions(key) for key in sorted(context.asset_partition_keys)]


def _dimensions(
    definition: PartitionsDefinition[str], columns: Sequence[str], table: str
) -> Callable[[str], dict[str, str]]:
    """How the definition's keys read as values of the table's partition columns."""
    if isinstance(definition, MultiPartitionsDefinition):
        names = {one.name for one in definition.partitions_defs}
        kinds = [one.partitions_def for one in definition.partitions_defs]
    else:
        names, kinds = set(columns) if len(columns) == 1 else {"one dimension"}, [definition]
    if other := [type(kind).__name__ for kind in kinds if not isinstance(kind, StaticPartitionsDefinition)]:
        raise DeeperError(f"table {table!r} takes static partitions only; its asset has {', '.join(other)}")
    if names != set(columns):
        raise DeeperError(
            f"table {table!r} is partitioned by {', '.join(columns) or 'nothing'}; its asset by"
            f" {', '.join(sorted(names))}"
        )
    if not isinstance(definition, MultiPartitionsDefinition):
        return lambda key: {columns[0]: str(key)}

    def columns_of(key: str) -> dict[str, str]:
        multi = key if isinstance(key, MultiPartitionKey) else definition.get_partition_key_from_str(key)
        return {column: multi.keys_by_dimension[column] for column in columns}

    return columns_of


class _WarehouseClient(DuckDbClient):
    """Connections and deletions for `DbIOManager`: a transaction for an output, else one that only reads."""

    def __init__(self, warehouse: Warehouse):
        self._warehouse = warehouse

    def connect(  # type: ignore[override]  # static in the base class, which therefore cannot know a file
        self,
        context: OutputContext | InputContext,
        table_slice: TableSlice,  # noqa: ARG002
    ) -> AbstractContextManager[DuckDBPyConnection]:
        if isinstance(context, OutputContext):
            return self._warehouse.transaction()
        return self._warehouse.connect(writing=False)

    @staticmethod
    def ensure_schema_exists(
        context: OutputContext,  # noqa: ARG004
        table_slice: TableSlice,
        connection: DuckDBPyConnection,
    ) -> None:
        ensure_tables(connection, find_table(table_slice.table))

    @staticmethod
    def delete_table_slice(
        context: OutputContext, table_slice: TableSlice, connection: DuckDBPyConnection
    ) -> None:
        delete_partition(connection, find_table(table_slice.table), _partition(context))


def _partition(context: OutputContext) -> dict[str, str]:
    partitions = _partitions(context)
    if len(partitions) > 1:
        raise DeeperError(
            f"table {context.asset_key.path[-1]!r}: one run was to make {len(partitions)} partitions at once;"
            " each is traced to its own inputs, so make them in runs of their own (a backfill without"
            " BackfillPolicy.single_run)"
        )
    return partitions[0]


class _RowsHandler(DbTypeHandler[pd.DataFrame | Path | Relation]):
    """Writes and reads rows, and remembers what each step has read, for the ledger's `inputs`."""

    def __init__(self, warehouse: Warehouse, describe: Describe, tell: Tell):
        self._warehouse = warehouse
        self._describe = describe
        self._tell = tell
        self._read: dict[tuple[str, str], dict[tuple[str, str], Input]] = {}

    @property
    def supported_types(self) -> Sequence[type[object]]:
        return [pd.DataFrame, Path, Relation]

    def handle_output(
        self,
        context: OutputContext,
        table_slice: TableSlice,
        obj: pd.DataFrame | Path | Relation,
        connection: DuckDBPyConnection,
    ) -> Mapping[str, RawMetadataValue]:
        table, partition = find_table(table_slice.table), _partition(context)
        inputs = self._read.get((context.run_id, context.step_key), {})
        stamp = Stamp(context.run_id, self._describe(table.name, partition), tuple(inputs.values()))
        version = insert_partition(
            connection, table, partition, obj.rows if isinstance(obj, Relation) else obj, stamp
        )
        context.step_context.set_data_version(context.asset_key, DataVersion(version.content))
        return {
            "dagster/row_count": version.row_count,
            "fingerprint": version.fingerprint,
            "content": version.content,
            **self._tell(version),
        }

    def load_input(
        self, context: InputContext, table_slice: TableSlice, connection: DuckDBPyConnection
    ) -> pd.DataFrame | Relation:
        if context.dagster_type.typing_type is not Any and issubclass(context.dagster_type.typing_type, Path):
            raise DeeperError(
                f"input {context.name!r} asks for a path; the warehouse gives rows: annotate it DataFrame"
            )
        table, partitions = find_table(table_slice.table), _partitions(context)
        if context.dagster_type.typing_type is Relation:
            rows: pd.DataFrame | Relation = Relation(self._warehouse, table.name, tuple(partitions))
            versions = tuple(current_versions(connection, table, partitions))
        else:
            reading = read_partitions(connection, table, partitions, table_slice.columns)
            rows, versions = reading.frame, reading.versions
        optional = bool((context.definition_metadata or {}).get("optional"))
        if len(partitions) == 1 and not versions and not optional:
            values = ", ".join(f"{column} {value!r}" for column, value in partitions[0].items())
            raise DeeperError(
                f"{values}{' of ' if values else ''}table {table.name!r} has never been materialized; make it"
                " with `deeper run`, or materialize it in the UI"
            )
        self._remember(context, versions)
        return rows

    def _remember(self, context: InputContext, versions: Sequence[Version]) -> None:
        try:
            step = context.step_context
        except DagsterInvariantViolationError:
            return  # loaded outside a run
        read = self._read.setdefault((step.run_id, step.step.key), {})
        for version in versions:
            read[version.place] = version.as_input()
