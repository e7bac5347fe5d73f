"""The declared graph with one row a partition: what is read from where, and nothing that computes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from dagster import DagsterInstance, Definitions, MultiPartitionKey, materialize

from deeper_assets.declaring import Declared, TableAsset
from deeper_assets.graph import Graph
from deeper_assets.partitions import Partitions, columns_of, partitions_of
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.io_manager import WarehouseIOManager
from deeper_assets.store.ledger import Ingredients, Partition
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets.values import Tools, Values

KEPT = (
    *("base_policy", "initial_personas", "contexts_1", "context_predictions_1", "preference_pairs_1"),
    *("preference_groups_1", "model_1", "contexts_2", "context_predictions_2", "preference_pairs_2"),
    *("preference_groups_2", "model_2", "policies", "persona_rounds", "round_predictions", "round_errors"),
    *("control_predictions", "control_errors", "comparison_table"),
)
"""Tables that stand for all: every way of cutting and of mapping is among them."""

Key = str | MultiPartitionKey | None
Seen = dict[tuple[str, str], dict[str, pd.DataFrame]]
"""What each partition of a table was made from the last time: its inputs by the name of their table."""

_BY_TYPE = {"VARCHAR": "x", "INTEGER": 1, "BIGINT": 1, "DOUBLE": 0.5, "BLOB": b"x"}
_BY_NAME = {"split": "train", "origin": "iteration_1", "kind": "method"}


def one_row(table: str, partition: Mapping[str, str]) -> pd.DataFrame:
    """One row of a table, NULL wherever it may be."""
    row = {
        column.name: None if column.nullable else _BY_NAME.get(column.name, _BY_TYPE.get(column.type))
        for column in TABLES[table].columns
    }
    return pd.DataFrame([row | partition])


@dataclass(frozen=True)
class RecordingGraph(Graph):
    """The graph as declared, whose functions keep in `seen` what they were given."""

    seen: Seen = field(default_factory=dict)

    @cached_property
    def partitions(self) -> Partitions:
        """Four domains, three of which train, three recipes, five methods."""
        return partitions_of(
            ["book", "movies tv", "grocery", "films"],
            ["book", "movies tv", "grocery"],
            ["paper", "inc_ft", "balanced"],
            {
                "deeper": ("balanced", 2),
                "deeper_iteration_1": ("balanced", 1),
                "deeper_paper": ("paper", 2),
                "frozen_policy": None,
                "full_regen": None,
            },
            main_method="deeper",
        )

    @cached_property
    def declared(self) -> list[TableAsset]:
        """The kept assets with functions that record."""
        return [self._recording(one) for one in super().declared if set(one.tables) <= set(KEPT)]

    def given(self, declared: Declared, partition: Partition) -> dict[str, Any]:
        """The partition, in the place of values and tools."""
        return {"partition": partition}

    def ingredients(self, table: str, partition: Partition, known: Ingredients | None = None) -> Ingredients:
        """No setting decides anything."""
        return Ingredients("1")

    def version(self, table: str) -> str:
        """No code either."""
        return "1"

    def _recording(self, declared: TableAsset) -> TableAsset:
        def compute(partition: Partition, **frames: pd.DataFrame) -> Any:
            given = {declared.reads[name].table: frame for name, frame in frames.items()}
            rows = []
            for table in declared.tables:
                self.seen[table, "|".join(partition.values())] = given
                rows.append(one_row(table, partition))
            return rows if len(rows) > 1 else rows[0]

        reads = {name: read for name, read in declared.reads.items() if read.table in KEPT}
        return replace(declared, function=compute, reads=reads)

    def definitions(self, warehouse: Warehouse) -> Definitions:
        """Dagster's form of the graph, over this warehouse."""
        return Definitions(
            self.assets(), resources={"warehouse": WarehouseIOManager(warehouse, self.ingredients, self.told)}
        )


def recording_graph(home: Path = Path("nowhere")) -> RecordingGraph:
    """A graph that has recorded nothing yet."""
    experiment = Experiment(home, Settings())
    return RecordingGraph(Values(experiment), Tools(experiment))


@dataclass(frozen=True)
class Made:
    """A warehouse with the whole graph in it, and what each partition was made from."""

    warehouse: Warehouse
    graph: RecordingGraph

    @property
    def seen(self) -> Seen:
        """What each partition was made from."""
        return self.graph.seen


def make(made: Made, instance: DagsterInstance, table: str, key: Key = None) -> None:
    """Materializes one partition of one table, and of those made with it."""
    assets = made.graph.assets()
    [wanted] = [one for one in assets if table in {key.to_user_string() for key in one.keys}]
    materialize(
        assets,
        selection=[wanted],
        partition_key=key,
        resources={"warehouse": WarehouseIOManager(made.warehouse, made.graph.ingredients, made.graph.told)},
        instance=instance,
    )


def make_everything(home: Path) -> Made:
    """Materializes every partition but those of one training domain."""
    made = Made(Warehouse(home / "warehouse.duckdb"), recording_graph(home))
    with DagsterInstance.ephemeral() as instance:
        order = made.graph.definitions(made.warehouse).resolve_asset_graph().toposorted_asset_keys
        firsts = {next(iter(one.tables)) for one in made.graph.declared}
        for table in [key.to_user_string() for key in order if key.to_user_string() in firsts]:
            definition = made.graph.cut(table)
            for key in definition.get_partition_keys() if definition else [None]:
                if columns_of(key, *TABLES[table].partition[:1]).get("domain") != "movies tv":
                    make(made, instance, table, key)
    return made
