"""The ledger: what each partition of each table was made from.

Belongs here: what identifies a partition's rows; entering and reading their versions. Does not: the rows
(`rows.py`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from duckdb import DuckDBPyConnection

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.catalog import exists
from deeper_assets.store.columns import PROVENANCE, Table, long, moment, text

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Partition: TypeAlias = Mapping[str, str]


LEDGER = Table(
    "materializations",
    (
        long("version", "number of the replacement, counting up from 1 over all tables"),
        text("table_name", "table a partition of which was replaced"),
        text("partition", "the partition: JSON object of column and value, {} for a whole table"),
        *PROVENANCE,
        text("content", "hash of the rows, whatever their order and whoever wrote them"),
        long("row_count", "rows in the partition", check="row_count >= 0"),
        text("code_version", "version of the code that made it"),
        text("settings", "settings that it depends on, as a JSON object"),
        text("inputs", "what was read: JSON list of table, partition, run_id, fingerprint and content"),
        moment("made_at", "when it was replaced, UTC"),
    ),
    key=("version",),
)
"""Append-only: one row for every replacement of a partition. No asset, so it is not in `schema.TABLES`."""


@dataclass(frozen=True)
class Input:
    """A stored partition, as it was when another one was made from it; `run_id` is the run that wrote it."""

    table: str
    partition: Partition
    run_id: str
    fingerprint: str
    content: str

    @property
    def place(self) -> tuple[str, str]:
        """The table, and the partition as text."""
        return self.table, canonical_json(self.partition)


@dataclass(frozen=True)
class Ingredients:
    """What determines a partition's rows beside its inputs: the code, and the settings that it depends on."""

    code_version: str
    settings: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Stamp:
    """Where a partition comes from: the run that writes it, its ingredients, and the inputs it has read."""

    run_id: str
    ingredients: Ingredients
    inputs: tuple[Input, ...] = ()

    @property
    def fingerprint(self) -> str:
        """See the function of the same name."""
        return fingerprint(self.ingredients, self.inputs)


@dataclass(frozen=True)
class Version:
    """One row of the ledger: one replacement of one partition. `version` counts up from 1 over all tables."""

    version: int
    table: str
    partition: Partition
    run_id: str
    fingerprint: str
    content: str
    row_count: int
    ingredients: Ingredients
    inputs: tuple[Input, ...]
    made_at: datetime

    @property
    def place(self) -> tuple[str, str]:
        """The table, and the partition as text."""
        return self.table, canonical_json(self.partition)

    def as_input(self) -> Input:
        """This version, as an input of a partition that is made from it."""
        return Input(self.table, self.partition, self.run_id, self.fingerprint, self.content)


def canonical_json(value: JSON) -> str:
    """`value` as JSON text that is the same for equal values: sorted keys, no spaces, no NaN.

    Raises:
        DeeperError: the value cannot be written as JSON.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DeeperError(f"{value!r} cannot be written as JSON: {error}") from error


def fingerprint(ingredients: Ingredients, inputs: Sequence[Input]) -> str:
    """Hash (32 hexadecimal digits) of what a partition is made from: code version, settings, input contents.

    Run ids and the inputs' own fingerprints do not count. So when a run makes the same rows again, even by
    other means, what was made from them stays up to date.
    """
    made_from = sorted((*one.place, one.content) for one in inputs)
    return digest([ingredients.code_version, ingredients.settings, made_from])


def digest(value: JSON) -> str:
    """Hash (32 hexadecimal digits) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def enter(
    connection: DuckDBPyConnection,
    table: Table,
    partition: Partition,
    stamp: Stamp,
    row_count: int,
    content: str,
) -> Version:
    """Enter one replacement of one partition, with the number of its rows and their hash."""
    [(last,)] = connection.execute(f"SELECT coalesce(max(version), 0) FROM {LEDGER.name}").fetchall()
    version = Version(
        version=last + 1,
        table=table.name,
        partition=dict(partition),
        run_id=stamp.run_id,
        fingerprint=stamp.fingerprint,
        content=content,
        row_count=row_count,
        ingredients=stamp.ingredients,
        inputs=stamp.inputs,
        made_at=datetime.now(UTC),
    )
    row = {
        "version": version.version,
        "table_name": version.table,
        "partition": canonical_json(version.partition),
        "run_id": version.run_id,
        "fingerprint": version.fingerprint,
        "content": version.content,
        "row_count": version.row_count,
        "code_version": version.ingredients.code_version,
        "settings": canonical_json(version.ingredients.settings),
        "inputs": canonical_json([asdict(one) for one in version.inputs]),
        "made_at": version.made_at.replace(tzinfo=None),
    }
    values = [row[name] for name in LEDGER.column_names]
    connection.execute(f"INSERT INTO {LEDGER.name} VALUES ({', '.join('?' * len(values))})", values)
    return version


def versions_of_table(connection: DuckDBPyConnection, table: str | None, latest: bool) -> list[Version]:
    """The versions of a table (None: of all tables), or only the latest of each partition, oldest first."""
    return _read(connection, "$table IS NULL OR table_name = $table", {"table": table}, latest)


def current_versions(
    connection: DuckDBPyConnection, table: Table, partitions: Sequence[Partition]
) -> list[Version]:
    """The latest version of each of these partitions (as `Warehouse.read` takes them), the oldest first."""
    columns = len(table.partition)
    values: dict[str, Any] = {
        "table": table.name,
        "whole": [canonical_json(one) for one in partitions if len(one) == columns],
    }
    terms = ["partition IN (SELECT unnest($whole::VARCHAR[]))"]
    for partial in (one for one in partitions if len(one) < columns):
        # Quotes inside a value are escaped, so "column":"value" stands only where the column has the value.
        members = [canonical_json({column: value})[1:-1] for column, value in partial.items()]
        names = [f"member{len(values) + i}" for i in range(len(members))]
        values |= dict(zip(names, members, strict=True))
        terms.append(" AND ".join(f"contains(partition, ${name})" for name in names) or "TRUE")
    return _read(connection, f"table_name = $table AND ({' OR '.join(terms)})", values, latest=True)


def _read(
    connection: DuckDBPyConnection, where: str, values: Mapping[str, Any], latest: bool
) -> list[Version]:
    if not exists(connection, LEDGER):
        return []
    only_latest = "QUALIFY version = max(version) OVER (PARTITION BY table_name, partition)" if latest else ""
    rows = connection.execute(
        f"SELECT {', '.join(LEDGER.column_names)} FROM {LEDGER.name} WHERE {where} {only_latest}"
        " ORDER BY version",
        values,
    ).fetchall()
    return [_version(dict(zip(LEDGER.column_names, row, strict=True))) for row in rows]


def _version(row: Mapping[str, Any]) -> Version:
    return Version(
        version=row["version"],
        table=row["table_name"],
        partition=json.loads(row["partition"]),
        run_id=row["run_id"],
        fingerprint=row["fingerprint"],
        content=row["content"],
        row_count=row["row_count"],
        ingredients=Ingredients(row["code_version"], json.loads(row["settings"])),
        inputs=tuple(Input(**one) for one in json.loads(row["inputs"])),
        made_at=row["made_at"].replace(tzinfo=UTC),
    )
