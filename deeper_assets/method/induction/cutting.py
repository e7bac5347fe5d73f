"""A log of events to sessions in SQL: what cannot be used, who is in, and where a session ends.

Nothing disappears: every event and every user that was read is used, rejected with a reason, not sampled, or
left over, and `Accounts` adds them up.

There may be many millions of events. So each rule is one DuckDB statement, which makes one temporary table,
and `cut_log` executes them in the order in which they stand here. They read the relation `logged`:

    row         BIGINT     orders the source's events; unique
    user_id, text, item_id, session_id, kind, file, defect, detail   VARCHAR
    sign        INTEGER    -1, 0 or 1
    happened_at TIMESTAMP  UTC
    order_at    DECIMAL    orders a user's events before `happened_at` does
    line        BIGINT     1-based, in `file`

Everybody takes part who has one usable event, as far as `UserSampling` goes: a history may be thin.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from duckdb import DuckDBPyConnection

from deeper_assets.method.cutting import SHOWS_NOTHING, STABLE_SHARE
from deeper_assets.method.domains import Domain
from deeper_assets.method.induction.events import SESSIONS_A_WINDOW
from deeper_assets.method.rejects import counted_by_reason
from deeper_assets.method.sql import quoted
from deeper_assets.method.windows import WINDOW, UserSampling

EVENTS, REJECTED = "events", "rejected"
"""The tables that are made: rows of `events`, and of rejected_events, first the events, then the users."""

MOST_EVENTS = 50
"""Of a session. A longer one goes on as the next: one prompt has the events of one session."""

Borders = Literal["given", "silence", "order"]
"""Where a session ends.

- given: the log names it;
- silence: after minutes without an event;
- order: after `WINDOW` events, where the log says nothing but their order.
"""


@dataclass(frozen=True)
class SessionRules:
    """How a log is cut.

    Attributes:
        borders: what ends a session.
        silence: minutes without an event that end one.
        windows: of a user that are used at most, from the first on.
    """

    borders: Borders
    silence: float
    windows: int


@dataclass(frozen=True)
class Accounts:
    """Where everything that was read went: part → users and events.

    The parts are those of event_accounts; `left_over` are events of used users beyond their last window.
    """

    parts: Mapping[str, tuple[int, int]]

    @property
    def adds_up(self) -> bool:
        """Whether what was read is the sum of the others, in users and in events."""
        others = [tally for part, tally in self.parts.items() if part != "read"]
        return tuple(map(sum, zip(*others, strict=True))) == self.parts["read"]

    def rows(self) -> list[dict[str, str | int]]:
        """Rows of event_accounts, without the domain."""
        return [
            {"part": part, "users": users, "events": events} for part, (users, events) in self.parts.items()
        ]

    def figures(self) -> dict[str, int]:
        """The same as metadata."""
        return {
            f"{what} {part.replace('_', ' ')}": number
            for part, tally in self.parts.items()
            for what, number in zip(("users", "events"), tally, strict=True)
        }


def cut_log(
    connection: DuckDBPyConnection, domain: Domain, rules: SessionRules, sampling: UserSampling
) -> Accounts:
    """Make the temporary tables `EVENTS` and `REJECTED` from the relation `logged`.

    Args:
        connection: one that has the relation `logged`, of one domain, in any order of rows.
        domain: whose name decides, with the seed, who is sampled.
        rules: where sessions end, and how many windows count.
        sampling: who is in, as of ratings. Also where a domain trains no policy, some are training users.

    Returns:
        Where everything went.
    """
    for statement in _statements(domain, rules, sampling):
        connection.execute(statement)
    [counted] = connection.execute(ACCOUNTS).fetchall()
    numbers = iter(map(int, counted))
    return Accounts({part: (next(numbers), next(numbers)) for part in PARTS})


def _statements(domain: Domain, rules: SessionRules, sampling: UserSampling) -> Iterator[str]:
    yield SHOWS_NOTHING
    yield from STABLE_SHARE
    yield JUDGED
    yield UNUSABLE
    yield PEOPLE
    yield dealt(domain, sampling)
    yield in_sessions(rules)
    yield events(domain, rules)
    yield rejected(domain)


JUDGED = """
CREATE OR REPLACE TEMP VIEW judged AS
SELECT *, CASE
    WHEN defect IS NOT NULL THEN defect
    WHEN user_id IS NULL OR shows_nothing(user_id) THEN 'missing_user'
    WHEN text IS NULL OR shows_nothing(text) THEN 'empty_text'
END AS reason, CASE reason
    WHEN defect THEN detail
    WHEN 'missing_user' THEN 'no user id'
    WHEN 'empty_text' THEN 'the text is empty'
END AS because
FROM logged
"""
"""The events with the first `reason` that applies against each; NULL where it is usable."""

UNUSABLE = """
CREATE OR REPLACE TEMP TABLE unusable AS
SELECT "row", user_id, text, file, line, reason, because FROM judged WHERE reason IS NOT NULL
"""
"""The events that cannot be used."""

PEOPLE = """
CREATE OR REPLACE TEMP TABLE people AS
SELECT user_id, count(*) FILTER (reason IS NULL) AS usable,
    arg_min(file, "row") AS file, arg_min(line, "row") AS line
FROM judged WHERE NOT shows_nothing(user_id) GROUP BY user_id
"""
"""The users: how many usable events each has, where the first event stands in the source."""


def dealt(domain: Domain, sampling: UserSampling) -> str:
    """The users with a usable event, dealt to train and eval, and who is sampled: the least shares."""
    limits = {"train": sampling.train_users, "eval": sampling.eval_users}
    most = " ".join(f"WHEN '{split}' THEN {limit}" for split, limit in limits.items() if limit is not None)
    sampled = f"place <= CASE split {most} ELSE place END" if most else "true"
    return f"""
CREATE OR REPLACE TEMP TABLE dealt AS
WITH shares AS (
    SELECT user_id, usable, stable_share('{sampling.seed}', {quoted(domain.name)}, user_id) AS share
    FROM people WHERE usable > 0
), splits AS (
    SELECT *, CASE WHEN share < {sampling.train_share!r} THEN 'train' ELSE 'eval' END AS split FROM shares
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY split ORDER BY share, user_id) AS place FROM splits
)
SELECT user_id, usable, split, {sampled} AS sampled FROM ranked
"""


def in_sessions(rules: SessionRules) -> str:
    """The usable events of sampled users, each with its session and its place in that."""
    by_user = "PARTITION BY user_id ORDER BY place"
    waited = f"epoch_us(happened_at) - lag(epoch_us(happened_at)) OVER ({by_user})"
    begins = {
        "given": "min(place) OVER (PARTITION BY user_id, session_id)",
        "silence": f"sum(ends::INTEGER) OVER ({by_user})",
        "order": f"place // {WINDOW}",
    }[rules.borders]
    return f"""
CREATE OR REPLACE TEMP TABLE in_sessions AS
WITH placed AS (
    SELECT judged.*, split, row_number() OVER (
        PARTITION BY user_id ORDER BY order_at, happened_at, "row") - 1 AS place
    FROM judged JOIN dealt USING (user_id) WHERE sampled AND reason IS NULL
), waiting AS (
    SELECT *, coalesce({waited} > {round(rules.silence * 60e6)}, false) AS ends FROM placed
), begun AS (
    SELECT *, {begins} AS begins FROM waiting
), counted AS (
    SELECT *, row_number() OVER (PARTITION BY user_id, begins ORDER BY place) - 1 AS number FROM begun
)
SELECT * EXCLUDE (number), number % {MOST_EVENTS} AS event, dense_rank() OVER (
    PARTITION BY user_id ORDER BY begins, number // {MOST_EVENTS}) - 1 AS session
FROM counted
"""


def events(domain: Domain, rules: SessionRules) -> str:
    """The events of the windows that are used: rows of `events`."""
    return f"""
CREATE OR REPLACE TEMP TABLE {EVENTS} AS
SELECT {quoted(domain.name)} AS domain, user_id, split, session::INTEGER AS session, event::INTEGER AS event,
    (session // {SESSIONS_A_WINDOW})::INTEGER AS "window", text, item_id, kind, sign, happened_at, file, line
FROM in_sessions WHERE session < {rules.windows * SESSIONS_A_WINDOW}
"""


def rejected(domain: Domain) -> str:
    """The events that cannot be used (`events` 1), then the users who have none left (`events` 0)."""
    return f"""
CREATE OR REPLACE TEMP TABLE {REJECTED} AS
SELECT {quoted(domain.name)} AS domain, user_id, "row", text, file, line, reason, because AS detail,
    1::BIGINT AS events
FROM unusable
UNION ALL
SELECT {quoted(domain.name)}, user_id, NULL, NULL, file, line, 'no_events', 'no usable event', 0
FROM people WHERE usable = 0
"""


SHOWN = 10
"""Events of a preview, at most."""

FIRST = f"""
SELECT line, user_id, session_id, text, item_id, kind, nullif(sign, 0) AS sign, happened_at, order_at, reason
FROM judged ORDER BY "row" LIMIT {SHOWN}
"""


@dataclass(frozen=True)
class LogPreview:
    """What was cut, for people who decide whether to run it.

    Attributes:
        rows: the first SHOWN events as they are read, and the `reason` against each, or NULL.
        rejected: reason, users and (as `ratings`) events, the most first.
        windows: number of windows → how many of the users who take part have as many or more.
        splits: split → how many users take part.
        accounts: where users and events go.
    """

    rows: pd.DataFrame
    rejected: pd.DataFrame
    windows: Mapping[int, int]
    splits: Mapping[str, int]
    accounts: Accounts


def preview_of_log(connection: DuckDBPyConnection, accounts: Accounts, rules: SessionRules) -> LogPreview:
    """What `cut_log` has made, under these rules and with this answer."""
    reached = connection.execute(
        f'SELECT split, 1 + max("window") FROM {EVENTS} GROUP BY user_id, split'
    ).fetchall()
    return LogPreview(
        connection.execute(FIRST).df(),
        connection.execute(counted_by_reason(REJECTED, "events")).df(),
        {number: sum(most >= number for _, most in reached) for number in range(1, rules.windows + 1)},
        {name: sum(split == name for split, _ in reached) for name in ("train", "eval")},
        accounts,
    )


PARTS = ("read", "used", "rejected", "not_sampled", "left_over")
"""Of event_accounts, in the order in which `ACCOUNTS` counts users and events of each."""

ACCOUNTS = f"""
SELECT
    (SELECT count(*) FROM people), (SELECT count(*) FROM logged),
    (SELECT count(DISTINCT user_id) FROM {EVENTS}), (SELECT count(*) FROM {EVENTS}),
    (SELECT count(*) FROM people WHERE usable = 0), (SELECT count(*) FROM {REJECTED} WHERE "row" IS NOT NULL),
    (SELECT count(*) FROM dealt WHERE NOT sampled),
    (SELECT coalesce(sum(usable), 0) FROM dealt WHERE NOT sampled),
    0, (SELECT count(*) FROM in_sessions ANTI JOIN {EVENTS} USING (user_id, session, event))
"""
"""Where everything went; each number is counted by itself, so that `Accounts.adds_up` can fail."""
