"""What sentence models say of short texts that are much alike: the directions from their mean.

The memories of a domain are worded alike, so a sentence model gives all of them nearly one direction. What
tells one from another is what is left without their mean: docs/induction.md has figures.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from deeper_assets.method.induction.clusters import of_unit_length

REACH = 0.1
"""Cosine similarity of memories that are near each other, of what is left without the mean.

Chosen for MiniLM, on generated people of seeds 77 and 78; other models may want another.
"""


def centred(
    texts: Sequence[str], known: Sequence[str], vector: Callable[[str], npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Of each text, the direction of its vector from the mean of the known ones, each as often as it stands.

    Of length 1, or 0 where its vector is the mean, or none at all: texts × dimensions.
    """
    if not texts:
        return np.zeros((0, 1))
    vectors = of_unit_length(np.array([vector(text) for text in texts]))
    if not known:
        return vectors
    given = of_unit_length(np.array([vector(text) for text in known]))
    mean = given[given.any(axis=1)].mean(axis=0) if given.any() else np.zeros(vectors.shape[1])
    return of_unit_length(np.where(vectors.any(axis=1, keepdims=True), vectors - mean, 0.0))
