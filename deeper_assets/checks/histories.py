"""Checks on histories: what would make every later figure wrong."""

from typing import Any

import pandas as pd
from dagster import AssetCheckResult, AssetChecksDefinition, AssetIn, ResourceParam, asset_check

from deeper_assets.assets.histories import accounts
from deeper_assets.method.windows import account
from deeper_assets.partitions import Partitions
from deeper_assets.resources import Experiment


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


def someone_to_evaluate(rating_windows: pd.DataFrame) -> AssetCheckResult:
    """There is an evaluation user; without one, every table after this would be empty."""
    users = rating_windows.loc[rating_windows["split"] == "eval", "user_id"].nunique()
    return AssetCheckResult(
        passed=bool(users),
        description=f"{users} evaluation users" + ("" if users else "; rejected_ratings says why"),
        metadata={"evaluation users": users},
    )


def everything_accounted_for(
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    raw_ratings: pd.DataFrame,
    rejected_ratings: pd.DataFrame,
) -> AssetCheckResult:
    """Every user and rating that was read is used, rejected with a reason, not sampled, or left over."""
    domain = next(iter(raw_ratings["domain"]), None)
    if domain is None:
        return AssetCheckResult(passed=rating_windows.empty, description="the source holds nothing")
    found = account(
        raw_ratings, rejected_ratings, rating_windows, experiment.domain(domain), experiment.rules
    )
    return AssetCheckResult(
        passed=found.adds_up,
        description=f"{found.read.users} users with {found.read.ratings} ratings, {found.used.users} used",
        metadata=accounts(found),
    )


def build(partitions: Partitions) -> list[AssetChecksDefinition]:
    """The checks on this group; all of them block."""
    on_windows: dict[str, Any] = {
        "asset": "rating_windows",
        "blocking": True,
        "partitions_def": partitions.domains,
    }
    return [
        asset_check(**on_windows)(users_in_one_split),
        asset_check(**on_windows)(someone_to_evaluate),
        asset_check(
            **on_windows,
            additional_ins={name: AssetIn(name) for name in ("raw_ratings", "rejected_ratings")},
        )(everything_accounted_for),
    ]
