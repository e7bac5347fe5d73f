"""Why users and ratings fell out: counts by reason, and what of settings or source would change it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from deeper_assets.method.windows import UserSampling, WindowRules

_LINE = "correct the line in its file"

WAYS_OUT: Mapping[str, str] = {
    "malformed_line": _LINE,
    "unreadable_window": _LINE,
    "unequal_lengths": _LINE,
    "short_window": "nothing: the source has no rating there",
    "window_too_long": _LINE,
    "contradicting_copies": "correct one of the copies",
    "duplicate_row": "nothing: the first one is kept",
    "also_in_evaluation": "nothing: whoever is evaluated must not train",
    "unreadable_order": "columns.order, or correct the rows",
    "unreadable_time": "columns.time, or correct the rows",
    "unreadable_split": "columns.split, or correct the rows",
    "negative_amount": "columns.amount, or correct the rows",
    "unusable_text": "columns.user, columns.item or columns.title, or correct the rows",
    "missing_user": "columns.user, or correct the rows",
    "no_position": "columns.order or columns.time, or correct the rows",
    "not_a_number": "columns.rating (or columns.amount), or correct the rows",
    "outside_scale": "the scale of the domain, or correct the rows",
    "empty_title": "columns.title, or correct the rows",
    "too_few_windows": "windows_at_least, or a source with longer histories",
    "no_first_window": "what the ratings of the user's first window were rejected for",
}
"""What would change a rejection, by its reason; a domain of one's own has the settings of columns."""


def counted(number: str = "ratings") -> str:
    """SQL for how much was rejected, over rows with this column; what is nobody's has no users."""
    return f"count(DISTINCT user_id) AS users, sum({number})::BIGINT AS ratings"


def counted_by_reason(relation: str, number: str = "ratings") -> str:
    """SQL for reason, users and ratings of a relation of rejected_ratings, the most ratings first."""
    return f"SELECT reason, {counted(number)} FROM {relation} GROUP BY reason ORDER BY ratings DESC, reason"


def why_nobody_is_evaluated(
    windows: pd.DataFrame, counts: pd.DataFrame, sampling: UserSampling, rules: WindowRules
) -> str:
    """Why a domain has no evaluation user, with the setting that would change it.

    Args:
        windows: rating_windows rows of the domain, none of them of an evaluation user.
        counts: reason, users, ratings of what was rejected, the most ratings first.
        sampling: who takes part.
        rules: how histories are cut.
    """
    if trained := windows["user_id"].nunique():
        return (
            f"all {trained:,} users train; lower train_share ({sampling.train_share:g}), or name some as eval"
            " in the column that columns.split names"
        )
    if counts.empty:
        return "the source holds no ratings, or only those of training users, and the domain's seen is false"
    reasons = [_because(row, rules) for row in counts.head(3).to_dict("records")]
    more = f"; {len(counts) - 3} more reasons" if len(counts) > 3 else ""
    return "; ".join(reasons) + more


def _because(row: Mapping[Any, Any], rules: WindowRules) -> str:
    reason = str(row["reason"])
    way = WAYS_OUT[reason].replace("windows_at_least", f"windows_at_least ({rules.at_least})")
    return f"{reason}: {row['users']:,} users, {row['ratings']:,} ratings (change {way})"
