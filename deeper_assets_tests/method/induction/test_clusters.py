import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.method.induction.clusters import (
    centres_of,
    clusters_of,
    design_effect,
    discovered,
    members_of,
    near_events,
    p_values,
)

EAST, NORTH, NOWHERE = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]


def test_memories_that_point_the_same_way_are_one_cluster_and_unknown_ones_are_alone() -> None:
    nearly_east = [np.cos(0.3), np.sin(0.3)]
    labels = clusters_of(np.array([EAST, NOWHERE, NORTH, nearly_east, NOWHERE, NORTH]), 0.5)
    assert list(labels) == [0, 1, 2, 0, 3, 2]


@pytest.mark.parametrize("vectors", [np.zeros((0, 2)), np.zeros((1, 2)), np.array([EAST])])
def test_none_and_one_make_as_many_clusters(vectors: np.ndarray) -> None:
    assert list(clusters_of(vectors, 0.5)) == list(range(len(vectors)))
    assert len(centres_of(vectors, members_of(clusters_of(vectors, 0.5)))) == len(vectors)


def test_a_centre_is_the_mean_direction() -> None:
    centres = centres_of(np.array([EAST, NORTH, NOWHERE]), [np.array([0, 1]), np.array([2])])
    assert centres == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], NOWHERE]))


def test_events_near_a_centre_are_those_of_memories_within_reach() -> None:
    at_60_degrees, further = [0.5, 0.75**0.5], [0.49, 0.87]
    vectors = np.array([EAST, at_60_degrees, further, NOWHERE])
    assert list(near_events(np.array([EAST, NOWHERE]), vectors, np.array([1, 10, 100, 1000]), 0.5)) == [11, 0]


def test_p_values_are_binomial() -> None:
    # 2 of 2 at one half; at least 1 of 2; at least none; 3 of 10 at 0.1 by the tables
    values = p_values(np.array([2, 1, 0]), 2, np.array([0.5, 0.5, 0.5]), 1.0)
    assert values == pytest.approx([0.25, 0.75, 1.0])
    assert p_values(np.array([3]), 10, np.array([0.1]), 1.0) == pytest.approx([0.0702], abs=1e-4)


def test_events_that_come_in_pairs_count_half() -> None:
    halved = p_values(np.array([4, 0]), 8, np.array([0.3, 0.3]), 2.0)
    assert halved == pytest.approx(p_values(np.array([2, 0]), 4, np.array([0.3, 0.3]), 1.0))


@pytest.mark.parametrize(
    ("labels", "sessions", "cited", "effect"),
    [
        # Two sessions of two events, each about one thing: two events say as much as one.
        ([0, 1], [0, 1], [2, 2], 2.0),
        # Both sessions are about both things, one event each: no correlation, or a negative one.
        ([0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1], 1.0),
        # 0: four of A; 1: two of A, two of B. Alike within: 16 of 24; apart: 2·4·2 of 32, so ρ = 1/3.
        ([0, 0, 1], [0, 1, 1], [4, 2, 2], 1 + 3 * (2 / 3 - 1 / 2) / (1 - 1 / 2)),
        # A single session, and nothing at all, say nothing of how sessions differ.
        ([0, 0], [0, 0], [3, 3], 1.0),
        ([], [], [], 1.0),
    ],
)
def test_the_effect_of_sessions(
    labels: list[int], sessions: list[int], cited: list[int], effect: float
) -> None:
    one = [np.array(labels, dtype=np.int64)], [np.array(sessions, dtype=np.int64)]
    assert design_effect(*one, [np.array(cited, dtype=np.int64)]) == pytest.approx(effect)


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    values = np.array([0.01, 0.04, 0.03, 0.9])
    # sorted: 0.01 <= 0.05 / 4, 0.03 > 0.1 / 4, 0.04 > 0.15 / 4
    assert list(discovered(values, 0.05)) == [True, False, False, False]
    assert list(discovered(values, 0.06)) == [True, True, True, False]
    assert list(discovered(np.zeros(0), 0.5)) == []


@given(st.permutations(range(6)))
def test_the_order_of_memories_changes_no_cluster(order: list[int]) -> None:
    vectors = np.array([EAST, NORTH, EAST, [-1.0, 0.0], NORTH, NOWHERE])
    same = np.equal.outer(clusters_of(vectors, 0.5), clusters_of(vectors, 0.5))
    shuffled = clusters_of(vectors[order], 0.5)
    assert (np.equal.outer(shuffled, shuffled) == same[np.ix_(order, order)]).all()
