"""The order of pairs, by hand and by brute force."""

import math
from itertools import combinations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.method.ordering import order_by_round, own_accuracy, pair_counts

NAN = float("nan")


def rated(windows: dict[str, list[tuple[float, float]]]) -> pd.DataFrame:
    """User → (predicted, rating) of each item."""
    rows = [(user, *marks) for user, items in windows.items() for marks in items]
    return pd.DataFrame(rows, columns=["user_id", "predicted", "rating"])


def counts(windows: dict[str, list[tuple[float, float]]]) -> dict[str, list[float]]:
    """User → pairs, right ones and ties."""
    got = pair_counts(rated(windows), ["user_id"]).set_index("user_id")
    return {user: [row["pairs"], row["pairs_right"], row["pairs_tied"]] for user, row in got.iterrows()}


def test_pairs_by_hand() -> None:
    # b rated 5, 3, 3, 1: five of six pairs differ. Predicted 4, 4, 2, 3: of 5-3, 5-3, 5-1, 3-1, 3-1 one is
    # a tie, three are right, and 2 against 3 is wrong.
    of_b = [(4.0, 5.0), (4.0, 3.0), (2.0, 3.0), (3.0, 1.0)]
    assert counts({"b": of_b, "a": [(1.0, 2.0), (2.0, 1.0)], "c": [(3.0, 3.0)]}) == {
        "a": [1, 0, 0],
        "b": [5, 3, 1],
        "c": [0, 0, 0],
    }


def test_one_mark_for_everything_ties_all_pairs() -> None:
    assert counts({"a": [(4.0, 5.0), (4.0, 3.0), (4.0, 1.0)]}) == {"a": [3, 0, 3]}


def test_half_an_answer_has_no_order() -> None:
    (of_a,) = counts({"a": [(NAN, 5.0), (4.0, 3.0)]}).values()
    assert of_a[0] == 1
    assert all(map(math.isnan, of_a[1:]))


def test_nothing_predicted_is_nothing_counted() -> None:
    got = pair_counts(rated({}), ["user_id"])
    assert list(got) == ["user_id", "pairs", "pairs_right", "pairs_tied"]
    assert got.empty


def test_a_user_counts_by_the_share_of_the_users_own_pairs() -> None:
    errors = pd.DataFrame(
        # 3 of 4 right with a tie; 0 of 1; all tied; no pair at all; not readable
        [(5, 3, 1), (1, 0, 0), (6, 0, 6), (0, 0, 0), (3, None, None)],
        columns=["pairs", "pairs_right", "pairs_tied"],
    ).astype({"pairs_right": "Int64", "pairs_tied": "Int64"})  # as the warehouse gives them
    assert own_accuracy(errors).fillna(-1).tolist() == [0.75, 0.0, -1, -1, -1]
    (row,) = order_by_round(errors.assign(round=0), ["round"]).to_dict("records")
    assert row == {
        "round": 0,
        "users_ordered": 2,
        "pairwise_accuracy": 0.375,
        "ties": pytest.approx((0.2 + 0 + 1) / 3),
    }


MARKS = st.integers(1, 5).map(float)
WINDOWS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.tuples(MARKS, MARKS), min_size=1, max_size=10))


@given(WINDOWS)
def test_the_counts_are_those_of_all_pairs(windows: dict[str, list[tuple[float, float]]]) -> None:
    expected = {}
    for user, items in windows.items():
        differ = [(one, other) for one, other in combinations(items, 2) if one[1] != other[1]]
        signs = [(one[0] - other[0]) * (one[1] - other[1]) for one, other in differ]
        expected[user] = [len(differ), sum(sign > 0 for sign in signs), sum(sign == 0 for sign in signs)]
    assert counts(windows) == expected
