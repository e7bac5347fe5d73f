"""What a set of personas is worth by its vectors: components of a reward, apart so that a recipe weighs them.

Cohesion is what the paper's abstract names; separation, lift and recurrence are this project's. Cohesion is
highest for personas of a single memory, which separation gives nothing. What comes after is known of training
users only, and stands in no prompt.
"""

from collections.abc import Sequence

import numpy as np

from deeper_assets.method.induction.clusters import Counts, Vectors

Places = Sequence[Counts]
"""The personas of a set: of each, the places of its memories among the user's."""


def cohesion(vectors: Vectors, personas: Places) -> float:
    """How alike the memories of a persona are: the mean cosine of two of them, over personas; −1 to 1.

    A lone memory is like itself: 1. An empty set has 0.
    """
    alike = []
    for places in personas:
        own, number = vectors[places], len(places)
        total = float(np.square(own.sum(axis=0)).sum() - np.square(own).sum())
        alike.append(total / (number * (number - 1)) if number > 1 else 1.0)
    return float(np.mean(alike)) if alike else 0.0


def separation(vectors: Vectors, personas: Places) -> float:
    """How much nearer its memories are to their own persona than to another: mean silhouette, −1 to 1.

    Of cosine distances (Rousseeuw 1987). A lone memory has 0, and so has a set of a single persona or none.
    """
    from sklearn.metrics import silhouette_score

    held = np.concatenate([np.zeros(0, dtype=np.int64), *personas])
    if not 2 <= len(personas) < len(held):
        return 0.0
    labels = np.repeat(np.arange(len(personas)), [len(places) for places in personas])
    distances = np.clip(1 - vectors[held] @ vectors[held].T, 0, None)
    np.fill_diagonal(distances, 0)
    return float(silhouette_score(distances, labels, metric="precomputed"))


def covered(centres: Vectors, vectors: Vectors, events: Counts, reach: float) -> float:
    """The share of the events whose memories are near some centre, 0 to 1; 0 where there are no events."""
    near = (centres @ vectors.T >= reach).any(axis=0)
    return float((near * events).sum() / max(events.sum(), 1))


def lift(
    centres: Vectors, after: tuple[Vectors, Counts], others: Sequence[tuple[Vectors, Counts]], reach: float
) -> float:
    """How much more of what the person does next is near a persona than of what others do then; −1 to 1.

    Args:
        centres: of the personas.
        after: the person's memories of the next window, and how many events each cites.
        others: the same of other people.
        reach: cosine similarity from which memories are near a persona; see `Embedder`.
    """
    theirs = [covered(centres, *one, reach) for one in others]
    return covered(centres, *after, reach) - (float(np.mean(theirs)) if theirs else 0.0)


def recurrence(centres: Vectors, after: Vectors, reach: float) -> float:
    """The share of the personas that show in the next window, 0 to 1; 0 of an empty set.

    One that is within reach of an earlier one of the set repeats it, and counts as one that does not show.
    """
    if not len(centres):
        return 0.0
    alike = np.tril(centres @ centres.T >= reach, -1).any(axis=1)
    shows = (centres @ after.T >= reach).any(axis=1)
    return float((shows & ~alike).mean())
