"""Checks on iterations: what would teach a policy something wrong, or nothing."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    ResourceParam,
    asset_check,
)

from deeper_assets.checks.personas import share_readable
from deeper_assets.partitions import Partitions, columns_of
from deeper_assets.resources import Experiment


def candidates_usable(experiment: ResourceParam[Experiment], candidates: pd.DataFrame) -> AssetCheckResult:
    """Most candidates can be used."""
    rows = candidates.assign(
        usable=candidates["persona"].where(candidates["unusable"].isna()), note=candidates["unusable"]
    )
    return share_readable(rows, "usable", experiment.settings.unreadable_limit)


def candidates_differ(candidates: pd.DataFrame) -> AssetCheckResult:
    """Contexts have more than one candidate: there is nothing to prefer among equal texts (a warning)."""
    texts = candidates.groupby(["user_id", "round"]).size()
    alone = int((texts == 1).sum())
    return AssetCheckResult(
        passed=alone * 2 <= len(texts),
        severity=AssetCheckSeverity.WARN,
        description=f"{alone} of {len(texts)} contexts have a single candidate",
        metadata={
            "contexts": len(texts),
            "mean candidates a context": float(texts.mean() if len(texts) else 0),
        },
    )


def chosen_beats_rejected(
    context: AssetCheckExecutionContext, experiment: ResourceParam[Experiment], pairs: pd.DataFrame
) -> AssetCheckResult:
    """In every pair, the chosen persona's reward is above the rejected one's by the recipe's margin."""
    recipe = experiment.recipes[_recipe_of(context)]
    replays = pairs["origin"].ne("iteration_2")
    least = pd.Series(recipe.margin_2, pairs.index).where(~replays, recipe.margin_1)
    difference = (pairs["reward_chosen"] - pairs["reward_rejected"]).round(9)
    wrong = (difference < least) | (difference <= 0) | ((difference - pairs["margin"]).abs() > 1e-6)
    return AssetCheckResult(
        passed=not wrong.any(),
        description=f"{len(pairs)} pairs, {int(wrong.sum())} without their margin",
        metadata={"pairs": len(pairs), "smallest margin": float(difference.min()) if len(pairs) else 0.0},
    )


def only_training_users(experiment: ResourceParam[Experiment], pairs: pd.DataFrame) -> AssetCheckResult:
    """No evaluation user is in any pair, and no domain that only evaluates."""
    columns = ["domain", "user_id", "split"]
    users = experiment.warehouse.load("rating_windows", columns=columns).drop_duplicates()
    trains = users[(users["split"] == "train") & users["domain"].isin(experiment.training_domains)]
    known = pd.MultiIndex.from_frame(trains[["domain", "user_id"]])
    strangers = ~pd.MultiIndex.from_frame(pairs[["domain", "user_id"]]).isin(known)
    return AssetCheckResult(
        passed=not strangers.any(),
        description=f"{int(strangers.sum())} of {len(pairs)} pairs are of someone who does not train",
    )


def every_domain_trains(iteration: int) -> Callable[..., AssetCheckResult]:
    """The check of one iteration; it asks the warehouse, because checks cannot map partitions."""

    def every_domain_trains(
        context: AssetCheckExecutionContext, experiment: ResourceParam[Experiment], pairs: pd.DataFrame
    ) -> AssetCheckResult:
        """Every training domain has been sampled: a policy is not trained with one missing unsaid."""
        recipe = _recipe_of(context)
        by = (
            {"recipe": [recipe]}
            if iteration == 2
            else {"template": [str(experiment.recipes[recipe].template)]}
        )
        sampled = experiment.warehouse.load(f"candidates_{iteration}", by, columns=["domain"])
        missing = sorted(set(experiment.training_domains) - set(sampled["domain"]))
        return AssetCheckResult(
            passed=not missing,
            description=f"missing: {', '.join(missing)}; sample them, or set training_domains"
            if missing
            else f"all {len(experiment.training_domains)} are there",
            metadata={"pairs by domain": {str(k): int(v) for k, v in pairs["domain"].value_counts().items()}},
        )

    return every_domain_trains


def _recipe_of(context: AssetCheckExecutionContext) -> str:
    return columns_of(context.op_execution_context.partition_key, "recipe")["recipe"]


def build(partitions: Partitions) -> list[AssetChecksDefinition]:
    """The checks on both iterations."""
    return [*_build(partitions, 1), *_build(partitions, 2)]


def _build(partitions: Partitions, i: int) -> list[AssetChecksDefinition]:
    cut = partitions.domain_updates if i == 1 else partitions.domain_recipes
    of_candidates: dict[str, Any] = {"asset": f"candidates_{i}", "partitions_def": cut}
    of_pairs: dict[str, Any] = {
        "asset": f"preference_pairs_{i}",
        "partitions_def": partitions.recipes,
        "blocking": True,
    }
    return [
        asset_check(blocking=True, **of_candidates)(candidates_usable),
        asset_check(**of_candidates)(candidates_differ),
        asset_check(**of_pairs)(chosen_beats_rejected),
        asset_check(**of_pairs)(only_training_users),
        asset_check(**of_pairs)(every_domain_trains(i)),
    ]
