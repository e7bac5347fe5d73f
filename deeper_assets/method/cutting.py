r"""Ratings to windows in SQL: what cannot be used, who is in, ten ratings a window (paper, Section 4.1).

A user's history in time order is cut in windows of ten, W0 … W6; a user needs W0, which makes the first
persona, and five windows in all. Nothing disappears: every rating and every user that was read is used,
rejected with a reason, not sampled, or left over, and `Accounting` adds them up.

There may be many millions of ratings. So each rule is one DuckDB statement, which makes one temporary table,
and `cut_histories` executes them in the order in which they stand here. They read the relation `ratings`:

    row         BIGINT     orders the source's ratings; unique
    user_id, item_id, title, categories, rating_text, split, file, defect, detail   VARCHAR
    rating      DOUBLE     rating points
    rated_at    TIMESTAMP  UTC
    order_at    DECIMAL    orders a user's ratings before `rated_at` does
    position    BIGINT     place in the user's order, where the source says it (see `placed`)
    has_place   BOOLEAN    whether it has one
    line        BIGINT     1-based, in `file`

Departs from the paper: it drops what it cannot use before it cuts. Here a rejected rating leaves its window
shorter and moves nothing else, so that windows stay the published ones. Users whose source gives no split are
divided by a stable hash, so that neither the order of the rows nor other users decide who trains.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
from duckdb import DuckDBPyConnection

from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.rejects import counted_by_reason
from deeper_assets.method.sql import quoted
from deeper_assets.method.windows import Accounting, Tally, UserSampling, WindowRules

KEPT = "kept"
"""The ratings of sampled users, and the rejected ones: rows of raw_ratings."""

REJECTED = "rejected"
"""Rows of rejected_ratings: first the ratings, then the users."""

WINDOWS = "windows"
"""Rows of rating_windows."""


def cut_histories(
    connection: DuckDBPyConnection,
    domain: Domain,
    rules: WindowRules,
    sampling: UserSampling,
    placed: bool,
) -> Accounting:
    """Make the temporary tables `KEPT`, `REJECTED` and `WINDOWS` from the relation `ratings`.

    Args:
        connection: one that has the relation `ratings`, of one domain, in any order of rows.
        domain: whose scale the ratings must be on; its name decides, with the seed, who is sampled.
        rules: how windows are cut.
        sampling: who is in.
        placed: whether the source says each rating's position; otherwise the user's time order does.

    Returns:
        Where everything went.
    """
    for statement in _statements(domain, rules, sampling, placed):
        connection.execute(statement)
    return account(connection, sampling)


def _statements(domain: Domain, rules: WindowRules, sampling: UserSampling, placed: bool) -> Iterator[str]:
    yield SHOWS_NOTHING
    yield from STABLE_SHARE
    yield judged(domain.scale)
    yield UNUSABLE
    yield PEOPLE
    yield marred(placed)
    yield places(placed)
    yield slots(rules)
    yield standing(rules)
    yield dealt(domain, sampling)
    yield more_places(placed)
    yield kept(domain)
    yield windows(domain, rules)
    yield rejected(domain)


# ------------------------------------------------------------------------------------- words of the rules

SHOWS_NOTHING = r"""
CREATE OR REPLACE TEMP MACRO shows_nothing(text) AS CASE
    WHEN unicode(text) BETWEEN 33 AND 126 THEN false  -- its first sign; nearly all texts begin so
    ELSE regexp_full_match(text, '[\p{Cc}\p{Cf}\p{Zs}\p{Zl}\p{Zp}]*')
END
"""
"""Whether a text is white space, control and zero-width characters alone."""

STABLE_SHARE = (
    r"""
CREATE OR REPLACE TEMP MACRO json_sign(sign) AS CASE
    WHEN sign = '"' THEN '\"' WHEN sign = '\' THEN '\\'
    WHEN sign = chr(10) THEN '\n' WHEN sign = chr(13) THEN '\r' WHEN sign = chr(9) THEN '\t'
    WHEN sign = chr(8) THEN '\b' WHEN sign = chr(12) THEN '\f'
    WHEN unicode(sign) BETWEEN 32 AND 126 THEN sign
    WHEN unicode(sign) < 65536 THEN format('\u{:04x}', unicode(sign))
    ELSE format('\u{:04x}\u{:04x}',
        55296 + ((unicode(sign) - 65536) >> 10), 56320 + ((unicode(sign) - 65536) & 1023))
END""",
    r"""
CREATE OR REPLACE TEMP MACRO json_text(text) AS CASE
    WHEN regexp_full_match(text, '[ !#-\[\]-~]*') THEN '"' || text || '"'
    ELSE '"' || array_to_string([json_sign(sign) for sign in regexp_extract_all(text, '(?s).')], '') || '"'
END""",
    """
CREATE OR REPLACE TEMP MACRO stable_share(seed, domain, user_id) AS (
    ('0x' || left(sha256(
        '[' || json_text(seed) || ', ' || json_text(domain) || ', ' || json_text(user_id) || ']'
    ), 16))::UBIGINT >> 11
) / 9007199254740992""",
)
"""`windows.stable_share` of three texts."""


# ---------------------------------------------------------------------------------------------- the rules


def judged(scale: Scale) -> str:
    """The ratings with the first `reason` that applies against each; NULL where it is usable."""
    return f"""
CREATE OR REPLACE TEMP VIEW judged AS
SELECT *, CASE
    WHEN defect IS NOT NULL THEN defect
    WHEN user_id IS NULL OR shows_nothing(user_id) THEN 'missing_user'
    WHEN NOT has_place THEN 'no_position'
    WHEN rating IS NULL OR NOT isfinite(rating) THEN 'not_a_number'
    WHEN NOT ({_holds(scale)}) THEN 'outside_scale'
    WHEN title IS NULL OR shows_nothing(title) THEN 'empty_title'
END AS reason, CASE reason
    WHEN defect THEN detail
    WHEN 'missing_user' THEN 'no user id'
    WHEN 'no_position' THEN 'the source gives it no position'
    WHEN 'not_a_number' THEN 'found ''' || left(coalesce(rating_text, ''), 80) || ''', expected a number'
    WHEN 'outside_scale' THEN {_off_scale(scale)}
    WHEN 'empty_title' THEN 'the title is empty'
END AS because
FROM ratings
"""


def _holds(scale: Scale) -> str:
    """`Scale.holds` of the column rating."""
    steps = f"(rating - {scale.lowest!r}) / {scale.step!r}"
    return f"rating BETWEEN {scale.lowest!r} AND {scale.highest!r} AND abs({steps} - round({steps})) < 1e-6"


def _off_scale(scale: Scale) -> str:
    off = f"format('{{:g}}', rating) || ': the scale is {scale}'"
    return f"CASE WHEN rating = 0 THEN '0: no rating given' ELSE {off} END" if scale.lowest > 0 else off


UNUSABLE = """
CREATE OR REPLACE TEMP TABLE unusable AS
SELECT "row", user_id, file, line, reason, because, has_place FROM judged WHERE reason IS NOT NULL
"""
"""The ratings that cannot be used."""

PEOPLE = """
CREATE OR REPLACE TEMP TABLE people AS
SELECT all_.user_id, count(*) AS ratings, count(*) FILTER (bad."row" IS NULL) AS usable,
    min(all_.split) FILTER (bad."row" IS NULL) AS split,  -- eval where the source says both
    arg_min(all_.file, all_."row") AS file, arg_min(all_.line, all_."row") AS line
FROM ratings AS all_ LEFT JOIN unusable AS bad USING ("row")
WHERE NOT shows_nothing(all_.user_id) GROUP BY all_.user_id
"""
"""The users: how many ratings each has, how many of them usable, where the first stands in the source."""


def marred(placed: bool) -> str:
    """The users whose windows may have holes. All others have ten usable ratings a window, as many as fit."""
    return f"""
CREATE OR REPLACE TEMP TABLE marred AS
SELECT user_id FROM people WHERE usable < ratings OR {placed}
"""


def places(placed: bool) -> str:
    """The place of each rating of a marred user in the user's order, 0-based."""
    return f"CREATE OR REPLACE TEMP TABLE places AS {_places(placed, 'FROM marred')}"


def _places(placed: bool, users: str) -> str:
    in_order = 'row_number() OVER (PARTITION BY user_id ORDER BY order_at, rated_at, "row") - 1'
    position = "position" if placed else in_order
    return (
        f'SELECT "row", user_id, {position} AS position FROM ratings WHERE has_place AND user_id IN ({users})'
    )


def slots(rules: WindowRules) -> str:
    """The windows all of whose places are in the source, and how many usable ratings each has."""
    return f"""
CREATE OR REPLACE TEMP TABLE slots AS
SELECT places.user_id, position // {rules.size} AS "window", count(*) FILTER (bad."row" IS NULL) AS usable
FROM places LEFT JOIN unusable AS bad USING ("row")
WHERE position < {rules.size * rules.at_most} GROUP BY ALL HAVING count(*) = {rules.size}
UNION ALL
SELECT user_id, unnest(range(least(ratings // {rules.size}, {rules.at_most}))), {rules.size}
FROM people ANTI JOIN marred USING (user_id)
"""


def standing(rules: WindowRules) -> str:
    """The users, with the `reason` for which a user cannot be used; NULL where none applies."""
    return f"""
CREATE OR REPLACE TEMP TABLE standing AS
WITH counted AS (
    SELECT user_id, count(*) AS windows, bool_or("window" = 0) AS has_first
    FROM slots WHERE usable > 0 GROUP BY user_id
)
SELECT people.*, coalesce(windows, 0) AS windows, has_first, CASE
    WHEN coalesce(windows, 0) < {rules.at_least} THEN 'too_few_windows'
    WHEN NOT has_first THEN 'no_first_window'
END AS reason, CASE reason
    WHEN 'too_few_windows' THEN coalesce(windows, 0) || ' usable windows, {rules.at_least} needed'
    WHEN 'no_first_window' THEN 'no usable rating in W0'
END AS because
FROM people LEFT JOIN counted USING (user_id)
"""


def dealt(domain: Domain, sampling: UserSampling) -> str:
    """The usable users, dealt to train and eval, and whether each is sampled: those with the least shares.

    Of users with W0 but too few windows, who are `short`, those alone stand here that are sampled.
    """
    train = f"share < {sampling.train_share!r}" if sampling.seen else "false"
    limits = {
        "train": sampling.train_users if sampling.seen else 0,
        "eval": sampling.eval_users,
        "short": sampling.short_users,
    }
    most = " ".join(f"WHEN '{split}' THEN {limit}" for split, limit in limits.items() if limit is not None)
    sampled = f"place <= CASE split {most} ELSE place END" if most else "true"
    return f"""
CREATE OR REPLACE TEMP TABLE dealt AS
WITH shares AS (
    SELECT user_id, usable, CASE WHEN reason IS NULL THEN split ELSE 'short' END AS given,
        stable_share('{sampling.seed}', {quoted(domain.name)}, user_id) AS share
    FROM standing WHERE reason IS NULL OR (has_first AND reason = 'too_few_windows')
), splits AS (
    SELECT *, coalesce(given, CASE WHEN {train} THEN 'train' ELSE 'eval' END) AS split FROM shares
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY split ORDER BY share, user_id) AS place FROM splits
)
SELECT user_id, usable, split, {sampled} AS sampled FROM ranked WHERE sampled OR split <> 'short'
"""


_SAMPLED = "SELECT user_id FROM dealt WHERE sampled"


def more_places(placed: bool) -> str:
    """The places of the ratings of sampled users, where `places` has left them out."""
    return f"INSERT INTO places {_places(placed, f'{_SAMPLED} EXCEPT FROM marred')}"


def kept(domain: Domain) -> str:
    """The ratings of sampled users, and those that cannot be used: what is remembered of the source."""
    return f"""
CREATE OR REPLACE TEMP TABLE {KEPT} AS
WITH chosen AS (
    FROM ratings WHERE user_id IN ({_SAMPLED})
    UNION ALL
    FROM ratings SEMI JOIN (FROM unusable WHERE user_id IS NULL OR user_id NOT IN ({_SAMPLED})) USING ("row")
)
SELECT {quoted(domain.name)} AS domain, "row", chosen.user_id, item_id, title, categories, rating_text,
    rating, rated_at, places.position, split, file, line, defect, detail
FROM chosen LEFT JOIN places USING ("row")
"""


def windows(domain: Domain, rules: WindowRules) -> str:
    """The windows of sampled users: usable ratings, each in its place."""
    title = "title || coalesce(' [' || categories || ']', '')" if rules.categories else "title"
    return f"""
CREATE OR REPLACE TEMP TABLE {WINDOWS} AS
SELECT {quoted(domain.name)} AS domain, user_id, dealt.split, slots."window"::INTEGER AS "window",
    (position % {rules.size})::INTEGER AS place, coalesce(item_id, title) AS item_id, {title} AS title,
    rating, rated_at
FROM {KEPT} JOIN dealt USING (user_id)
JOIN slots ON slots.user_id = {KEPT}.user_id AND slots."window" = position // {rules.size}
ANTI JOIN unusable USING ("row")
WHERE sampled
"""


def rejected(domain: Domain) -> str:
    """The ratings that cannot be used (`ratings` 1), then the users (`ratings`: usable ones each had)."""
    return f"""
CREATE OR REPLACE TEMP TABLE {REJECTED} AS
SELECT {quoted(domain.name)} AS domain, user_id, "row", file, line, reason, because AS detail,
    1::BIGINT AS ratings
FROM unusable
UNION ALL
SELECT {quoted(domain.name)}, user_id, NULL, file, line, reason, because, usable
FROM standing ANTI JOIN dealt USING (user_id) WHERE reason IS NOT NULL
"""


# --------------------------------------------------------------------------------------------- accounting

ACCOUNTS = f"""
SELECT
    (SELECT count(*) FROM people) AS read_users,
    (SELECT count(*) FROM ratings) AS read_ratings,
    (SELECT count(DISTINCT user_id) FROM {WINDOWS}) AS used_users,
    (SELECT count(*) FROM {WINDOWS}) AS used_ratings,
    (SELECT count(*) FROM standing ANTI JOIN dealt USING (user_id) WHERE reason IS NOT NULL)
        AS rejected_users,
    (SELECT coalesce(sum(ratings), 0) FROM {REJECTED}) AS rejected_ratings,
    (SELECT count(*) FROM dealt WHERE NOT sampled) AS left_users,
    (SELECT coalesce(sum(usable), 0) FROM dealt WHERE NOT sampled) AS left_ratings,
    (SELECT coalesce(sum(usable), 0) FROM dealt WHERE sampled) AS sampled_ratings,
    (SELECT coalesce(sum(usable), 0) FROM slots WHERE user_id IN ({_SAMPLED})) AS in_slots,
    (SELECT count(DISTINCT user_id) FROM {WINDOWS} WHERE split = 'train') AS train_users,
    (SELECT count(DISTINCT user_id) FROM {WINDOWS} WHERE split = 'eval') AS eval_users,
    (SELECT count(DISTINCT user_id) FROM {WINDOWS} WHERE split = 'short') AS short_users,
    (SELECT count(*) FROM dealt WHERE NOT sampled AND split = 'train') AS left_train_users,
    (SELECT coalesce(sum(usable), 0) FROM dealt WHERE NOT sampled AND split = 'train') AS left_train_ratings
"""
"""Where everything went; each number is counted by itself, so that `Accounting.adds_up` can fail."""


def account(connection: DuckDBPyConnection, sampling: UserSampling) -> Accounting:
    """Add up where users and ratings went, after `cut_histories`."""
    answer = connection.execute(ACCOUNTS)
    names = [name for name, *_ in answer.description]
    [values] = answer.fetchall()
    of = dict(zip(names, map(int, values), strict=True))
    unseen = Tally(0, 0) if sampling.seen else Tally(of["left_train_users"], of["left_train_ratings"])
    return Accounting(
        read=Tally(of["read_users"], of["read_ratings"]),
        used=Tally(of["used_users"], of["used_ratings"]),
        rejected=Tally(of["rejected_users"], of["rejected_ratings"]),
        not_sampled=Tally(of["left_users"] - unseen.users, of["left_ratings"] - unseen.ratings),
        unseen_train=unseen,
        left_over=of["sampled_ratings"] - of["in_slots"],
        train_users=of["train_users"],
        eval_users=of["eval_users"],
        short_users=of["short_users"],
    )


# -------------------------------------------------------------------------------------------------- a preview

SHOWN = 10
"""Ratings of a preview, at most."""


@dataclass(frozen=True)
class Preview:
    """What was cut, for people who decide whether to run it.

    Attributes:
        rows: the first SHOWN ratings as they are read: line, user_id, item_id, title, categories,
            rating_text, rating, rated_at, split, and the `reason` against each; NULL where there is none.
        rejected: reason, users and ratings, the most ratings first.
        windows: for each number of windows up to the most that are used, how many users have as many or more.
        rules: how histories are cut.
        accounting: where users and ratings go.
    """

    rows: pd.DataFrame
    rejected: pd.DataFrame
    windows: Mapping[int, int]
    rules: WindowRules
    accounting: Accounting


def preview(connection: DuckDBPyConnection, accounting: Accounting, rules: WindowRules) -> Preview:
    """What `cut_histories` has made, under these rules and with this answer."""
    having = dict(connection.execute("SELECT windows, count(*) FROM standing GROUP BY windows").fetchall())
    return Preview(
        connection.execute(FIRST).df(),
        connection.execute(counted_by_reason(REJECTED)).df(),
        {
            number: sum(users for held, users in having.items() if held >= number)
            for number in range(1, rules.at_most + 1)
        },
        rules,
        accounting,
    )


FIRST = f"""
SELECT line, user_id, item_id, title, categories, rating_text, rating, rated_at, split, reason
FROM judged ORDER BY "row" LIMIT {SHOWN}
"""
