"""What is missing or stale: the graph, walked against what the warehouse says its partitions were made from.

A partition is up to date when its fingerprint is the one it would get now: same code version, same settings,
same content of the same inputs. Contents are only known once they are made, so a plan is made afresh before
every job.
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
            The stale ones, inputs first. What is made from a stale table, or together with it by the same
            computation, counts as stale.
        """
        stale = {
            table
            for table in tables
            if table in unchecked or self._changed(table, self._columns(table, partition_key), stored)
        }
        before: set[str] = set()
        while stale != before:  # until nothing more is made from, or together with, a stale table
            before = set(stale)
            for table in tables:
                node = self.graph.get(AssetKey(table))
                related = node.parent_keys | node.execution_set_asset_keys
                if stale & {key.to_user_string() for key in related}:
                    stale.add(table)
        return [table for table in self.order if table in stale]

    def _changed(self, table: str, partition: dict[str, str], stored: Stored) -> bool:
        """Whether a partition is missing, or its fingerprint is not the one it would get now."""
        node = self.graph.get(AssetKey(table))
        known = stored.get(_key(table, partition))
        inputs = [
            one
            for parent in sorted(node.parent_keys)
            for one in self._inputs(parent.to_user_string(), partition, stored)
        ]
        recipe = Recipe(node.code_version or "", self.experiment.describe(table, partition))
        return known is None or known.fingerprint != fingerprint(recipe, inputs)

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
