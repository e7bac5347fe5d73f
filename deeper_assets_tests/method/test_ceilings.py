"""Ceilings of a hand-made truth: two users, three items, two themes, and a change of taste."""

from collections.abc import Callable

import pandas as pd

from deeper_assets.method.ceilings import Expected, said_predictions, truth_predictions
from deeper_assets.method.domains import Domain, find_domain

BOOK = find_domain("book")
START, CHANGE = pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-02 12:00")

ITEMS = pd.DataFrame(
    [("A", "crime", "heist", 0.1), ("B", "love", None, -0.1), ("C", "crime", "sleuth", 0.0)],
    columns=["title", "theme", "word", "quality"],
)
TRUTH = pd.DataFrame(
    [
        ("u", "habit", "", START, 0.5),
        ("u", "use", "", START, 1.0),
        ("u", "noise", "", START, 0.05),
        ("u", "taste", "crime", START, 0.2),
        ("u", "taste", "crime", CHANGE, -0.3),
        ("u", "taste", "love", START, 0.0),
        ("u", "appeal", "crime", START, 0.6),
        ("u", "appeal", "crime", CHANGE, 0.4),
        ("u", "appeal", "love", START, 0.4),
        ("u", "appeal", "love", CHANGE, 0.6),
        ("v", "habit", "", START, 0.6),
        ("v", "use", "", START, 0.5),
        ("v", "noise", "", START, 0.1),
        ("v", "taste", "crime", START, -0.4),
        ("v", "taste", "love", START, 0.95),
        ("v", "appeal", "crime", START, 0.5),
        ("v", "appeal", "love", START, 0.5),
    ],
    columns=["user_id", "part", "name", "since", "value"],
)


def windows() -> pd.DataFrame:
    """Ratings by user, window and place, in no order; a window a day, the second rating in the evening."""
    rated = {
        ("u", "eval"): {0: "BA", 1: "AC", 2: "BA", 3: "CB", 6: "AB"},
        ("v", "eval"): {1: "AB", 5: "C"},
        ("t", "train"): {1: "AB"},
    }
    rows = [
        (user, split, window, place, title, START + pd.Timedelta(days=window, hours=12 * place), 3.0)
        for (user, split), own in rated.items()
        for window, titles in own.items()
        for place, title in enumerate(titles)
    ]
    names = ["user_id", "split", "window", "place", "title", "rated_at", "rating"]
    return pd.DataFrame(rows, columns=names).assign(domain="book").sample(frac=1, random_state=1)


def test_the_truth_predicts_from_what_held_when_a_rating_was_made() -> None:
    got = truth_predictions(windows(), TRUTH, ITEMS, BOOK)
    assert [*got.columns] == ["domain", "ceiling", "user_id", "round", "window", "place", "predicted"]
    assert set(got["domain"]) == {"book"}
    assert set(got["ceiling"]) == {"ceiling_planted_truth"}
    assert got.drop(columns=["domain", "ceiling"]).values.tolist() == [
        # u, before the change: 0.5 + 0.2 + 0.1 is 3.2 steps above one star.
        ["u", 0, 1, 0, 4.0],
        # u, from the very moment of the change on: 0.5 - 0.3 is 0.8 steps.
        ["u", 0, 1, 1, 2.0],
        ["u", 1, 2, 0, 3.0],  # 0.5 - 0.1
        ["u", 1, 2, 1, 2.0],  # 0.5 - 0.3 + 0.1
        ["u", 2, 3, 0, 2.0],  # 0.5 - 0.3
        ["u", 2, 3, 1, 3.0],  # 0.5 - 0.1
        # v uses half the scale: 0.6 + 0.5 * (-0.4 + 0.1) is 1.8 steps, 0.6 + 0.5 * (0.95 - 0.1) past the end.
        ["v", 0, 1, 0, 3.0],
        ["v", 0, 1, 1, 5.0],
        ["v", 4, 5, 0, 3.0],  # 0.6 - 0.2 is 1.6 steps
    ]


def test_words_are_put_to_what_holds_when_a_window_begins() -> None:
    asked: list[tuple[list[Expected], float, Domain]] = []

    def speak(expected: list[Expected], noise: float, domain: Domain) -> Callable[[str], float]:
        asked.append((expected, noise, domain))
        number = len(asked)
        return lambda title: number + {"A": 0.0, "B": 0.25, "C": 0.5}[title]

    got = said_predictions(windows(), TRUTH, ITEMS, BOOK, speak)

    def rounded(expected: list[Expected]) -> list[tuple[str, float, float]]:
        return [(one.title, round(one.weight, 9), round(one.share, 9)) for one in expected]

    # Two items share the appeal of crime. Quality shows in no title, so it adds to the noise: its variance is
    # 0.02 / 3, and v makes half as much of it.
    assert [(rounded(expected), round(noise**2, 9)) for expected, noise, _ in asked] == [
        ([("A", 0.3, 0.7), ("B", 0.4, 0.5), ("C", 0.3, 0.7)], 0.009166667),
        ([("A", 0.2, 0.2), ("B", 0.6, 0.5), ("C", 0.2, 0.2)], 0.009166667),  # windows 2 and 3 of u alike
        ([("A", 0.25, 0.4), ("B", 0.5, 1.075), ("C", 0.25, 0.4)], 0.011666667),
    ]
    assert [one.word for one in asked[0][0]] == ["heist", "", "sleuth"]
    assert [domain for *_, domain in asked] == [BOOK] * 3
    assert set(got["ceiling"]) == {"ceiling_said"}
    assert got[["user_id", "round", "window", "place", "predicted"]].values.tolist() == [
        ["u", 0, 1, 0, 1.0],
        ["u", 0, 1, 1, 1.5],  # not what holds at its second rating
        ["u", 1, 2, 0, 2.25],
        ["u", 1, 2, 1, 2.0],
        ["u", 2, 3, 0, 2.5],
        ["u", 2, 3, 1, 2.25],
        ["v", 0, 1, 0, 3.0],
        ["v", 0, 1, 1, 3.25],
        ["v", 4, 5, 0, 3.5],
    ]


def test_nothing_is_predicted_of_whom_no_truth_is_known() -> None:
    for got in (
        truth_predictions(windows(), TRUTH[:0], ITEMS[:0], BOOK),
        said_predictions(windows(), TRUTH[:0], ITEMS[:0], BOOK, lambda *_: lambda _: 3.0),
    ):
        assert got.empty
        assert [*got.columns] == ["domain", "ceiling", "user_id", "round", "window", "place", "predicted"]
