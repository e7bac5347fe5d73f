"""Ceilings: what can be predicted at most where the truth was planted. Not in the paper.

`ceiling_planted_truth` predicts every rating from the parameters that its user was generated with, noise left
out. `ceiling_said` is what a reader makes of the truth once it is put into its words.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import hypot

import pandas as pd

from deeper_assets.method.domains import Domain
from deeper_assets.method.rounds import ROUNDS

TRUTH, SAID = "ceiling_planted_truth", "ceiling_said"

CEILINGS: Mapping[str, str] = {
    TRUTH: "what the user was generated with, noise left out",
    SAID: "what the stand-in makes of that truth, put into its own words",
}
"""By how much text falls short of the truth, the second beside the first says."""


@dataclass(frozen=True)
class Expected:
    """Items alike in what their titles say, as a person meets them.

    Attributes:
        title: one of them.
        weight: how likely one of them comes up.
        share: what the person gives them, share of the scale, noise left out; it may lie outside [0, 1].
        word: the word of the title that tells its theme; empty where none does.
    """

    title: str
    weight: float
    share: float
    word: str = ""


Speak = Callable[[list[Expected], float, Domain], Callable[[str], float]]
"""Puts into words what a person gives to items, noise (share of the scale) beside it: title → predicted
rating of whoever reads the words."""


def truth_predictions(
    windows: pd.DataFrame, truth: pd.DataFrame, items: pd.DataFrame, domain: Domain
) -> pd.DataFrame:
    """The planted truth's predictions of the windows that rounds predict.

    Args:
        windows: rating_windows rows of a generated domain; training users are left out here.
        truth: planted_truth rows.
        items: planted_items rows.
        domain: that domain.

    Returns:
        domain, ceiling, user_id, round, window, place, predicted (rating points).
    """
    ahead = _predicted(windows, truth)
    shares: Iterable[float] = _shares(ahead, truth, items) if len(ahead) else ()
    return _rows(ahead, TRUTH, domain, [domain.scale.mark_at(share) for share in shares])


def said_predictions(
    windows: pd.DataFrame, truth: pd.DataFrame, items: pd.DataFrame, domain: Domain, speak: Speak
) -> pd.DataFrame:
    """What a reader predicts from the truth in words, as it holds when a window begins; see above."""
    ahead = _predicted(windows, truth)
    marks: dict[object, float] = {}
    quality = float(items["quality"].std(ddof=0))
    for user, own in ahead.groupby("user_id", sort=True):
        known = truth[truth["user_id"] == user]
        lasting = known[known["name"] == ""].set_index("part")["value"]
        # What no words can tell: the noise, and the quality that items have beyond their theme.
        noise = hypot(lasting["noise"], lasting["use"] * quality)
        read: dict[tuple[float, ...], Callable[[str], float]] = {}
        for _, window in own.groupby("window", sort=True):
            held = _held(known, window["rated_at"].min())
            key = tuple(held["value"])
            if key not in read:
                read[key] = speak(list(_expected(held, items)), noise, domain)
            marks |= {index: read[key](title) for index, title in window["title"].items()}
    return _rows(ahead, SAID, domain, [marks[index] for index in ahead.index])


def _predicted(windows: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """What the rounds predict of whom the truth knows."""
    evaluated = windows[(windows["split"] == "eval") & windows["window"].between(1, ROUNDS + 1)]
    evaluated = evaluated[evaluated["user_id"].isin(truth["user_id"])]
    return evaluated.sort_values(["user_id", "window", "place"], ignore_index=True)


def _shares(ratings: pd.DataFrame, truth: pd.DataFrame, items: pd.DataFrame) -> "pd.Series[float]":
    """What each rating would be without noise, share of the scale."""
    met = ratings.merge(items[["title", "theme", "quality"]], on="title", validate="many_to_one")
    lasting = truth[truth["name"] == ""].pivot(index="user_id", columns="part", values="value")
    met = met.merge(lasting, left_on="user_id", right_index=True)
    tastes = truth.loc[truth["part"] == "taste", ["user_id", "name", "since", "value"]].sort_values("since")
    met = pd.merge_asof(
        met.sort_values("rated_at"),
        tastes.rename(columns={"name": "theme"}).astype({"since": met["rated_at"].dtype}),
        left_on="rated_at",
        right_on="since",
        by=["user_id", "theme"],
    )
    met = met.sort_values(["user_id", "window", "place"], ignore_index=True)
    return met["habit"] + met["use"] * (met["value"] + met["quality"])


def _held(truth: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    """What of one user's truth holds at a moment."""
    begun = truth[truth["since"] <= moment].sort_values("since")
    return begun.groupby(["part", "name"], sort=True, as_index=False).last()


def _expected(held: pd.DataFrame, items: pd.DataFrame) -> Iterator[Expected]:
    """Every item of the domain, as likely as its theme comes up."""
    value = {
        (part, name): number for part, name, number in held[["part", "name", "value"]].itertuples(index=False)
    }
    each = items.groupby("theme")["title"].transform("size")
    words = items["word"].fillna("")
    for title, theme, word, alike in zip(items["title"], items["theme"], words, each, strict=True):
        share = value["habit", ""] + value["use", ""] * value["taste", theme]
        yield Expected(title, value["appeal", theme] / alike, share, word)


def _rows(ahead: pd.DataFrame, ceiling: str, domain: Domain, marks: list[float]) -> pd.DataFrame:
    rows = ahead[["user_id", "window", "place"]].assign(domain=domain.name, ceiling=ceiling, predicted=marks)
    rows["round"] = rows["window"] - 1
    return rows[["domain", "ceiling", "user_id", "round", "window", "place", "predicted"]]
