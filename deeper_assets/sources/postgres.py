"""A query asked of a Postgres: its answer as a CSV file, or only its count and hash.

No message holds the connection string.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import identifier
from deeper_assets.sources.shape import Answer

if TYPE_CHECKING:
    from psycopg import Connection


_LIMITS = {"connect_timeout": "30", "tcp_user_timeout": "60000"}
"""Seconds until a server that does not answer is given up, and milliseconds until one that has gone is,
unless the connection string says otherwise."""

_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "statement_timeout": "1h",
    # Parallel sums of floats differ in their last bits from one time to the next, and so would their hash.
    "max_parallel_workers_per_gather": "0",
}


@dataclass(frozen=True)
class PostgresQuery:
    """A query in one transaction that only reads: all that is asked here sees the same rows."""

    session: "Connection[tuple[Any, ...]]"
    query: str

    @property
    def columns(self) -> list[str]:
        """The names of the answer's columns; no row is read."""
        described = self._execute(f"SELECT * FROM (\n{self.query}\n) AS answer LIMIT 0").description
        return [column.name for column in described or ()]

    def answer(self, columns: Sequence[str]) -> Answer:
        """The answer in these columns, counted and hashed by the server."""
        # md5 is the same in every version of Postgres. A sum does not depend on the rows' order, and unlike
        # an exclusive or, two rows that are alike do not cancel each other.
        row = ", ".join(f"answer.{identifier(column)}" for column in columns)
        [(rows, total)] = self._execute(
            f"SELECT count(*), sum(('x' || left(md5(ROW({row})::text), 16))::bit(64)::bigint) "
            f"FROM (\n{self.query}\n) AS answer"
        )
        return Answer.of(rows, int(total or 0))

    def copy(self, target: Path) -> None:
        """Write the answer to the CSV file `target`, with a header."""
        statement = f"COPY (\n{self.query}\n) TO STDOUT (FORMAT csv, HEADER, ENCODING 'UTF8')"
        with target.open("wb") as file, self.session.cursor().copy(statement.encode()) as chunks:
            for chunk in chunks:
                file.write(chunk)

    def _execute(self, statement: str) -> Any:
        # Prepared, because the server then takes one statement alone, whatever brackets the query closes.
        return self.session.execute(statement.encode(), prepare=True)


@contextmanager
def asked_of_postgres(query: str, dsn_env: str) -> Iterator[PostgresQuery]:
    """A query on the Postgres whose connection string the environment variable `dsn_env` holds.

    Raises:
        DeeperError: the variable is not set, the server cannot be reached, or it refuses what is asked.
    """
    dsn = os.environ.get(dsn_env)
    if not dsn:
        raise DeeperError(
            f"the environment variable {dsn_env} is not set; set it to the Postgres connection string"
            f"{_OR_KEEP}"
        )
    try:
        import psycopg
    except ImportError as error:
        raise DeeperError("Postgres needs psycopg: pip install 'deeper-assets[postgres]'") from error
    try:
        told = psycopg.conninfo.conninfo_to_dict(dsn)
        limits = {name: value for name, value in _LIMITS.items() if name not in told}
        session = psycopg.connect(psycopg.conninfo.make_conninfo(dsn, **limits))
    except psycopg.Error as error:
        kind = type(error).__name__
        raise DeeperError(
            f"the Postgres that ${dsn_env} names cannot be reached ({kind}); check the connection string"
            f"{_OR_KEEP}"
        ) from None  # the driver's message may quote it
    try:
        with session:
            session.read_only = True
            session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            for setting, value in _SETTINGS.items():
                session.execute("SELECT set_config(%s, %s, true)", [setting, value])
            yield PostgresQuery(session, query)
    except psycopg.Error as error:
        message = error.diag.message_primary or type(error).__name__
        raise DeeperError(f"the query on ${dsn_env} failed: {message}") from None


_OR_KEEP = ", or keep what was read without asking: `refresh: manual` in the settings of the domain"
