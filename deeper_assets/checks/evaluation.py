"""Checks on evaluation: every user is counted, and no error stands without its controls and floors."""

import pandas as pd
from dagster import AssetCheckResult, AssetCheckSeverity

from deeper_assets.checks.personas import share_readable
from deeper_assets.declaring import In, check
from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.errors import FEW_MISSING, MACRO, over_trainings
from deeper_assets.method.flaws import equal_methods, without_effect
from deeper_assets.method.floors import FLOORS, MEDIAN
from deeper_assets.method.recipes import Training
from deeper_assets.method.rounds import KEPT, ROUNDS, kept
from deeper_assets.method.updates import FROZEN_POLICY, PROMPT_METHODS

KEPT_STOPS = 0.2
"""Share of personas kept in a round from which its figure is no longer the method's."""


@check("persona_rounds", blocking=True)
def updates_usable(persona_rounds: pd.DataFrame) -> AssetCheckResult:
    """Few personas are old ones because an update could not be used: a warning from 2 %, a stop from 20 %."""
    updated = persona_rounds[persona_rounds["round"] > 0]
    old = kept(updated)
    shares = old.groupby(updated["round"]).mean()
    share = float(shares.max()) if len(shares) else 0.0
    reasons = updated.loc[old, "note"].str.removeprefix(KEPT).value_counts()
    return AssetCheckResult(
        passed=share < FEW_MISSING,
        severity=AssetCheckSeverity.ERROR if share >= KEPT_STOPS else AssetCheckSeverity.WARN,
        description=f"{share:.1%} kept in the worst round ({FEW_MISSING:.0%} warns, {KEPT_STOPS:.0%} stops)"
        + (f"; most often: {reasons.index[0]}" if len(reasons) else ""),
        metadata={
            "updates": len(updated),
            "kept": int(old.sum()),
            "share kept": share,
            "reasons": {str(reason): int(count) for reason, count in reasons.items()},
        },
    )


@check("round_predictions", blocking=True)
def rounds_readable(round_predictions: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most predictions of the rounds could be read."""
    return share_readable(round_predictions, "predicted", unreadable_limit)


@check("control_predictions", blocking=True)
def controls_readable(control_predictions: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most predictions that the chat model was asked for could be read."""
    asked = control_predictions[control_predictions["attempts"] > 0]
    return share_readable(asked, "predicted", unreadable_limit)


@check("round_errors", blocking=True)
def every_user_counted(round_errors: pd.DataFrame, rating_windows: pd.DataFrame) -> AssetCheckResult:
    """Every evaluation user stands in every round whose window exists."""
    return _everybody(round_errors, rating_windows)


@check("control_errors", blocking=True)
def every_user_controlled(control_errors: pd.DataFrame, rating_windows: pd.DataFrame) -> AssetCheckResult:
    """Every evaluation user stands in every round whose window exists."""
    return _everybody(control_errors, rating_windows)


def _everybody(errors: pd.DataFrame, rating_windows: pd.DataFrame) -> AssetCheckResult:
    evaluated = rating_windows[rating_windows["split"] == "eval"]
    ahead = evaluated.loc[evaluated["window"].between(1, ROUNDS + 1), ["user_id", "window"]].drop_duplicates()
    missing = len(ahead) - len(errors[["user_id", "window"]].drop_duplicates())
    return AssetCheckResult(
        passed=missing == 0,
        description=f"{len(ahead)} windows to predict, {missing} without a row",
        metadata={"windows": len(ahead), "missing": missing},
    )


@check("mae_table", blocking=True)
def floors_beside_methods(mae_table: pd.DataFrame) -> AssetCheckResult:
    """Every method stands beside floors and controls, for the same domain and round and as many users.

    It only warns of controls that are not there yet, and of methods that were evaluated on other users before
    windows were cut anew: tables are made from whatever has been evaluated.
    """
    asked = mae_table.set_index(["domain", "round", "method"])["asked"]
    methods = mae_table[mae_table["kind"] == "method"]
    missing, others = {}, 0
    for kind, names in (("floor", FLOORS), ("control", CONTROLS)):
        wanted = methods[["domain", "round", "asked"]].merge(
            pd.Series(list(names), name="method"), how="cross"
        )
        there = asked.reindex(pd.MultiIndex.from_frame(wanted[["domain", "round", "method"]])).to_numpy()
        missing[kind] = int(wanted[pd.isna(there)].drop(columns="asked").drop_duplicates().shape[0])
        others += int((~pd.isna(there) & (there != wanted["asked"].to_numpy())).sum())
    return AssetCheckResult(
        passed=not (missing["floor"] or missing["control"] or others),
        severity=AssetCheckSeverity.ERROR if missing["floor"] else AssetCheckSeverity.WARN,
        description=(
            f"{missing['floor']} floors and {missing['control']} controls missing, {others} of another number"
            " of users than the method beside them"
        ),
        metadata={
            "floors missing": missing["floor"],
            "controls missing": missing["control"],
            "of other users": others,
        },
    )


@check("mae_table")
def methods_beat_the_median(mae_table: pd.DataFrame) -> AssetCheckResult:
    """Whether any method's macro average lies under the user's own median at the last round (a warning).

    Of a recipe that is trained several times it is the mean: the best of several would flatter.
    """
    macro = mae_table[(mae_table["domain"] == MACRO) & (mae_table["round"] == ROUNDS)]
    last = over_trainings(macro).set_index("method")
    floor = last["mae"].get(MEDIAN)
    best = last.loc[last["kind"] == "method", "mae"].dropna()
    if best.empty or floor is None:
        return AssetCheckResult(
            passed=True, severity=AssetCheckSeverity.WARN, description="no figure at round 4"
        )
    return AssetCheckResult(
        passed=bool(best.min() < floor),
        severity=AssetCheckSeverity.WARN,
        description=f"best method {best.idxmin()} {best.min():.3f}, the user's median {floor:.3f}",
        metadata={
            "best": float(best.min()),
            "floor_user_median": float(floor),
            "best minus floor_user_median": float(best.min() - floor),
        },
    )


_EVALUATIONS = {"round_errors": In("round_errors", optional=True)}


@check("mae_table", reads=_EVALUATIONS)
def methods_differ(mae_table: pd.DataFrame, round_errors: pd.DataFrame) -> AssetCheckResult:
    """Methods err differently: if they agree on every user, personas say nothing of them (a warning)."""
    errors = _of_methods(mae_table, round_errors)
    methods = errors["method"].nunique()
    alike = max(map(len, equal_methods(errors)), default=0)
    passed = methods < 2 or alike < methods
    advice = "; look at the titles (titles_tell), the marks (ratings_differ), and a few personas in the UI"
    return AssetCheckResult(
        passed=passed,
        severity=AssetCheckSeverity.WARN,
        description=f"{alike} of {methods} methods err alike on every user" + ("" if passed else advice),
        metadata={"methods": methods, "alike": alike},
    )


@check("mae_table", reads=_EVALUATIONS)
def training_had_effect(
    mae_table: pd.DataFrame, round_errors: pd.DataFrame, training: Training
) -> AssetCheckResult:
    """A trained policy errs otherwise than the untrained one: else training changed nothing (a warning)."""
    errors = _of_methods(mae_table, round_errors)
    trained = sorted(set(errors["method"]) - {*PROMPT_METHODS, FROZEN_POLICY})
    alike = without_effect(errors, FROZEN_POLICY, trained)
    description = f"{len(alike)} of {len(trained)} trained methods err exactly as {FROZEN_POLICY}"
    if alike:
        description += (
            f": {', '.join(alike)}. Raise training.learning_rate ({training.learning_rate:g}) or"
            f" training.epochs ({training.epochs:g}); a profile for the tiny offline policy says"
            " `extends: offline`, whose rate is 0.002"
        )
    return AssetCheckResult(
        passed=not alike,
        severity=AssetCheckSeverity.WARN,
        description=description,
        metadata={"trained methods": len(trained), "without effect": len(alike)},
    )


def _of_methods(mae_table: pd.DataFrame, round_errors: pd.DataFrame) -> pd.DataFrame:
    """The errors of the methods and domains that are in the table."""
    methods = mae_table.loc[mae_table["kind"] == "method", ["domain", "method"]].drop_duplicates()
    return round_errors.merge(methods, on=["domain", "method"])
