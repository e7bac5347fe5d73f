"""Histories: from source files to windows of ratings. By domain."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from dagster import Output

from deeper_assets.declaring import Read, table
from deeper_assets.method.cutting import KEPT, REJECTED, WINDOWS, cut_histories
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import Accounting, UserSampling, WindowRules
from deeper_assets.sources.shape import Source, Workshop, write

HISTORIES = {
    "raw_ratings": "What the source says of the users who take part, rating by rating, and what it says that"
    " cannot be used. The rest of it is counted in rating_accounts, and stays in its files.",
    "rejected_ratings": "What the source had and we could not use, each with a reason. Nothing is dropped in"
    " silence.",
    "rating_windows": "Users with enough ratings, sampled, split in training and evaluation, cut in windows"
    " of ten.",
    "rating_accounts": "Where everything that was read went, in users and ratings.",
}


@table("histories", tables=HISTORIES, code_version="3")
def histories(
    source: Source, domain: Domain, rules: WindowRules, user_sampling: UserSampling, workshop: Workshop
) -> Read:
    """A domain's histories, read and cut by DuckDB from files, queries or generated ratings."""
    before = source.identity()
    with workshop.open() as (connection, folder):
        report = source.load(connection, folder)
        accounting = cut_histories(connection, domain, rules, user_sampling, report.placed)
        written = [write(connection, relation, folder) for relation in (KEPT, REJECTED, WINDOWS)]
        if source.identity() != before:
            raise DeeperError(f"the source of {source.domain.name} changed while it was read; run it again")
        files = workshop.hand_over(written)
    accounts = pd.DataFrame(accounting.rows()).assign(domain=domain.name)
    share = accounting.rejected.ratings / max(accounting.read.ratings, 1)
    metadata: list[Mapping[str, int | float]] = [
        {"ratings read": accounting.read.ratings, "merged copies": report.merged_copies},
        {"share of ratings rejected": share},
        figures(accounting),
        {},
    ]
    outputs = [Output(rows, metadata=told) for rows, told in zip([*files, accounts], metadata, strict=True)]
    return Read(outputs, before if report.answer is None else {**before, "answer": asdict(report.answer)})


def figures(accounting: Accounting) -> dict[str, int]:
    """Where users and ratings went, as metadata."""
    return {
        "training users": accounting.train_users,
        "evaluation users": accounting.eval_users,
        "users with short histories": accounting.short_users,
        **accounts_told(accounting.rows()),
    }


def accounts_told(rows: Sequence[Mapping[Any, Any]]) -> dict[str, int]:
    """Rows of rating_accounts, as metadata."""
    return {
        f"{what} {row['part'].replace('_', ' ')}": int(row[what])
        for what in ("users", "ratings")
        for row in rows
        if (what, row["part"]) != ("users", "left_over")
    }
