"""The estimate of a run as text for a terminal."""

from collections.abc import Sequence

from deeper_assets.estimating import Estimate, Step, total


def as_text(of: Estimate) -> str:
    """The estimate: a table each for asking, embedding, sampling and training, then what was assumed."""
    blocks = [_table("chat model", ("requests", "M tokens in", "M tokens out", "USD", "hours"), of.chat)]
    if of.embedding:
        blocks.append(_table("embedder", ("texts", "M tokens in", "USD"), of.embedding))
    if of.sampling:
        blocks.append(_table("policy", ("texts", "M tokens in", "M tokens out", "hours"), of.sampling))
        blocks.append(_table("training", ("examples", "M tokens", "steps", "hours"), of.training))
    notes = "\n".join(f"  - {note}" for note in of.notes)
    return "\n\n".join([*blocks, f"assumed\n{notes}"])


_COLUMNS = {
    "requests": ("count", "{:,}"),
    "texts": ("count", "{:,}"),
    "examples": ("count", "{:,}"),
    "M tokens": ("tokens_in", "{:,.1f}"),
    "M tokens in": ("tokens_in", "{:,.1f}"),
    "M tokens out": ("tokens_out", "{:,.1f}"),
    "steps": ("steps", "{:,}"),
    "USD": ("usd", "{:,.2f}"),
    "hours": ("hours", "{:,.1f}"),
}
"""Heading → attribute of a step, and how it is written."""


def _table(title: str, columns: Sequence[str], steps: Sequence[Step]) -> str:
    lines = [f"{title:<44}" + "".join(f"{name:>14}" for name in columns)]
    for step in steps:
        name = step.table + (f" [{step.by}]" if step.by else "")
        values = [_value(column, getattr(step, _COLUMNS[column][0])) for column in columns]
        lines.append(f"  {name:<42}" + "".join(f"{value:>14}" for value in values))
    totals = [_value(column, total(steps, _COLUMNS[column][0])) for column in columns]
    lines.append(f"  {'in all':<42}" + "".join(f"{value:>14}" for value in totals))
    return "\n".join(lines)


def _value(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return _COLUMNS[column][1].format(value / 1e6 if column.startswith("M ") else value)
