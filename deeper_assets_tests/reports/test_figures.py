"""Figures: the numbers whose history the UI draws, by names that stay."""

import pandas as pd

from deeper_assets.reports.figures import (
    gap_figures,
    group_figures,
    macro_figures,
    pair_figures,
    reward_figures,
    round_figures,
    training_figures,
)

NAN = float("nan")


def test_errors_by_round_leave_out_what_is_unknown() -> None:
    errors = pd.DataFrame({"round": [0, 0, 0, 1, 2], "error": [0.5, 1.0, NAN, 0.25, NAN]})
    errors = errors.assign(pairs=2, pairs_right=[2, 0, NAN, 0, NAN], pairs_tied=[0, 1, NAN, 2, NAN])
    assert round_figures(errors) == {
        **{"MAE round 0": 0.75, "MAE round 1": 0.25},
        **{"pairwise accuracy round 0": 0.5, "ties round 0": 0.25, "ties round 1": 1.0},
    }


def test_the_macro_average_of_methods_comes_before_that_of_controls_and_floors() -> None:
    rows = [
        ("book", "deeper", "method", 0, 0.1),
        ("macro", "floor_user_median", "floor", 0, 0.5),
        ("macro", "control_none", "control", 0, 0.75),
        ("macro", "inc_update", "method", 0, NAN),
        ("macro", "deeper", "method", 1, 0.3),
        ("macro", "deeper", "method", 0, 0.4),
    ]
    table = pd.DataFrame(rows, columns=["domain", "method", "kind", "round", "mae"])
    assert list(macro_figures(table).items()) == [
        ("deeper round 0", 0.4),
        ("deeper round 1", 0.3),
        ("control_none round 0", 0.75),
        ("floor_user_median round 0", 0.5),
    ]


def test_the_gap_has_its_interval() -> None:
    columns = ["method", "against", "round", "users", "difference", "low", "high"]
    rows = [("deeper", "floor_user_median", 4, 9, 0.25, 0.125, 0.5)]
    assert gap_figures(pd.DataFrame(rows, columns=columns)) == {
        "deeper minus floor_user_median": 0.25,
        "deeper minus floor_user_median low": 0.125,
        "deeper minus floor_user_median high": 0.5,
    }
    assert gap_figures(pd.DataFrame(columns=columns)) == {}


def test_pairs_and_groups_are_counted() -> None:
    assert pair_figures(pd.DataFrame({"margin": [0.5, 1.0]})) == {"pairs": 2, "mean margin": 0.75}
    assert pair_figures(pd.DataFrame({"margin": []}, dtype="float64")) == {"pairs": 0}
    groups = pd.DataFrame(
        {
            "domain": "book",
            "user_id": ["a", "a", "a", "b"],
            "round": 1,
            "origin": ["replay", *["iteration_2"] * 3],
        }
    )
    assert group_figures(groups) == {"groups": 3}


def test_rewards_have_a_mean_and_a_spread() -> None:
    rewards = pd.DataFrame(
        {"reward_previous": [NAN, NAN], "reward_current": [1.0, -1.0], "reward_future": [0.5, NAN]}
    )
    assert reward_figures(rewards) == {
        "mean reward_current": 0.0,
        "mean reward_future": 0.5,
        "spread reward_current": 1.0,
        "spread reward_future": 0.0,
    }
    assert reward_figures(rewards.iloc[:0]) == {}


def test_a_training_is_told_by_its_last_figures() -> None:
    log = [
        {"kind": "training", "loss": 0.9, "reward_accuracy": 0.5},
        {"kind": "validation", "loss": 0.8, "reward_accuracy": 0.25},
        {"kind": "training", "loss": 0.7, "reward_accuracy": 0.75},
    ]
    assert training_figures(log) == {
        "training loss": 0.7,
        "training accuracy": 0.75,
        "validation loss": 0.8,
        "validation accuracy": 0.25,
    }
    assert training_figures([]) == {}
