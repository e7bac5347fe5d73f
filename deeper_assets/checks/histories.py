"""Checks on histories: what would make every later figure wrong blocks; what makes them say little warns."""

from collections.abc import Mapping
from shlex import quote

import pandas as pd
from dagster import AssetCheckResult, AssetCheckSeverity

from deeper_assets.assets.histories import accounts_told
from deeper_assets.declaring import check
from deeper_assets.method.domains import Domain
from deeper_assets.method.flaws import MOST, alike_ratings, code_titles
from deeper_assets.method.rejects import counted_by_reason, why_nobody_is_evaluated
from deeper_assets.method.windows import UserSampling, WindowRules
from deeper_assets.store.rejects import REJECTS_ADDED_UP
from deeper_assets.store.relation import Relation
from deeper_assets.store.warehouse import Warehouse


@check("rating_windows", blocking=True)
def users_in_one_split(rating_windows: pd.DataFrame) -> AssetCheckResult:
    """No user is both trained on and evaluated."""
    splits = rating_windows.groupby("user_id")["split"].nunique()
    both = sorted(splits.index[splits > 1])
    return AssetCheckResult(
        passed=not both,
        description=f"{len(both)} users are in both splits: {', '.join(both[:5])}"
        if both
        else "none is in both",
        metadata={"users": len(splits), "in both": len(both)},
    )


@check("rating_windows", blocking=True)
def someone_to_evaluate(
    rating_windows: pd.DataFrame,
    rejected_ratings: Relation,
    domain: Domain,
    rules: WindowRules,
    user_sampling: UserSampling,
    warehouse: Warehouse,
) -> AssetCheckResult:
    """There is an evaluation user; without one, every table after this would be empty."""
    users = rating_windows.loc[rating_windows["split"] == "eval", "user_id"].nunique()
    description = f"{users} evaluation users"
    counts = rejected_ratings.ask(counted_by_reason("stored"))
    if not users:
        why = why_nobody_is_evaluated(rating_windows, counts, user_sampling, rules)
        command = f"deeper rejects --domain {domain.name} --home {quote(str(warehouse.path.parent))}"
        description += f": {why}; `{command}` shows who fell out"
    return AssetCheckResult(
        passed=bool(users),
        description=description,
        metadata={
            "evaluation users": users,
            "users rejected": dict(zip(counts["reason"], counts["users"].tolist(), strict=True)),
            "ratings rejected": dict(zip(counts["reason"], counts["ratings"].tolist(), strict=True)),
        },
    )


def unaccounted(accounts: Mapping[str, tuple[int, int]], counted: Mapping[str, tuple[int, int]]) -> list[str]:
    """The parts of accounts, in users and rows, that do not add up.

    Args:
        accounts: part → what is told of it; `read` is the sum of the others.
        counted: part → what is there of it.
    """
    lost = [part for part, tally in counted.items() if accounts[part] != tally]
    others = [tally for part, tally in accounts.items() if part != "read"]
    return lost if accounts["read"] == tuple(map(sum, zip(*others, strict=True))) else [*lost, "read"]


@check("rating_windows", blocking=True)
def everything_accounted_for(
    rating_windows: pd.DataFrame, rejected_ratings: Relation, rating_accounts: pd.DataFrame
) -> AssetCheckResult:
    """Every user and rating that was read is used, rejected with a reason, not sampled, or left over."""
    accounts = {row["part"]: (row["users"], row["ratings"]) for row in rating_accounts.to_dict("records")}
    [rejected] = rejected_ratings.ask(REJECTS_ADDED_UP).itertuples(index=False, name=None)
    counted = {"used": (rating_windows["user_id"].nunique(), len(rating_windows)), "rejected": rejected}
    lost = unaccounted(accounts, counted)
    users, ratings = accounts["read"]
    description = f"{users} users with {ratings} ratings, {counted['used'][0]} used"
    if lost:
        description += f"; these do not add up: {', '.join(lost)}"
    return AssetCheckResult(
        passed=not lost,
        description=description,
        metadata=accounts_told(rating_accounts.to_dict("records")),
    )


@check("rating_windows")
def ratings_differ(rating_windows: pd.DataFrame) -> AssetCheckResult:
    """Most users give different marks: whoever gives one alone is predicted by a constant (a warning)."""
    alike = alike_ratings(rating_windows)
    description = f"{alike.users_alike:,} of {alike.users:,} users give one mark alone"
    if alike.share >= MOST:
        description += f", e.g. {alike.example:g}; then no method errs. Look at what columns.rating names"
    return AssetCheckResult(
        passed=alike.share < MOST,
        severity=AssetCheckSeverity.WARN,
        description=description,
        metadata={"users": alike.users, "users with one mark": alike.users_alike, "marks": alike.marks},
    )


@check("rating_windows")
def titles_tell(rating_windows: pd.DataFrame) -> AssetCheckResult:
    """Titles differ and have words: a persona cannot say what someone likes from codes (a warning)."""
    titles = code_titles(rating_windows)
    same = titles.titles == 1 and titles.items > 1
    passed = not same and titles.share < MOST
    description = f"{titles.codes:,} of {titles.titles:,} titles are codes"
    if same:
        description = f"all {titles.items:,} items have one title"
    if not passed:
        description += f", e.g. {titles.example!r}; name the column of what items are called in columns.title"
    return AssetCheckResult(
        passed=passed,
        severity=AssetCheckSeverity.WARN,
        description=description,
        metadata={"titles": titles.titles, "titles that are codes": titles.codes, "items": titles.items},
    )
