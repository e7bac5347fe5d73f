"""Next items: how personas, and what stands beside them, rank what people do next. By domain.

The ceiling, what planted personas rank, stands apart: nothing that induces or ranks descends from the truth.
"""

import pandas as pd
from dagster import MetadataValue, Output

from deeper_assets.declaring import In, table
from deeper_assets.method.domains import Domain
from deeper_assets.method.induction import next_items
from deeper_assets.method.induction.turns import turns_of
from deeper_assets.method.protocols import Embedder
from deeper_assets.partitions import every_partition
from deeper_assets.reports.figures import ranking_figures
from deeper_assets.reports.next_items import next_items_as_markdown


@table("next_items", induces=True)
def next_item_scores(
    events: pd.DataFrame,
    memories: pd.DataFrame,
    memory_events: pd.DataFrame,
    persona_memories: pd.DataFrame,
    embedder: Embedder,
    domain: Domain,
) -> pd.DataFrame:
    """After each window of an evaluation user, how every ranker ranks the items of the next one."""
    return next_items.next_item_scores(
        turns_of(events), events, memories, memory_events, persona_memories, embedder, domain.name
    )


@table("planted_people", planted=True, induces=True)
def planted_next_items(
    events: pd.DataFrame, planted_personas: pd.DataFrame, planted_events: pd.DataFrame, domain: Domain
) -> pd.DataFrame:
    """How planted personas rank the items of the next window: what personas could reach."""
    return next_items.planted_next_items(
        turns_of(events), events, planted_personas, planted_events, domain.name
    )


@table(
    "induction",
    reads={
        name: In(name, every_partition, optional=True) for name in ("next_item_scores", "planted_next_items")
    },
    induces=True,
)
def next_items_table(
    next_item_scores: pd.DataFrame,
    planted_next_items: pd.DataFrame,
    evaluated_domains: tuple[str, ...],
    seed: int,
) -> Output[pd.DataFrame]:
    """Every ranker of next items, evaluation users, with intervals, beside popularity and one persona."""
    frames = (next_item_scores, planted_next_items)
    scored, planted = (rows[rows["domain"].isin(evaluated_domains)] for rows in frames)
    made = next_items.next_items_table(scored, planted, seed)
    shown = {"next items": MetadataValue.md(next_items_as_markdown(made))}
    return Output(made, metadata={**shown, **ranking_figures(made)})
