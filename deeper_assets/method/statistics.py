"""How certain a figure is: bootstrap intervals, over users, of the macro-averaged error.

The macro average is a mean over domains of a mean over users. So users are resampled within their domain, and
two methods are compared on the same users. scipy.stats.bootstrap has neither strata nor means of means, so
the resampling is written out here, as a matrix product.

Not in the paper, which gives no intervals.
"""

import numpy as np
import pandas as pd

from deeper_assets.method.errors import MACRO
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.frames import text_in
from deeper_assets.method.ordering import own_accuracy
from deeper_assets.method.windows import stable_share

COVERAGE = 0.95
"""Of an interval: between the 2.5th and the 97.5th percentile of the resampled averages."""

RESAMPLES = 2000

COMPARED = [
    *("method", "kind", "round", "users", "mae", "mae_low", "mae_high"),
    *("against", "difference", "difference_low", "difference_high"),
    *("pairwise_accuracy", "pairwise_low", "pairwise_high"),
]
"""Columns of a comparison."""


def bootstrap_mae(errors: pd.DataFrame, seed: int, resamples: int = RESAMPLES) -> pd.DataFrame:
    """The macro average of every method and round, with its interval.

    Args:
        errors: round_errors rows: domain, method, user_id, round, error (rating points; NaN unknown).
        seed: of the resampling; a domain's resamples depend on it, the domain and how many users it has.
        resamples: how many.

    Returns:
        method, round, users (with a known error), mae, low, high (rating points). The average is that of
        `with_macro_average`: NaN where a method lacks a domain that others have in that round.
    """
    return _intervals(_by_user(errors), errors, seed, resamples).rename(columns={"mean": "mae"})


def bootstrap_difference(
    errors: pd.DataFrame, against: str, seed: int, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """How much every other method's macro average differs from that of `against`, on the same users.

    See `bootstrap_mae` for the other arguments.

    Returns:
        method, against, round, users (whose error is known with both), difference (rating points; below 0
        where the method errs less), low, high.

    Raises:
        DeeperError: there are no errors of `against`.
    """
    values = _by_user(errors)
    methods = values.columns.unique("method")
    if against not in methods:
        raise DeeperError(f"there are no errors of the method {against!r}; known: {', '.join(methods)}")
    differences = pd.concat(
        {method: values[method] - values[against] for method in methods}, axis="columns", names=["method"]
    )
    table = _intervals(differences, errors, seed, resamples).rename(columns={"mean": "difference"})
    table.insert(1, "against", against)
    return table[table["method"] != against].reset_index(drop=True)


def compare(measured: pd.DataFrame, against: str, seed: int, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Every macro average by round with its interval, and its difference from that of `against`.

    Where `against` has no errors, there are no differences. `measured` is what `Evaluated.of`
    gives; see `bootstrap_mae` for the other arguments.

    Returns:
        comparison_table rows, by method and round.
    """
    names = ["method", "round"]
    table = bootstrap_mae(measured, seed, resamples).rename(columns={"low": "mae_low", "high": "mae_high"})
    table = table.merge(measured[["method", "kind"]].drop_duplicates(), on="method", validate="many_to_one")
    numbers = ["difference", "difference_low", "difference_high"]
    if against in set(measured["method"]):
        differences = bootstrap_difference(measured, against, seed, resamples).drop(columns="users")
        differences = differences.rename(columns={"low": "difference_low", "high": "difference_high"})
        table = table.merge(differences, on=names, how="left")
    # The same resampling of another figure of the same users.
    ordered = bootstrap_mae(measured.assign(error=own_accuracy(measured)), seed, resamples)
    ordered = ordered.drop(columns="users").rename(
        columns={"mae": "pairwise_accuracy", "low": "pairwise_low", "high": "pairwise_high"}
    )
    table = table.merge(ordered, on=names, how="left")
    table = table.reindex(columns=COMPARED)
    table["against"] = [text_in(name) for name in table["against"]]
    return table.astype(dict.fromkeys(numbers, "float64"))


def bootstrap_gaps(errors: pd.DataFrame, floors: pd.DataFrame, floor: str, seed: int) -> pd.DataFrame:
    """How much every method differs from a floor in the last round, on the same users.

    Args:
        errors: round_errors rows, of any number of methods.
        floors: rows of `floor_errors`, of the same users.
        floor: which of them.
        seed: as for `bootstrap_mae`.

    Returns:
        Rows of `bootstrap_difference`; none where the floor has no errors in that round.
    """
    columns = ["domain", "user_id", "method", "round", "error"]
    both = pd.concat([errors[columns], floors.loc[floors["method"] == floor, columns]])
    both = both[both["round"] == errors["round"].max()]
    if floor in set(both["method"]):
        return bootstrap_difference(both, floor, seed)
    none: pd.DataFrame = both.iloc[:0].assign(against=floor)
    return none


def under_floors(errors: pd.DataFrame, floors: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How surely every method lies under every floor, for each domain, their macro average and each round.

    See `bootstrap_gaps` for the arguments.

    Returns:
        domain, method, round, gap_high: the upper end of the interval of the method's average minus a floor's
        on the same users, of the floor for which it is highest (rating points); NaN where one is unknown.
    """
    keys, columns = ["domain", "method", "round"], ["domain", "user_id", "method", "round", "error"]
    if errors.empty:
        return pd.DataFrame(columns=[*keys, "gap_high"]).astype({"round": "int64", "gap_high": "float64"})
    names = floors["method"].unique()
    both = pd.concat([errors[columns], floors.loc[floors["domain"].isin(errors["domain"]), columns]])
    gaps = [
        bootstrap_difference(rows[~rows["method"].isin(names) | (rows["method"] == floor)], floor, seed)
        .rename(columns={"high": "gap_high"})
        .assign(domain=domain)
        for domain, rows in [(MACRO, both), *both.groupby("domain")]
        for floor in names
    ]
    highest = pd.concat(gaps).groupby(keys)["gap_high"].agg(lambda ends: ends.max(skipna=False))
    return highest.reset_index()


def _by_user(errors: pd.DataFrame) -> pd.DataFrame:
    """Errors with a row a user (domain, user_id) and a column a method and round, sorted both ways."""
    indexed = errors.set_index(["domain", "user_id", "method", "round"])["error"].astype("float64")
    return indexed.unstack(["method", "round"]).sort_index().sort_index(axis="columns")


def _intervals(values: pd.DataFrame, errors: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """The macro average of each column of `values` (by user, as of `_by_user`), and its interval.

    A round's average is over the domains in which, by `errors`, anyone has a window to predict.
    """
    rounds = values.columns.get_level_values("round")
    reached = set(errors[["domain", "round"]].itertuples(index=False, name=None))
    sums, domains = np.zeros((resamples + 1, len(rounds))), np.zeros(len(rounds))
    for domain, users in values.groupby(level="domain"):
        error = users.to_numpy()
        generator = np.random.default_rng(int(stable_share(seed, "bootstrap", domain) * 2**53))
        drawn = generator.multinomial(len(error), np.full(len(error), 1 / len(error)), size=resamples)
        # How often each user counts: once for the figure itself, then as drawn.
        weights = np.vstack([np.ones(len(error)), drawn])
        with np.errstate(invalid="ignore"):
            means = weights @ np.nan_to_num(error) / (weights @ ~np.isnan(error))
        here = np.array([(domain, round_) in reached for round_ in rounds])
        sums += np.where(here, means, 0)
        domains += here
    macro = sums / domains
    table = values.columns.to_frame(index=False)
    table["users"] = values.notna().sum().to_numpy()
    table["mean"] = macro[0]
    # A resample may lack every user whose error is known. Then it has no average, and does not count.
    known = ~np.isnan(macro[0])
    ends = np.full((2, len(rounds)), np.nan)
    outside = 100 * (1 - COVERAGE) / 2
    ends[:, known] = np.nanpercentile(macro[1:, known], [outside, 100 - outside], axis=0)
    table["low"], table["high"] = ends
    return table
