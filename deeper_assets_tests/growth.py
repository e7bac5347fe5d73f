"""How the work of a function grows with what it is given, whatever else the machine does meanwhile."""

import gc
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIMES = 8
"""How many times as large what is given gets."""

LINEAR = 3 * TIMES
"""More growth than work that is linear ever shows: of quadratic work it is TIMES squared, 64."""

_LEAST = 0.001
"""Seconds; what takes less is taken to take as much, because its growth would be that of a clock's noise."""


def growth(work: Callable[[T], object], given: Callable[[int], T], size: int) -> float:
    """How many times as much processor time `work` takes of what is `given` for TIMES this size.

    The least of three counts, each of a size of its own, so that no cache knows the answer.
    """
    small, large = (min(_seconds(work, given(each + i)) for i in range(3)) for each in (size, TIMES * size))
    return max(large, _LEAST) / max(small, _LEAST)


def _seconds(work: Callable[[T], object], given: T) -> float:
    gc.disable()  # what others have left is not this work's
    try:
        started = time.thread_time()
        work(given)
        return time.thread_time() - started
    finally:
        gc.enable()
