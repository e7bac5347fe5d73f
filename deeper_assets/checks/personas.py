"""Checks on personas and predictions: a model that cannot be read must not become a table of few users."""

from typing import Any

import pandas as pd
from dagster import AssetCheckResult, AssetChecksDefinition, ResourceParam, asset_check

from deeper_assets.method.errors import share_missing
from deeper_assets.partitions import Partitions
from deeper_assets.resources import Experiment


def personas_readable(
    experiment: ResourceParam[Experiment], initial_personas: pd.DataFrame
) -> AssetCheckResult:
    """Most users have a persona."""
    return share_readable(initial_personas, "persona", experiment.settings.unreadable_limit)


def predictions_readable(
    experiment: ResourceParam[Experiment], initial_predictions: pd.DataFrame
) -> AssetCheckResult:
    """Most predictions could be read."""
    return share_readable(initial_predictions, "predicted", experiment.settings.unreadable_limit)


def share_readable(rows: pd.DataFrame, value: str, limit: float) -> AssetCheckResult:
    """Passes where at most `limit` of the rows have no value; says the commonest reason."""
    missing = rows[value].isna()
    share = share_missing(rows[value])
    reasons = rows.loc[missing, "note"].value_counts()
    said = f"{share:.1%} unreadable, limit {limit:.0%} (setting unreadable_limit)"
    return AssetCheckResult(
        passed=share <= limit,
        description=said + (f"; most often: {reasons.index[0]}" if len(reasons) else ""),
        metadata={"share unreadable": share, "reasons": {str(k): int(v) for k, v in reasons.items()}},
    )


def build(partitions: Partitions) -> list[AssetChecksDefinition]:
    """The checks on this group; all of them block."""
    blocking: dict[str, Any] = {"blocking": True, "partitions_def": partitions.domains}
    return [
        asset_check(asset="initial_personas", **blocking)(personas_readable),
        asset_check(asset="initial_predictions", **blocking)(predictions_readable),
    ]
