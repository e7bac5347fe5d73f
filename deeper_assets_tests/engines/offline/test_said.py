"""The best words for a person whose truth is known, by what the reader makes of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.engines.offline.chat_model import predicted_rating
from deeper_assets.engines.offline.language import HABITS, Reading
from deeper_assets.engines.offline.said import _AROUND, _places, best_said, speak
from deeper_assets.method.ceilings import Expected
from deeper_assets.method.domains import FIVE_STARS, HALF_STARS, Domain, Scale

CAKES, MEAT = "home-baked cakes and pies", "roasts and grilled meats"
SCALES = [FIVE_STARS, HALF_STARS, Scale(1, 10, 1), Scale(0, 100, 1)]


def recipes(scale: Scale) -> Domain:
    return Domain("d", "recipe", scale, seen=False)


def error(reading: Reading, expected: list[Expected], noise: float, scale: Scale) -> float:
    """The expected error of what the reader makes of `reading`, share of the scale."""
    width = scale.highest - scale.lowest
    total = 0.0
    for one in expected:
        given = [scale.nearest(scale.lowest + (one.share + noise * place) * width) for place in _AROUND]
        told = predicted_rating(reading, one.title, scale)
        total += one.weight * float(np.mean([abs(told - mark) for mark in given])) / width
    return total / sum(one.weight for one in expected)


def test_a_strong_dislike_of_somebody_who_marks_well_is_said_as_it_is() -> None:
    """Nine steps: 7 usually, which only level 0.75 says, and 4 for meat: 0.75 - 0.35 comes nearest."""
    expected = [
        Expected("plain cake", 0.5, 7 / 9),
        Expected("plain water", 0.25, 7 / 9),
        Expected("plain steak", 0.25, 4 / 9),
    ]
    reading = best_said(expected, 0.01, recipes(HALF_STARS))
    assert reading == Reading({MEAT: -2}, HABITS[0.75][0])
    predicted = speak(expected, 0.01, recipes(HALF_STARS))
    assert [predicted(title) for title in ("a cake", "a steak", "nothing")] == [4, 2.5, 4]


def test_a_taste_counts_as_often_as_its_items_come_up() -> None:
    """Of the themes of one title, the one that is met alone; the other is left unsaid."""
    expected = [
        Expected("steak cake", 0.1, 0.4),
        Expected("steak", 0.4, 0.5),
        Expected("cake", 0.4, 0.7),
        Expected("water", 0.1, 0.5),
    ]
    reading = best_said(expected, 0.0, recipes(Scale(0, 100, 1)))
    assert reading == Reading({CAKES: 2}, HABITS[0.5][0])


def test_whoever_gives_one_mark_has_a_habit_and_no_taste() -> None:
    expected = [Expected("cake", 0.5, 0.5), Expected("steak", 0.5, 0.5)]
    assert best_said(expected, 0.0, recipes(Scale(0, 100, 1))) == Reading({}, HABITS[0.5][0])


def test_a_word_that_the_lexicon_does_not_know_is_taken_a_stand_on_by_itself() -> None:
    """Blinis are no theme of its; what tells no theme, "plain", is no word to go by."""
    expected = [
        Expected("Plain Blinis", 0.4, 0.5, "Blinis"),
        Expected("Plain Steak", 0.3, 0.75, "Steak"),
        Expected("Plain Water", 0.3, 0.75),
    ]
    reading = best_said(expected, 0.0, recipes(FIVE_STARS))
    assert {*reading.degrees} == {"anything with blinis"}
    predicted = speak(expected, 0.0, recipes(FIVE_STARS))
    assert [predicted(title) for title in ("Blinis", "Steak", "Plain Water")] == [3, 4, 4]


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_levels_are_marked_as_the_scale_marks_them(scale: Scale) -> None:
    """Half-way too: of five stars, 0.625 is four to the reader."""
    width = scale.highest - scale.lowest
    marks = scale.lowest + _places(np.array([*HABITS]), scale.step / width) * scale.step
    assert [*marks] == pytest.approx([scale.nearest(scale.lowest + level * width) for level in HABITS])


def test_a_level_between_two_marks_is_said_where_it_predicts_best() -> None:
    """Four stars usually and two for meat: 0.625 rounds to four, and 0.625 - 0.35 to two."""
    expected = [Expected("cake", 0.5, 0.75), Expected("water", 0.25, 0.75), Expected("steak", 0.25, 0.25)]
    predicted = speak(expected, 0.01, recipes(FIVE_STARS))
    assert [predicted(title) for title in ("cake", "water", "steak")] == [4, 4, 2]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(SCALES),
    st.lists(
        st.tuples(
            st.sampled_from(["cake", "steak", "salmon", "steak cake", "water", "taco", "salad"]),
            st.floats(0.1, 1),
            st.floats(-0.2, 1.2),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda one: one[0],
    ),
    st.floats(0.01, 0.2),
)
def test_tastes_never_predict_worse_than_the_best_habit_alone(
    scale: Scale, items: list[tuple[str, float, float]], noise: float
) -> None:
    expected = [Expected(*item) for item in items]
    best = error(best_said(expected, noise, recipes(scale)), expected, noise, scale)
    alone = min(error(Reading({}, named[0]), expected, noise, scale) for named in HABITS.values())
    assert best <= alone + 1e-9
