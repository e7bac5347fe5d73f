"""Tables as plain text for a terminal, and as the JSON other programs read."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from deeper_assets.method.errors import KINDS, MACRO, over_trainings


def by_kind(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Kinds as numbers in the order of KINDS, for sorting; any other column as it is."""
    return column.map(KINDS.index) if column.name == "kind" else column


FIGURES = ("paper", "unreadable", "kept", "pairs", "ties", "trainings", "training_sd")
"""Columns of a round_table that are of no single round, or of the last alone."""

PAPER_NOTE = (
    "Under `paper` is what the paper reports of its own models for the last round. It counts the zeros of"
    " Food.com (domain `recipe`) as ratings; here they are rejected, because they mean that none was given."
)
"""What the paper's figures are, wherever they stand."""


def round_table(table: pd.DataFrame, domain: str) -> pd.DataFrame:
    """One domain's rows (or the macro average, `macro`) of mae_table, rounds side by side.

    Returns:
        One row a method, control, ceiling or floor: kinds in this order, of each the best at the last round
        first. Columns: kind, method, one a round (its number; MAE in rating points); unreadable and kept
        (shares at the worst round); of the last round paper (the paper's figure), pairs (pairwise_accuracy),
        ties (share of tied pairs), trainings and training_sd (see `over_trainings`).
    """
    rows = over_trainings(table[table["domain"] == domain])
    names = ["kind", "method"]
    wide = rows.pivot(index=names, columns="round", values="mae")
    last = wide.columns.max()
    of_last = {"paper_mae": "paper", "pairwise_accuracy": "pairs", "ties": "ties"}
    at_last = rows[rows["round"] == last].set_index(names).rename(columns=of_last)
    at_last = at_last[[*of_last.values(), "trainings", "training_sd"]]
    missing = rows.groupby(names)[["unreadable", "kept"]].max()
    whole = wide.join(at_last).join(missing).reset_index()
    return whole.sort_values(["kind", last, "method"], key=by_kind, ignore_index=True)


def rounds_of(table: pd.DataFrame) -> list[int]:
    """The rounds that a round_table has columns for."""
    return [int(column) for column in table.columns if column not in ("kind", "method", *FIGURES)]


def shares_missing(row: Mapping[Any, Any]) -> tuple[str, str]:
    """Unreadable and kept of a row of a round_table: floors ask nobody, and methods alone update personas."""
    unreadable = "" if row["kind"] == "floor" else f"{row['unreadable']:.1%}"
    return unreadable, f"{row['kept']:.1%}" if row["kind"] == "method" else ""


def last_round(comparison: pd.DataFrame) -> pd.DataFrame:
    """The rows of comparison_table for its last round: by kind, the best first and unknown averages last."""
    rows: pd.DataFrame = comparison[comparison["round"] == comparison["round"].max()]
    return rows.sort_values(["kind", "mae", "method"], key=by_kind, ignore_index=True)


def as_text(table: pd.DataFrame, comparison: pd.DataFrame) -> str:
    """mae_table and comparison_table for a terminal: the macro average, how sure it is, then each domain.

    Without rows of comparison_table, that part is left out.
    """
    names = [name for name in dict.fromkeys(table["domain"]) if name != MACRO]
    blocks = [_block(table, MACRO, f"macro average over {len(names)} domains")]
    blocks += [comparison_text(comparison)] if len(comparison) else []
    blocks += [_block(table, name, name) for name in names]
    return "\n\n".join(blocks)


def _block(table: pd.DataFrame, domain: str, title: str) -> str:
    rows = round_table(table, domain)
    rounds = rounds_of(rows)
    users = table[(table["domain"] == domain) & (table["kind"] == "floor")]["users"].max()
    lines = [f"{title}: MAE on the next window by round, {users or 0:,} users"]
    several = bool((rows["trainings"] > 1).any())
    heads = (
        "".join(f"{f'round {r}':>9}" for r in rounds)
        + f"{'paper':>9}{'unreadable':>12}{'kept':>7}{'pairs':>7}"
    )
    lines.append(f"  {'':<22}{heads}{'ties':>6}" + (f"{'trainings':>12}" if several else ""))
    previous = None
    for row in rows.to_dict("records"):
        if previous not in (None, row["kind"]):
            lines.append("  " + "-" * (len(lines[1]) - 2))
        previous = row["kind"]
        figures = "".join(_figure(row[r]).rjust(9) for r in rounds)
        order = f"{_figure(row['pairs']):>7}{_figure(row['ties'], '.0%'):>6}"
        unreadable, kept = shares_missing(row)
        figures += f"{_figure(row['paper']):>9}{unreadable:>12}{kept:>7}{order}"
        lines.append(f"  {row['method']:<22}{figures}{trainings(row):>12}".rstrip())
    return "\n".join(lines)


def trainings(row: Mapping[Any, Any]) -> str:
    """How many trainings a figure is the mean of, and their standard deviation; nothing for one."""
    return f"{row['trainings']:.0f} ±{figure(row['training_sd'])}" if row["trainings"] > 1 else ""


def covered(comparison: pd.DataFrame) -> str:
    """What the intervals of comparison_table are over, in words."""
    several = (comparison["trainings"] > 1).any()
    return "over users and trainings" if several else "bootstrap over users"


def comparison_text(comparison: pd.DataFrame) -> str:
    """The last round of comparison_table for a terminal, one line a method or control."""
    several = bool((comparison["trainings"] > 1).any())
    lines = [f"last round, macro average with 95 % intervals ({covered(comparison)})"]
    heads = f"{'MAE':>7}{'interval':>17}{'from deeper':>13}{'interval':>18}{'pairs':>9}{'interval':>17}"
    lines.append(f"  {'':<22}{heads}" + (f"{'trainings':>12}" if several else ""))
    for row in last_round(comparison).to_dict("records"):
        mae = f"{_figure(row['mae']):>7}{_interval(row['mae_low'], row['mae_high']):>17}"
        ends = _interval(row["difference_low"], row["difference_high"], "+.3f")
        pairs = _interval(row["pairwise_low"], row["pairwise_high"])
        figures = f"{mae}{_figure(row['difference'], '+.3f'):>13}{ends:>18}"
        figures += f"{_figure(row['pairwise_accuracy']):>9}{pairs:>17}"
        lines.append(f"  {row['method']:<22}{figures}{trainings(row):>12}".rstrip())
    return "\n".join(lines)


def figure(value: float, form: str = ".3f", unknown: str = "–") -> str:
    """A figure for people."""
    return unknown if pd.isna(value) else f"{value:{form}}"


def interval(low: float, high: float, form: str = ".3f", unknown: str = "–") -> str:
    """An interval for people."""
    return unknown if pd.isna(low) else f"[{low:{form}}, {high:{form}}]"


_figure, _interval = partial(figure, unknown="-"), partial(interval, unknown="-")


def as_json(table: pd.DataFrame, comparison: pd.DataFrame, profile: str) -> dict[str, Any]:
    """mae_table and comparison_table as plain values, an unknown one as None.

    Returns:
        `profile`, `rounds` (a domain's rows of mae_table), `macro` (their average) and `comparison` (all rows
        and columns of comparison_table).
    """
    rows = [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]
    in_average = ["method", "kind", "round", "mae", "pairwise_accuracy", "ties"]
    in_domain = ["domain", *in_average, "asked", "users", "unreadable", "kept", "users_ordered"]
    return {
        "profile": profile,
        "rounds": [{name: row[name] for name in in_domain} for row in rows if row["domain"] != MACRO],
        "macro": [{name: row[name] for name in in_average} for row in rows if row["domain"] == MACRO],
        "comparison": [
            {str(name): None if pd.isna(value) else value for name, value in row.items()}
            for row in comparison.to_dict("records")
        ],
    }


def usage_as_text(usage: pd.DataFrame, cap_usd: float | None) -> str:
    """What was asked of chat models (chat_usage rows) and what it cost, by asset and model, for a terminal.

    `cap_usd` is what may be spent, US dollars; None for any amount.
    """
    if usage.empty:
        return "nothing has been asked"
    amounts = ["requests", "hits", "input_tokens", "output_tokens", "cost_usd", "saved_usd", "unsure_usd"]
    table = usage.groupby(["asset", "model"], sort=True)[amounts].sum().reset_index()
    total = table[amounts].sum()
    lines = [f"  {'asset':<24}{'requests':>12}{'hits':>12}{'prompt tok.':>14}{'answer tok.':>14}{'cost':>12}"]
    for row in [*table.to_dict("records"), {"asset": "in all", "model": "", **total}]:
        counts = f"{row['requests']:>12,.0f}{row['hits']:>12,.0f}"
        tokens = f"{row['input_tokens']:>14,.0f}{row['output_tokens']:>14,.0f}"
        lines.append(f"  {row['asset'] or '-':<24}{counts}{tokens}{row['cost_usd']:>12,.4f}  {row['model']}")
    return "\n".join([*lines, money_as_text(usage, cap_usd)])


def money_as_text(usage: pd.DataFrame, cap_usd: float | None) -> str:
    """What chat models have cost, in one line; see `usage_as_text`."""
    spent = f"US$ {usage['cost_usd'].sum():,.4f} spent"
    saved = f"{usage['saved_usd'].sum():,.4f} saved by answers that were there already"
    unsure = f"at most {usage['unsure_usd'].sum():,.4f} more for requests without an answer"
    cap = "no cap (max_cost_usd)" if cap_usd is None else f"of {cap_usd:g} at most (max_cost_usd)"
    return f"{spent}, {saved}; {unsure}; {cap}"
