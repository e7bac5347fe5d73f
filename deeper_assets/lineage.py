"""Where a table's rows come from: the ledger of the warehouse, read backwards, as a tree.

A node is one table with all of its partitions that were read, so that a table made from fifty partitions
stays readable. `--domain` and `--user` reduce the tree to one line of descent.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.ledger import Input, Version, canonical_json
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets.values import OUTSIDE


@dataclass(frozen=True)
class Node:
    """One table in a line of descent.

    Attributes:
        table: its name.
        versions: the versions of its partitions that were read, in the order of their partitions.
        replaced: how many of them have since been replaced in the warehouse.
        facts: lines about them, for people.
        made_from: the tables they were made from.
        repeated: whether the same node stands elsewhere in the tree with all of its own inputs.
    """

    table: str
    versions: tuple[Version, ...]
    replaced: int
    facts: tuple[str, ...]
    made_from: tuple["Node", ...] = ()
    repeated: bool = False


@dataclass
class _Ledger:
    warehouse: Warehouse
    domain: str | None
    user: str | None
    versions: dict[str, Version]
    current: set[int]
    shown: set[tuple[str, tuple[int, ...]]] = field(default_factory=set)


def trace(
    warehouse: Warehouse,
    table: str,
    domain: str | None = None,
    user: str | None = None,
    recipe: str | None = None,
) -> Node:
    """The line of descent of a table's present rows.

    Args:
        warehouse: where it is stored.
        table: a table of schema.TABLES.
        domain: only partitions of this domain, throughout.
        user: a user whose rows are counted in each table.
        recipe: only this recipe's partition of the table itself.

    Raises:
        DeeperError: there is no such table, nothing of it has been made, or the user has no row in it.
    """
    if table not in TABLES:
        raise DeeperError(f"table {table!r} does not exist; known: {', '.join(TABLES)}")
    current = warehouse.current()
    ledger = _Ledger(warehouse, domain, user, _known(warehouse), {version.version for version in current})
    heads = [
        one
        for one in current
        if one.table == table
        and _concerns(one.partition, domain)
        and recipe in (None, one.partition.get("recipe", recipe))
    ]
    if not heads:
        where = f" for domain {domain!r}" if domain else ""
        raise DeeperError(
            f"nothing of {table} has been made{where} in {warehouse.path}; `deeper run` makes it"
        )
    node = _node(ledger, table, heads)
    if user is not None and not any(_rows_of_user(ledger, part.table, part.versions) for part in walk(node)):
        raise DeeperError(f"user {user!r} has no row in {table} or in what it was made from")
    return node


def ancestry(warehouse: Warehouse, table: str | None = None) -> list[Version]:
    """All versions that a table's rows come from now, and the table's own; without one, of all tables."""
    known = _known(warehouse)
    versions: dict[int, Version] = {}
    left = warehouse.current(table)
    while left:
        version = left.pop()
        if version.version not in versions:
            versions[version.version] = version
            left += [known[name] for name in map(_identity, version.inputs) if name in known]
    return list(versions.values())


def _known(warehouse: Warehouse) -> dict[str, Version]:
    return {_identity(version.as_input()): version for version in warehouse.history()}


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it."""
    yield node
    for child in node.made_from:
        yield from walk(child)


def render(node: Node) -> str:
    """The tree as text, one fact a line."""
    return "\n".join(_lines(node, "", ""))


def _lines(node: Node, first: str, rest: str) -> Iterator[str]:
    yield first + _title(node)
    if node.repeated:
        yield f"{rest}   (as above)"
        return
    bar = "│  " if node.made_from else "   "
    for fact in node.facts:
        yield f"{rest}{bar}{fact}"
    for i, child in enumerate(node.made_from):
        last = i == len(node.made_from) - 1
        yield from _lines(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _title(node: Node) -> str:
    partitions = [", ".join(version.partition.values()) for version in node.versions]
    shown = partitions[0] if len(partitions) == 1 else f"{len(partitions)} partitions"
    return f"{node.table}" + (f" [{shown}]" if shown else "")


def _node(ledger: _Ledger, table: str, versions: Sequence[Version]) -> Node:
    ordered = tuple(sorted(versions, key=lambda version: canonical_json(version.partition)))
    replaced = sum(version.version not in ledger.current for version in ordered)
    mark = (table, tuple(version.version for version in ordered))
    if mark in ledger.shown:
        return Node(table, ordered, replaced, (), repeated=True)
    ledger.shown.add(mark)
    groups: dict[str, dict[str, Version]] = {}
    unknown: set[str] = set()
    for version in ordered:
        for one in version.inputs:
            if _concerns(one.partition, ledger.domain):
                made_from = ledger.versions.get(_identity(one))
                if made_from is None:
                    unknown.add(one.table)
                else:
                    groups.setdefault(one.table, {})[_identity(one)] = made_from
    children = tuple(_node(ledger, name, list(group.values())) for name, group in groups.items())
    facts = (
        *_facts(ledger, table, ordered, replaced),
        *(f"{name}: not in the ledger" for name in sorted(unknown)),
    )
    return Node(table, ordered, replaced, facts, children)


def _facts(ledger: _Ledger, table: str, versions: Sequence[Version], replaced: int) -> Iterator[str]:
    rows = sum(version.row_count for version in versions)
    times = sorted(version.made_at for version in versions)
    when = f"{times[0]:%Y-%m-%d %H:%M:%S}" + (f" … {times[-1]:%H:%M:%S}" if len(times) > 1 else "")
    yield f"{rows:,} rows, made {when} UTC"
    yield f"run {_some(version.run_id for version in versions)}"
    yield (
        f"fingerprint {_some(version.fingerprint for version in versions)}, "
        f"code version {_some(version.ingredients.code_version for version in versions)}"
    )
    if replaced:
        yield f"! {replaced} of these partitions have been made anew since; `deeper run` catches up"
    yield from _settings(versions, ledger.domain)
    columns = TABLES[table].column_names
    if "model" in columns:
        models = set(_loaded(ledger, versions, "model")["model"].dropna())
        yield f"model {', '.join(sorted(map(str, models))) or '(none asked)'}"
    if "origin" in columns:
        yield from _origins(ledger, versions)
    if "sha256" in columns:
        files = _loaded(ledger, versions, "file", "sha256").dropna().sort_values(["file", "sha256"])
        for file, digest in files.itertuples(index=False, name=None):
            yield f"  file {file} sha256 {digest[:16]}"
    if ledger.user is not None and "user_id" in columns:
        yield f"user {ledger.user}: {_rows_of_user(ledger, table, versions)} rows"


def _settings(versions: Sequence[Version], domain: str | None) -> Iterator[str]:
    """Settings by name; of one in which partitions differ, only the number of its values is given.

    Of a value that spans domains, such as their scales, only the part of `domain` is given.
    """
    all_of_them = [dict(_flat(version.ingredients.settings, domain)) for version in versions]
    for name in sorted({name for settings in all_of_them for name in settings}):
        values = {canonical_json(settings.get(name)): settings.get(name) for settings in all_of_them}
        if len(values) > 1 and name not in OUTSIDE:
            yield f"{name}: {len(values)} different values"
        else:
            for value in values.values():
                yield from _setting(name, value)


def _flat(settings: Mapping[str, Any], domain: str | None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The parts of values by their path, such as `training.beta`; a source is one whole."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and name not in OUTSIDE:
            part: Mapping[str, Any] = value
            if name == "scales" and domain is not None and domain in value:
                part = {domain: value[domain]}
            yield from _flat(part, domain, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _setting(name: str, value: Any) -> Iterator[str]:
    if name in OUTSIDE and isinstance(value, Mapping):
        plain = {key: part for key, part in value.items() if key not in {"files", "answer"}}
        yield f"{name}: " + ", ".join(
            f"{key} {_short(part)}" for key, part in plain.items() if part is not None
        )
        for path, digest in value.get("files", {}).items():
            yield f"  file {path} sha256 {digest[:16]}"
        if answer := value.get("answer"):
            yield f"  answer {answer['rows']:,} rows, hash {answer['hash']}"
    else:
        # Text is whole, because it may be a path: part of one names nothing.
        yield f"{name}: {value if isinstance(value, str) else _short(value)}"


def _origins(ledger: _Ledger, versions: Sequence[Version]) -> Iterator[str]:
    """Numbers of preferences by domain and origin."""
    for domain, rows in _loaded(ledger, versions, "domain", "origin").groupby("domain"):
        if _concerns({"domain": str(domain)}, ledger.domain):
            counts = rows["origin"].value_counts().sort_index()
            yield f"{domain}: {', '.join(f'{count:,} of {origin}' for origin, count in counts.items())}"


def _loaded(ledger: _Ledger, versions: Sequence[Version], *columns: str) -> pd.DataFrame:
    """These columns of the versions that are still stored."""
    frames = [
        ledger.warehouse.load(
            version.table, {name: [value] for name, value in version.partition.items()}, columns=columns
        )
        for version in versions
        if version.version in ledger.current
    ]
    return pd.concat(frames) if frames else pd.DataFrame(columns=list(columns))


def _rows_of_user(ledger: _Ledger, table: str, versions: Sequence[Version]) -> int:
    """How many stored rows of these versions are the wanted user's."""
    if "user_id" not in TABLES[table].column_names:
        return 0
    return int((_loaded(ledger, versions, "user_id")["user_id"] == ledger.user).sum())


def _concerns(partition: Mapping[str, str], domain: str | None) -> bool:
    return domain is None or partition.get("domain", domain) == domain


def _identity(one: Input) -> str:
    return canonical_json([one.table, one.partition, one.run_id, one.content])


def _some(values: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(value[:12] for value in values))
    return ", ".join(distinct[:3]) + (f" and {len(distinct) - 3} more" if len(distinct) > 3 else "")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= 100 else text[:97] + "…"
