"""Rejected ratings counted and looked up in SQL, inside an open connection: there may be millions of them."""

from dataclasses import dataclass

import pandas as pd
from duckdb import DuckDBPyConnection

from deeper_assets.method.rejects import COUNTED
from deeper_assets.store.catalog import exists, find_table, with_provenance


@dataclass(frozen=True)
class Rejects:
    """What fell out in some domains, for some reasons.

    Attributes:
        domains: domain, ratings and users that were read, users in windows (used), users and ratings
            rejected; a row a domain that has been read. Of all reasons.
        counts: domain, reason, users, ratings; the most ratings of a domain first.
        examples: domain, reason, file, line, user_id, title, rating_text, detail; in order of the source.
    """

    domains: pd.DataFrame
    counts: pd.DataFrame
    examples: pd.DataFrame


_DOMAINS = """
SELECT domain,
    any_value(ratings) FILTER (part = 'read') AS ratings,
    any_value(users) FILTER (part = 'read') AS users,
    any_value(users) FILTER (part = 'used') AS used,
    any_value(users) FILTER (part = 'rejected') AS users_rejected,
    any_value(ratings) FILTER (part = 'rejected') AS ratings_rejected
FROM rating_accounts WHERE $domain IS NULL OR domain = $domain GROUP BY domain ORDER BY domain
"""

REJECTS_ADDED_UP = """
SELECT count(*) FILTER ("row" IS NULL) AS users, coalesce(sum(ratings), 0)::BIGINT AS ratings FROM stored
"""
"""Asked of a `Relation` of rejected_ratings: how many users and ratings were rejected."""

_CHOSEN = "($domain IS NULL OR r.domain = $domain) AND ($reason IS NULL OR reason = $reason)"

_COUNTS = f"""
SELECT domain, reason, {COUNTED}
FROM rejected_ratings AS r WHERE {_CHOSEN} GROUP BY domain, reason ORDER BY domain, ratings DESC, reason
"""

_EXAMPLES = f"""
WITH first AS (
    FROM rejected_ratings AS r WHERE {_CHOSEN}
    QUALIFY row_number() OVER (PARTITION BY domain, reason ORDER BY "row" NULLS LAST, user_id) <= $each
)
SELECT domain, reason, first.file, first.line, first.user_id, raw.title, raw.rating_text, first.detail
FROM first LEFT JOIN raw_ratings AS raw USING (domain, "row")
ORDER BY domain, reason, "row" NULLS LAST, first.user_id
"""


def read_rejects(
    connection: DuckDBPyConnection, domain: str | None, reason: str | None, each: int
) -> Rejects:
    """What fell out in a domain and for a reason; None for all of them.

    `each`: examples of a reason in a domain, at most.

    Raises:
        DeeperError: a table was made by another version of this project.
    """
    tables = ("raw_ratings", "rejected_ratings", "rating_accounts")
    there = [exists(connection, with_provenance(find_table(name))) for name in tables]
    if not all(there):
        return Rejects(pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    chosen = {"domain": domain, "reason": reason}
    return Rejects(
        connection.execute(_DOMAINS, {"domain": domain}).df(),
        connection.execute(_COUNTS, chosen).df(),
        connection.execute(_EXAMPLES, {**chosen, "each": each}).df(),
    )
