"""How an asset says, once, what it is made from: by the parameters of its function.

A parameter that takes a DataFrame or a `Relation` is a table, by its name or by `reads`. Any other is a
value or a tool of `values`. Fingerprint, staleness, edges of `deeper run`, estimate and lineage follow from
that, as do the Dagster assets that `graph` builds. A new asset is a pure function in `method`, a table in
`store.schema`, and a function with `@table` above it in `assets`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from dagster import AssetCheckResult, Output, PartitionMapping

from deeper_assets.partitions import Partitions
from deeper_assets.store.ledger import JSON, Partition
from deeper_assets.store.relation import Relation
from deeper_assets.store.schema import TABLES
from deeper_assets.values import Tools, Values

Templates = Sequence[str] | Callable[[Values, Partition], Sequence[str]]
"""The prompt templates that an asset uses; by partition where that decides them."""


@dataclass(frozen=True)
class In:
    """What a parameter reads.

    Attributes:
        table: its name.
        mapping: which partitions, where Dagster does not infer it.
        optional: the asset is made from whatever there is of the table, and waits for nothing of it.
        kind: as what; a `Relation` where there may be too many rows for a frame.
    """

    table: str
    mapping: Callable[[Partitions], PartitionMapping] | None = None
    optional: bool = False
    kind: type = pd.DataFrame


@dataclass(frozen=True)
class Read:
    """A result, with what its `source` was when it was read: by now it may be another."""

    output: Output[Any] | Sequence[Output[Any]]
    source: Mapping[str, JSON]


@dataclass(frozen=True)
class Declared:
    """A function and what its parameters stand for.

    Attributes:
        function: as written; it can be called without Dagster.
        reads: parameter → table.
        takes: names of the values and tools among its parameters.
    """

    function: Callable[..., Any]
    reads: Mapping[str, In]
    takes: tuple[str, ...]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls the function as it is."""
        return self.function(*arguments, **named)

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that it takes."""
        return tuple(name for name in self.takes if hasattr(Values, name))


@dataclass(frozen=True)
class TableAsset(Declared):
    """A computation whose results are tables of the warehouse.

    Attributes:
        tables: name → what it holds, for the UI; in the order of the function's results.
        group: its group in the UI.
        code_version: another one makes every partition stale.
        templates: the prompt templates that it uses.
        training: it serves training. Of domains it has those that train, and it is left out of the graph
            where no recipe is trained.
        planted: it is of a planted truth, and left out where no domain is generated.
        induces: it is of several personas a person, and left out where these are not asked for.
    """

    tables: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    code_version: str = "1"
    templates: Templates = ()
    training: bool = False
    planted: bool = False
    induces: bool = False

    def templates_for(self, values: Values, partition: Partition) -> Sequence[str]:
        """The prompt templates that a partition uses."""
        return self.templates(values, partition) if callable(self.templates) else self.templates


@dataclass(frozen=True)
class Check(Declared):
    """A check of a table, its first parameter; `blocking`: what is made from the table waits for it."""

    table: str = ""
    name: str = ""
    blocking: bool = False


def table(
    group: str,
    *,
    tables: Mapping[str, str] | None = None,
    name: str | None = None,
    reads: Mapping[str, In | str] | None = None,
    templates: Templates = (),
    training: bool = False,
    planted: bool = False,
    induces: bool = False,
    code_version: str = "1",
) -> Callable[[Callable[..., Any]], TableAsset]:
    """Declares the function below as an asset; see `TableAsset` for what it is given.

    The table is called as the function and holds what its docstring says. Otherwise `name` names it; a
    function that makes several tables names them in `tables`. `reads` names the table of a parameter that is
    called otherwise, or says with `In` which partitions are read.
    """

    def declared(function: Callable[..., Any]) -> TableAsset:
        made = tables or {name or function.__name__: inspect.getdoc(function) or ""}
        return TableAsset(
            function,
            *_parameters(function, reads or {}),
            tables=made,
            group=group,
            code_version=code_version,
            templates=templates,
            training=training,
            planted=planted,
            induces=induces,
        )

    return declared


def check(
    on: str, *, blocking: bool = False, name: str | None = None, reads: Mapping[str, In | str] | None = None
) -> Callable[[Callable[..., AssetCheckResult]], Check]:
    """Declares the function below as a check of the table `on`, which is its first parameter."""

    def declared(function: Callable[..., AssetCheckResult]) -> Check:
        first = next(iter(inspect.signature(function).parameters))
        inputs, takes = _parameters(function, {first: on, **(reads or {})})
        return Check(function, inputs, takes, table=on, name=name or function.__name__, blocking=blocking)

    return declared


def _parameters(
    function: Callable[..., Any], reads: Mapping[str, In | str]
) -> tuple[dict[str, In], tuple[str, ...]]:
    inputs, takes = {}, []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.annotation in (pd.DataFrame, Relation):
            given = reads.get(parameter.name, parameter.name)
            read = given if isinstance(given, In) else In(given)
            inputs[parameter.name] = replace(read, kind=parameter.annotation)
            if inputs[parameter.name].table not in TABLES:
                raise LookupError(f"{function.__name__} reads {parameter.name!r}, which is no table")
        elif hasattr(Values, parameter.name) or hasattr(Tools, parameter.name):
            takes.append(parameter.name)
        else:
            raise LookupError(f"{function.__name__} takes {parameter.name!r}: neither table, value nor tool")
    return inputs, tuple(takes)
