"""What `deeper init` proposes and what a run would read, for a terminal."""

from collections.abc import Mapping, Sequence
from math import isnan

import pandas as pd

from deeper_assets.method.cutting import Preview
from deeper_assets.method.induction.cutting import LogPreview
from deeper_assets.method.induction.events import SESSIONS_A_WINDOW
from deeper_assets.method.induction.rejects import REASONS as EVENT_REASONS
from deeper_assets.method.windows import REASONS
from deeper_assets.reports.rejects import shown

WIDTH = 28
"""Characters of a value in a table, at most."""


def proposal_as_text(values: Mapping[str, str], remarks: Mapping[str, str], notes: Sequence[str]) -> str:
    """What stands in the profile: a line a value, with what is unsure about it below.

    Args:
        values: what it is → what was proposed.
        remarks: of some of these, what is unsure.
        notes: what else was seen.
    """
    lines = []
    for name, value in values.items():
        lines.append(f"  {name:<12}{shown(value)}")
        if name in remarks:
            lines.append(f"  {'':<12}  ({shown(remarks[name], 400)})")
    return "\n".join([*lines, *(f"  note: {shown(note, 400)}" for note in notes)])


def preview_as_text(preview: Preview) -> str:
    """The first ratings as they are read, what is rejected, and how many users have enough windows."""
    accounts, rules = preview.accounting, preview.rules
    blocks = [f"The first {len(preview.rows)} rows, as they are read:\n{_table(preview.rows)}"]
    total = accounts.read
    rejected = int(preview.rejected["ratings"].sum())
    lines = [
        f"{rejected:,} of {total.ratings:,} ratings and"
        f" {accounts.rejected.users:,} of {total.users:,} users rejected"
    ]
    lines += [
        f"  {row['reason']:<21}{row['users']:>9,}{row['ratings']:>12,}  {REASONS[row['reason']]}"
        for row in preview.rejected.to_dict("records")
    ]
    if len(preview.rejected):
        lines.insert(1, f"  {'reason':<21}{'users':>9}{'ratings':>12}")
    blocks.append("\n".join(lines))
    usable = total.users - accounts.rejected.users
    counts = "  ".join(f"{number}: {users:,}" for number, users in preview.windows.items() if users)
    blocks.append(
        f"{usable:,} users have enough windows of {rules.size} ratings ({rules.at_least}, windows_at_least);"
        f" {accounts.train_users:,} would train and {accounts.eval_users:,} be evaluated, as a hash of each"
        " user (train_share) or the column split, train_users and eval_users decide\n"
        f"  users with so many windows or more: {counts or 'none'}"
    )
    return "\n\n".join(blocks)


def log_preview_as_text(preview: LogPreview) -> str:
    """The first events as they are read, what is rejected, who takes part, and how far they reach."""
    parts = preview.accounts.parts
    (users, events), (gone, out) = parts["read"], parts["rejected"]
    lines = [f"{out:,} of {events:,} events and {gone:,} of {users:,} users rejected"]
    if len(preview.rejected):
        lines.append(f"  {'reason':<21}{'users':>9}{'events':>12}")
    lines += [
        f"  {row['reason']:<21}{row['users']:>9,}{row['ratings']:>12,}  {EVENT_REASONS[row['reason']]}"
        for row in preview.rejected.to_dict("records")
    ]
    counts = "  ".join(f"{number}: {held:,}" for number, held in preview.windows.items() if held)
    return "\n\n".join(
        [
            f"The first {len(preview.rows)} rows, as they are read:\n{_table(preview.rows)}",
            "\n".join(lines),
            f"{preview.splits['train']:,} users would train and {preview.splits['eval']:,} be evaluated, as a"
            " hash of each user (train_share), train_users and eval_users decide; each window has"
            f" {SESSIONS_A_WINDOW} sessions\n  users with so many windows or more: {counts or 'none'}",
        ]
    )


def why_not_run_log(preview: LogPreview) -> str | None:
    """What a run lacks, and the way out; None where somebody is evaluated."""
    if preview.splits["eval"]:
        return None
    if preview.splits["train"]:
        return "nobody can be evaluated: lower train_share in the profile"
    return (
        "nobody has an event that can be used: correct what is rejected most, by flags or by a query, and"
        " write the profile anew with --force"
    )


def why_not_run(preview: Preview) -> str | None:
    """What a run lacks, and the way out; None where somebody trains and somebody is evaluated."""
    accounts = preview.accounting
    lacks = [
        what
        for users, what in (
            (accounts.eval_users, "nobody can be evaluated"),
            (accounts.train_users, "nobody trains"),
        )
        if not users
    ]
    if not lacks:
        return None
    if accounts.read.users > accounts.rejected.users:
        out = "train_share gives more users to the one side or the other, and so does a column split"
    elif set(preview.rejected["reason"]) <= {"too_few_windows", "no_first_window"}:
        out = "lower windows_at_least in the profile, or give users more ratings"
    else:
        out = "correct what is rejected most, by flags or by a query, and write the profile anew with --force"
    return f"{' and '.join(lacks)}: {out}"


def _table(rows: pd.DataFrame) -> str:
    """Rows in columns; those that hold nothing are left out."""
    held = rows.drop(columns=["rating_text"], errors="ignore").dropna(axis="columns", how="all")
    for same in ("title", "text"):
        if same in held and "item_id" in held and (held[same] == held["item_id"]).all():
            held = held.drop(columns=["title" if same == "title" else "item_id"])
    cells = [
        [str(name) for name in held],
        *([_cell(value) for value in row] for row in held.to_numpy(dtype=object)),
    ]
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and not isnan(value) else shown(value, WIDTH)
