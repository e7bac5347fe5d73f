"""An embedder without a model: what a text is about, from which words stand together in texts.

A word's vector comes from its positive pointwise mutual information with all other words, reduced by SVD; a
text is the mean of its words, the rarer the heavier. Compared on generated people with TF-IDF and SVD of the
texts themselves, which puts a text near others with the same words, and not near those with kindred ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deeper_assets.method.induction.clusters import of_unit_length

DIMENSIONS = 16
FEWEST_TEXTS = 3
"""A word that stands in fewer texts says nothing."""


REACH = 0.5
"""Cosine similarity of memories that are near each other. From 0.3 to 0.7 it hardly matters."""


@dataclass(frozen=True)
class WordVectors:
    """Vectors of texts of one domain, from what stands together in `known` ones."""

    @property
    def name(self) -> str:
        """Changes with anything that changes a vector."""
        return f"offline-word-vectors-1-{DIMENSIONS}"

    @property
    def reach(self) -> float:
        """See `Embedder`."""
        return REACH

    def identity(self) -> str:
        """Its name says everything."""
        return self.name

    def embed(self, texts: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.float64]:
        """A vector of length 1 a text; of length 0 where none of its words is known: texts × dimensions."""
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(
            binary=True, stop_words="english", min_df=FEWEST_TEXTS, token_pattern=r"(?u)[^\W\d_][\w'’-]+"
        )
        try:
            present = counter.fit_transform(known).astype(float)
        except ValueError:  # no word is known
            return np.zeros((len(texts), 1))
        often = np.asarray(present.sum(axis=0)).ravel()
        words = _word_vectors(present) * np.log(len(known) / often + 1)[:, None]
        return of_unit_length(counter.transform(texts) @ words)


def _word_vectors(present: Any) -> npt.NDArray[np.float64]:
    """A vector a word, from which words are present in which texts."""
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD

    together = (present.T @ present).tocoo()
    often = np.asarray(together.sum(axis=1)).ravel()
    shared = np.log(together.data * often.sum() / (often[together.row] * often[together.col]))
    positive = csr_matrix((np.maximum(shared, 0), (together.row, together.col)), together.shape)
    dimensions = min(DIMENSIONS, positive.shape[0] - 1)
    if dimensions < 1 or not positive.max():  # one word, or no two that stand together more often than not
        return np.ones((positive.shape[0], 1))
    reduced = TruncatedSVD(dimensions, random_state=0, n_iter=7)
    vectors = reduced.fit_transform(positive)
    return of_unit_length(vectors / np.sqrt(np.maximum(reduced.singular_values_, 1e-12)))
