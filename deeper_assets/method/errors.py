"""Errors of personas: ε(w|S), the mean absolute error of S's predictions on window w (Section 3.1).

And their table by domain, method and round, as the paper prints it (Tables 13–17), never without controls and
floors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

from deeper_assets.method.frames import stacked
from deeper_assets.method.ordering import FIGURES, order_by_round, pair_counts
from deeper_assets.method.recipes import training_of

KINDS = ("method", "control", "ceiling", "floor")
"""What a row of the table can be of, in the order in which people read them."""

MACRO = "macro"
"""Name of the plain average over domains, where a table has one row for it."""

FEW_MISSING = 0.02
"""Share of users, kept or unreadable, from which a figure is not to be trusted without a look at them."""

COLUMNS = [
    *("domain", "method", "kind", "round", "asked", "users", "mae", "unreadable", "kept"),
    *FIGURES,
    "paper_mae",
]
"""Of the table."""


@dataclass(frozen=True)
class Evaluated:
    """The domains and the methods that are evaluated, by name."""

    domains: tuple[str, ...]
    methods: tuple[str, ...]

    def of(self, errors: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Their errors by kind, below one another.

        Errors of other methods and domains, which may be left from the time when these were evaluated, are
        left out; so is every kind where no method was evaluated.

        Args:
            errors: kind → rows of round_errors, control_errors, …: domain, the kind's name (a column of the
                kind, or method), user_id, round and figures.

        Returns:
            The same rows with method and kind.
        """
        rows = stacked(
            [rows.rename(columns={kind: "method"}).assign(kind=kind) for kind, rows in errors.items()]
        )
        theirs = rows["domain"].isin(self.domains) & (
            (rows["kind"] != "method") | rows["method"].isin(self.methods)
        )
        played = rows.loc[theirs & (rows["kind"] == "method"), "domain"]
        return rows[theirs & rows["domain"].isin(played)]


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
    return _errors(_rated(predictions, windows), keys)


def measured_windows(predictions: pd.DataFrame, windows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """`window_errors`, and beside them the `pair_counts` of each window."""
    rated = _rated(predictions, windows)
    return _errors(rated, keys).merge(pair_counts(rated, keys), on=keys, validate="one_to_one")


def _rated(predictions: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    actual = windows[["user_id", "window", "place", "rating"]]
    joined = predictions.merge(actual, on=["user_id", "window", "place"], how="left", validate="many_to_one")
    if joined["rating"].isna().any():
        stray = joined[joined["rating"].isna()].iloc[0]
        raise ValueError(f"prediction without a rating: user {stray['user_id']}, window {stray['window']}")
    return joined


def _errors(rated: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    rated = rated.assign(error=(rated["predicted"] - rated["rating"]).abs())
    grouped = rated.groupby(keys, sort=True)["error"].agg(items="size", known="count", error="mean")
    grouped["error"] = grouped["error"].where(grouped.pop("known") == grouped["items"])
    return grouped.reset_index()


def share_missing(values: "pd.Series[Any]") -> float:
    """The share (0-1) of unknown values; 0 where there is nothing to know."""
    return float(values.isna().mean()) if len(values) else 0.0


def mae_by_round(errors: pd.DataFrame) -> pd.DataFrame:
    """Means over users, per domain, method and round.

    Args:
        errors: one row a user and round: domain, method, round, error (NaN where unknown), and kept (0 or 1)
            where there are updates that can fail.

    Returns:
        domain, method, round, asked (users with a window to predict), users (those with a known error), mae
        (NaN where there is none), unreadable (share of those asked whose error is unknown), kept (share of
        them whose persona is an old one).
    """
    kept = errors["kept"].fillna(0) if "kept" in errors else 0
    errors = errors.assign(unreadable=errors["error"].isna(), kept=kept)
    return (
        errors.groupby(["domain", "method", "round"], sort=True)
        .agg(
            asked=("error", "size"),
            users=("error", "count"),
            mae=("error", "mean"),
            unreadable=("unreadable", "mean"),
            kept=("kept", "mean"),
        )
        .reset_index()
    )


def mae_table(measured: pd.DataFrame, floors: pd.DataFrame) -> pd.DataFrame:
    """Methods, controls, ceilings and floors in one table, with a macro average over the domains.

    Args:
        measured: what `Evaluated.of` gives: domain, method, kind, user_id, round, error (rating points; NaN
            unknown), kept (0 or 1; NaN where there are no updates) and the counts of pairs.
        floors: one row a domain, floor and round: domain, method, round, users, mae.

    Returns:
        COLUMNS; a domain's floors stand in it only where something was measured there. A floor predicts one
        mark for all items of a user, so all of its pairs are ties.
    """
    names = ["domain", "method", "round"]
    figures = mae_by_round(measured).merge(order_by_round(measured, names), on=names, validate="one_to_one")
    kinds = measured[["method", "kind"]].drop_duplicates()
    figures = figures.merge(kinds, on="method", validate="many_to_one")
    floors = floors[floors["domain"].isin(figures["domain"])]
    floors = floors.assign(
        kind="floor",
        asked=floors["users"],
        unreadable=0.0,
        kept=0.0,
        users_ordered=0,
        pairwise_accuracy=float("nan"),
        ties=1.0,
    )
    table = pd.concat([figures, floors], ignore_index=True)
    table = table.merge(paper_round_mae(), on=names, how="left")
    return with_macro_average(table)[COLUMNS]


def with_macro_average(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with a row per method and round for the plain average of its domains (the paper's "average").

    Args:
        table: one row a domain, method, kind and round: the other COLUMNS.

    Returns:
        The same columns. In the new rows users are summed, mae, pairwise_accuracy, ties and paper_mae are
        averaged over domains, and unreadable and kept are shares of all users. The first three are NaN where
        a method lacks a domain that others have in that round, because averages over different domains cannot
        be compared.
    """
    counts, means = ["asked", "users", "users_ordered"], ["mae", "pairwise_accuracy", "ties"]
    counted = table.assign(kept=table["kept"] * table["asked"])
    grouped = counted.groupby(["method", "kind", "round"], sort=True)
    macro = grouped.agg(
        **{name: (name, "sum") for name in (*counts, "kept")},
        **{name: (name, _mean_of_all) for name in (*means, "paper_mae")},
        domains=("domain", "nunique"),
    ).reset_index()
    complete = macro["domains"] == macro["round"].map(table.groupby("round")["domain"].nunique())
    macro[means] = macro[means].where(complete, axis="index")
    macro["unreadable"] = 1 - macro["users"] / macro["asked"]
    macro["kept"] /= macro["asked"]
    macro["domain"] = MACRO
    return pd.concat([table, macro[table.columns]], ignore_index=True)


def _mean_of_all(values: "pd.Series[float]") -> float:
    """The mean; NaN where one of them is unknown."""
    return float(values.mean(skipna=False))


def over_trainings(table: pd.DataFrame) -> pd.DataFrame:
    """mae_table with one row for all trainings of a recipe, under the name of the first.

    Returns:
        The same columns, their means over the trainings (of numbers of users the fewest). A mean is NaN where
        it is in one of them; paper_mae and gap_high, which are of all trainings, stand with the first. And
        trainings (how many there are), training_sd (standard deviation of mae between them; NaN of one).
    """
    own = ["domain", "method", "kind", "round"]
    method = [training_of(name)[0] for name in table["method"]]
    grouped = table.assign(method=method).groupby(own, sort=False)
    of_all = {"paper_mae": "first", "gap_high": "first"}
    ways = {"asked": "min", "users": "min", "users_ordered": "min", **of_all}
    merged = grouped.agg({name: ways.get(name, "mean") for name in table.columns if name not in own})
    for name in merged.columns.difference(list(of_all)):
        merged[name] = merged[name].where(grouped[name].count() == grouped.size())
    merged["trainings"], merged["training_sd"] = grouped.size(), grouped["mae"].std()
    return merged.reset_index()[[*table.columns, "trainings", "training_sd"]]


def paper_round_mae() -> pd.DataFrame:
    """The paper's own figures: domain, method, round, paper_mae (rating points), of Tables 13–17.

    Its DEEPER stands beside `deeper_paper`, which is trained as the paper trains.
    """
    with (resources.files("deeper_assets.method") / "paper_round_mae.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    return table.rename(columns={"mae": "paper_mae"})[["domain", "method", "round", "paper_mae"]]
