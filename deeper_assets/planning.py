"""What is to be made: the units of a run and their edges, and which of their tables are missing or stale.

A unit is one job for one partition. What it is made from is asked of Dagster's graph and of its partition
mappings, as a run asks them. A partition is up to date when its fingerprint is the one it would get now: same
code version, same settings, same content of the same inputs. Contents are only known once they are made, so
the stale tables of a unit are looked for when all that it needs is there.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dagster import AssetKey, Definitions, MultiPartitionKey, MultiPartitionsDefinition
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from deeper_assets.graph import Graph
from deeper_assets.jobs import (
    CONTROLS_JOB,
    EVALUATION,
    INDUCING,
    INDUCTION_JOB,
    RANKING,
    SCORING,
    TABLES_JOB,
    TRUTH_JOB,
)
from deeper_assets.method.controls import CONTROLS
from deeper_assets.partitions import columns_of
from deeper_assets.resources import Experiment
from deeper_assets.store.catalog import find_table
from deeper_assets.store.ledger import Ingredients, Input, Partition, Version, canonical_json, fingerprint

Stored = Mapping[tuple[str, str], Version]
"""The current version of every stored partition, by its `place`."""

Key = str | MultiPartitionKey | None
"""A partition key; None of an unpartitioned table."""


def read_first(experiment: Experiment, domain: str) -> str:
    """The table that is read from outside of a domain."""
    return "events" if experiment.is_log(domain) else "raw_ratings"


@dataclass(frozen=True)
class Unit:
    """One run: the tables that one job makes for one partition (None: unpartitioned)."""

    job: str
    partition_key: Key
    tables: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.job} {self.partition_key}" if self.partition_key else self.job


@dataclass(frozen=True)
class Edges:
    """What stands before a unit.

    Attributes:
        needs: units that must have succeeded.
        follows: units that must have ended, with or without success: whatever their tables hold is read.
    """

    needs: frozenset[Unit]
    follows: frozenset[Unit]


@dataclass(frozen=True)
class Planner:
    """Tells what a run of everything consists of, and which tables of it are stale.

    `definitions` is Dagster's form of `graph`: the one place that says which partitions are made from which.
    """

    graph: Graph
    definitions: Definitions

    @cached_property
    def assets(self) -> AssetGraph:
        """Dagster's graph."""
        return self.definitions.resolve_asset_graph()

    @cached_property
    def order(self) -> list[str]:
        """Tables, inputs before what is made from them."""
        return [key.to_user_string() for key in self.assets.toposorted_asset_keys]

    # ------------------------------------------------------------------------------------- units and edges

    def units(self) -> dict[Unit, Edges]:
        """All units of a run, each after those it needs.

        The models are those of all training domains, whichever domains are evaluated.
        """
        edges: dict[Unit, Edges] = {}
        branches = {"refinement": self._of_refinement, "induction": self._of_induction}
        left = [unit for branch in self.graph.experiment.settings.branches for unit in branches[branch]()]
        while left:
            unit = left.pop()
            if unit not in edges:
                edges[unit] = Edges(self._before(unit, optional=False), self._before(unit, optional=True))
                left += edges[unit].needs
        units = sorted(edges, key=self._place)
        return {unit: Edges(edges[unit].needs, edges[unit].follows & edges.keys()) for unit in units}

    def _of_refinement(self) -> list[Unit]:
        """What nothing else is made from, of the branch that refines one persona a user."""
        here = self.graph.experiment
        units = [self.unit(TABLES_JOB.name, None)]
        units += [
            self.unit(job.name, MultiPartitionKey({"domain": domain, column: name}))
            for job, column, names in (
                (EVALUATION, "method", here.methods),
                (CONTROLS_JOB, "control", CONTROLS),
            )
            for name in names
            for domain in here.refined
        ]
        if "planted_truth" in self.graph.tables:
            units += [self.unit(TRUTH_JOB.name, domain) for domain in here.refined]
        return units

    def _of_induction(self) -> list[Unit]:
        """The same of the branch that induces several personas a person."""
        jobs = [INDUCING, SCORING] if "planted_scores" in self.graph.tables else [INDUCING]
        domains = self.graph.experiment.evaluated
        units = [self.unit(INDUCTION_JOB.name, None)]
        units += [self.unit(RANKING.name, domain) for domain in domains]
        return units + [
            self.unit(job.name, MultiPartitionKey({"domain": domain, "inducer": inducer}))
            for job in jobs
            for inducer in self.graph.experiment.inducers
            for domain in domains
        ]

    def _before(self, unit: Unit, optional: bool) -> frozenset[Unit]:
        """The other units that make an input of a unit's tables."""
        parents = {
            self.unit(self._job_of[parent], key)
            for table in unit.tables
            for read in self.graph.tables[table].reads.values()
            if read.optional == optional and (parent := read.table)
            for key in self.parent_keys(table, unit.partition_key, parent)
        }
        return frozenset(parents - {unit})

    def _place(self, unit: Unit) -> tuple[int, ...]:
        """The order of units: by job, then by recipe or method (a policy stays loaded), then by domain."""
        here = self.graph.experiment
        columns = self.columns(unit.tables[0], unit.partition_key)
        orders: tuple[tuple[str, Sequence[str]], ...] = (
            ("recipe", here.trainings),
            ("method", here.methods),
            ("control", list(CONTROLS)),
            ("inducer", here.inducers),
            ("set_recipe", here.settings.set_recipes),
            ("domain", here.domains_in_force),
        )
        return (
            list(self._tables_of).index(unit.job),
            *(order.index(columns[name]) if name in columns else -1 for name, order in orders),
        )

    @cached_property
    def _tables_of(self) -> Mapping[str, tuple[str, ...]]:
        """Job → those of its tables that a run makes, in the order of the jobs."""
        jobs = [self.definitions.resolve_job_def(job.name) for job in self.definitions.jobs or ()]
        tables = {
            job.name: {key.to_user_string() for key in job.asset_layer.executable_asset_keys} for job in jobs
        }
        return {job: tuple(sorted(own & self._wanted)) for job, own in tables.items()}

    @cached_property
    def _wanted(self) -> frozenset[str]:
        """The tables of the branches that are made: without refinement, no first persona is asked for."""
        tables = self.graph.tables
        if "refinement" in self.graph.experiment.settings.branches:
            return frozenset(tables)
        wanted: set[str] = set()
        left = [asset for asset in self.graph.declared if asset.induces]
        while left:
            asset = left.pop()
            wanted |= asset.tables.keys()
            left += [tables[read.table] for read in asset.reads.values() if read.table not in wanted]
        return frozenset(wanted)

    @cached_property
    def _job_of(self) -> Mapping[str, str]:
        return {table: job for job, tables in self._tables_of.items() for table in tables}

    def unit(self, job: str, key: Key) -> Unit:
        """What a job makes for a partition."""
        tables = self._tables_of[job]
        definition = self.assets.get(AssetKey(tables[0])).partitions_def
        if isinstance(definition, MultiPartitionsDefinition) and key is not None:
            key = definition.get_partition_key_from_str(str(key))
        return Unit(job, key, tables)

    # ------------------------------------------------------------------------------------------- staleness

    def stored(self) -> Stored:
        """What the warehouse holds now; a plan for many units reads it once."""
        return {version.place: version for version in self.graph.experiment.warehouse.current()}

    def stale(
        self, tables: Collection[str], key: Key, stored: Stored, unchecked: Collection[str] = ()
    ) -> list[str]:
        """Those of `tables` whose partition is missing, or would come out with another fingerprint.

        Args:
            tables: tables that are made together, in one run.
            key: their partition key; None for unpartitioned tables.
            stored: what `stored` gave.
            unchecked: tables to make again although nothing about them has changed.

        Returns:
            The stale ones, inputs first. What is made from a stale table, or together with it by the same
            computation, counts as stale.
        """
        seen: dict[
            str, Ingredients
        ] = {}  # by an asset's first table: all of one run have the same, look once
        stale = {table for table in tables if table in unchecked or self._changed(table, key, stored, seen)}
        before: set[str] = set()
        while stale != before:  # until nothing more is made from, or together with, a stale table
            before = set(stale)
            for table in tables:
                node = self.assets.get(AssetKey(table))
                related = node.parent_keys | node.execution_set_asset_keys
                if stale & {key.to_user_string() for key in related}:
                    stale.add(table)
        return [table for table in self.order if table in stale]

    def _changed(self, table: str, key: Key, stored: Stored, seen: dict[str, Ingredients]) -> bool:
        """Whether a partition is missing, or its fingerprint is not the one it would get now."""
        partition = self.columns(table, key)
        known = stored.get(_stored_at(table, partition))
        if known is None:
            return True
        beside = [stored.get(_stored_at(other, partition)) for other in self.graph.tables[table].tables]
        if any(other is not None and other.run_id != known.run_id for other in beside):
            return True  # a run was killed between tables that are made together
        asset = next(iter(self.graph.tables[table].tables))
        if asset not in seen:
            seen[asset] = self.graph.ingredients(table, partition, known.ingredients)
        ingredients = seen[asset]
        return known.fingerprint != fingerprint(ingredients, list(self._inputs(table, key, stored)))

    def _inputs(self, table: str, key: Key, stored: Stored) -> Iterator[Input]:
        """The stored partitions that a table's partition is made from."""
        for parent in sorted(self.assets.get(AssetKey(table)).parent_keys):
            name = parent.to_user_string()
            for parent_key in self.parent_keys(table, key, name):
                version = stored.get(_stored_at(name, self.columns(name, parent_key)))
                if version is not None:
                    yield version.as_input()

    def is_made_otherwise(self, table: str, key: Key, stored: Stored) -> bool:
        """Whether a stored partition was made by other code or from other values than it would be now."""
        partition = self.columns(table, key)
        known = stored[_stored_at(table, partition)]
        return known.ingredients != self.graph.ingredients(table, partition, known.ingredients)

    # -------------------------------------------------------------------------------------------- the graph

    def keys(self, table: str) -> Sequence[Key]:
        """The keys of all partitions of a table, made or not."""
        definition = self.assets.get(AssetKey(table)).partitions_def
        return [None] if definition is None else definition.get_partition_keys()

    def made(self, table: str, stored: Stored) -> list[Key]:
        """The keys of those that are stored."""
        return [key for key in self.keys(table) if _stored_at(table, self.columns(table, key)) in stored]

    def parent_keys(self, table: str, key: Key, parent: str) -> Iterable[Key]:
        """The keys of the parent's partitions that the table's is made from, stored or not."""
        above, below = (self.assets.get(AssetKey(name)).partitions_def for name in (parent, table))
        if above is None:
            return [None]
        mapping = self.assets.get_partition_mapping(AssetKey(table), AssetKey(parent))
        wanted = below.subset_with_partition_keys([key]) if below and key else None
        mapped = mapping.get_upstream_mapped_partitions_result_for_partitions(wanted, below, above)
        return mapped.partitions_subset.get_partition_keys()

    def columns(self, table: str, key: Key) -> Partition:
        """A partition key as values of the table's partition columns."""
        if key is None:
            return {}
        definition = self.assets.get(AssetKey(table)).partitions_def
        if isinstance(definition, MultiPartitionsDefinition):
            return columns_of(definition.get_partition_key_from_str(str(key)))
        return columns_of(key, *find_table(table).partition)


def _stored_at(table: str, partition: Partition) -> tuple[str, str]:
    return table, canonical_json(partition)
