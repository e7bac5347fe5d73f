"""The scale of somebody's own ratings, guessed from the marks that occur."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import gcd, lcm

from deeper_assets.method.domains import Scale
from deeper_assets.method.exceptions import DeeperError

USUAL = (
    *(Scale(1, 5, 1), Scale(0.5, 5, 0.5), Scale(1, 5, 0.5), Scale(1, 10, 1), Scale(0, 10, 1), Scale(0, 5, 1)),
    *(Scale(1, 7, 1), Scale(0, 1, 1), Scale(-1, 1, 1), Scale(0, 100, 1), Scale(1, 100, 1), Scale(0, 5, 0.5)),
)
"""Scales that people are asked on, the most usual first."""

MOST_MARKS = 201
"""Marks of a scale that is guessed, at most; a scale with more is an amount."""

_RARE = Fraction(1, 1000)
"""A mark that so few ratings have does not decide about the scale."""

_SLIPS, _SLIPS_OF = 2, 100
"""A mark of so many ratings at most, where there are so many times as many in all, may be a slip."""


@dataclass(frozen=True)
class GuessedScale:
    """A scale, what it was read from, and what speaks against it."""

    scale: Scale
    seen: str
    doubts: Sequence[str]


def guess_scale(counts: Mapping[float, int]) -> GuessedScale:
    """The scale of ratings: lowest and highest mark, and the greatest step that reaches all between.

    A 0 below marks from 1 on means that none was given, as in Food.com. Marks that fewer than one rating in
    a thousand has are off the scale. So are marks of one or two ratings without which it is a usual scale,
    and with which it is none or has gaps.

    Args:
        counts: finite rating → how many ratings have it.

    Raises:
        DeeperError: there are no two marks, or too many to be a scale.
    """
    total = sum(counts.values())
    often = _without_slips(
        sorted(round(mark, 6) for mark, count in counts.items() if count >= _RARE * total),
        {round(mark, 6) for mark, count in counts.items() if _SLIPS_OF * count <= total and count <= _SLIPS},
    )
    doubts = []
    if often[:1] == [0] and len(often) > 2 and often[1] >= 1 and _even(often[1:]) and often[-1] <= 5:
        doubts.append(
            f"{counts[0]:,} ratings are 0, taken to mean that none was given; if it is a mark: --scale "
            f"{flag(Scale(0, often[-1], 1))}"
        )
        often = often[1:]
    if len(often) < 2:
        marks = ", ".join(f"{mark:g}" for mark in sorted(counts)[:3]) or "none"
        raise DeeperError(
            f"the ratings have no two marks that are frequent ({marks}), so no scale can be guessed; say it "
            "with --scale LOWEST:HIGHEST:STEP"
        )
    step = step_of(often)
    if (often[-1] - often[0]) / step + 1 > MOST_MARKS:
        raise DeeperError(
            f"the ratings have {len(counts):,} different values from {often[0]:g} to {often[-1]:g}, too many "
            "for the marks of a scale; if it is one, say it with --scale LOWEST:HIGHEST:STEP"
        )
    scale = Scale(often[0], often[-1], step)
    off = [mark for mark in sorted(counts) if not scale.holds(mark) and mark != 0]
    if off:
        shown = ", ".join(f"{mark:g}" for mark in off[:5]) + ", …" * (len(off) > 5)
        number = sum(counts[mark] for mark in off)
        doubts.append(f"{number:,} rating{' is' if number == 1 else 's are'} off it: {shown}")
    if scale not in USUAL:
        wider = next((usual for usual in USUAL if all(map(usual.holds, often))), None)
        hint = f"; the usual scale {wider} holds them too: --scale {flag(wider)}" if wider else ""
        doubts.append(f"it is read from the marks that occur{hint}")
    return GuessedScale(scale, f"from {len(counts):,} different ratings", doubts)


def flag(scale: Scale) -> str:
    """A scale as the flag takes it."""
    return f"{scale.lowest:g}:{scale.highest:g}:{scale.step:g}"


def _without_slips(often: Sequence[float], slips: set[float]) -> list[float]:
    """The marks without the slips among them, where that makes the scale a usual one; in order."""
    left = [mark for mark in often if mark not in slips]
    if len(left) < 2 or len(left) == len(often):
        return list(often)
    step = step_of(often)
    gaps = (often[-1] - often[0]) / step + 1 > len(often) + 0.5
    usual = Scale(often[0], often[-1], step) in USUAL
    better = Scale(left[0], left[-1], step_of(left)) in USUAL
    return left if better and (gaps or not usual) else list(often)


def _even(marks: Sequence[float]) -> bool:
    return all(float(mark).is_integer() for mark in marks)


def step_of(marks: Sequence[float]) -> float:
    """The greatest common step of marks, at least two, in order."""
    steps = [Fraction(str(b)) - Fraction(str(a)) for a, b in pairwise(marks)]
    below = lcm(*(step.denominator for step in steps))
    return float(Fraction(gcd(*(int(step * below) for step in steps)), below))
