"""Clusters of one user's memories, and whether a cluster is more than chance.

A persona is kept only if more of what the user did is about it than of what other people did. Without that,
noise makes personas of everybody, also of people who wander. Events are counted, not memories: a session has
one memory of a theme, however much of it was about that. Events of one session are often about one thing,
whoever the person; `design_effect` says for how many independent ones they count.
"""

from collections.abc import Sequence

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


def members_of(labels: Counts) -> list[Counts]:
    """The places of each cluster's memories."""
    return [np.flatnonzero(labels == number) for number in range(int(labels.max(initial=-1)) + 1)]


def centres_of(vectors: Vectors, groups: Sequence[Counts]) -> Vectors:
    """The mean direction of each group of memories (their places): groups × dimensions, of length 1 or 0."""
    sums = [vectors[places].sum(axis=0) for places in groups]
    return of_unit_length(np.array(sums, dtype=np.float64).reshape(len(groups), vectors.shape[1]))


def of_unit_length(vectors: Vectors) -> Vectors:
    """The directions of vectors, each of length 1; of length 0 where there is none."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-12))


def near_events(centres: Vectors, vectors: Vectors, events: Counts, reach: float) -> Counts:
    """Of each centre, how many events the memories near it (`reach`: cosine similarity) cite: centres."""
    return np.asarray((centres @ vectors.T >= reach) @ events, dtype=np.int64)


def design_effect(labels: Sequence[Counts], sessions: Sequence[Counts], events: Sequence[Counts]) -> float:
    """By how much the events of a session say less than as many on their own (Kish 1965): 1 or more.

    Events of one session are of one cluster more often than events of two sessions of the same person: that
    excess, over what is left to 1, is their correlation ρ. The effect is 1 + (m - 1) ρ, with m the events of
    the session in which an event stands, on average.

    Args:
        labels: of each person, the cluster of each memory.
        sessions: of each person, the session of each memory.
        events: of each person, how many events each memory cites.
    """
    pairs, within, alike_pairs, alike_within, total = (0.0,) * 5
    for own, session, cited in zip(labels, sessions, events, strict=True):
        by_cluster = np.bincount(own, cited)
        by_session = np.bincount(session, cited)
        both = np.bincount(np.ravel_multi_index((session, own), (len(by_session), len(by_cluster))), cited)
        total += cited.sum()
        within += (by_session**2).sum() - cited.sum()
        alike_within += (both**2).sum() - cited.sum()
        pairs += cited.sum() ** 2 - (by_session**2).sum()
        alike_pairs += (by_cluster**2).sum() - (both**2).sum()
    if not within or not pairs or alike_pairs == pairs:
        return 1.0
    apart = alike_pairs / pairs
    correlation = max((alike_within / within - apart) / (1 - apart), 0.0)
    return float(1 + within / total * correlation)


def p_values(near: Counts, events: int, chances: Shares, effect: float) -> Shares:
    """Of each centre, how likely as many of so many events would be near it by chance.

    The binomial distribution, continued between whole numbers: events count as so many fewer as the
    `effect` of their sessions says.
    """
    from scipy.special import betainc

    left = (events - near) / effect
    return np.where(near > 0, betainc(np.maximum(near / effect, 1e-9), left + 1, chances), 1.0)


def discovered(values: Shares, rate: float) -> npt.NDArray[np.bool_]:
    """Which are more than chance at this rate of false discoveries (Benjamini and Hochberg)."""
    from scipy.stats import false_discovery_control

    if not len(values):
        return np.zeros(0, dtype=bool)
    return np.asarray(false_discovery_control(values) <= rate)
