"""The checks on evaluation and their figures."""

import pandas as pd
import pytest
from dagster import AssetCheckSeverity

from deeper_assets.checks.evaluation import (
    controls_readable,
    floors_beside_methods,
    methods_beat_the_median,
    methods_differ,
    training_had_effect,
    updates_usable,
)
from deeper_assets.method.recipes import Training
from deeper_assets_tests.checks.test_training import figures

TABLE = pd.DataFrame(
    [
        ("macro", "deeper", "method", 4, 0.5, 9),
        ("macro", "inc_update", "method", 4, 0.75, 9),
        ("macro", "control_habit", "control", 4, 0.25, 9),
        ("macro", "control_shuffled", "control", 4, 0.8, 9),
        ("macro", "control_history", "control", 4, 0.5, 9),
        ("macro", "control_none", "control", 4, 1.0, 9),
        ("macro", "floor_constant", "floor", 4, 1.0, 9),
        ("macro", "floor_user_mean", "floor", 4, 0.7, 9),
        ("macro", "floor_user_median", "floor", 4, 0.625, 9),
    ],
    columns=["domain", "method", "kind", "round", "mae", "asked"],
)
NONE = {"floors missing": 0, "controls missing": 0, "of other users": 0}


def test_an_error_without_one_of_its_floors_is_found() -> None:
    complete = floors_beside_methods(TABLE)
    assert complete.passed
    assert figures(complete) == NONE
    missing = floors_beside_methods(TABLE.iloc[:-1])
    assert not missing.passed
    assert missing.severity == AssetCheckSeverity.ERROR
    assert figures(missing) == {**NONE, "floors missing": 1}


def test_controls_that_are_not_there_yet_are_warned_of() -> None:
    missing = floors_beside_methods(TABLE[TABLE["kind"] != "control"])
    assert not missing.passed
    assert missing.severity == AssetCheckSeverity.WARN
    assert figures(missing) == {**NONE, "controls missing": 4}


def test_what_stands_beside_a_method_is_of_as_many_users() -> None:
    fewer = TABLE.assign(asked=TABLE["asked"].where(TABLE["method"] != "deeper", 8))
    result = floors_beside_methods(fewer)
    assert not result.passed
    assert result.severity == AssetCheckSeverity.WARN  # another method may have been evaluated anew already
    assert figures(result) == {**NONE, "of other users": 7}  # four controls and three floors


def test_a_control_that_nobody_was_asked_for_is_not_unreadable() -> None:
    rows = pd.DataFrame(
        {"predicted": [None, None, 3.0], "note": ["no_persona", "bad", None], "attempts": [0, 1, 1]}
    )
    assert controls_readable(rows.iloc[:1], 0.1).passed
    assert not controls_readable(rows, 0.1).passed
    assert figures(controls_readable(rows, 0.1))["rows"] == 2


def personas(*kept_by_round: int) -> pd.DataFrame:
    """persona_rounds of 100 users: how many keep an old persona in rounds 0, 1, …"""
    return pd.DataFrame(
        [
            (user, round_, f"kept: {'echo' if user else 'refusal'}" if user < kept else None)
            for round_, kept in enumerate(kept_by_round)
            for user in range(100)
        ],
        columns=["user_id", "round", "note"],
    )


@pytest.mark.parametrize(
    ("kept", "passed", "severity"),
    [
        ((0, 1, 1), True, AssetCheckSeverity.WARN),
        ((0, 0, 2), False, AssetCheckSeverity.WARN),
        ((0, 19, 0), False, AssetCheckSeverity.WARN),
        ((0, 0, 20), False, AssetCheckSeverity.ERROR),
        ((50, 0, 0), True, AssetCheckSeverity.WARN),  # nothing has been updated in round 0
        ((0,), True, AssetCheckSeverity.WARN),
    ],
)
def test_old_personas_are_warned_of_and_many_stop_a_run(
    kept: tuple[int, ...], passed: bool, severity: AssetCheckSeverity
) -> None:
    result = updates_usable(personas(*kept))
    assert result.passed == passed
    if not passed:
        assert result.severity == severity


def test_old_personas_are_counted_by_reason() -> None:
    result = updates_usable(personas(0, 3, 2))
    assert result.description == "3.0% kept in the worst round (2% warns, 20% stops); most often: echo"
    reasons = {"echo": 3, "refusal": 2}
    assert figures(result) == {"updates": 200, "kept": 5, "share kept": 0.03, "reasons": reasons}


def test_the_best_method_stands_beside_the_median() -> None:
    better = methods_beat_the_median(TABLE)
    assert better.passed
    assert figures(better) == {
        "best": 0.5,
        "floor_user_median": 0.625,
        "best minus floor_user_median": -0.125,
    }
    assert not methods_beat_the_median(TABLE[TABLE["method"] != "deeper"]).passed
    # One lucky training does not do: the mean of 0.5 and 0.875 is 0.6875.
    another = TABLE[TABLE["method"] == "deeper"].assign(method="deeper_seed_2", mae=0.875)
    assert figures(methods_beat_the_median(pd.concat([TABLE, another])))["best"] == 0.6875
    assert figures(methods_beat_the_median(TABLE.assign(round=3))) == {}


def evaluated(**by_method: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """mae_table and round_errors of methods that err by so much on both users in rounds 0 and 1."""
    rows = [
        ("book", method, user, round_, 0.5 if round_ == 0 else error)
        for method, error in by_method.items()
        for user in ("a", "b")
        for round_ in (0, 1)
    ]
    errors = pd.DataFrame(rows, columns=["domain", "method", "user_id", "round", "error"])
    table = errors.drop_duplicates(["domain", "method"])[["domain", "method"]].assign(kind="method")
    left = errors.assign(domain="grocery", error=9.0)  # of a domain that is not in the table any more
    return table, pd.concat([errors, left], ignore_index=True)


def test_methods_that_all_agree_are_warned_of() -> None:
    alike = methods_differ(*evaluated(inc_update=0.25, full_regen=0.25, deeper=0.25))
    assert not alike.passed
    assert alike.severity == AssetCheckSeverity.WARN
    assert alike.description == (
        "3 of 3 methods err alike on every user; look at the titles (titles_tell), the marks"
        " (ratings_differ), and a few personas in the UI"
    )
    assert figures(alike) == {"methods": 3, "alike": 3}
    some = methods_differ(*evaluated(inc_update=0.25, full_regen=0.25, deeper=0.5))
    assert some.passed
    assert some.description == "2 of 3 methods err alike on every user"
    assert methods_differ(*evaluated(inc_update=0.25)).passed


def test_a_training_that_changed_nothing_is_warned_of() -> None:
    training = Training(learning_rate=5e-6, epochs=4)
    table, errors = evaluated(frozen_policy=0.25, deeper=0.25, deeper_paper=0.5, inc_update=0.25)
    idle = training_had_effect(table, errors, training)
    assert not idle.passed
    assert idle.severity == AssetCheckSeverity.WARN
    assert idle.description == (
        "1 of 2 trained methods err exactly as frozen_policy: deeper. Raise training.learning_rate (5e-06) or"
        " training.epochs (4); a profile for the tiny offline policy says `extends: offline`, whose rate is"
        " 0.002"
    )
    assert figures(idle) == {"trained methods": 2, "without effect": 1}
    errors.loc[(errors["method"] == "deeper") & (errors["user_id"] == "a"), "error"] = 0.3
    assert training_had_effect(table, errors, training).passed
    nothing = training_had_effect(*evaluated(inc_update=0.25, full_regen=0.25), training)
    assert nothing.passed
    assert figures(nothing) == {"trained methods": 0, "without effect": 0}
