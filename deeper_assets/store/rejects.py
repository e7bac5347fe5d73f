"""Rejected ratings and events counted and looked up in SQL: there may be millions of them."""

from dataclasses import dataclass

import pandas as pd
from duckdb import DuckDBPyConnection

from deeper_assets.method.rejects import counted
from deeper_assets.store.catalog import exists, find_table, with_provenance


@dataclass(frozen=True)
class Rejects:
    """What fell out in some domains, for some reasons. Of logs, `ratings` are events, `title` is the text.

    Attributes:
        domains: domain, ratings and users that were read, users in windows (used), users and ratings
            rejected; a row a domain that has been read. Of all reasons.
        counts: domain, reason, users, ratings; the most ratings of a domain first.
        examples: domain, reason, file, line, user_id, title, rating_text, detail; in order of the source.
    """

    domains: pd.DataFrame
    counts: pd.DataFrame
    examples: pd.DataFrame


@dataclass(frozen=True)
class Kind:
    """What fell out: the tables that tell of it, and SQL that says of `first` what it was.

    Attributes:
        number: in the accounts and in the rejects, the column that says how many.
        accounts: the table of accounts.
        rejected: the table of rejects.
        told: SQL for the relation that the columns of examples come from.
        needs: all of its tables.
    """

    number: str
    accounts: str
    rejected: str
    told: str
    needs: tuple[str, ...]


RATINGS = Kind(
    "ratings",
    "rating_accounts",
    "rejected_ratings",
    "SELECT first.*, raw.title, raw.rating_text"
    ' FROM first LEFT JOIN raw_ratings AS raw USING (domain, "row")',
    ("raw_ratings", "rejected_ratings", "rating_accounts"),
)
EVENTS = Kind(
    "events",
    "event_accounts",
    "rejected_events",
    "SELECT *, text AS title, NULL AS rating_text FROM first",
    ("rejected_events", "event_accounts"),
)


def _domains(kind: Kind) -> str:
    return f"""
SELECT domain,
    any_value({kind.number}) FILTER (part = 'read') AS ratings,
    any_value(users) FILTER (part = 'read') AS users,
    any_value(users) FILTER (part = 'used') AS used,
    any_value(users) FILTER (part = 'rejected') AS users_rejected,
    any_value({kind.number}) FILTER (part = 'rejected') AS ratings_rejected
FROM {kind.accounts} WHERE $domain IS NULL OR domain = $domain GROUP BY domain ORDER BY domain
"""


REJECTS_ADDED_UP = """
SELECT count(*) FILTER ("row" IS NULL) AS users, coalesce(sum(ratings), 0)::BIGINT AS ratings FROM stored
"""
"""Asked of a `Relation` of rejected_ratings: how many users and ratings were rejected."""

EVENT_REJECTS_ADDED_UP = REJECTS_ADDED_UP.replace("ratings", "events")
"""The same of rejected_events."""

_CHOSEN = "($domain IS NULL OR r.domain = $domain) AND ($reason IS NULL OR reason = $reason)"


def _counts(kind: Kind) -> str:
    return f"""
SELECT domain, reason, {counted(kind.number)}
FROM {kind.rejected} AS r WHERE {_CHOSEN} GROUP BY domain, reason ORDER BY domain, ratings DESC, reason
"""


def _examples(kind: Kind) -> str:
    return f"""
WITH first AS (
    FROM {kind.rejected} AS r WHERE {_CHOSEN}
    QUALIFY row_number() OVER (PARTITION BY domain, reason ORDER BY "row" NULLS LAST, user_id) <= $each
)
SELECT domain, reason, file, line, user_id, title, rating_text, detail FROM ({kind.told})
ORDER BY domain, reason, "row" NULLS LAST, user_id
"""


def read_rejects(
    connection: DuckDBPyConnection, domain: str | None, reason: str | None, each: int, kind: Kind = RATINGS
) -> Rejects:
    """What fell out in a domain and for a reason; None for all of them.

    `each`: examples of a reason in a domain, at most.

    Raises:
        DeeperError: a table was made by another version of this project.
    """
    there = [exists(connection, with_provenance(find_table(name))) for name in kind.needs]
    if not all(there):
        return Rejects(pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    chosen = {"domain": domain, "reason": reason}
    return Rejects(
        connection.execute(_domains(kind), {"domain": domain}).df(),
        connection.execute(_counts(kind), chosen).df(),
        connection.execute(_examples(kind), {**chosen, "each": each}).df(),
    )
