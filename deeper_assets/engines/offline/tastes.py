"""How the stand-in thinks about tastes: from ratings, from misses, and from an older persona and a newer one.

Every function maps theme phrases to degrees (see `language.TASTES`), the foremost first. None of them ever
looks at how high somebody marks on the whole: ratings count only relative to the person's own average.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from deeper_assets.engines.offline.themes import Kind, themes_of
from deeper_assets.method.domains import Scale

MOST_LIKES, MOST_DISLIKES = 5, 3

# All in fractions of the scale; a step of five stars is 0.25.
MARKED = 0.15
"""A theme this far above or below the person's average is loved or disliked, not just liked or doubted."""
NOTICED = 0.05
"""A theme less far below the person's average is not held against anyone."""
MISSED = 0.1
"""A theme predicted less far off is left as it is; three times as far off moves it by two degrees."""


def tastes_in_ratings(rated: Sequence[tuple[str, float]], kind: Kind, scale: Scale) -> dict[str, int]:
    """Tastes from (title, rating) pairs: themes rated above and below the person's own average.

    Where every rating is the same, the most frequent themes are liked, or doubted if it is below the middle.
    """
    if not rated:
        return {}
    average = sum(rating for _, rating in rated) / len(rated)
    if len({rating for _, rating in rated}) == 1:
        counts = Counter(
            theme for themes in themes_of([title for title, _ in rated], kind) for theme in themes
        )
        frequent = sorted(counts, key=lambda theme: -counts[theme])
        return bounded(dict.fromkeys(frequent, 1 if average >= (scale.highest + scale.lowest) / 2 else -1))
    degrees = {}
    for theme, strength in _strengths(((title, rating - average) for title, rating in rated), kind, scale):
        if strength > 0:
            degrees[theme] = 2 if strength >= MARKED else 1
        elif strength <= -NOTICED:
            degrees[theme] = -2 if strength <= -MARKED else -1
    return bounded(degrees)


def tastes_after_misses(
    old: Mapping[str, int], misses: Sequence[tuple[str, float]], kind: Kind, scale: Scale
) -> dict[str, int]:
    """`old` tastes corrected by (title, actual − predicted) pairs (rating points).

    Every miss is put down to taste: themes predicted too low become liked, too high disliked.
    """
    moved = {}
    for theme, strength in _strengths(misses, kind, scale):
        by = 2 if abs(strength) >= 3 * MISSED else 1
        if strength >= MISSED:
            moved[theme] = min(max(old.get(theme, 0), 0) + by, 2)
        elif strength <= -MISSED:
            moved[theme] = max(min(old.get(theme, 0), 0) - by, -2)
    return bounded({**moved, **{theme: degree for theme, degree in old.items() if theme not in moved}})


def combined(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """Old and new tastes: the new ones first, stronger where both agree, and right where they do not."""
    both = {
        theme: max(-2, min(2, degree + old.get(theme, 0))) if degree * old.get(theme, 0) > 0 else degree
        for theme, degree in new.items()
    }
    return bounded({**both, **{theme: degree for theme, degree in old.items() if theme not in both}})


def bounded(degrees: Mapping[str, int]) -> dict[str, int]:
    """The first few likes and dislikes: a persona that lists everything says nothing."""
    likes = [theme for theme, degree in degrees.items() if degree > 0][:MOST_LIKES]
    dislikes = [theme for theme, degree in degrees.items() if degree < 0][:MOST_DISLIKES]
    return {theme: degrees[theme] for theme in (*likes, *dislikes)}


def _strengths(signals: Iterable[tuple[str, float]], kind: Kind, scale: Scale) -> Iterable[tuple[str, float]]:
    """The mean signal of each theme, in fractions of the scale, the strongest first.

    Signals are titles and rating points. A theme seen only once counts half.
    """
    pairs = [(title, points / (scale.highest - scale.lowest)) for title, points in signals]
    seen: dict[str, list[float]] = defaultdict(list)
    for themes, (_, value) in zip(themes_of([title for title, _ in pairs], kind), pairs, strict=True):
        for theme in themes:
            seen[theme].append(value)
    means = {theme: sum(values) / (len(values) + 1) for theme, values in seen.items()}
    return sorted(means.items(), key=lambda pair: (-abs(pair[1]), pair[0]))
