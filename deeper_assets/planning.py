"""What is missing or stale: the graph, walked against what the warehouse says its partitions were made from.

A partition is up to date when its fingerprint is the one it would get now: same code version, same settings,
same content of the same inputs. Which partitions those are is asked of Dagster's own partition mappings, as
a run asks them. Contents are only known once they are made, so a plan is made afresh before every job.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from dagster import AssetKey, MultiPartitionsDefinition
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from deeper_assets.partitions import columns_of
from deeper_assets.resources import Experiment
from deeper_assets.store.catalog import find_table
from deeper_assets.store.ledger import Ingredients, Input, Version, canonical_json, fingerprint

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
            table for table in tables if table in unchecked or self._changed(table, partition_key, stored)
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

    def _changed(self, table: str, partition_key: str | None, stored: Stored) -> bool:
        """Whether a partition is missing, or its fingerprint is not the one it would get now."""
        node = self.graph.get(AssetKey(table))
        partition = self._columns(table, partition_key)
        ingredients = Ingredients(node.code_version or "", self.experiment.describe(table, partition))
        known = stored.get(_key(table, partition))
        return known is None or known.fingerprint != fingerprint(
            ingredients, list(self._inputs(table, partition_key, stored))
        )

    def _inputs(self, table: str, partition_key: str | None, stored: Stored) -> Iterator[Input]:
        """The stored partitions that a table's partition is made from."""
        child = AssetKey(table)
        for parent in sorted(self.graph.get(child).parent_keys):
            for key in self._parent_keys(child, partition_key, parent):
                name = parent.to_user_string()
                version = stored.get(_key(name, self._columns(name, key)))
                if version is not None:
                    yield version.as_input()

    def _parent_keys(
        self, child: AssetKey, partition_key: str | None, parent: AssetKey
    ) -> Iterable[str | None]:
        """The keys of the parent's partitions that the child's is made from, stored or not."""
        above, below = self.graph.get(parent).partitions_def, self.graph.get(child).partitions_def
        if above is None:
            return [None]
        mapping = self.graph.get_partition_mapping(child, parent)
        wanted = below.subset_with_partition_keys([partition_key]) if below and partition_key else None
        found = mapping.get_upstream_mapped_partitions_result_for_partitions(wanted, below, above)
        return found.partitions_subset.get_partition_keys()

    def _columns(self, table: str, partition_key: str | None) -> dict[str, str]:
        if partition_key is None:
            return {}
        definition = self.graph.get(AssetKey(table)).partitions_def
        if isinstance(definition, MultiPartitionsDefinition):
            return columns_of(definition.get_partition_key_from_str(partition_key))
        return columns_of(partition_key, *find_table(table).partition)


def _key(table: str, partition: Mapping[str, str]) -> str:
    return canonical_json([table, dict(partition)])
