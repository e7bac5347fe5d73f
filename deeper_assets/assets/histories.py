"""Histories: from source files to windows of ratings. By domain."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
from dagster import AssetExecutionContext, AssetsDefinition, ResourceParam, asset

from deeper_assets.assets.stored import stored
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import Accounting, account, cut_windows, reject_ratings
from deeper_assets.partitions import Partitions
from deeper_assets.resources import Experiment


def raw_ratings(context: AssetExecutionContext, experiment: ResourceParam[Experiment]) -> Path:
    """What a domain's source said, rating by rating, also where it cannot be used.

    Read by DuckDB's own readers from the published files, generated ratings, or a file or query of one's own.
    """
    source = experiment.source(context.partition_key)
    before = source.identity()
    target = experiment.scratch(f"{uuid4().hex}.parquet")
    report = source.write_raw_ratings(target)
    if source.identity() != before:
        target.unlink()
        raise DeeperError(f"the source of {context.partition_key} changed while it was read; run it again")
    context.add_output_metadata(
        {"ratings": report.rows, "merged copies": report.merged_copies, "source": before}
    )
    return target


def rejected_ratings(
    context: AssetExecutionContext, experiment: ResourceParam[Experiment], raw_ratings: pd.DataFrame
) -> pd.DataFrame:
    """What the source had and we could not use, each with a reason. Nothing is dropped in silence."""
    domain = experiment.domain(context.partition_key)
    rejected = reject_ratings(raw_ratings, domain, experiment.rules)
    share = rejected["row"].notna().sum() / max(len(raw_ratings), 1)
    context.add_output_metadata(
        {"share of ratings rejected": float(share), "reasons": rejected["reason"].value_counts().to_dict()}
    )
    return rejected


def rating_windows(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    raw_ratings: pd.DataFrame,
    rejected_ratings: pd.DataFrame,
) -> pd.DataFrame:
    """Users with enough ratings, sampled, split in training and evaluation, cut in windows of ten."""
    domain = experiment.domain(context.partition_key)
    windows = cut_windows(raw_ratings, rejected_ratings, domain, experiment.rules, experiment.user_sampling)
    context.add_output_metadata(
        accounts(account(raw_ratings, rejected_ratings, windows, domain, experiment.rules))
    )
    return windows


def accounts(found: Accounting) -> dict[str, int]:
    """Where users and ratings went, as metadata."""
    parts = {
        "read": found.read,
        "used": found.used,
        "rejected": found.rejected,
        "not sampled": found.not_sampled,
        "train in a domain that only evaluates": found.unseen_train,
    }
    return {
        "training users": found.train_users,
        "evaluation users": found.eval_users,
        **{f"users {name}": part.users for name, part in parts.items()},
        **{f"ratings {name}": part.ratings for name, part in parts.items()},
        "ratings left over": found.left_over,
    }


def build(partitions: Partitions) -> list[AssetsDefinition]:
    """The assets of this group."""
    made_by_domain: dict[str, Any] = {
        "partitions_def": partitions.domains,
        "group_name": "histories",
        "code_version": "1",
    }
    return [
        asset(**stored("raw_ratings"), **made_by_domain)(raw_ratings),
        asset(**stored("rejected_ratings"), **made_by_domain)(rejected_ratings),
        asset(**stored("rating_windows"), **made_by_domain)(rating_windows),
    ]
