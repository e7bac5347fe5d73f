"""Which of the declared tables a file holds, and whether they are as this version of the project declares."""

from functools import cache

import duckdb
from duckdb import DuckDBPyConnection

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import identifier
from deeper_assets.store.columns import PROVENANCE, Table
from deeper_assets.store.schema import TABLES


def find_table(name: str) -> Table:
    """The declared table called `name`.

    Raises:
        DeeperError: there is none; the message lists those there are.
    """
    if name not in TABLES:
        raise DeeperError(f"table {name!r} is not declared; known: {', '.join(TABLES)}")
    return TABLES[name]


def with_provenance(table: Table) -> Table:
    """The table as it is stored: with the columns that the store fills in itself."""
    return Table(table.name, table.columns + PROVENANCE, table.key, table.partition)


def create(connection: DuckDBPyConnection, table: Table) -> None:
    """Create a table where it does not exist.

    Raises:
        DeeperError: it exists with other columns than are declared.
    """
    if not exists(connection, table):
        connection.execute(_definition(table))


def exists(connection: DuckDBPyConnection, table: Table) -> bool:
    """Whether the file has the table.

    Raises:
        DeeperError: it has one of this name with other columns or checks than are declared.
    """
    stored, declared = _shape(connection, table.name), _declared_shape(table)
    if stored and stored != declared:
        [(path,)] = connection.execute(
            "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        ).fetchall()
        raise DeeperError(
            f"table {table.name!r} of {path} was made by another version of this project: it has"
            f" {_listed(stored - declared)} where this version declares {_listed(declared - stored)};"
            " set DEEPER_HOME to a new folder, or move the file away, and run again"
        )
    return bool(stored)


def _definition(table: Table) -> str:
    # No primary key: some keys have columns that may be NULL, which it would forbid (and UNIQUE would take
    # two NULLs for different), and its index would be rewritten with every partition. `insert_partition`
    # looks for duplicates once per replacement.
    columns = [
        f"{identifier(column.name)} {column.type}"
        + ("" if column.nullable else " NOT NULL")
        + (f" CHECK ({column.check})" if column.check else "")
        for column in table.columns
    ]
    return f"CREATE TABLE {identifier(table.name)} ({', '.join(columns)})"


def _shape(connection: DuckDBPyConnection, name: str) -> frozenset[str]:
    """The columns and checks of a table as DuckDB words them; none if there is no such table."""
    row = connection.execute(
        "SELECT sql FROM duckdb_tables()"
        " WHERE database_name = current_database() AND schema_name = 'main' AND table_name = ?",
        [name],
    ).fetchone()
    if row is None:
        return frozenset()
    [definition] = row
    return frozenset(definition[definition.index("(") + 1 : definition.rindex(")")].split(", "))


@cache
def _declared_shape(table: Table) -> frozenset[str]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(_definition(table))
        return _shape(connection, table.name)


def _listed(texts: frozenset[str]) -> str:
    return ", ".join(sorted(texts)) or "nothing"
