"""What is missing or stale: the graph, walked against what the warehouse says its partitions were made from.

A partition is up to date when its fingerprint is the one it would get now: same code version, same settings,
same content of the same inputs. Contents are only known once they are made, so a plan is made afresh before
every unit of work.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from dagster import AssetKey, MultiPartitionsDefinition
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from deeper_assets.partitions import columns_of
from deeper_assets.resources import Experiment
from deeper_assets.store.warehouse import Input, Recipe, Version, canonical_json, fingerprint

Stored = Mapping[str, Version]
"""The current version of every stored partition, by table and partition."""


@dataclass(frozen=True)
class Planner:
    """Tells which tables of a unit of work are stale.

    Attributes:
        experiment: settings and warehouse.
        graph: Dagster's graph of the assets; the one place that says what is made from what.
    """

    experiment: Experiment
    graph: AssetGraph

    @cached_property
    def order(self) -> list[str]:
        """Tables, inputs before what is made from them."""
        return [key.to_user_string() for key in self.graph.toposorted_asset_keys]

    def stored(self) -> Stored:
        """What the warehouse holds now; a plan for many units reads it once."""
        versions = self.experiment.warehouse.current()
        return {_key(version.table, version.partition): version for version in versions}

    def stale(
        self,
        tables: Collection[str],
        partition_key: str | None,
        stored: Stored,
        unchecked: Collection[str] = (),
    ) -> list[str]:
        """Those of `tables` whose partition is missing, or would come out with another fingerprint.

        Args:
            tables: tables that are made together, in one run.
            partition_key: their partition key, as Dagster writes it; None for unpartitioned tables.
            stored: what `stored` gave.
            unchecked: tables to make again although nothing about them has changed.

        Returns:
            The stale ones, inputs first. Whatever is made from a stale table counts as stale.
        """
        stale: list[str] = []
        for table in self.order:
            if table not in tables:
                continue
            node = self.graph.get(AssetKey(table))
            parents = [parent.to_user_string() for parent in sorted(node.parent_keys)]
            partition = self._columns(table, partition_key)
            known = stored.get(_key(table, partition))
            inputs = [one for parent in parents for one in self._inputs(parent, partition, stored)]
            recipe = Recipe(node.code_version or "", self.experiment.describe(table, partition))
            changed = known is None or known.fingerprint != fingerprint(recipe, inputs)
            if changed or table in unchecked or set(parents) & set(stale):
                stale.append(table)
        return stale

    def _columns(self, table: str, partition_key: str | None) -> dict[str, str]:
        if partition_key is None:
            return {}
        definition = self.graph.get(AssetKey(table)).partitions_def
        if isinstance(definition, MultiPartitionsDefinition):
            return columns_of(definition.get_partition_key_from_str(partition_key))
        return columns_of(partition_key)

    def _inputs(self, parent: str, partition: dict[str, str], stored: Stored) -> Iterable[Input]:
        """The stored partitions of `parent` that a table's partition is made from."""
        definition = self.graph.get(AssetKey(parent)).partitions_def
        keys = definition.get_partition_keys() if definition else [None]
        for key in keys:
            columns = self._columns(parent, key)
            if all(partition.get(name, value) == value for name, value in columns.items()):
                version = stored.get(_key(parent, columns))
                if version is not None:
                    yield version.as_input()


def _key(table: str, partition: Mapping[str, str]) -> str:
    return canonical_json([table, dict(partition)])
