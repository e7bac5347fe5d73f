"""Checks on histories: what would make every later figure wrong. All of them block."""

import pandas as pd
from dagster import AssetCheckResult

from deeper_assets.assets.histories import accounts
from deeper_assets.declaring import check
from deeper_assets.method.domains import Domain
from deeper_assets.method.windows import WindowRules, account


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
def someone_to_evaluate(rating_windows: pd.DataFrame) -> AssetCheckResult:
    """There is an evaluation user; without one, every table after this would be empty."""
    users = rating_windows.loc[rating_windows["split"] == "eval", "user_id"].nunique()
    return AssetCheckResult(
        passed=bool(users),
        description=f"{users} evaluation users" + ("" if users else "; rejected_ratings says why"),
        metadata={"evaluation users": users},
    )


@check("rating_windows", blocking=True)
def everything_accounted_for(
    rating_windows: pd.DataFrame,
    raw_ratings: pd.DataFrame,
    rejected_ratings: pd.DataFrame,
    domain: Domain,
    rules: WindowRules,
) -> AssetCheckResult:
    """Every user and rating that was read is used, rejected with a reason, not sampled, or left over."""
    accounting = account(raw_ratings, rejected_ratings, rating_windows, domain, rules)
    read, used = accounting.read, accounting.used
    return AssetCheckResult(
        passed=accounting.adds_up,
        description=f"{read.users} users with {read.ratings} ratings, {used.users} used",
        metadata=accounts(accounting),
    )
