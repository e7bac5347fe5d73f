"""Errors, floors and tables, worked out by hand."""

import math

import pandas as pd
import pytest

from deeper_assets.method.domains import FIVE_STARS
from deeper_assets.method.errors import (
    KINDS,
    Evaluated,
    mae_by_round,
    mae_table,
    measured_windows,
    over_trainings,
    paper_round_mae,
    window_errors,
)
from deeper_assets.method.floors import floor_errors
from deeper_assets.method.recipes import RECIPES, policy_methods
from deeper_assets.method.updates import PROMPT_METHODS

KEYS = ["domain", "method", "user_id", "round", "window"]


def predictions(rows: list[tuple[str, int, int, float | None]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "window", "place", "predicted"])
    return frame.assign(domain="book", method="m", round=frame["window"] - 1).astype({"predicted": "float64"})


def ratings(rows: list[tuple[str, int, int, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "window", "place", "rating"])


def test_window_error_is_the_mean_absolute_difference() -> None:
    got = window_errors(
        predictions([("a", 1, 0, 5.0), ("a", 1, 2, 3.0), ("b", 1, 0, 4.0)]),
        ratings([("a", 1, 0, 4.0), ("a", 1, 2, 1.0), ("b", 1, 0, 4.0), ("a", 0, 0, 1.0)]),
        KEYS,
    )
    # a: (|5-4| + |3-1|) / 2 = 1.5; b: 0
    assert got[["user_id", "items", "error"]].values.tolist() == [["a", 2, 1.5], ["b", 1, 0.0]]


def test_half_an_answer_is_an_unknown_error() -> None:
    got = window_errors(
        predictions([("a", 1, 0, 5.0), ("a", 1, 1, None)]),
        ratings([("a", 1, 0, 5.0), ("a", 1, 1, 5.0)]),
        KEYS,
    )
    assert got["items"].tolist() == [2]
    assert math.isnan(got["error"].iloc[0])


def test_a_prediction_without_a_rating_is_refused() -> None:
    with pytest.raises(ValueError, match="user a, window 1"):
        window_errors(predictions([("a", 1, 5, 5.0)]), ratings([("a", 1, 0, 5.0)]), KEYS)


def test_the_order_of_pairs_stands_beside_the_error() -> None:
    got = measured_windows(
        predictions([("a", 1, 0, 5.0), ("a", 1, 2, 3.0), ("b", 1, 0, 4.0)]),
        ratings([("a", 1, 0, 4.0), ("a", 1, 2, 1.0), ("b", 1, 0, 4.0)]),
        KEYS,
    )
    columns = ["user_id", "items", "error", "pairs", "pairs_right", "pairs_tied"]
    assert got[columns].values.tolist() == [["a", 2, 1.5, 1, 1, 0], ["b", 1, 0.0, 0, 0, 0]]


def test_floors_by_hand() -> None:
    rows = [("a", 0, 0, 1.0), ("a", 0, 1, 5.0), ("a", 0, 2, 5.0), ("a", 1, 0, 4.0), ("a", 2, 0, 2.0)]
    windows = ratings(rows).assign(domain="book", split="eval")
    got = floor_errors(windows, {"book": FIVE_STARS}).set_index(["method", "round"])["error"]
    assert got["floor_constant", 0] == 1.0  # |4 - 5|
    assert got["floor_user_mean", 0] == pytest.approx(abs(4 - 11 / 3))
    assert got["floor_user_median", 0] == 1.0  # the median of 1, 5, 5 is 5
    assert got["floor_user_mean", 1] == pytest.approx(abs(2 - 15 / 4))
    assert got["floor_user_median", 1] == 2.5  # the median of 1, 4, 5, 5 is 4.5
    assert len(got) == 6  # rounds 0 and 1 alone have a window to predict


def errors(rows: list[tuple[str, str, int, float | None]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["domain", "method", "round", "error"])
    frame = frame.assign(user_id=[str(i) for i in range(len(frame))], kind="method")
    return frame.assign(pairs=4, pairs_right=2, pairs_tied=1).astype({"error": "float64"})


def test_unreadable_is_counted_and_left_out_of_the_mean() -> None:
    got = mae_by_round(errors([("book", "m", 0, 1.0), ("book", "m", 0, 2.0), ("book", "m", 0, None)]))
    assert got[["asked", "users", "mae"]].values.tolist() == [[3, 2, 1.5]]
    assert got["unreadable"].tolist() == [pytest.approx(1 / 3)]


def floors(domains: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"domain": domains, "method": "floor_constant", "round": 0, "users": 1, "mae": 0.5})


def test_macro_average_is_the_plain_mean_of_domains() -> None:
    measured = errors(
        [("book", "inc_update", 0, 1.0), ("book", "inc_update", 0, 1.0), ("movielens", "inc_update", 0, 4.0)]
    )
    table = mae_table(measured, floors(["book", "movielens", "grocery"]))
    macro = table[table["domain"] == "macro"].set_index("method")
    assert macro.loc["inc_update", "mae"] == 2.5  # not 2.0: domains weigh the same, however many users
    assert macro.loc["inc_update", "users"] == 3
    assert macro.loc["inc_update", "paper_mae"] == pytest.approx((1.00 + 0.87) / 2)
    assert macro.loc["floor_constant", "mae"] == 0.5
    assert "grocery" not in set(table["domain"])  # no method was evaluated there


def test_no_macro_average_over_different_sets_of_domains() -> None:
    measured = errors([("book", "a", 0, 1.0), ("grocery", "a", 0, 1.0), ("book", "b", 0, 0.1)])
    table = mae_table(measured, floors(["book", "grocery"]))
    macro = table[table["domain"] == "macro"].set_index("method")["mae"]
    assert macro["a"] == 1.0
    assert math.isnan(macro["b"])


def test_unreadable_share_of_the_average_counts_users_not_domains() -> None:
    measured = errors(
        [("book", "a", 0, None), ("grocery", "a", 0, 1.0), ("grocery", "a", 0, 1.0), ("grocery", "a", 0, 1.0)]
    )
    macro = (
        mae_table(measured, floors(["book", "grocery"])).query("domain == 'macro' and method == 'a'").iloc[0]
    )
    assert macro["unreadable"] == 0.25
    assert math.isnan(macro["mae"])  # book's is unknown


def controls(domains: list[str]) -> pd.DataFrame:
    """One user a domain, for whom all pairs are tied."""
    frame = pd.DataFrame({"domain": domains, "control": "control_none", "user_id": "u", "round": 0})
    return frame.assign(error=1.0, pairs=4, pairs_right=0, pairs_tied=4)


def test_controls_stand_between_methods_and_floors_where_a_method_was_evaluated() -> None:
    measured = Evaluated(("book", "grocery"), ("a",)).of(
        {
            "method": errors([("book", "a", 0, 0.5), ("book", "left", 0, 0.1), ("recipe", "a", 0, 0.1)]),
            "control": controls(["book", "grocery", "recipe"]),
        }
    )
    assert measured[["domain", "method", "kind"]].values.tolist() == [
        ["book", "a", "method"],
        ["book", "control_none", "control"],
    ]
    table = mae_table(measured, floors(["book", "grocery"])).query("domain == 'macro'")
    assert sorted(table["kind"], key=KINDS.index) == ["method", "control", "floor"]
    columns = ["mae", "asked", "users", "users_ordered", "ties"]
    assert table.set_index("method")[columns].T.to_dict("list") == {
        "a": [0.5, 1, 1, 1, 0.25],
        "control_none": [1.0, 1, 1, 0, 1.0],
        "floor_constant": [0.5, 1, 1, 0, 1.0],
    }
    accuracy = table.set_index("method")["pairwise_accuracy"]
    assert accuracy["a"] == pytest.approx(2 / 3)  # 2 of the 3 that are not tied
    assert accuracy[["control_none", "floor_constant"]].isna().all()


def test_where_nothing_was_evaluated_the_table_is_empty() -> None:
    measured = Evaluated(("book",), ("a",)).of({"method": errors([]), "control": controls(["book"])})
    assert mae_table(measured, floors(["book"])).empty


def test_kept_is_counted_and_stays_in_the_mean() -> None:
    measured = errors(
        [("book", "a", 0, 1.0), ("book", "a", 0, 3.0), *(("grocery", "a", 0, 1.0) for _ in range(6))]
    ).assign(kept=[1, 0, 1, 0, 0, 0, 0, 0])
    table = mae_table(measured, floors(["book", "grocery"])).set_index(["method", "domain"])
    assert table.loc["a", "kept"].to_dict() == {"book": 0.5, "grocery": 1 / 6, "macro": 0.25}  # 2 of 8 users
    assert table.loc["a", "mae"].to_dict() == {"book": 2.0, "grocery": 1.0, "macro": 1.5}
    assert set(table.loc["floor_constant", "kept"]) == {0.0}


def test_trainings_of_a_recipe_have_one_row_with_their_mean_and_spread() -> None:
    measured = errors(
        [
            *(("book", "deeper_paper", 0, error) for error in (0.5, 0.7)),
            *(("book", "deeper_paper_seed_2", 0, error) for error in (0.8, None)),
            *(("book", "inc_update", 0, error) for error in (1.0, 2.0)),
        ]
    )
    table = mae_table(measured, floors(["book"]))
    assert set(table["method"]) == {"deeper_paper", "deeper_paper_seed_2", "inc_update", "floor_constant"}
    got = over_trainings(table)
    assert list(got.columns) == [*table.columns, "trainings", "training_sd"]
    deeper, other = (
        got[(got["domain"] == "book") & (got["method"] == m)].iloc[0] for m in ("deeper_paper", "inc_update")
    )
    # 0.6 and 0.8: their mean, and their standard deviation 0.2/√2
    assert (deeper["mae"], deeper["training_sd"]) == pytest.approx((0.7, 0.2 / math.sqrt(2)))
    assert (deeper["users"], deeper["unreadable"], deeper["trainings"]) == (1, 0.25, 2)
    figures = paper_round_mae()
    papers = figures[(figures["domain"] == "book") & (figures["round"] == 0)].set_index("method")["paper_mae"]
    assert deeper["paper_mae"] == papers["deeper_paper"]
    assert (other["mae"], other["users"], other["trainings"]) == (1.5, 2, 1)
    assert math.isnan(other["training_sd"])


def test_a_mean_of_trainings_is_unknown_where_one_of_them_is() -> None:
    measured = errors([("book", "deeper", 0, 1.0), ("book", "deeper_seed_2", 0, None)])
    (mae,) = over_trainings(mae_table(measured, floors(["book"]))).query(
        "domain == 'book' and kind == 'method'"
    )["mae"]
    assert math.isnan(mae)


def test_paper_figures_give_the_papers_averages() -> None:
    figures = paper_round_mae()
    means = figures[figures["method"] == "deeper_paper"].groupby("round")["paper_mae"].mean().round(3)
    assert means.tolist() == [0.964, 0.763, 0.696, 0.666, 0.653]


def test_the_papers_figures_stand_beside_the_papers_recipe() -> None:
    """Its DEEPER beside Model 2 of `paper`, whatever the default recipe is; its baselines beside ours."""
    assert set(paper_round_mae()["method"]) == {
        *(name for name, (recipe, _) in policy_methods(RECIPES).items() if recipe == "paper"),
        *PROMPT_METHODS,
    }
    measured = errors([("book", "deeper", 4, 0.5), ("book", "deeper_paper", 4, 0.6)])
    table = mae_table(measured, floors(["book"])).query("domain == 'book'").set_index("method")
    assert table.loc["deeper_paper", "paper_mae"] == 0.67
    assert math.isnan(table.loc["deeper", "paper_mae"])
