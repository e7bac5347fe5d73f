"""Checks on iterations: what would teach a policy something wrong, or nothing."""

from collections.abc import Callable, Iterator

import pandas as pd
from dagster import AssetCheckResult, AssetCheckSeverity

from deeper_assets.checks.personas import share_readable
from deeper_assets.declaring import Check, check
from deeper_assets.method.contexts import of_template
from deeper_assets.method.pairs import CONTEXT, REPLAY
from deeper_assets.method.recipes import Recipe
from deeper_assets.method.rewards import DECIMALS
from deeper_assets.store.warehouse import Warehouse


def candidates_usable(candidates: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most candidates can be used."""
    rows = candidates.assign(
        usable=candidates["persona"].where(candidates["unusable"].isna()), note=candidates["unusable"]
    )
    return share_readable(rows, "usable", unreadable_limit)


def candidates_differ(candidates: pd.DataFrame) -> AssetCheckResult:
    """Contexts have more than one candidate: there is nothing to prefer among equal texts (a warning)."""
    context = candidates.columns.intersection(["template", "recipe", "user_id", "round"]).tolist()
    texts = candidates.groupby(context).size()
    alone = int((texts == 1).sum())
    return AssetCheckResult(
        passed=alone * 2 <= len(texts),
        severity=AssetCheckSeverity.WARN,
        description=f"{alone} of {len(texts)} contexts have a single candidate",
        metadata={
            "contexts": len(texts),
            "with a single candidate": alone,
            "mean candidates a context": float(texts.mean() if len(texts) else 0),
        },
    )


def chosen_beats_rejected(pairs: pd.DataFrame, recipe: Recipe) -> AssetCheckResult:
    """In every pair, the chosen persona's reward beats the rejected one's by the margin it was drawn with."""
    difference = (pairs["reward_chosen"] - pairs["reward_rejected"]).round(DECIMALS)
    least = pairs["origin"].map(
        {"iteration_1": recipe.margin_1, "iteration_2": recipe.margin_2, REPLAY: recipe.margin_1}
    )
    wrong = (difference < least) | (difference <= 0) | ((difference - pairs["margin"]).abs() > 1e-6)
    wrong |= _replayed_without_margin(pairs, difference, recipe)
    smallest = {"smallest margin": float(difference.min())} if difference.notna().any() else {}
    return AssetCheckResult(
        passed=not wrong.any(),
        description=f"{len(pairs)} pairs, {int(wrong.sum())} without their margin",
        metadata={"pairs": len(pairs), "without their margin": int(wrong.sum()), **smallest},
    )


def groups_compare(groups: pd.DataFrame, recipe: Recipe) -> AssetCheckResult:
    """In every group, all rewards are known and some differ, by the margin it was drawn with."""
    keys = [*CONTEXT, "origin"]
    spread = groups.groupby(keys)["reward"].agg(["min", "max", "size", "count"]).reset_index()
    difference = (spread["max"] - spread["min"]).round(DECIMALS)
    wrong = ~(difference > 0) | (spread["count"] < spread["size"])
    wrong |= _replayed_without_margin(spread, difference, recipe)
    smallest = {"smallest spread": float(difference.min())} if difference.notna().any() else {}
    return AssetCheckResult(
        passed=not wrong.any(),
        description=f"{len(spread)} groups, {int(wrong.sum())} with nothing to compare",
        metadata={"groups": len(spread), "with nothing to compare": int(wrong.sum()), **smallest},
    )


def _replayed_without_margin(
    rows: pd.DataFrame, difference: "pd.Series[float]", recipe: Recipe
) -> "pd.Series[bool]":
    return rows["origin"].eq(REPLAY) & ~(difference > recipe.replay_margin)


def only_training_users(
    preferences: pd.DataFrame, training_domains: tuple[str, ...], warehouse: Warehouse
) -> AssetCheckResult:
    """No evaluation user is in any preference, and no domain that only evaluates."""
    columns = ["domain", "user_id", "split"]
    users = warehouse.load("rating_windows", columns=columns).drop_duplicates()
    trains = users[(users["split"] == "train") & users["domain"].isin(training_domains)]
    known = pd.MultiIndex.from_frame(trains[["domain", "user_id"]])
    strangers = ~pd.MultiIndex.from_frame(preferences[["domain", "user_id"]]).isin(known)
    return AssetCheckResult(
        passed=not strangers.any(),
        description=f"{int(strangers.sum())} of {len(preferences)} rows are of someone who does not train",
        metadata={"rows": len(preferences), "of someone who does not train": int(strangers.sum())},
    )


def _every_domain_trains(
    preferences: pd.DataFrame, sampled: pd.DataFrame, training: tuple[str, ...]
) -> AssetCheckResult:
    missing = sorted(set(training) - set(sampled["domain"]))
    by_domain = preferences["domain"].value_counts()
    return AssetCheckResult(
        passed=not missing,
        description=f"missing: {', '.join(missing)}; sample them (for the templates of train_recipes),"
        " or set training_domains"
        if missing
        else f"all {len(training)} are there",
        metadata={
            "training domains": len(training),
            "missing": len(missing),
            "rows by domain": {str(k): int(v) for k, v in by_domain.items()},
        },
    )


def every_domain_trains_1(
    preferences: pd.DataFrame, recipe: Recipe, training_domains: tuple[str, ...], warehouse: Warehouse
) -> AssetCheckResult:
    """Every training domain has been sampled: a policy is not trained with one missing unsaid."""
    # Asked of the warehouse, because a check cannot map partitions.
    sampled = of_template(warehouse.load("candidates_1", columns=["domain", "template"]), recipe.template)
    return _every_domain_trains(preferences, sampled, training_domains)


def every_domain_trains_2(
    preferences: pd.DataFrame, recipe_name: str, training_domains: tuple[str, ...], warehouse: Warehouse
) -> AssetCheckResult:
    """Every training domain has been sampled: a policy is not trained with one missing unsaid."""
    sampled = warehouse.load("candidates_2", {"recipe": [recipe_name]}, columns=["domain"])
    return _every_domain_trains(preferences, sampled, training_domains)


def _of_iteration(number: int, every_domain_trains: Callable[..., AssetCheckResult]) -> Iterator[Check]:
    """The checks on what an iteration samples, and on both forms of what trains."""
    yield check(f"candidates_{number}", blocking=True)(candidates_usable)
    yield check(f"candidates_{number}")(candidates_differ)
    yield check(f"preference_pairs_{number}", blocking=True)(chosen_beats_rejected)
    yield check(f"preference_groups_{number}", blocking=True)(groups_compare)
    for table in (f"preference_pairs_{number}", f"preference_groups_{number}"):
        yield check(table, blocking=True)(only_training_users)
        yield check(table, blocking=True, name="every_domain_trains")(every_domain_trains)


CHECKS = [*_of_iteration(1, every_domain_trains_1), *_of_iteration(2, every_domain_trains_2)]
