"""Checks on the ranking of next items: every ranker ranks the same, and personas add to popularity."""

import pandas as pd
from dagster import AssetCheckResult, AssetCheckSeverity

from deeper_assets.declaring import check
from deeper_assets.method.induction.next_items import CEILING, RANKERS, RIVALS

_PERSONAS = "personas_popular"


@check("next_item_scores", blocking=True)
def rankers_rank_the_same(next_item_scores: pd.DataFrame) -> AssetCheckResult:
    """Every ranker ranks every window that any of them ranks, and as many items of it."""
    windows = next_item_scores.groupby(["user_id", "window"])
    rankers, ranked = windows["ranker"].nunique(), windows[["catalogue", "unseen"]].nunique().max(axis=1)
    wanted = len(set(RANKERS) - {CEILING})
    fewer, other = int((rankers != wanted).sum()), int((ranked > 1).sum())
    return AssetCheckResult(
        passed=not (fewer or other),
        description=f"{len(rankers)} windows, {fewer} without a ranker, {other} with other items by ranker",
        metadata={"windows": len(rankers), "without a ranker": fewer, "other items": other},
    )


@check("next_items_table")
def personas_add_to_popularity(next_items_table: pd.DataFrame) -> AssetCheckResult:
    """Whether personas with popularity hit more than popularity, and than one persona with it (a warning)."""
    hits = next_items_table[next_items_table["measure"] == "hit_10"].set_index("ranker")
    if _PERSONAS not in hits.index:
        return AssetCheckResult(
            passed=True, severity=AssetCheckSeverity.WARN, description="no window was ranked"
        )
    own = hits.loc[_PERSONAS]
    lows = {rival: float(own[f"over_{rival}_low"]) for rival in RIVALS}
    told = (
        f"{own[f'over_{rival}']:+.3f} [{low:+.3f}, {own[f'over_{rival}_high']:+.3f}] over {rival}"
        for rival, low in lows.items()
    )
    return AssetCheckResult(
        passed=all(low > 0 for low in lows.values()),
        severity=AssetCheckSeverity.WARN,
        description="Hit@10 " + "; ".join(told),
        metadata={f"low end over {rival}": low for rival, low in lows.items()},
    )
