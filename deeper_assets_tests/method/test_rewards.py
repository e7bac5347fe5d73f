"""Rewards by hand, and the laws they keep."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.method.rewards import COMPONENTS, rewards, total
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.method.test_rounds import windows

Predicted = dict[int, list[float | None]]
"""Window → predictions, one a place."""


def candidates(*rows: tuple[str, int, int, str | None]) -> pd.DataFrame:
    """Candidates of (user, round, candidate, unusable)."""
    frame = pd.DataFrame(rows, columns=["user_id", "round", "candidate", "unusable"])
    return frame.assign(domain="book", template="refinement", persona="Likes A.")


def predictions(of: dict[tuple, Predicted]) -> pd.DataFrame:
    """Of (user, round) or of (user, round, candidate)."""
    columns = ["user_id", "round", "candidate"][: len(next(iter(of), ("", 0)))]
    rows = [
        (*who, window, place, value)
        for who, said in of.items()
        for window, values in said.items()
        for place, value in enumerate(values)
    ]
    frame = pd.DataFrame(rows, columns=[*columns, "window", "place", "predicted"])
    return frame.astype({"predicted": "float64"}).assign(domain="book", template="refinement")


# Two ratings a window.
FRAME = windows({"t": ("train", [[5.0, 1.0], [4.0, 2.0], [3.0, 3.0], [1.0, 1.0]])})


def test_rewards_by_hand() -> None:
    got = rewards(
        candidates(("t", 1, 4, None), ("t", 1, 0, None)),
        predictions({("t", 1): {0: [3, 3], 1: [4, 4], 2: [5, 3]}}),
        predictions(
            {
                ("t", 1, 0): {0: [5, 1], 1: [4, 2], 2: [3, 3]},
                ("t", 1, 4): {0: [5, 5], 1: [1, 2], 2: [4, 4]},
            }
        ),
        FRAME,
    )
    assert list(got.columns) == list(TABLES["rewards_1"].column_names)
    assert got["candidate"].tolist() == [0, 4]
    # The old persona's errors: W0 (2 + 2) / 2 = 2, W1 (0 + 2) / 2 = 1, W2 (2 + 0) / 2 = 1.
    # Candidate 0 makes none; candidate 4's: (0 + 4) / 2 = 2, (3 + 0) / 2 = 1.5, (1 + 1) / 2 = 1.
    assert got[list(COMPONENTS)].values.tolist() == [[2.0, 1.0, 1.0], [0.0, -0.5, 0.0]]


def test_round_2_is_measured_on_windows_1_to_3() -> None:
    old = {1: [4, 4], 2: [3, 3], 3: [5, 5]}  # errors 1, 0, 4
    new = {1: [4, 2], 2: [5, 5], 3: [1, 1]}  # errors 0, 2, 0
    got = rewards(
        candidates(("t", 2, 0, None)), predictions({("t", 2): old}), predictions({("t", 2, 0): new}), FRAME
    )
    assert got[list(COMPONENTS)].values.tolist() == [[1.0, -2.0, 4.0]]


@pytest.mark.parametrize(
    ("old", "new", "unknown"),
    [
        ({0: [3, None], 1: [4, 4], 2: [3, 3]}, {0: [3, 3], 1: [4, 4], 2: [3, 3]}, [True, False, False]),
        ({0: [3, 3], 1: [4, 4], 2: [3, 3]}, {0: [3, 3], 1: [None, None], 2: [3, 3]}, [False, True, False]),
        ({1: [4, 4], 2: [3, 3]}, {1: [4, 4], 2: [3, 3]}, [True, False, False]),
        ({0: [3, 3], 1: [4, 4]}, {0: [3, 3], 1: [4, 4]}, [False, False, True]),
        ({0: [3, 3], 1: [4, 4], 2: [3, 3]}, {}, [True, True, True]),
    ],
)
def test_what_is_unknown_stays_unknown(old: Predicted, new: Predicted, unknown: list[bool]) -> None:
    got = rewards(
        candidates(("t", 1, 0, None)), predictions({("t", 1): old}), predictions({("t", 1, 0): new}), FRAME
    )
    assert got[list(COMPONENTS)].isna().values.tolist() == [unknown]


def test_an_unusable_candidate_has_a_row_and_no_reward() -> None:
    got = rewards(
        candidates(("t", 1, 0, "echo"), ("t", 1, 1, None)),
        predictions({("t", 1): {1: [4, 4]}}),
        predictions({("t", 1, 1): {1: [4, 2]}}),
        FRAME,
    )
    assert got["candidate"].tolist() == [0, 1]
    assert got["reward_current"].isna().tolist() == [True, False]


def test_no_candidates_no_rewards() -> None:
    none = candidates().astype({"round": "int64", "candidate": "int64"})
    got = rewards(none, predictions({("t", 1): {1: [4, 4]}}), predictions({("t", 1, 0): {}}), FRAME)
    assert got.empty
    assert list(got.columns) == list(TABLES["rewards_1"].column_names)


RATING = st.none() | st.integers(1, 5)
SAID = st.fixed_dictionaries({}, optional={w: st.lists(RATING, min_size=2, max_size=2) for w in (0, 1, 2)})


@given(SAID, SAID)
@settings(deadline=None)
def test_rewards_are_antisymmetric_in_old_and_new_persona(one: Predicted, other: Predicted) -> None:
    def between(old: Predicted, new: Predicted) -> list[float]:
        found = rewards(
            candidates(("t", 1, 0, None)),
            predictions({("t", 1): old}),
            predictions({("t", 1, 0): new}),
            FRAME,
        )
        return found[list(COMPONENTS)].values.tolist()[0]

    for there, back in zip(between(one, other), between(other, one), strict=True):
        assert there == -back or (math.isnan(there) and math.isnan(back))
    assert all(reward == 0 or math.isnan(reward) for reward in between(one, one))


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_the_order_of_rows_changes_nothing(random) -> None:
    frame = windows({u: ("train", [[5.0, 1.0], [4.0, 2.0], [3.0, 3.0]]) for u in ("s", "t")})
    told = {("s", 1): {0: [1, 2], 2: [3, 4]}, ("t", 1): {0: [5, 5], 1: [4, 4]}}
    said = {
        (u, 1, c): {0: [c + 1, 2], 1: [3, c + 1], 2: [c + 1, c + 1]} for u in ("s", "t") for c in (0, 1, 2)
    }
    given_ = [
        candidates(*((u, 1, c, None) for u in ("s", "t") for c in (0, 1, 2))),
        predictions(told),
        predictions(said),
        frame,
    ]
    shuffled = [rows.sample(frac=1, random_state=random.randint(0, 999)) for rows in given_]
    pd.testing.assert_frame_equal(rewards(*given_), rewards(*shuffled))


def components(*rows: tuple[float | None, float | None, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COMPONENTS), dtype="float64")


def test_the_total_is_the_weighted_sum() -> None:
    rows = components((1.0, 0.5, -0.2), (0.0, 0.0, 0.0))
    assert total(rows, (1, 1, 1)).tolist() == [1.3, 0.0]
    assert total(rows, (0.25, 0.5, 1)).tolist() == [0.3, 0.0]
    assert total(rows, (0, 0, 1)).tolist() == [-0.2, 0.0]


def test_an_unknown_component_matters_only_if_it_weighs() -> None:
    rows = components((None, 0.5, 0.25), (0.5, None, 0.25), (0.5, 0.5, None))
    assert total(rows, (1, 1, 1)).isna().all()
    assert total(rows, (0, 1, 1)).tolist()[0] == 0.75
    assert total(rows, (0, 1, 1)).isna().tolist() == [False, True, True]
    assert total(rows, (0, 0, 1)).isna().tolist() == [False, False, True]


def test_floating_point_moves_nobody_across_a_bound() -> None:
    (got,) = total(components((0.8 - 0.7, 0.7 - 0.4, 1.2 - 1.1)), (1, 1, 1))
    assert (0.8 - 0.7) + (0.7 - 0.4) + (1.2 - 1.1) != 0.5
    assert got == 0.5


def test_the_index_is_kept() -> None:
    rows = components((1.0, 0.0, 0.0), (2.0, 0.0, 0.0)).set_axis([7, 3])
    assert total(rows, (1, 1, 1)).to_dict() == {7: 1.0, 3: 2.0}
    assert total(rows[:0], (1, 1, 1)).empty
