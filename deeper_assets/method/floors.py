"""Floors: predictors that read no text at all.

Not in the paper, and the reason they stand in every table here: a user's own median rating already has a
lower error than the paper's refined personas, so an error without its floors says little.
"""

from collections.abc import Callable

import pandas as pd

from deeper_assets.method.domains import Scale

FLOORS: dict[str, str] = {
    "floor_constant": "the scale's highest mark for everything",
    "floor_user_mean": "the mean of the user's ratings in all windows before the predicted one",
    "floor_user_median": "the median of the user's ratings in all windows before the predicted one",
}


def floor_errors(windows: pd.DataFrame, domain: str, scale: Scale, rounds: int) -> pd.DataFrame:
    """The errors of every floor on the windows that the rounds predict.

    Args:
        windows: ratings of the users to evaluate: user_id, window (0-based), rating (rating points).
        domain: name of their domain.
        scale: the domain's scale.
        rounds: last round; round r predicts window r + 1 from windows 0 … r.

    Returns:
        One row a floor, user and round whose window exists: domain, method, user_id, round, error.
    """
    columns = ["domain", "method", "user_id", "round", "error"]
    summaries: dict[str, Callable[[pd.Series], float]] = {
        "floor_constant": lambda _: scale.highest,
        "floor_user_mean": lambda before: float(before.mean()),
        "floor_user_median": lambda before: float(before.median()),
    }
    rows = []
    for user, ratings in windows.groupby("user_id", sort=True):
        for round_ in range(rounds + 1):
            before = ratings.loc[ratings["window"] <= round_, "rating"]
            predicted = ratings.loc[ratings["window"] == round_ + 1, "rating"]
            if before.empty or predicted.empty:
                continue
            for name, summary in summaries.items():
                error = float((predicted - summary(before)).abs().mean())
                rows.append((domain, name, user, round_, error))
    return pd.DataFrame(rows, columns=columns)
