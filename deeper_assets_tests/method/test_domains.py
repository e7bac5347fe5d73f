"""Scales: shares of them, and the marks that these come to."""

import pytest

from deeper_assets.method.domains import Scale


def test_a_share_lies_between_the_lowest_mark_and_the_highest() -> None:
    scale = Scale(1, 5, 0.5)
    assert [scale.share(rating) for rating in (1, 2, 4.5, 5)] == [0.0, 0.25, 0.875, 1.0]


@pytest.mark.parametrize(
    ("share", "mark"),
    [(0, 1), (0.1, 1), (0.125, 2), (0.5, 3), (0.875, 5), (1, 5), (-0.3, 1), (1.4, 5)],
)
def test_a_share_comes_to_the_nearest_mark_and_of_two_to_the_higher(share: float, mark: float) -> None:
    assert Scale(1, 5, 1).mark_at(share) == mark
