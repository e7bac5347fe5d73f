"""How well a ranking of the catalogue foresees what somebody does next: Hit@10, NDCG@10 and MRR.

Every item of the next window is asked for by itself, against the whole catalogue, and the window has the mean
over its items. Nothing is sampled: against a few sampled items other rankers win (Krichene and Rendle, 2020).
Items that are scored alike stand in every order as likely as in any other. So a tie counts as its mean over
all orders, and never in favour of what came next.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
"""Of items in the catalogue, 0-based."""

Scores = npt.NDArray[np.float64]

MEASURES = ("hit_10", "ndcg_10", "mrr")

FIRST = 10
"""Ranks, from the top, that Hit@10 and NDCG@10 look at."""

_DIGITS = 9
"""Scores that differ by less are equal: sums of the same numbers differ in their last bits."""


def measures(scores: Scores, catalogue: npt.NDArray[np.bool_], ahead: Places) -> Scores:
    """The means of MEASURES over the items that came next: rankings × measures.

    Args:
        scores: rankings × items, the higher the sooner.
        catalogue: which of the items are ranked.
        ahead: the items that came next, each once; those that are not ranked are left out.

    Returns:
        NaN where none of them is ranked.
    """
    asked = ahead[catalogue[ahead]]
    if not len(asked):
        return np.full((len(scores), len(MEASURES)), np.nan)
    rounded = np.round(scores, _DIGITS)
    gains = _gains_up_to(int(catalogue.sum()))
    return np.stack([_expected(np.sort(row[catalogue]), row[asked], gains) for row in rounded])


def _expected(ranked: Scores, asked: Scores, gains: Scores) -> Scores:
    """The mean gains of these scores among `ranked` ones, which are in ascending order."""
    last = len(ranked) - np.searchsorted(ranked, asked, side="left")
    before = len(ranked) - np.searchsorted(ranked, asked, side="right")
    means: Scores = ((gains[:, last] - gains[:, before]) / (last - before)).mean(axis=1)
    return means


@lru_cache(maxsize=8)
def _gains_up_to(items: int) -> Scores:
    """What the ranks 1 … n give together, for n from 0 on: measures × (items + 1)."""
    rank = np.arange(1, items + 1)
    near = rank <= FIRST
    each = np.stack([near, near / np.log2(rank + 1), 1 / rank])
    return np.pad(np.cumsum(each, axis=1), ((0, 0), (1, 0)))
