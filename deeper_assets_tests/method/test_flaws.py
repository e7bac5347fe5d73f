"""Signs that figures say little, on rows counted by hand."""

import pandas as pd
import pytest

from deeper_assets.method.flaws import (
    AlikeRatings,
    CodeTitles,
    alike_ratings,
    code_titles,
    equal_methods,
    without_effect,
)


def windows(*rows: tuple[str, str, float]) -> pd.DataFrame:
    """Rows of user, title and rating; a title is its item's id too."""
    frame = pd.DataFrame(rows, columns=["user_id", "title", "rating"])
    return frame.assign(item_id=frame["title"])


def test_users_who_give_one_mark_alone() -> None:
    alike = alike_ratings(windows(("a", "X", 4), ("a", "Y", 4), ("b", "X", 4), ("b", "Y", 5), ("c", "X", 3)))
    assert alike == AlikeRatings(users=3, users_alike=2, marks=3, example=3.0)
    assert alike.share == 2 / 3
    assert alike_ratings(windows()).share == 0


@pytest.mark.parametrize("code", ["B00X4WHP5E", "tt0111161", "4711", "e12", "6f9619ff-8b86-d011", "user/12"])
def test_a_code_is_no_title(code: str) -> None:
    titles = code_titles(windows(("a", code, 1), ("a", "The Matrix", 1), ("b", "The Matrix", 1)))
    assert titles == CodeTitles(items=2, titles=2, codes=1, example=code)
    assert titles.share == 0.5


@pytest.mark.parametrize("title", ["Alien", "Ocean's 11", "WALL-E", "Toy Story 2", "美国队长3", "Amélie2"])
def test_a_title_is_no_code(title: str) -> None:
    assert code_titles(windows(("a", title, 1))) == CodeTitles(items=1, titles=1, codes=0, example=title)


def errors(**by_method: list[float | None]) -> pd.DataFrame:
    """Errors by method: rounds 0 and 1 of user a, then of b, …"""
    return pd.DataFrame(
        [
            ("films", method, f"user {n // 2}", n % 2, error)
            for method, values in by_method.items()
            for n, error in enumerate(values)
        ],
        columns=["domain", "method", "user_id", "round", "error"],
    ).astype({"error": "float64"})


def test_methods_are_alike_if_every_user_errs_by_as_much_after_an_update() -> None:
    measured = errors(
        frozen_policy=[0.5, 0.25, 0.5, None],
        deeper=[0.5, 0.25, 0.5, None],
        inc_update=[0.9, 0.25, 0.1, None],  # another first persona is no update
        full_regen=[0.5, 0.25, 0.5, 0.3],
        slide_regen=[0.5, 0.3, 0.5, 0.25],  # the same mean as full_regen
        deeper_paper=[0.5, 0.25],  # of other users
    )
    assert equal_methods(measured) == [{"frozen_policy", "deeper", "inc_update"}]
    trained = ["deeper", "deeper_paper"]
    assert without_effect(measured, "frozen_policy", trained) == ["deeper"]
    assert without_effect(measured[measured["method"] != "frozen_policy"], "frozen_policy", trained) == []


def test_methods_that_nothing_is_known_of_are_not_called_alike() -> None:
    assert equal_methods(errors(deeper=[0.5, None], frozen_policy=[0.5, None])) == []
    assert equal_methods(errors(deeper=[0.5], frozen_policy=[0.5])) == []  # round 0 alone
