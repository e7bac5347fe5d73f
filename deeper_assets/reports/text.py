"""Tables as plain text for a terminal, and as the JSON other programs read."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from deeper_assets.method.errors import MACRO

KINDS = ("method", "floor")


def round_table(table: pd.DataFrame, domain: str) -> pd.DataFrame:
    """One domain's rows (or the macro average) of mae_table, rounds side by side.

    Args:
        table: mae_table rows.
        domain: a domain, or `macro`.

    Returns:
        One row a method or floor: methods first, the best at the last round first. Columns: kind, method, one
        a round (its number; MAE in rating points), paper (the paper's figure for the last round), unreadable
        (share at the worst round).
    """
    rows = table[table["domain"] == domain]
    names = ["kind", "method"]
    wide = rows.pivot(index=names, columns="round", values="mae")
    last = wide.columns.max()
    paper = rows[rows["round"] == last].set_index(names)["paper_mae"].rename("paper")
    unreadable = rows.groupby(names)["unreadable"].max()
    whole = wide.join(paper).join(unreadable).reset_index()
    # "method" before "floor", and the best of each first.
    return whole.sort_values(["kind", last, "method"], ascending=[False, True, True], ignore_index=True)


def rounds_of(table: pd.DataFrame) -> list[int]:
    """The rounds that a round_table has columns for."""
    fixed = {"kind", "method", "paper", "unreadable"}
    return [int(column) for column in table.columns if column not in fixed]


def as_text(table: pd.DataFrame, domains: Sequence[str] | None = None) -> str:
    """The tables for a terminal: the macro average, then every domain.

    Args:
        table: mae_table rows.
        domains: which domains to print after the average; default all of them.
    """
    names = list(dict.fromkeys(table["domain"]))
    wanted = [name for name in names if name != MACRO and (domains is None or name in domains)]
    blocks = [_block(table, MACRO, f"macro average over {len(names) - 1} domains")]
    blocks += [_block(table, name, name) for name in wanted]
    return "\n\n".join(blocks)


def _block(table: pd.DataFrame, domain: str, title: str) -> str:
    rows = round_table(table, domain)
    rounds = rounds_of(rows)
    users = table[(table["domain"] == domain) & (table["kind"] == "floor")]["users"].max()
    lines = [f"{title}: MAE on the next window by round, {users or 0:,} users"]
    lines.append(
        "  " + "".ljust(22) + "".join(f"{f'round {r}':>9}" for r in rounds) + "    paper  unreadable"
    )
    previous = None
    for row in rows.to_dict("records"):
        if previous == "method" and row["kind"] == "floor":
            lines.append("  " + "-" * (22 + 9 * len(rounds) + 21))
        previous = row["kind"]
        figures = "".join(_figure(row[r]).rjust(9) for r in rounds)
        unreadable = f"{row['unreadable']:.1%}" if row["kind"] == "method" else ""
        lines.append(f"  {row['method']:<22}{figures}{_figure(row['paper']):>9}{unreadable:>12}".rstrip())
    return "\n".join(lines)


def _figure(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"


def as_json(table: pd.DataFrame, profile: str) -> dict[str, Any]:
    """mae_table as plain values: `profile`, `rounds` (a domain's rows) and `macro` (their average)."""
    rows = [
        {**row, "users": int(row["users"]), "mae": None if pd.isna(row["mae"]) else row["mae"]}
        for row in table.to_dict("records")
    ]
    in_domain = ["domain", "method", "kind", "round", "users", "mae", "unreadable"]
    in_average = ["method", "kind", "round", "mae"]
    return {
        "profile": profile,
        "rounds": [{name: row[name] for name in in_domain} for row in rows if row["domain"] != MACRO],
        "macro": [{name: row[name] for name in in_average} for row in rows if row["domain"] == MACRO],
    }
