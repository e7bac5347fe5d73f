"""How certain a figure is: intervals of the macro-averaged error, over users and over trainings.

The macro average is a mean over domains of a mean over users. So users are resampled within their domain, and
two methods are compared on the same users. scipy.stats.bootstrap has neither strata nor means of means, so
the resampling is written out here, as a matrix product.

A recipe that is trained several times has one row: the mean of its trainings. They are too few to resample:
of three, a bootstrap stays between the least and the greatest, and one time in four the true mean does not.
So chance in training has an interval of its own, by Student's t (of a difference: Welch's), and the ends of
both are joined as the sides of a right triangle (MOVER: Zou and Donner, 2008). That errs on the wide side:
what chance in training does to single users counts in both.

Not in the paper, which gives no intervals.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from deeper_assets.method.errors import MACRO
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.frames import text_in
from deeper_assets.method.ordering import own_accuracy
from deeper_assets.method.recipes import training_of
from deeper_assets.method.windows import stable_share

COVERAGE = 0.95
"""Of an interval: of users, between the 2.5th and the 97.5th percentile of the resampled averages."""

RESAMPLES = 2000

COMPARED = [
    *("method", "kind", "round", "trainings", "users", "mae", "training_sd", "mae_low", "mae_high"),
    *("against", "difference", "difference_low", "difference_high"),
    *("pairwise_accuracy", "pairwise_low", "pairwise_high"),
]
"""Columns of a comparison."""

_FIGURE = ["method", "round"]


def bootstrap_mae(errors: pd.DataFrame, seed: int, resamples: int = RESAMPLES) -> pd.DataFrame:
    """The macro average of every method and round, with its interval.

    Args:
        errors: round_errors rows: domain, method, user_id, round, error (rating points; NaN unknown). Methods
            that differ by the number of a training (`training_of`) are one.
        seed: of the resampling; a domain's resamples depend on it, the domain and how many users it has.
        resamples: how many.

    Returns:
        method, round, trainings, users (with a known error in all of them), mae (rating points; of several
        trainings the mean), training_sd (standard deviation between them; NaN of one), low, high. The average
        is that of `with_macro_average`: NaN where a method lacks a domain that others have in that round.
    """
    trained = _by_training(errors)
    table = _intervals(_by_user(trained), trained, seed, resamples).merge(_spread(trained), on=_FIGURE)
    table["training_sd"] = table["training_sd"].where(table["mean"].notna())
    table = _widened(table, _half_interval([table]))
    columns = [*_FIGURE, "trainings", "users", "mean", "training_sd", "low", "high"]
    return table[columns].rename(columns={"mean": "mae"})


def bootstrap_difference(
    errors: pd.DataFrame, against: str, seed: int, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """How much every other method's macro average differs from that of `against`, on the same users.

    See `bootstrap_mae` for the other arguments. Trainings of two recipes are taken for independent.

    Returns:
        method, against, round, users (whose error is known with both), difference (rating points; below 0
        where the method errs less), low, high.

    Raises:
        DeeperError: there are no errors of `against`.
    """
    trained = _by_training(errors)
    values = _by_user(trained)
    methods = values.columns.unique("method")
    if against not in methods:
        raise DeeperError(f"there are no errors of the method {against!r}; known: {', '.join(methods)}")
    differences = pd.concat(
        {method: values[method] - values[against] for method in methods}, axis="columns", names=["method"]
    )
    table = _intervals(differences, trained, seed, resamples)
    spread = _spread(trained).set_index(_FIGURE)
    own = spread.reindex(pd.MultiIndex.from_frame(table[_FIGURE]))
    other = spread.reindex(pd.MultiIndex.from_product([[against], table["round"]]))
    table = _widened(table, _half_interval([own, other]))
    table = table.rename(columns={"mean": "difference"})
    table.insert(1, "against", against)
    return table[table["method"] != against].reset_index(drop=True)


def compare(measured: pd.DataFrame, against: str, seed: int, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Every macro average by round with its interval, and its difference from that of `against`.

    Where `against` has no errors, there are no differences. `measured` is what `Evaluated.of`
    gives; see `bootstrap_mae` for the other arguments.

    Returns:
        comparison_table rows, by method and round.
    """
    table = bootstrap_mae(measured, seed, resamples).rename(columns={"low": "mae_low", "high": "mae_high"})
    kinds = _by_training(measured)[["method", "kind"]].drop_duplicates()
    table = table.merge(kinds, on="method", validate="many_to_one")
    numbers = ["difference", "difference_low", "difference_high"]
    if against in set(table["method"]):
        differences = bootstrap_difference(measured, against, seed, resamples).drop(columns="users")
        differences = differences.rename(columns={"low": "difference_low", "high": "difference_high"})
        table = table.merge(differences, on=_FIGURE, how="left")
    # The same resampling of another figure of the same users.
    ordered = bootstrap_mae(measured.assign(error=own_accuracy(measured)), seed, resamples)
    ordered = ordered.drop(columns=["trainings", "users", "training_sd"]).rename(
        columns={"mae": "pairwise_accuracy", "low": "pairwise_low", "high": "pairwise_high"}
    )
    table = table.merge(ordered, on=_FIGURE, how="left")
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


def _by_training(errors: pd.DataFrame) -> pd.DataFrame:
    """The same rows: `method` without the number of a training, which stands in `training` (1-based).

    A user's error is unknown in every training of a method where it is in one: else trainings would be
    compared on other users. `trainings` says how many there are of the method and round.
    """
    of = {name: training_of(name) for name in errors["method"].unique()}
    trained = errors.assign(
        method=errors["method"].map({name: method for name, (method, _) in of.items()}),
        training=errors["method"].map({name: number for name, (_, number) in of.items()}),
        error=errors["error"].astype("float64"),
    )
    trained["trainings"] = trained.groupby(_FIGURE)["training"].transform("nunique")
    known = trained.groupby(["domain", "user_id", *_FIGURE])["error"].transform("count")
    trained["error"] = trained["error"].where(known == trained["trainings"])
    return trained


def _by_user(trained: pd.DataFrame) -> pd.DataFrame:
    """Errors with a row a user (domain, user_id) and a column a method and round, sorted both ways.

    Of several trainings the mean.
    """
    errors = trained.groupby(["domain", "user_id", *_FIGURE])["error"].mean()
    return errors.unstack(_FIGURE).sort_index().sort_index(axis="columns")


def _spread(trained: pd.DataFrame) -> pd.DataFrame:
    """Of every method and round: trainings, and training_sd between their macro averages."""
    by_domain = trained.groupby([*_FIGURE, "trainings", "training", "domain"])["error"].mean()
    figures = by_domain.groupby([*_FIGURE, "trainings", "training"]).mean()
    return figures.groupby([*_FIGURE, "trainings"]).std().rename("training_sd").reset_index()


def _half_interval(sides: Sequence[pd.DataFrame]) -> np.ndarray:
    """Half of the interval over trainings of a mean, or of a difference of two means; 0 where there is one.

    `sides` have trainings and training_sd, a row a figure. Of a difference, the degrees of freedom are
    Welch's.
    """
    trainings = np.array([side["trainings"] for side in sides], dtype=float)
    sd = np.array([side["training_sd"] for side in sides], dtype=float)
    several = (trainings > 1) & (sd > 0)
    variances = np.where(several, sd**2 / trainings, 0)
    parts = np.where(several, variances**2 / np.maximum(trainings - 1, 1), 0).sum(axis=0)
    freedom = np.divide(variances.sum(axis=0) ** 2, parts, out=np.full(parts.shape, np.inf), where=parts > 0)
    reach = [_student(degrees) if degrees < np.inf else 0.0 for degrees in freedom]
    half: np.ndarray = np.array(reach) * np.sqrt(variances.sum(axis=0))
    return half


def _student(freedom: float) -> float:
    """How far from 0 Student's t reaches with COVERAGE, at so many degrees of freedom (1 or more).

    At √freedom · tan(angle), its density is proportional to cos(angle)^(freedom - 1) d(angle).
    """
    ends = np.linspace(0, math.pi / 2, 20_001)
    within = np.concatenate([[0], np.cumsum(np.cos((ends[1:] + ends[:-1]) / 2) ** (freedom - 1))])
    return math.sqrt(freedom) * math.tan(np.interp(COVERAGE, within / within[-1], ends))


def _widened(table: pd.DataFrame, half: np.ndarray) -> pd.DataFrame:
    """A table whose intervals of `mean`, over users, are joined with those over trainings."""
    below, above = table["mean"] - table["low"], table["high"] - table["mean"]
    low, high = table["mean"] - np.hypot(below, half), table["mean"] + np.hypot(above, half)
    return table.assign(low=table["low"].where(half == 0, low), high=table["high"].where(half == 0, high))


def _intervals(values: pd.DataFrame, errors: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """The macro average of each column of `values` (as of `_by_user`), and its interval over users.

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
