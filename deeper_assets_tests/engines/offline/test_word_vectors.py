import numpy as np
import pytest

from deeper_assets.engines.offline.word_vectors import WordVectors

OF_MAGIC, OF_CRIME = (
    ["dragon wizard", "wizard spell", "spell dragon"],
    ["murder clue", "clue spy", "spy murder"],
)
TEXTS = (OF_MAGIC + OF_CRIME) * 4


def test_texts_without_a_common_word_are_near_where_their_words_stand_together_elsewhere() -> None:
    near, same, far, unknown = WordVectors().embed(["dragon", "wizard", "murder", "zork"], TEXTS)
    assert near @ same > 0.3
    assert near @ far == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(near) == pytest.approx(1)
    assert not unknown.any()


def test_the_same_texts_give_the_same_vectors() -> None:
    first, second = (WordVectors().embed(TEXTS, TEXTS) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("known", [[], ["the of"] * 5, ["a b c"], ["dragon"] * 9])
def test_few_words_or_none_are_no_error(known: list[str]) -> None:
    vectors = WordVectors().embed(["dragon", ""], known)
    assert len(vectors) == 2
    assert not vectors[1].any()


def test_no_texts_have_no_vectors() -> None:
    assert len(WordVectors().embed([], TEXTS)) == 0
