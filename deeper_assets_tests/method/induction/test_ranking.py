from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from deeper_assets.method.induction.ranking import measures

ALL = np.ones(3, dtype=bool)


def ranked(scores: list[float], ahead: list[int], catalogue: list[bool] | None = None) -> list[float]:
    there = np.ones(len(scores), dtype=bool) if catalogue is None else np.array(catalogue)
    return [float(value) for value in measures(np.array([scores]), there, np.array(ahead, dtype=np.int64))[0]]


def test_each_item_is_asked_for_by_itself() -> None:
    assert ranked([3, 2, 1], [0]) == [1, 1, 1]
    assert ranked([3, 2, 1], [1]) == pytest.approx([1, 1 / log2(3), 1 / 2])
    assert ranked([3, 2, 1], [0, 2]) == pytest.approx([1, (1 + 1 / log2(4)) / 2, (1 + 1 / 3) / 2])
    assert ranked([float(-place) for place in range(20)], [10, 9]) == pytest.approx(
        [1 / 2, 1 / log2(11) / 2, (1 / 11 + 1 / 10) / 2]
    )


def test_a_tie_counts_as_its_mean_over_all_orders() -> None:
    assert ranked([1, 1, 1], [0]) == pytest.approx(
        [1, (1 + 1 / log2(3) + 1 / 2) / 3, (1 + 1 / 2 + 1 / 3) / 3]
    )
    assert ranked([0.0] * 40, [7])[0] == pytest.approx(10 / 40)
    assert ranked([0.1 + 0.2, 0.3, 0.0], [0]) == ranked([0.3, 0.3, 0.0], [0]), "but for the last bits"


def test_what_is_not_in_the_catalogue_is_neither_ranked_nor_asked_for() -> None:
    assert ranked([9, 2, 1], [0, 1], [False, True, True]) == [1, 1, 1]
    assert np.isnan(ranked([9, 2, 1], [0], [False, True, True])).all()


@given(some.lists(some.integers(0, 4), min_size=2, max_size=30), some.randoms())
def test_the_order_of_items_changes_nothing(scores: list[int], chance: object) -> None:
    order = list(range(len(scores)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    mixed = [float(scores[place]) for place in order]
    assert ranked(mixed, [order.index(0)]) == pytest.approx(ranked([float(one) for one in scores], [0]))


def test_rankings_are_measured_row_by_row() -> None:
    both = measures(np.array([[3.0, 2, 1], [1, 2, 3]]), ALL, np.array([0]))
    assert both[:, 2].tolist() == pytest.approx([1, 1 / 3])
