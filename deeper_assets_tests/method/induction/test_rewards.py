import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.method.induction.clusters import centres_of
from deeper_assets.method.induction.rewards import cohesion, covered, lift, recurrence, separation

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
TWO = np.array([EAST, EAST, NORTH, NORTH])


def sets(*personas: list[int]) -> list[np.ndarray]:
    return [np.array(places, dtype=np.int64) for places in personas]


def test_cohesion_is_the_mean_cosine_of_two_memories_over_personas() -> None:
    assert cohesion(TWO, sets([0, 1], [2, 3])) == pytest.approx(1.0)
    # of 0, 1, 2: cosines 1, 0, 0
    assert cohesion(TWO, sets([0, 1, 2], [3])) == pytest.approx((1 / 3 + 1) / 2)
    assert cohesion(TWO, []) == 0.0


def test_lone_memories_are_most_cohesive_and_not_separate() -> None:
    alone = sets([0], [1], [2], [3])
    assert cohesion(TWO, alone) == 1.0
    assert separation(TWO, alone) == 0.0


def test_separation_is_the_mean_silhouette() -> None:
    assert separation(TWO, sets([0, 1], [2, 3])) == pytest.approx(1.0)
    # 0: its own are 0 and 1 away, so a = 1/2, and the other b = 1: 1/2. 1 likewise. 2: a = 1,
    # b = 0, so -1; the lone 3: 0.
    assert separation(TWO, sets([0, 1, 2], [3])) == pytest.approx((0.5 + 0.5 - 1 + 0) / 4)
    assert separation(TWO, sets([0, 1, 2, 3])) == separation(TWO, []) == 0.0


def test_lift_is_what_the_next_window_covers_beyond_what_that_of_others_does() -> None:
    centres = centres_of(TWO, sets([0, 1]))
    assert covered(centres, TWO[1:3], np.array([3, 1]), 0.5) == 0.75
    assert covered(centres, TWO[:0], np.array([], dtype=np.int64), 0.5) == 0.0
    others = [(TWO[:1], np.array([5])), (TWO[3:], np.array([5]))]
    assert lift(centres, (TWO[1:3], np.array([3, 1])), others, 0.5) == pytest.approx(0.75 - 0.5)
    assert lift(centres, (TWO[1:3], np.array([3, 1])), [], 0.5) == pytest.approx(0.75)
    nobody = centres_of(TWO, [])
    assert lift(nobody, (TWO, np.ones(4, dtype=np.int64)), others, 0.5) == 0.0


def test_recurrence_is_the_share_of_personas_that_show_again_and_a_repeated_one_does_not_count() -> None:
    assert recurrence(centres_of(TWO, sets([0, 1], [2, 3])), TWO[:1], 0.5) == 0.5
    assert recurrence(centres_of(TWO, sets([0], [1])), TWO[:1], 0.5) == 0.5
    assert recurrence(centres_of(TWO, []), TWO, 0.5) == 0.0


@given(st.permutations(range(3)))
def test_the_order_of_personas_changes_nothing_but_which_of_two_repeats(order: list[int]) -> None:
    personas = [sets([0, 1], [2], [3])[number] for number in order]
    assert cohesion(TWO, personas) == pytest.approx(1.0)
    assert separation(TWO, personas) == pytest.approx(separation(TWO, sets([0, 1], [2], [3])))
    assert recurrence(centres_of(TWO, personas), TWO, 0.5) == pytest.approx(2 / 3)
