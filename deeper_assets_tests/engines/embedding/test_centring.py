import numpy as np
import pytest

from deeper_assets.engines.embedding.centring import centred

VECTORS = {"east": [2.0, 0.0], "north": [0.0, 5.0], "south": [0.0, -1.0], "nothing": [0.0, 0.0]}


def of(*texts: str, known: list[str]) -> list[list[float]]:
    vectors = centred(texts, known, lambda text: np.array(VECTORS[text]))
    return [[round(number, 6) for number in vector] for vector in vectors.tolist()]


def test_directions_are_those_from_the_mean_of_what_is_known() -> None:
    # The mean of three directions, (1, 0) twice and (0, 1), is (2/3, 1/3).
    away = 0.5**0.5
    assert of("east", "north", known=["east", "east", "north"]) == [
        [pytest.approx(away, abs=1e-6), pytest.approx(-away, abs=1e-6)],
        [pytest.approx(-away, abs=1e-6), pytest.approx(away, abs=1e-6)],
    ]


def test_of_length_0_is_what_has_no_vector_or_is_the_mean() -> None:
    assert of("nothing", "east", known=["north", "south"]) == [[0, 0], [1, 0]]
    assert of("east", known=["east"] * 3) == [[0, 0]]


def test_where_nothing_is_known_directions_are_as_they_are() -> None:
    assert of("north", known=[]) == [[0, 1]]
    assert centred([], ["east"], lambda text: np.array(VECTORS[text])).shape[0] == 0
