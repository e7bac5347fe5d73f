"""Bootstrap intervals: by hand on tiny inputs, and by laws."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.method.errors import mae_by_round, with_macro_average
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.statistics import (
    COMPARED,
    bootstrap_difference,
    bootstrap_gaps,
    bootstrap_mae,
    compare,
    under_floors,
)


def errors(of: dict[tuple[str, str, int], list[float | None]]) -> pd.DataFrame:
    """(domain, method, round) → the error of users u0, u1, …"""
    rows = [
        (domain, method, f"u{i}", round_, round_ + 1, error)
        for (domain, method, round_), known in of.items()
        for i, error in enumerate(known)
    ]
    columns = ["domain", "method", "user_id", "round", "window", "error"]
    return pd.DataFrame(rows, columns=columns).astype({"error": "float64"})


def test_the_macro_average_and_what_is_known() -> None:
    frame = errors({("a", "m", 0): [1.0, 2.0, 3.0], ("b", "m", 0): [4.0, None], ("a", "m", 1): [1.0]})
    got = bootstrap_mae(frame, 7)
    assert list(got.columns) == ["method", "round", "trainings", "users", "mae", "training_sd", "low", "high"]
    # round 0: (mean of 1, 2, 3 + mean of 4) / 2; round 1 nobody of b reaches
    assert got[["method", "round", "users", "mae"]].values.tolist() == [["m", 0, 4, 3.0], ["m", 1, 1, 1.0]]


def test_two_users_by_hand() -> None:
    # Errors 0 and 1 in one domain: the resampled mean is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4, so the
    # 95 % interval is all of it. Two such domains: 0, 1/4, …, 1 with 1, 4, 6, 4, 1 sixteenths: the same.
    for frame in (
        errors({("a", "m", 0): [0.0, 1.0]}),
        errors({("a", "m", 0): [0.0, 1.0], ("b", "m", 0): [0.0, 1.0]}),
    ):
        (row,) = bootstrap_mae(frame, 7).to_dict("records")
        assert (row["mae"], row["low"], row["high"]) == (0.5, 0.0, 1.0)
    # Three domains: both ends have 1/64 < 2.5 %, and 1/6 and 5/6 are the next values.
    frame = errors({(domain, "m", 0): [0.0, 1.0] for domain in "abc"})
    (row,) = bootstrap_mae(frame, 7).to_dict("records")
    assert (row["low"], row["high"]) == pytest.approx((1 / 6, 5 / 6))


def test_under_floors_by_hand() -> None:
    # Of one user each, a difference is certain: its interval is the difference itself.
    measured = errors(
        {("a", "m", 0): [1.0], ("b", "m", 0): [2.0], ("a", "n", 0): [3.0], ("b", "n", 0): [None]}
    )
    low = errors({("a", "low", 0): [2.0], ("b", "low", 0): [1.5], ("c", "low", 0): [9.0]})
    high = errors({("a", "high", 0): [4.0], ("b", "high", 0): [5.0], ("c", "high", 0): [9.0]})
    got = under_floors(measured, pd.concat([low, high]), 7).set_index(["method", "domain"])["gap_high"]
    # m: 1 − 2 in a, 2 − 1.5 in b; the other floor is further off.
    assert got["m"].to_dict() == {"a": -1.0, "b": 0.5, "macro": -0.25}
    assert got["n", "a"] == 1.0
    assert math.isnan(got["n", "b"])
    assert math.isnan(got["n", "macro"])
    assert len(got) == 6  # nobody was evaluated in c
    assert list(under_floors(measured.iloc[:0], low, 7).columns) == ["domain", "method", "round", "gap_high"]


def test_under_floors_says_the_end_of_the_interval() -> None:
    # Differences −1 and 0: the mean of two drawn ones is 0 with probability 1/4. With both at −1, it is −1.
    floor = errors({("a", "floor", 0): [1.0, 1.0]})
    for known, end in (([0.0, 1.0], 0.0), ([0.0, 0.0], -1.0)):
        assert under_floors(errors({("a", "m", 0): known}), floor, 7)["gap_high"].tolist() == [end, end]


def test_users_are_resampled_within_their_domain() -> None:
    # Domains differ and users do not: nothing is uncertain.
    frame = errors({("a", "m", 0): [1.0] * 4, ("b", "m", 0): [3.0] * 2})
    (row,) = bootstrap_mae(frame, 7).to_dict("records")
    assert (row["mae"], row["low"], row["high"]) == (2.0, 2.0, 2.0)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    draw = np.random.default_rng(0)
    known = {domain: draw.normal(1, 0.3, 200) for domain in "abcd"}
    frame = errors({(domain, "m", 0): list(values) for domain, values in known.items()})
    (row,) = bootstrap_mae(frame, 7).to_dict("records")
    # Of the mean of four independent means: sqrt(sum of their variances) / 4.
    deviation = math.sqrt(sum(values.var() / 200 for values in known.values())) / 4
    assert row["mae"] - row["low"] == pytest.approx(1.96 * deviation, rel=0.08)
    assert row["high"] - row["mae"] == pytest.approx(1.96 * deviation, rel=0.08)


def test_differences_are_paired() -> None:
    # Users differ widely, the methods by 0.25 with each of them.
    base = [0.0, 1.0, 2.0, 5.0]
    frame = errors({("a", "old", 0): base, ("a", "new", 0): [e - 0.25 for e in base]})
    (row,) = bootstrap_difference(frame, "old", 7).to_dict("records")
    assert row == {
        "method": "new",
        "against": "old",
        "round": 0,
        "users": 4,
        "difference": -0.25,
        "low": -0.25,
        "high": -0.25,
    }


def test_a_difference_counts_users_whom_both_know() -> None:
    frame = errors({("a", "old", 0): [1.0, 2.0, None], ("a", "new", 0): [0.5, None, 9.0]})
    (row,) = bootstrap_difference(frame, "old", 7).to_dict("records")
    assert (row["users"], row["difference"], row["low"]) == (1, -0.5, -0.5)


def test_gaps_are_those_of_the_last_round_from_one_floor() -> None:
    methods = errors({("a", "m", 0): [9.0, 9.0], ("a", "m", 1): [1.0, 2.0], ("a", "n", 1): [0.5, 1.5]})
    others = {("a", "best", 0): [0.0, 0.0], ("a", "other", 1): [3.0, 3.0]}
    floors = errors({**others, ("a", "best", 1): [0.5, 1.5]})
    gaps = bootstrap_gaps(methods, floors, "best", 7)
    columns = ["method", "against", "round", "difference", "low", "high"]
    assert gaps[columns].values.tolist() == [["m", "best", 1, 0.5, 0.5, 0.5], ["n", "best", 1, 0.0, 0.0, 0.0]]
    assert bootstrap_gaps(methods.iloc[:0], floors.iloc[:0], "best", 7).empty


T_1, T_2 = 12.7062, 4.3027
"""How far Student's t reaches with 95 %, with one degree of freedom and with two."""


def trained(of: dict[str, list[float | None]]) -> pd.DataFrame:
    """Errors of one domain and round: method → those of users u0, u1, …"""
    return errors({("a", method, 0): known for method, known in of.items()})


def test_trainings_of_a_recipe_are_one_figure_whose_interval_they_widen() -> None:
    # Users do not differ, the trainings do: 1.0, 1.1 and 1.2, whose standard deviation is 0.1.
    frame = trained({"m": [1.0] * 4, "m_seed_2": [1.2] * 4, "m_seed_3": [1.1] * 4})
    (row,) = bootstrap_mae(frame, 7).to_dict("records")
    assert (row["method"], row["trainings"], row["users"]) == ("m", 3, 4)
    assert (row["mae"], row["training_sd"]) == pytest.approx((1.1, 0.1))
    half = T_2 * 0.1 / math.sqrt(3)
    assert (row["low"], row["high"]) == pytest.approx((1.1 - half, 1.1 + half), rel=1e-4)


def test_users_and_trainings_are_joined_as_the_sides_of_a_right_triangle() -> None:
    # Over users the interval reaches 0.5 to both sides (see above); two trainings are 0.02 apart, so their
    # standard deviation is 0.02/√2, and that of their mean 0.01.
    frame = trained({"m": [0.0, 1.0], "m_seed_2": [0.02, 1.02]})
    (row,) = bootstrap_mae(frame, 7).to_dict("records")
    half = math.hypot(0.5, T_1 * 0.01)
    assert (row["low"], row["high"]) == pytest.approx((0.51 - half, 0.51 + half), rel=1e-4)


def test_one_training_is_as_certain_as_its_users() -> None:
    frame = trained({"m": [0.0, 1.0], "n": [0.5, 2.0]})
    assert bootstrap_mae(frame, 7)["training_sd"].isna().all()
    assert bootstrap_mae(frame, 7)["trainings"].tolist() == [1, 1]
    (row,) = bootstrap_difference(frame, "m", 7).to_dict("records")
    assert [row[name] for name in ("difference", "low", "high")] == [0.75, 0.5, 1.0]


def test_a_difference_has_the_variation_of_both_recipes() -> None:
    # Standard deviations 0.1 and 0.1 of three trainings each: by Welch four degrees of freedom, t 2.7764. Of
    # a method without trainings only the other's counts.
    three = {"m": [1.0] * 3, "m_seed_2": [1.1] * 3, "m_seed_3": [1.2] * 3}
    other = {name.replace("m", "n"): [error + 0.5 for error in known] for name, known in three.items()}
    frame = trained({**three, **other, "prompt": [2.0] * 3})
    n, prompt = bootstrap_difference(frame, "m", 7).to_dict("records")
    half = 2.7764 * math.sqrt(0.1**2 / 3 + 0.1**2 / 3)
    assert (n["difference"], n["low"], n["high"]) == pytest.approx((0.5, 0.5 - half, 0.5 + half), rel=1e-4)
    half = T_2 * 0.1 / math.sqrt(3)
    assert (prompt["low"], prompt["high"]) == pytest.approx((0.9 - half, 0.9 + half), rel=1e-4)


def test_users_count_whose_error_is_known_in_every_training() -> None:
    frame = trained({"m": [1.0, 5.0, 2.0], "m_seed_2": [1.0, None, 2.0]})
    (row,) = bootstrap_mae(frame, 7).to_dict("records")
    # Not 1.5 and 8/3: the trainings are alike where they can be compared.
    assert (row["users"], row["mae"], row["training_sd"]) == (2, 1.5, 0.0)


def test_a_training_without_a_domain_leaves_the_recipe_without_a_macro_average() -> None:
    frame = errors({("a", "m", 0): [1.0], ("b", "m", 0): [1.0], ("a", "m_seed_2", 0): [3.0]})
    (row,) = bootstrap_mae(frame, 7).to_dict("records")
    assert row["trainings"] == 2
    assert all(math.isnan(row[column]) for column in ("mae", "training_sd", "low", "high"))


def test_intervals_over_users_and_trainings_cover_the_truth() -> None:
    """In 200 experiments, a round each, in which training is as uncertain as users are."""
    draw = np.random.default_rng(3)
    users = draw.normal(1, 0.5, (200, 1, 100))  # of their mean: 0.05
    trainings = draw.normal(0, 0.1, (200, 3, 1))  # of their mean: 0.058
    known = users + trainings
    names = ("m", "m_seed_2", "m_seed_3")
    frame = errors({("a", name, i): list(known[i, k]) for i in range(200) for k, name in enumerate(names)})

    def coverage(some: pd.DataFrame) -> float:
        got = bootstrap_mae(some, 7, resamples=500)
        return float(((got["low"] <= 1) & (got["high"] >= 1)).mean())

    assert 0.93 <= coverage(frame) <= 0.99
    assert coverage(frame[frame["method"] == "m"]) < 0.7  # one training knows nothing of its chance


def test_a_method_without_a_domain_has_no_macro_average() -> None:
    frame = errors({("a", "m", 0): [1.0], ("b", "m", 0): [1.0], ("a", "n", 0): [1.0], ("b", "o", 0): [None]})
    got = bootstrap_mae(frame, 7).set_index("method")
    assert got.loc["m", ["mae", "low", "high"]].tolist() == [1.0, 1.0, 1.0]
    assert got.loc[["n"], ["mae", "low", "high"]].isna().all(axis=None)
    assert bootstrap_difference(frame, "m", 7).set_index("method").loc[["n"], "low"].isna().all()


def test_controls_are_compared_and_the_order_of_pairs_has_its_interval() -> None:
    frame = errors({("a", "deeper", 0): [0.5, 0.5], ("a", "control_none", 0): [0.75, 1.0]})
    frame["kind"] = ["method", "method", "control", "control"]
    frame = frame.assign(pairs=4, pairs_right=[3, 3, 0, 0], pairs_tied=[0, 0, 4, 4])
    got = compare(frame, "deeper", 7)
    assert list(got) == COMPARED
    control, deeper = got.to_dict("records")
    assert [control[name] for name in ("method", "kind", "against")] == ["control_none", "control", "deeper"]
    assert [control[f"difference{end}"] for end in ("", "_low", "_high")] == [0.375, 0.25, 0.5]
    assert [deeper[name] for name in ("pairwise_accuracy", "pairwise_low", "pairwise_high")] == [0.75] * 3
    assert math.isnan(control["pairwise_accuracy"])


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(DeeperError, match="'x'; known: m"):
        bootstrap_difference(errors({("a", "m", 0): [1.0]}), "x", 7)


ERRORS = st.none() | st.integers(0, 40).map(lambda n: n / 10)
TABLES = st.integers(1, 3).flatmap(
    lambda domains: st.fixed_dictionaries(
        {
            (domain, method, round_): st.lists(ERRORS, min_size=1, max_size=4)
            for domain, method, round_ in product("abc"[:domains], ("m", "n"), (0, 1))
        }
    )
)


@given(TABLES)
@settings(deadline=None, max_examples=40)
def test_laws(of: dict[tuple[str, str, int], list[float | None]]) -> None:
    frame = errors(of)
    got = bootstrap_mae(frame, 7, resamples=50)
    pd.testing.assert_frame_equal(got, bootstrap_mae(frame.sample(frac=1, random_state=1), 7, resamples=50))
    # The figure is that of the table.
    others = dict.fromkeys(("pairwise_accuracy", "ties", "paper_mae"), math.nan)
    table = with_macro_average(mae_by_round(frame).assign(kind="method", users_ordered=0, **others))
    macro = table[table["domain"] == "macro"].sort_values(["method", "round"])
    np.testing.assert_allclose(got["mae"], macro["mae"])
    assert got["users"].tolist() == macro["users"].tolist()
    known = got[got["mae"].notna()]
    assert (known["low"] <= known["high"] + 1e-9).all()
    # A method and its twin differ by nothing; a shift of all errors shifts figure and interval.
    twins = pd.concat([frame[frame["method"] == "m"].assign(method=name) for name in ("m", "twin")])
    none = bootstrap_difference(twins, "m", 7, resamples=50)[["difference", "low", "high"]]
    assert none.fillna(0).eq(0).all(axis=None)
    shifted = bootstrap_mae(frame.assign(error=frame["error"] + 1), 7, resamples=50)
    for column in ("mae", "low", "high"):
        np.testing.assert_allclose(shifted[column], got[column] + 1)
    # Trainings have no order, and one that is repeated to the letter makes nothing more certain or less.
    names = frame["method"].map({"m": "m", "n": "m_seed_2"})
    turned = frame["method"].map({"m": "m_seed_2", "n": "m"})
    pd.testing.assert_frame_equal(
        *(bootstrap_mae(frame.assign(method=given), 7, resamples=50) for given in (names, turned))
    )
    again = pd.concat([frame, frame.assign(method=frame["method"] + "_seed_2")])
    repeated = bootstrap_mae(again, 7, resamples=50)
    pd.testing.assert_frame_equal(
        repeated.drop(columns=["trainings", "training_sd"]), got.drop(columns=["trainings", "training_sd"])
    )


@given(st.integers(0, 40).map(lambda n: n / 10), st.integers(1, 5), st.integers(1, 3))
def test_the_interval_of_a_constant_is_that_constant(constant: float, users: int, domains: int) -> None:
    frame = errors({(domain, "m", 0): [constant] * users for domain in "abc"[:domains]})
    (row,) = bootstrap_mae(frame, 7, resamples=20).to_dict("records")
    assert [row["mae"], row["low"], row["high"]] == pytest.approx([constant] * 3)


def test_seeds_decide() -> None:
    frame = errors({("a", "m", 0): list(np.linspace(0, 1, 17) ** 2)})
    assert bootstrap_mae(frame, 7).equals(bootstrap_mae(frame, 7))
    assert not bootstrap_mae(frame, 7).equals(bootstrap_mae(frame, 8))
