"""Floors: predictors that read no text at all.

Not in the paper. A user's own median rating already has a lower error than the paper's refined personas, so
an error means little without its floors, and every table here has them.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from deeper_assets.method.domains import Scale
from deeper_assets.method.rounds import ROUNDS

FLOORS: dict[str, str] = {
    "floor_constant": "the scale's highest mark for everything",
    "floor_user_mean": "the mean of the user's ratings in all windows before the predicted one",
    "floor_user_median": "the median of the user's ratings in all windows before the predicted one",
}


COLUMNS = ["domain", "method", "user_id", "round", "error"]


def floors_of_rounds(windows: pd.DataFrame, scales: Mapping[str, Scale]) -> pd.DataFrame:
    """The errors of every floor on the windows that the rounds of evaluation predict.

    Args:
        windows: rating_windows rows of any number of domains; training users are left out here.
        scales: the scale of each domain.

    Returns:
        `floor_errors` of all domains, by domain.
    """
    evaluated = windows[windows["split"] == "eval"]
    parts = [
        floor_errors(rows, str(name), scales[str(name)], ROUNDS)
        for name, rows in evaluated.groupby("domain", sort=True)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


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
    rows: list[tuple[str, str, object, int, float]] = []
    ordered = windows.sort_values(["user_id", "window"], kind="stable")
    for user, history in ordered.groupby("user_id", sort=True):
        window, rating = history["window"].to_numpy(), history["rating"].to_numpy(dtype=float)
        starts = np.searchsorted(window, np.arange(rounds + 3))  # window w is rating[starts[w]:starts[w + 1]]
        for round_ in range(rounds + 1):
            before = rating[: starts[round_ + 1]]
            predicted = rating[starts[round_ + 1] : starts[round_ + 2]]
            if before.size and predicted.size:
                guesses = (scale.highest, before.mean(), np.median(before))
                for name, guess in zip(FLOORS, guesses, strict=True):
                    rows.append((domain, name, user, round_, float(np.abs(predicted - guess).mean())))
    return pd.DataFrame(rows, columns=COLUMNS)
