"""Signs that figures say little though nothing failed: one mark, titles without words, equal methods."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

MOST = 0.9
"""Share of users, or of titles, from which a sign is taken for a flaw of the data."""

_CODE = re.compile(r"(?=.*\d)[A-Za-z0-9_.:/#-]+")
"""One word of letters and digits, such as B00X4WHP5E, tt0111161, 4711 or an UUID."""


@dataclass(frozen=True)
class AlikeRatings:
    """Users who give one mark to everything, of all users; how many marks there are; one such mark."""

    users: int
    users_alike: int
    marks: int
    example: float | None

    @property
    def share(self) -> float:
        """Of the users, 0–1; 0 where there are none."""
        return self.users_alike / self.users if self.users else 0.0


def alike_ratings(windows: pd.DataFrame) -> AlikeRatings:
    """How many users of rating_windows rows give one mark alone."""
    marks = windows.groupby("user_id")["rating"].agg(["nunique", "first"])
    alike = marks.loc[marks["nunique"] == 1, "first"]
    example = float(alike.mode().iloc[0]) if len(alike) else None
    return AlikeRatings(len(marks), len(alike), int(windows["rating"].nunique()), example)


@dataclass(frozen=True)
class CodeTitles:
    """Titles that are codes, of all titles (of so many items); a title, of the codes where there are some."""

    items: int
    titles: int
    codes: int
    example: str | None

    @property
    def share(self) -> float:
        """Of the titles, 0–1; 0 where there are none."""
        return self.codes / self.titles if self.titles else 0.0


def code_titles(windows: pd.DataFrame) -> CodeTitles:
    """How many titles of rating_windows rows are codes: one word of letters and digits, without a space."""
    titles = sorted(windows["title"].unique())
    codes = [title for title in titles if _CODE.fullmatch(title)]
    example = (codes or titles or [None])[0]
    return CodeTitles(int(windows["item_id"].nunique()), len(titles), len(codes), example)


def equal_methods(errors: pd.DataFrame) -> list[set[str]]:
    """Groups of methods that err alike, by as much on every user in every round from the first update on.

    Args:
        errors: domain, method, user_id, round, error (rating points; NaN unknown) of several methods; those
            of a group have the same users, and at least one known error.

    Returns:
        Groups of two methods or more, those of the most methods first.
    """
    updated = errors[errors["round"] > 0]
    rows = ["domain", "user_id", "round"]
    wide = updated.pivot(index=rows, columns="method", values="error").round(9)
    there = updated.assign(there=1).pivot(index=rows, columns="method", values="there")
    by_errors: dict[bytes, set[str]] = {}
    for method in wide.columns:
        values = np.where(there[method].notna(), wide[method].fillna(-1.0), -2.0)
        if wide[method].notna().any():
            by_errors.setdefault(values.tobytes(), set()).add(str(method))
    return sorted((group for group in by_errors.values() if len(group) > 1), key=len, reverse=True)


def without_effect(errors: pd.DataFrame, untrained: str, trained: Collection[str]) -> list[str]:
    """Those of the `trained` methods that err exactly as the untrained one; see `equal_methods`."""
    alike = [group for group in equal_methods(errors) if untrained in group]
    return sorted(method for group in alike for method in group if method in set(trained))
