"""The truth in the stand-in's own words: the persona that its reader predicts best from.

For whoever was generated, not met: nothing here is known of a real person. What comes of it is a ceiling, the
most that a writer could reach through this reader. It takes a stand on every theme of the lexicon, and on
every word that tells a theme and that the lexicon does not know.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from deeper_assets.engines.offline.chat_model import predicted_rating
from deeper_assets.engines.offline.language import HABITS, SHIFT, Reading
from deeper_assets.engines.offline.themes import LITERAL, Kind, find_kind, title_words, words_of
from deeper_assets.method.ceilings import Expected
from deeper_assets.method.domains import Domain

_AROUND = np.array((-1.47, -0.79, -0.37, 0.0, 0.37, 0.79, 1.47))
"""Seven places, as likely each, where a rating may lie around what is expected, in standard deviations."""

SWEEPS = 3
"""How often each theme's degree is looked at, given all others."""


def speak(expected: Sequence[Expected], noise: float, domain: Domain) -> Callable[[str], float]:
    """What the reader of the best words predicts, see `ceilings.Speak`."""
    reading = best_said(expected, noise, domain)
    return lambda title: predicted_rating(reading, title, domain.scale)


def best_said(expected: Sequence[Expected], noise: float, domain: Domain) -> Reading:
    """The reading of the least expected error: for every level taste by taste, SWEEPS times.

    `noise` is the standard deviation of a rating, share of the scale.
    """
    cues = _cues(expected, find_kind(domain.item_type))
    touched, weight, share = _alike(expected, list(cues.values()))
    step = domain.scale.step / (domain.scale.highest - domain.scale.lowest)
    given = _places(share[:, None] + noise * _AROUND, step)
    marks, items = np.arange(_places(np.ones(1), step)[0] + 1), np.arange(len(share))
    # What each mark would be off each item's ratings by, share of the scale: items × marks.
    off = np.abs(marks[:, None] - given[:, None, :]).mean(axis=2) * step
    degrees, shifts = list(SHIFT), np.array(list(SHIFT.values()))
    nothing = degrees.index(0)

    def errors(level: float, shift: np.ndarray) -> np.ndarray:
        """The expected error of each row of shifts, an item a column."""
        predicted = _places(level + np.clip(shift, min(shifts), max(shifts)), step)
        return np.asarray(off[items, predicted] @ weight)

    readings = []
    for level in HABITS:
        chosen = np.full(len(cues), nothing)
        for _ in range(SWEEPS):
            for taste in range(len(cues)):
                chosen[taste] = nothing
                rest = touched @ shifts[chosen]
                error = errors(level, rest + shifts[:, None] * touched[:, taste])
                best = int(error.argmin())
                chosen[taste] = best if error[best] < error[nothing] else nothing
        readings.append((float(errors(level, (touched @ shifts[chosen])[None])[0]), level, chosen))
    _, level, chosen = min(readings, key=lambda one: one[:2])
    named = {taste: degrees[place] for taste, place in zip(cues, chosen, strict=True)}
    return Reading({taste: degree for taste, degree in named.items() if degree}, HABITS[level][0])


def _cues(expected: Sequence[Expected], kind: Kind) -> dict[str, frozenset[str]]:
    """What a persona can take a stand on, and the title words that it goes by."""
    cues = {theme.phrase: theme.words for theme in kind.themes}
    known = frozenset[str]().union(*cues.values())
    words = {one.word.lower() for one in expected}
    unknown = sorted(word for word in words if word.isalpha() and known.isdisjoint(title_words(word)))
    return cues | {LITERAL + word: words_of(LITERAL + word) for word in unknown}


def _alike(
    expected: Sequence[Expected], cues: Sequence[frozenset[str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items alike in what they touch and get: which cues (0 or 1), weight, and share of the scale."""
    weights: dict[tuple[tuple[float, ...], float], float] = defaultdict(float)
    touches = _touches(tuple(one.title for one in expected), tuple(cues))
    for one, touch in zip(expected, touches, strict=True):
        weights[touch, one.share] += one.weight
    touched, share = (np.array(part) for part in zip(*weights, strict=True))
    weight = np.array(list(weights.values()))
    return touched, weight / weight.sum(), share


@lru_cache(maxsize=2)  # everybody in a domain meets the same items
def _touches(titles: tuple[str, ...], cues: tuple[frozenset[str], ...]) -> list[tuple[float, ...]]:
    """Of each title, which cues it touches (0 or 1)."""
    words = map(title_words, titles)
    return [tuple(float(not cue.isdisjoint(own)) for cue in cues) for own in words]


def _places(share: np.ndarray, step: float) -> np.ndarray:
    """The places (0, 1, …) of the marks of the scale that are nearest to shares of it."""
    return np.asarray(np.floor(np.clip(share, 0, 1) / step + 0.5), dtype=int)
