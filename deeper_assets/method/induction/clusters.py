"""Clusters of one user's memories, and whether a cluster is more than chance.

A persona is kept only if more of what the user did is about it than of what other people did. Without that,
noise makes personas of everybody, also of people who wander. Events are counted, not memories: a session has
one memory of a theme, however much of it was about that.
"""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

Vectors = npt.NDArray[np.float64]
"""Memories × dimensions, each of length 1; of length 0 where nothing is known of a memory."""

FEWEST_SESSIONS = 2
"""In which a persona shows. What came once is no side of a person."""


def clusters_of(vectors: Vectors, reach: float) -> Counts:
    """The cluster (0-based) of each memory, by average linkage; one that is unknown is alone in its own.

    Clusters are joined while their memories have the cosine similarity `reach` on average.
    """
    from sklearn.cluster import AgglomerativeClustering

    known = np.flatnonzero(vectors.any(axis=1))
    labels = np.arange(len(vectors))
    if len(known) > 1:
        linked = AgglomerativeClustering(
            None, metric="cosine", linkage="average", distance_threshold=1 - reach
        )
        labels[known] = known[_firsts(linked.fit_predict(vectors[known]))]
    return np.unique(labels, return_inverse=True)[1]


def _firsts(labels: Counts) -> Counts:
    """Of each place, the first one with the same label."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse]


def centres_of(vectors: Vectors, labels: Counts) -> Vectors:
    """The mean direction of each cluster's memories: clusters × dimensions, of length 1 or 0."""
    sums = np.zeros((int(labels.max(initial=-1)) + 1, vectors.shape[1]))
    np.add.at(sums, labels, vectors)
    return of_unit_length(sums)


def of_unit_length(vectors: Vectors) -> Vectors:
    """The directions of vectors, each of length 1; of length 0 where there is none."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-12))


def near_events(centres: Vectors, vectors: Vectors, events: Counts, reach: float) -> Counts:
    """Of each centre, how many events the memories near it (`reach`: cosine similarity) cite: centres."""
    return np.asarray((centres @ vectors.T >= reach) @ events, dtype=np.int64)


def p_values(near: Counts, events: int, chances: Shares) -> Shares:
    """Of each centre, how likely as many of so many events would be near it by chance (binomial)."""
    from scipy.stats import binom

    return np.asarray(binom.sf(near - 1, events, chances))


def discovered(values: Shares, rate: float) -> npt.NDArray[np.bool_]:
    """Which are more than chance at this rate of false discoveries (Benjamini and Hochberg)."""
    from scipy.stats import false_discovery_control

    if not len(values):
        return np.zeros(0, dtype=bool)
    return np.asarray(false_discovery_control(values) <= rate)
