"""Whether predictions tell a user's items apart: the order of pairs, within one user's window.

Not in the paper. An error can be low without telling one item from another: a single mark for everything has
the error of a floor. So pairs of items that the user rated differently are looked at: how often the higher
one is predicted higher. A pair that is predicted equal is a tie; ties are left out of that accuracy, and
their share is told beside it.

The accuracy is (γ + 1) / 2 of Goodman and Kruskal's γ, which scipy does not have. Its `kendalltau` and
`somersd` take one user a call and do not give the counts, so the pairs of all windows are counted at once.
"""

import numpy as np
import pandas as pd

COUNTS = ["pairs", "pairs_right", "pairs_tied"]
FIGURES = ["users_ordered", "pairwise_accuracy", "ties"]


def pair_counts(rated: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The pairs of each predicted window.

    Args:
        rated: one row a predicted rating: `keys`, predicted and rating (rating points; predicted NaN where
            the answer was unreadable).
        keys: columns that name one predicted window.

    Returns:
        One row a window, by its keys: keys, pairs (of items rated differently), pairs_right (of these, those
        predicted in the same order), pairs_tied (those predicted equal). The last two are NaN where any of
        the window's predictions is unknown.
    """
    grouped = rated.groupby(keys, sort=True)
    window, place = grouped.ngroup().to_numpy(), grouped.cumcount().to_numpy()
    names = grouped.size().index.to_frame(index=False)
    # A row a window, as wide as the longest of them; the places that a shorter one lacks are NaN.
    actual = np.full((len(names), place.max(initial=0) + 1), np.nan)
    predicted = actual.copy()
    actual[window, place] = rated["rating"].to_numpy(dtype=float)
    predicted[window, place] = rated["predicted"].to_numpy(dtype=float)
    one, other = np.triu_indices(actual.shape[1], k=1)
    given, guess = (np.sign(values[:, one] - values[:, other]) for values in (actual, predicted))
    differ = np.abs(given) == 1  # not where a place is missing
    known = np.isnan(predicted).sum(axis=1) == np.isnan(actual).sum(axis=1)
    return names.assign(
        pairs=differ.sum(axis=1),
        pairs_right=np.where(known, (differ & (given == guess)).sum(axis=1), np.nan),
        pairs_tied=np.where(known, (differ & (guess == 0)).sum(axis=1), np.nan),
    )


def own_accuracy(errors: pd.DataFrame) -> "pd.Series[float]":
    """The share (0–1) of pairs in the right order, of those that are predicted unequal; NaN without any.

    Args:
        errors: pairs, pairs_right and pairs_tied, one row a user and round.
    """
    counts = errors[COUNTS].astype("float64")  # stored whole numbers have a type of their own for unknown
    decided = counts["pairs"] - counts["pairs_tied"]
    return counts["pairs_right"] / decided.where(decided > 0)


def order_by_round(errors: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Means over users of how they are ordered; a user counts by the share of the user's own pairs.

    Args:
        errors: one row a user and round: `keys`, pairs, pairs_right and pairs_tied (NaN where unknown).
        keys: columns that name what is averaged over users.

    Returns:
        keys; users_ordered, who have a pair that is predicted unequal; pairwise_accuracy, their mean (NaN
        without any); ties, the mean share of tied pairs of all users who have a pair and a known prediction.
    """
    counts = errors[COUNTS].astype("float64")
    tied = counts["pairs_tied"] / counts["pairs"].where(counts["pairs"] > 0)
    shares = errors[keys].assign(accuracy=own_accuracy(errors), tied=tied)
    grouped = shares.groupby(keys, sort=True)
    return grouped.agg(
        users_ordered=("accuracy", "count"), pairwise_accuracy=("accuracy", "mean"), ties=("tied", "mean")
    ).reset_index()
