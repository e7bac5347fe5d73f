"""Rewards (Section 3.2): what one refinement improves on the previous, the current and the future window.

Each component is the error of the old persona minus the error of the new one on one window, in rating points.
They are kept apart, so that a recipe weighs them; a component is unknown where either error is.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deeper_assets.method.candidates import sampled_for
from deeper_assets.method.errors import window_errors

COMPONENTS = ("reward_previous", "reward_current", "reward_future")
"""In the order of the windows W(t-1), W(t), W(t+1) and of a recipe's weights."""

DECIMALS = 9
"""To which rewards are compared: errors are tenths, which floating point cannot tell from 0.0999…98."""


def rewards(
    candidates: pd.DataFrame,
    context_predictions: pd.DataFrame,
    candidate_predictions: pd.DataFrame,
    windows: pd.DataFrame,
) -> pd.DataFrame:
    """The three rewards of every candidate.

    Args:
        candidates: candidates rows of one domain.
        context_predictions: what the old personas predict, by user, round and window.
        candidate_predictions: what the candidates predict, by user, round, candidate and window.
        windows: rating_windows rows of the domain.

    Returns:
        rewards rows, one a candidate, by user, round and candidate: COMPONENTS in rating points, NaN where
        a window is missing or one of its two errors is unknown; an unusable candidate has no known reward.
    """
    context = [*sampled_for(candidates), "user_id", "round"]
    keys = [*context, "candidate"]
    scored = candidates[keys].sort_values(keys, ignore_index=True)
    before = window_errors(context_predictions, windows, [*context, "window"])
    after = window_errors(candidate_predictions, windows, [*keys, "window"])
    for offset, component in zip((-1, 0, 1), COMPONENTS, strict=True):
        wanted = scored.assign(window=scored["round"] + offset)
        old = wanted.merge(before, on=[*context, "window"], how="left")["error"]
        new = wanted.merge(after, on=[*keys, "window"], how="left")["error"]
        scored[component] = (old - new).astype("float64")
    return scored


def total(rewards: pd.DataFrame, weights: tuple[float, float, float]) -> "pd.Series[float]":
    """The weighted sum of the components: a candidate's reward, rating points, to DECIMALS.

    Args:
        rewards: rows with COMPONENTS.
        weights: of the previous, current and future window.

    Returns:
        One value a row; NaN where a component of a weight other than 0 is unknown.
    """
    return weighted(rewards, COMPONENTS, weights)


def weighted(
    rewards: pd.DataFrame, components: Sequence[str], weights: Sequence[float]
) -> "pd.Series[float]":
    """The weighted sum of columns, to DECIMALS; NaN where one of a weight other than 0 is unknown."""
    parts = [weight * rewards[name] for name, weight in zip(components, weights, strict=True) if weight]
    return pd.Series(np.sum(parts, axis=0), rewards.index, dtype="float64").round(DECIMALS)
