"""The graph of one experiment: its declared assets and checks, what they take, and how Dagster has them."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pandas as pd
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetExecutionContext,
    AssetIn,
    AssetOut,
    AssetsDefinition,
    MetadataValue,
    MultiPartitionKey,
    Output,
    PartitionsDefinition,
    asset_check,
    multi_asset,
)
from dagster._core.definitions.metadata import RawMetadataValue

from deeper_assets.assets import (
    evaluation,
    histories,
    induction,
    iterations,
    models,
    next_items,
    personas,
    set_training,
    truth,
)
from deeper_assets.checks import evaluation as evaluation_checks
from deeper_assets.checks import histories as histories_checks
from deeper_assets.checks import induction as induction_checks
from deeper_assets.checks import iterations as iterations_checks
from deeper_assets.checks import models as models_checks
from deeper_assets.checks import next_items as next_items_checks
from deeper_assets.checks import personas as personas_checks
from deeper_assets.declaring import Check, Declared, In, Read, TableAsset
from deeper_assets.engines.chat.entries import Purpose, asking_for
from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.induction.set_recipes import SET_RECIPES, inducers_of
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.method.recipes import policy_methods
from deeper_assets.method.updates import FROZEN_POLICY, PROMPT_METHODS
from deeper_assets.partitions import Inducing, Partitions, columns_of, partitions_of
from deeper_assets.reports.previews import ROWS, made_from, preview, settings_table
from deeper_assets.resources import Experiment
from deeper_assets.store.io_manager import OPTIONAL, column_schema, partition_expr
from deeper_assets.store.ledger import JSON, Ingredients, Partition, Version, canonical_json, digest
from deeper_assets.store.relation import Relation
from deeper_assets.store.rows import first_rows
from deeper_assets.store.schema import TABLES
from deeper_assets.values import OUTSIDE, Tools, Values, described, set_by_settings

ASSETS: tuple[ModuleType, ...] = (
    histories,
    personas,
    iterations,
    models,
    evaluation,
    truth,
    set_training,
    induction,
    next_items,
)
CHECKS: tuple[ModuleType, ...] = (
    histories_checks,
    personas_checks,
    iterations_checks,
    models_checks,
    evaluation_checks,
    induction_checks,
    next_items_checks,
)


INDUCTION = "induction"
"""The branch of several personas a person."""

Kind = TypeVar("Kind", bound=Declared)


def _declared(modules: tuple[ModuleType, ...], kind: type[Kind]) -> list[Kind]:
    members = [member for module in modules for member in vars(module).values()]
    lists = [member if isinstance(member, list) else [member] for member in members]
    return [one for group in lists for one in group if isinstance(one, kind)]


def declared_assets() -> list[TableAsset]:
    """The declared assets, in the order of their modules."""
    return _declared(ASSETS, TableAsset)


@dataclass(frozen=True)
class Graph:
    """The assets of one experiment and what they take; `deeper estimate` has values and tools that count."""

    values: Values
    tools: Tools
    _read: dict[tuple[str, str], Mapping[str, JSON]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """Of each partition that has been read and not yet stored: what its source was."""

    @classmethod
    def of(cls, experiment: Experiment) -> "Graph":
        """The graph of an experiment."""
        return cls(Values(experiment), Tools(experiment))

    @property
    def experiment(self) -> Experiment:
        """Whose graph it is."""
        return self.values.experiment

    @cached_property
    def declared(self) -> Sequence[TableAsset]:
        """The assets whose graph it is. Tables that are left out have no rows for those that read them."""
        here = self.experiment
        plants = any(map(here.is_generated, here.evaluated))
        trained = {True: here.settings.set_recipes, False: here.settings.train_recipes}
        induces = INDUCTION in here.settings.branches
        assets = [
            one
            for one in declared_assets()
            if one.training <= bool(trained[one.induces]) and one.planted <= plants and one.induces <= induces
        ]
        names = {name for asset in assets for name in asset.tables}
        return [_without_others(asset, names) for asset in assets]

    @cached_property
    def tables(self) -> Mapping[str, TableAsset]:
        """Every table and the asset that makes it."""
        return {name: asset for asset in self.declared for name in asset.tables}

    @cached_property
    def partitions(self) -> Partitions:
        """How the graph is cut."""
        here = self.experiment
        methods = {method: here.policies.get(method) for method in here.methods}
        trainings = here.trainings
        return partitions_of(
            here.domains_in_force,
            here.training_domains,
            trainings,
            methods,
            here.main_method,
            Inducing(here.inducers, here.settings.set_recipes, here.set_domains),
            here.logs,
        )

    def cut(self, table: str) -> PartitionsDefinition[str] | None:
        """How a table is cut; None where it has no partitions."""
        asset = self.tables[table]
        return self.partitions.of(TABLES[table].partition, asset.training, asset.induces)

    def given(self, declared: Declared, partition: Partition) -> dict[str, Any]:
        """The values and tools that a function takes, for a partition."""
        return {
            name: self._value(declared, name, partition)
            if hasattr(Values, name)
            else getattr(self.tools, name)
            for name in declared.takes
        }

    def make(
        self, asset: TableAsset, partition: Partition, frames: Mapping[str, pd.DataFrame]
    ) -> dict[str, Output[Any]]:
        """What an asset makes for a partition from frames by parameter: an output a table."""
        results = asset.function(**frames, **self.given(asset, partition))
        if isinstance(results, Read):
            for name in asset.tables:
                self._read[name, canonical_json(partition)] = results.source
            results = results.output
        several = results if len(asset.tables) > 1 else [results]
        return {
            name: result if isinstance(result, Output) else Output(result)
            for name, result in zip(asset.tables, several, strict=True)
        }

    def settings(self, table: str, partition: Partition, known: Ingredients | None = None) -> dict[str, JSON]:
        """The values of a table's partition as they are recorded and hashed, by name.

        `known` are those of what is stored: what is not looked at again counts as it was.
        """
        return self._described(table, partition, self.tables[table].values, known)

    def _but_the_source(self, table: str, partition: Partition) -> dict[str, JSON]:
        """`settings` without looking at the source: that may take long, and it may be another by now."""
        names = [name for name in self.tables[table].values if name not in OUTSIDE]
        return self._described(table, partition, names)

    def _described(
        self, table: str, partition: Partition, names: Iterable[str], known: Ingredients | None = None
    ) -> dict[str, JSON]:
        asset, before = self.tables[table], known.settings if known else {}
        return {name: described(self._value(asset, name, partition), before.get(name)) for name in names}

    def ingredients(self, table: str, partition: Partition, known: Ingredients | None = None) -> Ingredients:
        """What, beside its inputs, decides what a table's partition holds; see `settings` for `known`."""
        return Ingredients(self.tables[table].code_version, self.settings(table, partition, known))

    def made_from(self, table: str, partition: Partition) -> Ingredients:
        """The ingredients of what has just been made; of a source, what it was when it was read."""
        source = self._read.pop((table, canonical_json(partition)), None)
        if source is None:
            return self.ingredients(table, partition)
        outside = self.outside(table, partition)
        assert outside is not None, f"{table} has been read from nowhere"
        settings = {**self._but_the_source(table, partition), outside: source}
        return Ingredients(self.tables[table].code_version, settings)

    def outside(self, table: str, partition: Partition) -> str | None:
        """Which value of a table's partition looks at files; None where none does."""
        asset = self.tables[table]
        named = [name for name in OUTSIDE if name in asset.values]
        return next((name for name in named if self._value(asset, name, partition) is not None), None)

    def is_stored(self, table: str, partition: Partition) -> bool:
        """Whether a partition is stored as it would be made under the settings of now."""
        return any(
            version.partition == partition
            and version.ingredients.settings == self.settings(table, partition, version.ingredients)
            for version in self.experiment.warehouse.current(table)
        )

    def _value(self, declared: Declared, name: str, partition: Partition) -> Any:
        value = getattr(self.values, name)(partition)
        if not isinstance(declared, TableAsset):
            return value
        if name == "chat":
            templates = declared.templates_for(self.values, partition)
            return replace(value, prompts=value.prompts.only(templates))
        return value.only(declared.templates_for(self.values, partition)) if name == "prompts" else value

    @cached_property
    def offered(self) -> Mapping[str, Sequence[Partition]]:
        """The partitions of every table, made or not."""
        return {table: _partitions(self.cut(table), table) for table in self.tables}

    def in_force(self, table: str, partition: Partition) -> bool:
        """Whether a run makes this partition. No evaluation is made of domains that only train."""
        evaluates = {"method", "control", "inducer"} & partition.keys()
        domains = self.experiment.evaluated if evaluates else self.experiment.domains
        return partition in self.offered.get(table, ()) and partition.get("domain") in [None, *domains]

    def made_otherwise(self) -> list[str]:
        """Domains of which something in force was made from other settings or other inputs than today's.

        Their rows stand in the same tables, so whoever reads those has to know. Whether a source has changed
        is left to `deeper run`: its files may be large.
        """
        versions = self.experiment.warehouse.current()
        contents = {version.place: version.content for version in versions}
        return sorted(
            {
                version.partition["domain"]
                for version in versions
                if "domain" in version.partition
                and self.in_force(version.table, version.partition)
                and (
                    any(contents.get(read.place) != read.content for read in version.inputs)
                    or _but_the_source(version.ingredients)
                    != (
                        self.tables[version.table].code_version,
                        self._but_the_source(version.table, version.partition),
                    )
                )
            }
        )

    # ----------------------------------------------------------------------------------- as Dagster has it

    def assets(self) -> list[AssetsDefinition]:
        """The Dagster assets."""
        return [self._asset(declared) for declared in self.declared]

    def checks(self) -> list[AssetChecksDefinition]:
        """The Dagster checks."""
        return [self._check(check) for check in _declared(CHECKS, Check) if check.table in self.tables]

    def _asset(self, declared: TableAsset) -> AssetsDefinition:
        first = next(iter(declared.tables))
        dimensions = TABLES[first].partition

        def compute(context: AssetExecutionContext, **frames: pd.DataFrame) -> Iterator[Output[Any]]:
            partition = columns_of(context.partition_key if dimensions else None, *dimensions[:1])
            with self._booked(declared, Purpose(first, partition.get("domain", ""), context.run_id)) as spent:
                made = self.make(declared, partition, frames)
            rows = {name: output.value for name, output in made.items()}
            known = {read.table: frames[parameter] for parameter, read in declared.reads.items()} | rows
            known = {name: frame for name, frame in known.items() if isinstance(frame, pd.DataFrame)}
            for name, output in made.items():
                shown = {"preview": MetadataValue.md(preview(name, *_first_rows(output.value), known))}
                metadata = {**output.metadata, **(spent if name == first else {}), **shown}
                # Metadata of an `Output` would stand in the event log twice.
                context.add_asset_metadata(metadata, name)
                yield Output(output.value, name)

        return multi_asset(
            name=first,
            ins={parameter: self._input(read) for parameter, read in declared.reads.items()},
            outs={
                name: AssetOut(
                    description=meaning,
                    group_name=declared.group,
                    code_version=self.version(name),
                    **stored(name),
                )
                for name, meaning in declared.tables.items()
            },
            partitions_def=self.cut(first),
        )(_signed(compute, AssetExecutionContext, declared))

    def told(self, version: Version) -> dict[str, RawMetadataValue]:
        """What people are told of a partition that has just been made: its settings, links to its inputs."""
        inputs = [(one.table, _key(one.partition)) for one in version.inputs]
        return {
            "settings": MetadataValue.md(settings_table(version.ingredients.settings)),
            "made from": MetadataValue.md(made_from(inputs)),
        }

    def _check(self, declared: Check) -> AssetChecksDefinition:
        dimensions = TABLES[declared.table].partition

        def compute(context: AssetCheckExecutionContext, **frames: pd.DataFrame) -> AssetCheckResult:
            key = context.op_execution_context.partition_key if dimensions else None
            given = self.given(declared, columns_of(key, *dimensions[:1]))
            result: AssetCheckResult = declared.function(**frames, **given)
            return result

        return asset_check(
            asset=declared.table,
            name=declared.name,
            description=inspect.getdoc(declared.function),
            blocking=declared.blocking,
            additional_ins={name: self._input(read) for name, read in list(declared.reads.items())[1:]},
            partitions_def=self.cut(declared.table),
        )(_signed(compute, AssetCheckExecutionContext, declared))

    def _input(self, read: In) -> AssetIn:
        mapping = read.mapping(self.partitions) if read.mapping else None
        metadata = OPTIONAL if read.optional else None
        return AssetIn(read.table, partition_mapping=mapping, metadata=metadata)

    def version(self, table: str) -> str:
        """The code version that the UI compares: of the code, and of all that settings decide of the values.

        Dagster knows nothing else of a table that changes when a setting does. It is of all domains, recipes
        and methods that are known (of a recipe's trainings the first one), so that it does not change where
        partitions come or go.
        """
        asset, here = self.tables[table], self.experiment
        rated = [name for name in here.domains if name not in here.logs]
        known: Mapping[str, Collection[str]] = {
            "domain": here.domains if asset.induces else rated,
            "recipe": here.settings.all_recipes,
            "method": [*policy_methods(here.settings.all_recipes), FROZEN_POLICY, *PROMPT_METHODS],
            "control": list(CONTROLS),
            "inducer": [*INDUCERS, *inducers_of(SET_RECIPES)],
            "set_recipe": list(SET_RECIPES),
        }
        columns = TABLES[table].partition
        values = [
            set_by_settings(self._value(asset, name, partition))
            for keys in product(*(known[column] for column in columns))
            for partition in [dict(zip(columns, keys, strict=True))]
            for name in asset.values
        ]
        return f"{asset.code_version}-{digest(values)[:12]}"

    @contextmanager
    def _booked(self, declared: TableAsset, purpose: Purpose) -> Iterator[dict[str, Any]]:
        """Books what the chat model is asked on this asset, domain and run; yields the metadata of that."""
        spent: dict[str, Any] = {}
        with asking_for(purpose):
            yield spent
        if "chat" in declared.takes:
            usage = self.experiment.usage()
            rows = usage.merge(pd.DataFrame([vars(purpose)]))
            if not rows.empty:
                spent.update({words: rows[column].sum().item() for column, words in BOOKED.items()})


def _first_rows(rows: pd.DataFrame | Path | Relation) -> tuple[pd.DataFrame, int]:
    return rows.first(ROWS) if isinstance(rows, Relation) else first_rows(rows, ROWS)


BOOKED = {
    "requests": "chat requests",
    "hits": "chat answers from the journal",
    "input_tokens": "chat prompt tokens",
    "output_tokens": "chat answer tokens",
    "cost_usd": "chat cost, US dollars",
    "saved_usd": "chat cost saved, US dollars",
}
"""What the metadata calls the columns of a `Usage` of the journal."""


def stored(table: str) -> dict[str, Any]:
    """Arguments for the AssetOut of the asset that is this table: where it goes, what it holds."""
    metadata: dict[str, Any] = {"dagster/column_schema": column_schema(table)}
    if TABLES[table].partition:
        metadata["partition_expr"] = partition_expr(table)
    return {"io_manager_key": "warehouse", "metadata": metadata, "kinds": {"duckdb"}}


def _but_the_source(made: Ingredients) -> tuple[str, dict[str, JSON]]:
    return made.code_version, {name: value for name, value in made.settings.items() if name not in OUTSIDE}


def _key(partition: Partition) -> str | None:
    """A partition as Dagster writes its key."""
    if len(partition) > 1:
        return str(MultiPartitionKey(partition))
    return next(iter(partition.values()), None)


def _partitions(definition: PartitionsDefinition[str] | None, table: str) -> list[Partition]:
    if definition is None:
        return [{}]
    return [columns_of(key, *TABLES[table].partition[:1]) for key in definition.get_partition_keys()]


def _without_others(asset: TableAsset, tables: Collection[str]) -> TableAsset:
    """An asset that reads none but these tables."""
    others = {name: read for name, read in asset.reads.items() if read.table not in tables}
    empty = {
        name: pd.DataFrame(columns=list(TABLES[read.table].column_names)) for name, read in others.items()
    }
    reads = {name: read for name, read in asset.reads.items() if name not in others}
    return replace(asset, reads=reads, function=partial(asset.function, **empty)) if others else asset


def _signed(compute: Callable[..., Any], context: type, declared: Declared) -> Callable[..., Any]:
    """`compute` with the parameters that Dagster looks for: the context and the tables."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    frames = [inspect.Parameter(name, kind, annotation=read.kind) for name, read in declared.reads.items()]
    signature = inspect.Signature([inspect.Parameter("context", kind, annotation=context), *frames])
    compute.__signature__ = signature  # type: ignore[attr-defined]
    return compute
