"""How next items are ranked, as text for a terminal and as Markdown for a page of the UI."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from deeper_assets.method.induction.next_items import RANKERS, RIVALS
from deeper_assets.method.induction.ranking import MEASURES
from deeper_assets.reports.previews import table as as_table
from deeper_assets.reports.text import figure, interval

_RANKING = (
    *("ranker", "Hit@10", "interval", "NDCG@10", "MRR"),
    *("over popularity", "interval", "over one persona", "interval", "by popularity"),
)


def next_items_as_text(table: pd.DataFrame) -> str:
    """The rows of next_items_table, a ranker a line; differences are those of Hit@10."""
    rows = [("", *_RANKING[1:]), *ranking_cells(table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = table.iloc[0]
    lines = [
        f"next items: {first['users']} evaluation users, {first['windows']} windows, the whole catalogue"
        f" ranked; {first['unseen']:.1%} of the items are not in it"
    ]
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join(["", name.ljust(widths[0]), *padded]).rstrip())
    return "\n".join(lines)


def next_items_as_markdown(table: pd.DataFrame) -> str:
    """The same as a Markdown table."""
    return as_table(_RANKING, ranking_cells(table)) if len(table) else "no rows"


def ranking_cells(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The rows of next_items_table as text, a ranker a line, in the columns that people see."""
    by_name = {(row["ranker"], row["measure"]): row for row in table.to_dict("records")}
    lines = []
    for ranker in RANKERS:
        hit, *others = [by_name.get((ranker, measure)) for measure in MEASURES]
        if hit is not None:
            means = [figure(row["mean"]) for row in others if row is not None]
            beside = [cell for rival in RIVALS for cell in _with_interval(hit, f"over_{rival}")]
            own = interval(hit["low"], hit["high"])
            lines.append((ranker, figure(hit["mean"]), own, *means, *beside, f"{hit['fallback']:.1%}"))
    return lines


def _with_interval(row: Mapping[Any, Any], name: str) -> tuple[str, str]:
    between = interval(row[f"{name}_low"], row[f"{name}_high"], "+.3f", unknown="")
    return figure(row[name], "+.3f", unknown=""), between
