"""Checks on histories: what would make every later figure wrong."""

import pandas as pd
from dagster import AssetCheckResult, AssetChecksDefinition, asset_check

from deeper_assets.partitions import Partitions


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


def build(partitions: Partitions) -> list[AssetChecksDefinition]:
    """The checks on this group; all of them block."""
    on_windows = {"asset": "rating_windows", "blocking": True, "partitions_def": partitions.domains}
    return [
        asset_check(**on_windows)(users_in_one_split),
        asset_check(**on_windows)(someone_to_evaluate),
    ]
