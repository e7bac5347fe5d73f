"""Floors: predictors that read no text at all.

Not in the paper. A user's own median rating already has a lower error than the paper's refined personas, so
an error means little without its floors, and every table here has them.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from deeper_assets.method.domains import Scale
from deeper_assets.method.rounds import ROUNDS

MEDIAN = "floor_user_median"
"""The lowest of them where users rate as they are used to."""

FLOORS: dict[str, str] = {
    "floor_constant": "the scale's highest mark for everything",
    "floor_user_mean": "the mean of the user's ratings in all windows before the predicted one",
    MEDIAN: "the median of the user's ratings in all windows before the predicted one",
}


def floor_errors(windows: pd.DataFrame, scales: Mapping[str, Scale]) -> pd.DataFrame:
    """The errors of every floor on what the rounds predict: round r window r + 1, from windows 0 … r.

    Args:
        windows: rating_windows rows of any number of domains; training users are left out here.
        scales: the scale of each domain.

    Returns:
        One row a floor, evaluation user and round whose window exists: domain, method, user_id, round, error
        (rating points); by domain and user.
    """
    rows: list[tuple[object, ...]] = []
    ordered = windows[windows["split"] == "eval"].sort_values(["domain", "user_id", "window"], kind="stable")
    for (domain, user), history in ordered.groupby(["domain", "user_id"], sort=True):
        window, rating = history["window"].to_numpy(), history["rating"].to_numpy(dtype=float)
        starts = np.searchsorted(window, np.arange(ROUNDS + 3))  # window w is rating[starts[w]:starts[w + 1]]
        for round_ in range(ROUNDS + 1):
            before = rating[: starts[round_ + 1]]
            predicted = rating[starts[round_ + 1] : starts[round_ + 2]]
            if before.size and predicted.size:
                guesses = (scales[str(domain)].highest, before.mean(), np.median(before))
                for name, guess in zip(FLOORS, guesses, strict=True):
                    rows.append((domain, name, user, round_, float(np.abs(predicted - guess).mean())))
    return pd.DataFrame(rows, columns=["domain", "method", "user_id", "round", "error"])
