"""Histories: from source files to windows of ratings. By domain."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
from dagster import Output

from deeper_assets.declaring import Read, table
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import (
    Accounting,
    UserSampling,
    WindowRules,
    account,
    cut_windows,
    reject_ratings,
)
from deeper_assets.sources.shape import Source


@table("histories", code_version="2")
def raw_ratings(source: Source, scratch: Path) -> Read:
    """What a domain's source holds, rating by rating, with the ratings that cannot be used.

    Read by DuckDB's own readers from the published files, generated ratings, or a file or query of one's own.
    """
    before = source.identity()
    report = source.write_raw_ratings(scratch)
    if source.identity() != before:
        scratch.unlink()
        raise DeeperError(f"the source of {source.domain.name} changed while it was read; run it again")
    metadata = {"ratings": report.rows, "merged copies": report.merged_copies}
    read = before if report.answer is None else {**before, "answer": asdict(report.answer)}
    return Read(Output(scratch, metadata=metadata), read)


@table("histories", code_version="2")
def rejected_ratings(raw_ratings: pd.DataFrame, domain: Domain, rules: WindowRules) -> Output[pd.DataFrame]:
    """What the source had and we could not use, each with a reason. Nothing is dropped in silence."""
    rejected = reject_ratings(raw_ratings, domain, rules)
    share = float(rejected["row"].notna().sum() / max(len(raw_ratings), 1))
    reasons = rejected["reason"].value_counts().to_dict()
    return Output(rejected, metadata={"share of ratings rejected": share, "reasons": reasons})


@table("histories")
def rating_windows(
    raw_ratings: pd.DataFrame,
    rejected_ratings: pd.DataFrame,
    domain: Domain,
    rules: WindowRules,
    user_sampling: UserSampling,
) -> Output[pd.DataFrame]:
    """Users with enough ratings, sampled, split in training and evaluation, cut in windows of ten."""
    windows = cut_windows(raw_ratings, rejected_ratings, domain, rules, user_sampling)
    accounting = account(raw_ratings, rejected_ratings, windows, domain, rules)
    return Output(windows, metadata=accounts(accounting))


def accounts(accounting: Accounting) -> dict[str, int]:
    """Where users and ratings went, as metadata."""
    parts = {
        "read": accounting.read,
        "used": accounting.used,
        "rejected": accounting.rejected,
        "not sampled": accounting.not_sampled,
        "train in a domain that only evaluates": accounting.unseen_train,
    }
    return {
        "training users": accounting.train_users,
        "evaluation users": accounting.eval_users,
        **{f"users {name}": part.users for name, part in parts.items()},
        **{f"ratings {name}": part.ratings for name, part in parts.items()},
        "ratings left over": accounting.left_over,
    }
