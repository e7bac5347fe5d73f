"""Checks on personas and predictions: a model that cannot be read must not become a table of few users."""

import pandas as pd
from dagster import AssetCheckResult

from deeper_assets.declaring import check
from deeper_assets.method.errors import share_missing


@check("initial_personas", blocking=True)
def personas_readable(initial_personas: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most users have a persona."""
    return share_readable(initial_personas, "persona", unreadable_limit)


@check("initial_predictions", blocking=True)
def predictions_readable(initial_predictions: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most predictions could be read."""
    return share_readable(initial_predictions, "predicted", unreadable_limit)


def share_readable(rows: pd.DataFrame, value: str, limit: float) -> AssetCheckResult:
    """Passes where at most `limit` of the rows have no value; names the commonest reason."""
    missing = rows[value].isna()
    share = share_missing(rows[value])
    reasons = rows.loc[missing, "note"].value_counts()
    summary = f"{share:.1%} unreadable, limit {limit:.0%} (setting unreadable_limit)"
    return AssetCheckResult(
        passed=share <= limit,
        description=summary + (f"; most often: {reasons.index[0]}" if len(reasons) else ""),
        metadata={
            "rows": len(rows),
            "share unreadable": share,
            "limit": limit,
            "reasons": {str(k): int(v) for k, v in reasons.items()},
        },
    )
