"""Why users and ratings fell out, for a terminal."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from deeper_assets.method.induction import rejects as of_events
from deeper_assets.method.rejects import WAYS_OUT
from deeper_assets.method.windows import REASONS

WIDTH = 60
"""Characters of a value that are shown, at most."""


def rejects_as_text(
    domains: pd.DataFrame,
    counts: pd.DataFrame,
    examples: pd.DataFrame,
    reason: str | None = None,
    *,
    logs: bool = False,
) -> str:
    """What fell out, a block a domain; see `store.rejects.Rejects` for the frames.

    Args:
        domains: rows of the domains to show.
        counts: their reasons; a domain without any is shown in its first line alone.
        examples: rows to show below; none for no examples.
        reason: the only reason that was asked for, if so.
        logs: whether these are domains of events.
    """
    blocks = [
        _block(row, counts[counts["domain"] == row["domain"]], logs) for row in domains.to_dict("records")
    ]
    blocks += [
        _examples(str(domain), str(of), rows)
        for (domain, of), rows in examples.groupby(["domain", "reason"], sort=False)
    ]
    if reason is not None and counts.empty:
        blocks.append(f"no user and no {'event' if logs else 'rating'} is rejected for {reason}")
    return "\n\n".join(blocks)


def _block(domain: Mapping[Any, Any], counts: pd.DataFrame, logs: bool) -> str:
    reasons, ways = (of_events.REASONS, of_events.WAYS_OUT) if logs else (REASONS, WAYS_OUT)
    what, seen = ("events", "") if logs else ("ratings", "; or training users where seen is false")
    left = domain["users"] - domain["users_rejected"] - domain["used"]
    lines = [
        f"{domain['domain']}: {domain['users_rejected']:,} of {domain['users']:,} users and"
        f" {domain['ratings_rejected']:,} of {domain['ratings']:,} {what} rejected; {domain['used']:,} users"
        f" used, {left:,} left out (train_users, eval_users{seen})"
    ]
    if len(counts):
        lines.append(f"  {'reason':<21}{'users':>9}{what:>12}")
    for row in counts.to_dict("records"):
        lines.append(
            f"  {row['reason']:<21}{row['users']:>9,}{row['ratings']:>12,}  {reasons[row['reason']]}"
        )
        lines.append(f"  {'':<42}  change: {ways[row['reason']]}")
    return "\n".join(lines)


def _examples(domain: str, reason: str, rows: pd.DataFrame) -> str:
    lines = [f"{domain}, {reason}, for example:"]
    for row in rows.to_dict("records"):
        place = f"{shown(row['file'])}:{int(row['line'])}" if pd.notna(row["line"]) else shown(row["file"])
        parts = [place, f"user {shown(row['user_id'])}"]
        if pd.notna(row["title"]):
            parts.append(f"'{shown(row['title'])}'")
        if pd.notna(row["rating_text"]):
            parts.append(f"rated '{shown(row['rating_text'])}'")
        lines.append("  " + "  ".join([*parts, shown(row["detail"], 2 * WIDTH)]))
    return "\n".join(lines)


def shown(value: object, width: int = WIDTH) -> str:
    """A value of a source on one line: no character that a terminal obeys, and no more than `width`."""
    text = "" if pd.isna(value) else str(value)  # type: ignore[call-overload]
    plain = "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text[:width])
    return plain + "…" * (len(text) > width)
