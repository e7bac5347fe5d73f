"""Errors of personas: ε(w|S), the mean absolute error of S's predictions on window w (Section 3.1).

And their table by domain, method and round, as the paper prints it (Tables 13–17), never without floors.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

MACRO = "macro"
"""Name of the plain average over domains, where a table has one row for it."""

COLUMNS = ["domain", "method", "kind", "round", "users", "mae", "unreadable", "paper_mae"]
"""Of the table."""


@dataclass(frozen=True)
class Evaluated:
    """The domains and the methods that are evaluated, by name."""

    domains: tuple[str, ...]
    methods: tuple[str, ...]

    def of(self, round_errors: pd.DataFrame) -> pd.DataFrame:
        """Their rows: errors of others may be left from the time when these were evaluated."""
        own = round_errors["domain"].isin(self.domains) & round_errors["method"].isin(self.methods)
        return round_errors[own]


def window_errors(predictions: pd.DataFrame, windows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The mean absolute error of each predicted window.

    Args:
        predictions: one row a predicted rating: `keys` (which contain user_id and window), place, predicted
            (rating points; NaN where the answer was unreadable).
        windows: one row a rating: user_id, window, place, rating (rating points).
        keys: columns that name one predicted window.

    Returns:
        One row a window: keys, items (ratings in the window), error (rating points; NaN where any of the
        window's predictions is unknown, because half an answer counts as none).

    Raises:
        ValueError: a prediction has no rating to be measured against.
    """
    actual = windows[["user_id", "window", "place", "rating"]]
    joined = predictions.merge(actual, on=["user_id", "window", "place"], how="left", validate="many_to_one")
    if joined["rating"].isna().any():
        stray = joined[joined["rating"].isna()].iloc[0]
        raise ValueError(f"prediction without a rating: user {stray['user_id']}, window {stray['window']}")
    joined["error"] = (joined["predicted"] - joined["rating"]).abs()
    grouped = joined.groupby(keys, sort=True)["error"].agg(items="size", known="count", error="mean")
    grouped["error"] = grouped["error"].where(grouped.pop("known") == grouped["items"])
    return grouped.reset_index()


def share_missing(values: "pd.Series[Any]") -> float:
    """The share (0-1) of unknown values; 0 where there is nothing to know."""
    return float(values.isna().mean()) if len(values) else 0.0


def mae_by_round(errors: pd.DataFrame) -> pd.DataFrame:
    """Means over users, per domain, method and round.

    Args:
        errors: one row a user and round: domain, method, round, error (NaN where unknown).

    Returns:
        domain, method, round, asked (users with a window to predict), users (those with a known error), mae
        (NaN where there is none), unreadable (share of those asked whose error is unknown).
    """
    grouped = errors.groupby(["domain", "method", "round"], sort=True)["error"]
    return grouped.agg(
        asked="size", users="count", mae="mean", unreadable=lambda error: float(error.isna().mean())
    ).reset_index()


def mae_table(round_errors: pd.DataFrame, floors: pd.DataFrame) -> pd.DataFrame:
    """Methods and floors in one table, with a macro average over the domains.

    Args:
        round_errors: one row a user and round: domain, method, round, error (rating points; NaN unknown).
        floors: one row a domain, floor and round: domain, method, round, users, mae.

    Returns:
        COLUMNS; a domain's floors stand in it only where one of its methods was evaluated.
    """
    methods = mae_by_round(round_errors).assign(kind="method")
    floors = floors[floors["domain"].isin(methods["domain"])]
    floors = floors.assign(kind="floor", asked=floors["users"], unreadable=0.0)
    table = pd.concat([methods, floors], ignore_index=True)
    table = table.merge(paper_round_mae(), on=["domain", "method", "round"], how="left")
    return with_macro_average(table)[COLUMNS]


def with_macro_average(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with a row per method and round for the plain average of its domains (the paper's "average").

    Args:
        table: one row a domain, method, kind and round: asked, users, mae, unreadable and paper_mae.

    Returns:
        The same columns. In the new rows users are summed, mae and paper_mae are averaged over domains, and
        unreadable is the share of all users. mae is NaN where a method lacks a domain that others have in
        that round, because averages over different domains cannot be compared.
    """
    grouped = table.groupby(["method", "kind", "round"], sort=True)
    macro = grouped.agg(
        users=("users", "sum"),
        mae=("mae", lambda mae: mae.mean(skipna=False)),
        paper_mae=("paper_mae", lambda mae: mae.mean(skipna=False)),
        asked=("asked", "sum"),
        domains=("domain", "nunique"),
    ).reset_index()
    complete = macro["domains"] == macro["round"].map(table.groupby("round")["domain"].nunique())
    macro["mae"] = macro["mae"].where(complete)
    macro["unreadable"] = 1 - macro["users"] / macro["asked"]
    macro["domain"] = MACRO
    return pd.concat([table, macro[table.columns]], ignore_index=True)


def paper_round_mae() -> pd.DataFrame:
    """The paper's own figures: domain, method, round, paper_mae (rating points), of Tables 13–17.

    Its DEEPER stands beside `deeper_paper`, which is trained as the paper trains.
    """
    with (resources.files("deeper_assets.method") / "paper_round_mae.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    return table.rename(columns={"mae": "paper_mae"})[["domain", "method", "round", "paper_mae"]]
