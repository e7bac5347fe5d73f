from math import log, sqrt

import numpy as np
import pandas as pd
import pytest

from deeper_assets.method.induction.rankers import (
    FLOORS,
    TEMPERATURES,
    Row,
    item_knn,
    mixtures,
    nearest,
    popularity,
    rank,
    repeats,
)
from deeper_assets.method.induction.ranking import Scores
from deeper_assets.method.induction.turns import Crowd, Turn, Turns, turns_of
from deeper_assets_tests.method.induction.test_turns import done

EVENTS = done(
    ("t", "train", 0, "a"),
    ("t", "train", 0, "b"),
    ("w", "train", 0, "a"),
    ("w", "train", 0, "c"),
    ("e", "eval", 0, "b"),
    ("e", "eval", 0, "b"),
    ("e", "eval", 1, "c"),
)


def turn_and_crowd() -> tuple[Turn, Crowd]:
    turns = turns_of(EVENTS)
    return turns.asked[0], turns.crowd


def test_popular_is_what_others_did() -> None:
    assert popularity(*turn_and_crowd()).tolist() == [2, 1, 1]


def test_own_items_come_first_then_popular_ones() -> None:
    assert repeats(*turn_and_crowd()).tolist() == [2, 2 * 3 + 1, 1]


def test_neighbours_are_items_of_the_same_users() -> None:
    """Two had a, one of them b, the other c: the cosine of a and b is 1 / √2, that of b and c is 0."""
    assert item_knn(*turn_and_crowd()).tolist() == pytest.approx([1 / sqrt(2), 1, 0])
    turn, crowd = turn_and_crowd()
    of_t = Turn("t", False, 0, pd.NaT, turn.so_far, turn.ahead)
    assert item_knn(of_t, crowd).tolist() == [0, 0, 0], "without t nobody had b"


def test_an_item_is_scored_by_the_nearest_persona() -> None:
    centres = np.array([[1.0, 0], [0, 1], [0, 0]])
    items = np.array([[0.6, 0.8], [-1, 0], [0, 0]])
    told = nearest(centres, items)
    assert told is not None
    assert told.tolist() == [0.8, 0, 0], "a persona of which nothing is known is none"
    assert nearest(centres[2:], items) is None
    assert nearest(centres[:0], items) is None


def test_likeness_is_mixed_with_the_logarithm_of_popularity() -> None:
    mixed = mixtures(np.array([1.0, 0, 3]), np.array([0.5, 1, 0]), [1, 0.1])
    assert mixed.tolist() == [
        pytest.approx([log(2) + 0.5, 1, log(4)]),
        pytest.approx([log(2) + 5, 10, log(4)]),
    ]
    assert mixtures(np.array([1.0, 0]), None, [0.1]).tolist() == [[log(2), 0]]


def test_a_catalogue_has_what_others_had_and_ones_own_unless_items_come_once() -> None:
    events = pd.concat(
        [EVENTS, done(("e", "eval", 2, "d"), ("e", "eval", 3, "d"), ("e", "eval", 4, "x"))], ignore_index=True
    )
    rows = rank(turns_of(events), {}, {}, ["popularity"])
    assert [(row.turn.window, row.catalogue, row.unseen) for row in rows] == [
        (0, 3, 0),
        (1, 3, 1),  # nobody else has had d
        (2, 4, 0),  # now it is one's own
        (3, 4, 1),
    ]
    rows = rank(turns_of(events.assign(kind="rating")), {}, {}, ["popularity"])
    assert [(row.turn.window, row.catalogue, row.unseen) for row in rows] == [
        (0, 2, 0),
        *((window, 1, 1) for window in (1, 2, 3)),
    ]
    assert np.isnan(rows[1].measured).all()


PRACTICE = done(
    *(
        (user, "train", window, item)
        for user in ("t", "v", "w")
        for window, item in enumerate("abcbcb" if user == "t" else "aaaaaa")
    ),
    ("e", "eval", 0, "b"),
    ("e", "eval", 1, "c"),
)


def ranked_by(like: Scores, users: str) -> list[Row]:
    turns = turns_of(PRACTICE)
    asked = [turn for turn in [*turns.practice, *turns.asked] if turn.user_id in users]
    told = Turns(**{**vars(turns), "asked": asked})
    return rank(told, {"alone": lambda _: like}, {"mixed": lambda _: like}, FLOORS)


def test_the_temperature_is_what_serves_others_best() -> None:
    like_a, like_b = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])

    def temperatures(like: Scores) -> dict[str, float | None]:
        rows = ranked_by(like, "etv")
        return {row.turn.user_id: row.temperature for row in rows if row.ranker == "mixed"}

    assert temperatures(like_a)["e"] == TEMPERATURES[0], "the lowest of equal ones"
    # To v and w, who take a, others have 7 events of a and 3 of b: log 8 is above log 4 + 1 / 1.6.
    assert temperatures(like_b)["t"] == 1.6, "t's own turns, which take b, do not count"


def test_who_is_not_known_is_ranked_by_popularity() -> None:
    turns = turns_of(EVENTS)
    rows = rank(turns, {"alone": lambda _: None}, {"mixed": lambda _: None}, ["popularity"])
    assert [(row.ranker, row.fallback) for row in rows] == [
        ("popularity", False),
        ("alone", True),
        ("mixed", True),
    ]
    assert len({tuple(row.measured) for row in rows}) == 1
