"""Checks on evaluation: every user is counted, and no error stands without its floors."""

import pandas as pd
from dagster import AssetCheckResult, AssetCheckSeverity

from deeper_assets.checks.personas import share_readable
from deeper_assets.declaring import check
from deeper_assets.method.floors import FLOORS
from deeper_assets.method.rounds import ROUNDS


@check("round_predictions", blocking=True)
def rounds_readable(round_predictions: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most predictions of the rounds could be read."""
    return share_readable(round_predictions, "predicted", unreadable_limit)


@check("round_errors", blocking=True)
def every_user_counted(round_errors: pd.DataFrame, rating_windows: pd.DataFrame) -> AssetCheckResult:
    """Every evaluation user stands in every round whose window exists."""
    evaluated = rating_windows[rating_windows["split"] == "eval"]
    ahead = evaluated.loc[evaluated["window"].between(1, ROUNDS + 1), ["user_id", "window"]].drop_duplicates()
    missing = len(ahead) - len(round_errors[["user_id", "window"]].drop_duplicates())
    return AssetCheckResult(
        passed=missing == 0,
        description=f"{len(ahead)} windows to predict, {missing} without a row",
        metadata={"windows": len(ahead), "missing": missing},
    )


@check("mae_table", blocking=True)
def floors_beside_methods(mae_table: pd.DataFrame) -> AssetCheckResult:
    """Every error stands beside its floors, for the same domain and round."""
    methods, floors = (mae_table[mae_table["kind"] == kind] for kind in ("method", "floor"))
    wanted = {
        (d, r, floor) for d, r in zip(methods["domain"], methods["round"], strict=True) for floor in FLOORS
    }
    missing = wanted - set(zip(floors["domain"], floors["round"], floors["method"], strict=True))
    return AssetCheckResult(
        passed=not missing,
        description=f"{len(missing)} floors missing",
        metadata={"floors": len(wanted), "missing": len(missing)},
    )


@check("mae_table")
def methods_beat_the_median(mae_table: pd.DataFrame) -> AssetCheckResult:
    """Whether any method's macro average lies under the user's own median at the last round (a warning)."""
    last = mae_table[(mae_table["domain"] == "macro") & (mae_table["round"] == ROUNDS)].set_index("method")[
        "mae"
    ]
    floor = last.get("floor_user_median")
    best = last[~last.index.isin(list(FLOORS))].dropna()
    if best.empty or floor is None:
        return AssetCheckResult(
            passed=True, severity=AssetCheckSeverity.WARN, description="no figure at round 4"
        )
    return AssetCheckResult(
        passed=bool(best.min() < floor),
        severity=AssetCheckSeverity.WARN,
        description=f"best method {best.idxmin()} {best.min():.3f}, the user's median {floor:.3f}",
        metadata={
            "best": float(best.min()),
            "floor_user_median": float(floor),
            "best minus floor_user_median": float(best.min() - floor),
        },
    )
