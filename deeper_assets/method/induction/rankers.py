"""Rankers of what somebody does next: floors without text, and what a user's personas say of the items.

A ranker gives every item a score. It knows what the user has done so far and what others have done, and
nothing of the next window. What is like the user and what is popular are mixed by one rule: the score is the
logarithm of the popularity (one is added, so that it is never none) plus the likeness divided by a
temperature, as if a popular item were taken with a probability that its likeness makes larger. The
temperature is the one of TEMPERATURES with the highest NDCG@10 over the next windows of others. They stand
close together: of few, each ranker takes one that is not its best, and which ones lose by that is chance.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeper_assets.method.induction.clusters import Vectors
from deeper_assets.method.induction.ranking import MEASURES, Scores, measures
from deeper_assets.method.induction.turns import Crowd, Turn, Turns

TEMPERATURES = tuple(round(0.1 * 2 ** (step / 2), 3) for step in range(11))
"""From 0.1, where likeness goes before popularity, to 3.2, where it hardly counts."""

Likeness = Callable[[Turn], Scores | None]
"""How like a user each item is, 1 at most; None where nothing is known of the user."""


@dataclass(frozen=True)
class Row:
    """How one ranker ranked one turn, in the order of MEASURES; see next_item_scores for the rest."""

    turn: Turn
    ranker: str
    catalogue: int
    unseen: int
    measured: Scores
    fallback: bool
    temperature: float | None


def popularity(turn: Turn, crowd: Crowd) -> Scores:
    """Events of others, by item."""
    return crowd.popularity(turn.user_id)


def repeats(turn: Turn, crowd: Crowd) -> Scores:
    """The user's own items, the more frequent the sooner; then what is popular."""
    popular = crowd.popularity(turn.user_id)
    scores: Scores = _counts(turn, len(popular)) * (popular.max(initial=0) + 1) + popular
    return scores


def item_knn(turn: Turn, crowd: Crowd) -> Scores:
    """The sum of each item's cosines to the user's own items, over who had which (Sarwar and others, 2001).

    All items are neighbours, each also of itself, because in logs things come again. Cosines of all pairs are
    never written down: the sum is two products of a sparse matrix and a vector.
    """
    had, row = crowd.had, crowd.rows.get(turn.user_id)
    users = np.asarray(had.sum(axis=0)) - (crowd.own(turn.user_id) > 0)
    scale = np.divide(1, np.sqrt(users), out=np.zeros_like(users), where=users > 0)
    own = (_counts(turn, len(users)) > 0).astype(np.float64)
    shared = had @ (own * scale)
    if row is not None:
        shared[row] = 0
    return np.asarray(scale * (had.T @ shared))


FLOORS: Mapping[str, Callable[[Turn, Crowd], Scores]] = {
    "popularity": popularity,
    "repeats": repeats,
    "item_knn": item_knn,
}


def nearest(centres: Vectors, items: Vectors) -> Scores | None:
    """The cosine of each item to the nearest of these centres; None where there is none of length 1."""
    told = centres[centres.any(axis=1)]
    return np.asarray((told @ items.T).max(axis=0)) if len(told) else None


def rank(
    turns: Turns, alone: Mapping[str, Likeness], mixed: Mapping[str, Likeness], floors: Iterable[str]
) -> list[Row]:
    """How every ranker ranks every turn that is asked.

    Args:
        turns: what is learned from, and what is asked.
        alone: ranker → the likeness by which it ranks; where that is not known, it ranks by popularity.
        mixed: ranker → the likeness that it mixes with popularity.
        floors: names of others, out of FLOORS.
    """
    best = _Practice.of(turns, mixed)
    rows = []
    for turn in turns.asked:
        popular = popularity(turn, turns.crowd)
        scored = [_Scored(name, FLOORS[name](turn, turns.crowd)) for name in floors]
        for name, likeness in alone.items():
            like = likeness(turn)
            scored.append(_Scored(name, popular if like is None else like, like is None))
        for name, likeness in mixed.items():
            like, temperature = likeness(turn), best.temperature(name, turn.user_id)
            mix = mixtures(popular, like, [temperature])[0]
            scored.append(_Scored(name, mix, like is None, temperature))
        ranked = catalogue(turn, popular, turns.once)
        measured = measures(np.stack([one.scores for one in scored]), ranked, turn.ahead)
        counted = int(ranked.sum()), int((~ranked[turn.ahead]).sum())
        rows += [
            Row(turn, one.ranker, *counted, figures, one.fallback, one.temperature)
            for figures, one in zip(measured, scored, strict=True)
        ]
    return rows


@dataclass(frozen=True)
class _Scored:
    """The scores of a ranker for one turn."""

    ranker: str
    scores: Scores
    fallback: bool = False
    temperature: float | None = None


@dataclass(frozen=True)
class _Practice:
    """The sums of NDCG@10 over practice turns: rankers × temperatures, of everybody and of each user."""

    rankers: Sequence[str]
    every: Scores
    own: Mapping[str, Scores]

    @classmethod
    def of(cls, turns: Turns, mixed: Mapping[str, Likeness]) -> "_Practice":
        shape = len(mixed), len(TEMPERATURES)
        own: dict[str, Scores] = {}
        for turn in turns.practice if mixed else ():
            popular = popularity(turn, turns.crowd)
            mixes = [mixtures(popular, likeness(turn), TEMPERATURES) for likeness in mixed.values()]
            ranked = catalogue(turn, popular, turns.once)
            gained = measures(np.concatenate(mixes), ranked, turn.ahead)[:, MEASURES.index("ndcg_10")]
            own[turn.user_id] = own.get(turn.user_id, np.zeros(shape)) + np.nan_to_num(gained).reshape(shape)
        return cls(list(mixed), sum(own.values(), np.zeros(shape)), own)

    def temperature(self, ranker: str, user: str) -> float:
        """The one that was best for everybody but this user, the lowest of equal ones."""
        gained = (self.every - self.own.get(user, 0))[self.rankers.index(ranker)]
        return TEMPERATURES[int(np.argmax(np.round(gained, 9)))]


def mixtures(popular: Scores, like: Scores | None, temperatures: Sequence[float]) -> Scores:
    """Popularity with likeness, where it is known, at each temperature: temperatures × items."""
    given = np.zeros_like(popular) if like is None else like
    return np.stack([np.log(popular + 1) + given / temperature for temperature in temperatures])


def catalogue(turn: Turn, popular: Scores, once: bool) -> npt.NDArray[np.bool_]:
    """The items that are ranked: those of others, with the user's own so far, or without what comes once."""
    own = _counts(turn, len(popular)) > 0
    return np.asarray((popular > 0) & ~own if once else (popular > 0) | own)


def _counts(turn: Turn, items: int) -> Scores:
    return np.bincount(turn.so_far, minlength=items).astype(np.float64)
