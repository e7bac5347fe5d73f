"""How the stand-in learns from ratings, and puts what an older persona says together with what is new.

Every writer goes by these rules, whatever it was asked. Tastes map theme phrases to degrees (see
`language.SHIFT`), the foremost first.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from statistics import median

from deeper_assets.engines.offline.language import SHIFT
from deeper_assets.engines.offline.themes import Kind, themes_of
from deeper_assets.method.domains import Scale

MOST_TASTES = 8
"""A persona that lists everything says nothing."""


def seen_in_ratings(
    rated: Sequence[tuple[str, float]], kind: Kind, scale: Scale
) -> tuple[dict[str, int], float]:
    """What (title, rating) pairs show: tastes, and the level of marking, 0 the lowest mark and 1 the highest.

    The level is the median, and a theme's strength is how far its ratings lie from that, in the mean, as if
    it had been rated once more, and as usual. The degree is the one whose shift comes nearest.
    """
    shares = [(title, scale.share(rating)) for title, rating in rated]
    level = median(share for _, share in shares)
    seen: dict[str, list[float]] = defaultdict(list)
    for themes, (_, share) in zip(themes_of([title for title, _ in shares], kind), shares, strict=True):
        for theme in themes:
            seen[theme].append(share - level)
    strengths = {theme: sum(values) / (len(values) + 1) for theme, values in seen.items()}
    foremost = sorted(strengths, key=lambda theme: (-abs(strengths[theme]), theme))
    degrees = {
        theme: min(SHIFT, key=lambda degree: abs(SHIFT[degree] - strengths[theme])) for theme in foremost
    }
    return bounded(degrees), level


def combined(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """Old and new tastes: the new ones first, stronger where both agree, and right where they do not."""
    both = {
        theme: max(-2, min(2, degree + old.get(theme, 0))) if degree * old.get(theme, 0) > 0 else degree
        for theme, degree in new.items()
    }
    return bounded({**both, **{theme: degree for theme, degree in old.items() if theme not in both}})


def bounded(degrees: Mapping[str, int]) -> dict[str, int]:
    """The foremost tastes that are any."""
    return dict(islice(((theme, degree) for theme, degree in degrees.items() if degree), MOST_TASTES))
