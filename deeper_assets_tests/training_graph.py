"""The training graph's shape, with one row a partition: what is read from where, and nothing that computes.

`dagster definitions validate -f` and a code server load this file too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetsDefinition,
    DagsterInstance,
    Definitions,
    MultiPartitionKey,
    PartitionMapping,
    PartitionsDefinition,
    asset,
    materialize,
)

from deeper_assets.assets.stored import stored
from deeper_assets.partitions import columns_of, partitions_of
from deeper_assets.store.io_manager import WarehouseIOManager
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse

PARTITIONS = partitions_of(
    ["book", "movies tv", "grocery"],
    {"paper": "refinement", "inc_ft": "inc_update", "balanced": "refinement"},
    {
        "deeper": ("balanced", 2),
        "deeper_iteration_1": ("balanced", 1),
        "deeper_paper": ("paper", 2),
        "frozen_policy": None,
        "full_regen": None,
    },
)

Key = str | MultiPartitionKey | None
Seen = dict[tuple[str, Key], dict[str, pd.DataFrame]]
"""What each partition of a table was made from the last time: its inputs by name."""


@dataclass(frozen=True)
class Made:
    """A warehouse with the whole graph in it, and what each partition was made from."""

    warehouse: Warehouse
    seen: Seen


_BY_TYPE = {"VARCHAR": "x", "INTEGER": 1, "BIGINT": 1, "DOUBLE": 0.5, "BLOB": b"x"}
_BY_NAME = {"split": "train", "origin": "iteration_1"}


def one_row(table: str, partition: Mapping[str, str]) -> pd.DataFrame:
    """One row of a table, NULL wherever it may be."""
    row = {
        column.name: None if column.nullable else _BY_NAME.get(column.name, _BY_TYPE.get(column.type))
        for column in TABLES[table].columns
    }
    return pd.DataFrame([row | partition])


def graph(seen: Seen) -> list[AssetsDefinition]:
    """The assets; each keeps in `seen` what it was given."""

    def made(
        table: str, definition: PartitionsDefinition | None, **inputs: PartitionMapping | None
    ) -> AssetsDefinition:
        def compute(context: AssetExecutionContext, **given: pd.DataFrame) -> pd.DataFrame:
            key = context.partition_key if context.has_partition_key else None
            seen[table, key] = given
            return one_row(table, columns_of(key, *TABLES[table].partition[:1]))

        ins = {name: AssetIn(name, partition_mapping=mapping) for name, mapping in inputs.items()}
        return asset(name=table, ins=ins, partitions_def=definition, code_version="1", **stored(table))(
            compute
        )

    p = PARTITIONS
    models = {"model_1": p.models[1], "model_2": p.models[2]}
    return [
        made("base_policy", None),
        made("initial_personas", p.domains),
        made("contexts_1", p.domain_updates, base_policy=None, initial_personas=None),
        made("preference_pairs_1", p.recipes, contexts_1=p.updates_over_domains),
        made("model_1", p.recipes, base_policy=None, preference_pairs_1=None),
        made("contexts_2", p.domain_recipes, model_1=None, contexts_1=p.updates_of_recipes),
        made("preference_pairs_2", p.recipes, contexts_2=None, preference_pairs_1=None),
        made("model_2", p.recipes, model_1=None, preference_pairs_2=None),
        made("policies", p.methods, base_policy=None, **models),
        made("persona_rounds", p.domain_methods, initial_personas=None, policies=None),
        made("floors_table", None, persona_rounds=None),
    ]


def _manager(warehouse: Warehouse) -> WarehouseIOManager:
    return WarehouseIOManager(warehouse, lambda table, partition: {})


def make(warehouse: Warehouse, instance: DagsterInstance, seen: Seen, table: str, key: Key = None) -> None:
    """Materializes one partition of one table."""
    assets = {one.key.to_user_string(): one for one in graph(seen)}
    materialize(
        list(assets.values()),
        selection=[assets[table]],
        partition_key=key,
        resources={"warehouse": _manager(warehouse)},
        instance=instance,
    )


def make_everything(home: Path) -> Made:
    """Materializes every partition, those of a domain for two of the three domains only."""
    made = Made(Warehouse(home / "warehouse.duckdb"), {})
    with DagsterInstance.ephemeral() as instance:
        for one in graph({}):
            definition = one.partitions_def
            for key in definition.get_partition_keys() if definition else [None]:
                table = one.key.to_user_string()
                if columns_of(key, *TABLES[table].partition[:1]).get("domain") != "movies tv":
                    make(made.warehouse, instance, made.seen, table, key)
    return made


defs = Definitions(graph({}), resources={"warehouse": _manager(Warehouse(Path("nowhere")))})
