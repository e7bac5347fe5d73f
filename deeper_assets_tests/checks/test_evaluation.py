"""The checks on evaluation and their figures."""

import pandas as pd

from deeper_assets.checks.evaluation import floors_beside_methods, methods_beat_the_median
from deeper_assets_tests.checks.test_training import figures

TABLE = pd.DataFrame(
    [
        ("macro", "deeper", "method", 4, 0.5),
        ("macro", "inc_update", "method", 4, 0.75),
        ("macro", "floor_constant", "floor", 4, 1.0),
        ("macro", "floor_user_mean", "floor", 4, 0.7),
        ("macro", "floor_user_median", "floor", 4, 0.625),
    ],
    columns=["domain", "method", "kind", "round", "mae"],
)


def test_an_error_without_one_of_its_floors_is_found() -> None:
    assert floors_beside_methods(TABLE).passed
    missing = floors_beside_methods(TABLE.iloc[:-1])
    assert not missing.passed
    assert figures(missing) == {"floors": 3, "missing": 1}


def test_the_best_method_stands_beside_the_median() -> None:
    better = methods_beat_the_median(TABLE)
    assert better.passed
    assert figures(better) == {
        "best": 0.5,
        "floor_user_median": 0.625,
        "best minus floor_user_median": -0.125,
    }
    assert not methods_beat_the_median(TABLE[TABLE["method"] != "deeper"]).passed
    assert figures(methods_beat_the_median(TABLE.assign(round=3))) == {}
