"""A source whose user ids are salted and hashed at the door: nothing that is stored holds what they were.

The hash is that of a secret salt and the id, so nobody without the salt can try ids out. Rows that cannot be
read may hold an id anywhere, as may the messages of a database. So what they quote is not repeated.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb

from deeper_assets.method.cutting import SHOWS_NOTHING
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import quoted
from deeper_assets.sources.shape import ReadReport, Source

T = TypeVar("T")

DIGITS = 32
"""Hexadecimal digits of a hashed id: 128 bits."""

HIDDEN = "(not shown, because of hash_ids)"
"""Stands for what a source holds that cannot be read."""

_TOLD = (
    *("missing_user", "duplicate_row", "also_in_evaluation", "short_window", "negative_amount"),
    *("no_position", "empty_title", "missing_session"),
)
"""Reasons whose details quote nothing of the source, or nothing but a number."""


@dataclass(frozen=True)
class HashedSource:
    """A source with hashed user ids.

    Attributes:
        source: what it reads.
        salt: gives the secret; called where ids are read, and where it is told which salt there is.
        relation: that the source makes.
    """

    source: Source
    salt: Callable[[], str]
    relation: Literal["ratings", "logged"] = "ratings"

    @property
    def domain(self) -> Domain:
        """The domain whose rows these are."""
        return self.source.domain

    def files(self) -> list[Path]:
        """The input files that exist."""
        return self.source.files()

    def settings(self) -> dict[str, Any]:
        """Those of the source, and that its ids are hashed."""
        return {**self.source.settings(), "hash_ids": True}

    def identity(self) -> dict[str, Any]:
        """That of the source, and a hash of the salt."""
        return self._with_salt(self._unquoted(self.source.identity))

    def identity_since(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What would be read now; see the source for what is not looked at again."""
        since = getattr(self.source, "identity_since", None)
        if since is None:
            return self.identity()
        bare = {name: value for name, value in before.items() if name not in ("hash_ids", "salt")}
        return self._with_salt(self._unquoted(partial(since, bare)))

    def _with_salt(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        salt = hashlib.sha256(f"a salt of deeper: {self.salt()}".encode()).hexdigest()
        return {**identity, "hash_ids": True, "salt": salt}

    def load(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> ReadReport:
        """The rows of the source, with hashed ids."""
        report = self._unquoted(partial(self.source.load, connection, folder))
        self._unquoted(partial(hash_ids, connection, self.salt(), self.relation))
        return report

    def _unquoted(self, ask: Callable[[], T]) -> T:
        """What `ask` gives; errors of a database without their messages, because these quote values."""
        try:
            return ask()
        except duckdb.OutOfMemoryException:
            raise
        except (DeeperError, duckdb.Error) as error:
            cause = error if isinstance(error, duckdb.Error) else error.__context__
            if cause is None or not _quotes(cause):
                raise
            kind = type(cause).__name__
        # Raised out here, so that it does not hold the database's error as its context.
        what = "events" if self.relation == "logged" else "ratings"
        raise DeeperError(
            f"the {what} of domain {self.domain.name!r} cannot be read ({kind}); what the database says may"
            " quote ids, so it is not shown, because of hash_ids; a home without that setting shows it"
        )


def hash_ids(connection: duckdb.DuckDBPyConnection, salt: str, relation: str) -> None:
    """Replace a relation by one with hashed ids, which quotes nothing that cannot be read."""
    views = connection.execute(f"SELECT 1 FROM duckdb_views() WHERE view_name = '{relation}'").fetchall()
    connection.execute(f"ALTER {'VIEW' if views else 'TABLE'} {relation} RENAME TO named")
    connection.execute(SHOWS_NOTHING)
    hashed = f"left(sha256($salt || user_id), {DIGITS})"
    connection.execute(
        f"CREATE TEMP TABLE hashed_ids AS SELECT user_id AS id, {hashed} AS hashed"
        " FROM (SELECT DISTINCT user_id FROM named WHERE NOT shows_nothing(user_id))",
        {"salt": salt},
    )
    told = ", ".join(map(quoted, _TOLD))
    unreadable = "rating IS NULL AND rating_text IS NOT NULL"
    quotes = f"detail IS NOT NULL AND defect NOT IN ({told})"
    changed = {
        "user_id": "hashed",
        "rating_text": f"CASE WHEN {unreadable} THEN {quoted(HIDDEN)} ELSE rating_text END",
        "detail": f"CASE WHEN {quotes} THEN {quoted(HIDDEN)} ELSE detail END",
    }
    names = [name for name, *_ in connection.execute("DESCRIBE named").fetchall()]
    columns = ", ".join(f'{changed.get(name, f"named.{name}")} AS "{name}"' for name in names)
    connection.execute(
        f"CREATE TEMP VIEW {relation} AS SELECT {columns}"
        " FROM named LEFT JOIN hashed_ids ON named.user_id = id"
    )


def _quotes(error: BaseException) -> bool:
    """Whether an error is one of DuckDB's, or what a Postgres that was reached says."""
    kind = type(error)
    return isinstance(error, duckdb.Error) or (
        kind.__module__.startswith("psycopg") and kind.__name__ != "OperationalError"
    )
